"""Calls of AWS services that end in time, also where a service sends a byte now and then.

botocore's limits hold for each read alone, so that they never end such a call.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

# What AWS answers where the same call may succeed later, with a status that says otherwise.
_TEMPORARY = frozenset({"Throttling", "ThrottlingException", "RequestTimeout", "SlowDown", "RequestTimeTooSkewed"})

_Result = TypeVar("_Result")


class BrokenOff(ConnectionAbortedError):
    """A call was broken off."""


class _UnderWay(threading.local):
    call: ServiceCall | None = None


_UNDER_WAY = _UnderWay()


class ServiceCall:
    """One call of a service with a client that ``breakable_connections.breakable`` made so. ``run`` it once."""

    def __init__(self, answer_seconds: float, whole_seconds: float | None = None) -> None:
        """It may take ``answer_seconds`` until ``answered`` is called or it is over, and ``whole_seconds`` in all."""
        self._answer_seconds, self._whole_seconds = answer_seconds, whole_seconds
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._is_broken_off = self._is_answered = False
        self._timers: list[asyncio.TimerHandle] = []
        self.late_after: float | None = None
        """After how many seconds it was broken off because they were over; None where it was not."""

    async def run(self, threads: Executor, work: Callable[[], _Result]) -> _Result:
        """Return what ``work`` returns in a thread, and raise what it raises, or ``BrokenOff``.

        Its time begins when a thread is free for it. Where this is cancelled, the thread ends soon.
        """
        loop = asyncio.get_running_loop()

        def call() -> _Result:
            with self._under_way():
                loop.call_soon_threadsafe(self._begin_time, loop)
                result = work()
                # Headers that break off are complete headers to Python's http.client, and so may be what follows.
                self._require_whole()
                return result

        try:
            return await loop.run_in_executor(threads, call)
        except asyncio.CancelledError:
            # A thread is not cancelled with who waits for it.
            self.break_off()
            raise
        finally:
            self._end_time()

    def answered(self) -> None:
        """Note that the service's answer has begun: what is left of the time is that of the whole."""
        self._is_answered = True

    def break_off(self) -> None:
        """Have the thread end soon, whatever it waits for."""
        with self._lock:
            self._is_broken_off = True
            if self._connection is not None:
                with suppress(OSError):
                    self._connection.shutdown(socket.SHUT_RDWR)

    def watch(self, connection: socket.socket) -> None:
        """Break this connection off with the call. Raises ``BrokenOff`` where that is so already."""
        with self._lock:
            self._let_go()
            self._require_whole()
            # A descriptor of its own: the client may close its one at any time, and TLS takes it over.
            self._connection = socket.fromfd(connection.fileno(), connection.family, connection.type)

    def _require_whole(self) -> None:
        if self._is_broken_off:
            raise BrokenOff("the call was broken off")

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        _UNDER_WAY.call = self
        try:
            yield
        finally:
            _UNDER_WAY.call = None
            with self._lock:
                self._let_go()

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _begin_time(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timers.append(loop.call_later(self._answer_seconds, self._late, self._answer_seconds))
        if self._whole_seconds is not None:
            self._timers.append(loop.call_later(self._whole_seconds, self._late, self._whole_seconds))

    def _late(self, seconds: float) -> None:
        if self._is_answered and seconds != self._whole_seconds:
            return
        self.late_after = seconds
        self.break_off()

    def _end_time(self) -> None:
        for timer in self._timers:
            timer.cancel()


def watch(connection: socket.socket) -> None:
    """Break a connection off with this thread's call, where there is one. Raises ``BrokenOff``."""
    if _UNDER_WAY.call is not None:
        _UNDER_WAY.call.watch(connection)


def no_answer() -> tuple[type[Exception], ...]:
    """Return what a client of boto3 raises where a service gave no answer, or none that is of the service's form."""
    from botocore.exceptions import BotoCoreError
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    # ValueError is botocore's word for an endpoint that is no URL, and for members of the wrong form.
    return (BotoCoreError, ResponseParserError, HTTPError, OSError, ValueError)


def is_final(error: ClientError) -> bool:
    """Say whether a service will give the same answer to the same call again."""
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return 400 <= status < 500 and status != 429 and error.response["Error"]["Code"] not in _TEMPORARY
