"""Calls of AWS services with a time limit, even if a service sends a byte now and then.

botocore's timeouts apply to each read alone, so that they never end such a call.
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

# The codes of temporary errors that AWS sends with the status of a permanent one.
_TEMPORARY = frozenset({"Throttling", "ThrottlingException", "RequestTimeout", "SlowDown", "RequestTimeTooSkewed"})

_Result = TypeVar("_Result")


class BrokenOff(ConnectionAbortedError):
    """A call was broken off."""


class _UnderWay(threading.local):
    call: ServiceCall | None = None


_UNDER_WAY = _UnderWay()


class ServiceCall:
    """One call of a service with a client prepared by ``breakable_connections.breakable``. ``run`` it once."""

    def __init__(self, response_seconds: float, whole_seconds: float | None = None) -> None:
        """``response_seconds`` limits the time until ``responded`` or the end, ``whole_seconds`` the time in all."""
        self._response_seconds, self._whole_seconds = response_seconds, whole_seconds
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._is_broken_off = self._has_response = False
        self._timers: list[asyncio.TimerHandle] = []
        self.late_after: float | None = None
        """The limit in seconds that was exceeded; None if none was."""

    async def run(self, threads: Executor, work: Callable[[], _Result]) -> _Result:
        """Run ``work`` in a thread and return its result. Raises what it raises, or ``BrokenOff``.

        The time starts when a thread is free. If the caller is cancelled, the thread ends soon.
        """
        loop = asyncio.get_running_loop()

        def call() -> _Result:
            with self._under_way():
                loop.call_soon_threadsafe(self._begin_time, loop)
                result = work()
                # http.client takes truncated headers for complete ones, and maybe a truncated body as well.
                self._require_whole()
                return result

        try:
            return await loop.run_in_executor(threads, call)
        except asyncio.CancelledError:
            # Cancelling the caller does not cancel the thread.
            self.break_off()
            raise
        finally:
            self._end_time()

    def responded(self) -> None:
        """Note that the response has begun: from now on only ``whole_seconds`` applies."""
        self._has_response = True

    def break_off(self) -> None:
        """Make the thread end soon, by shutting down the connection that it waits for."""
        with self._lock:
            self._is_broken_off = True
            if self._connection is not None:
                with suppress(OSError):
                    self._connection.shutdown(socket.SHUT_RDWR)

    def watch(self, connection: socket.socket) -> None:
        """Register the connection to shut down. Raises ``BrokenOff`` if the call is broken off already."""
        with self._lock:
            self._let_go()
            self._require_whole()
            # A duplicated descriptor: the client may close its own at any time, and TLS takes it over.
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
        self._timers.append(loop.call_later(self._response_seconds, self._late, self._response_seconds))
        if self._whole_seconds is not None:
            self._timers.append(loop.call_later(self._whole_seconds, self._late, self._whole_seconds))

    def _late(self, seconds: float) -> None:
        if self._has_response and seconds != self._whole_seconds:
            return
        self.late_after = seconds
        self.break_off()

    def _end_time(self) -> None:
        for timer in self._timers:
            timer.cancel()


def watch(connection: socket.socket) -> None:
    """Register a connection with this thread's call, if there is one. Raises ``BrokenOff``."""
    if _UNDER_WAY.call is not None:
        _UNDER_WAY.call.watch(connection)


def no_response_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that boto3 raises if a service gives no response, or one that cannot be parsed."""
    from botocore.exceptions import BotoCoreError
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    # botocore raises ValueError for an endpoint that is not a URL, and for malformed members.
    return (BotoCoreError, ResponseParserError, HTTPError, OSError, ValueError)


def is_final(error: ClientError) -> bool:
    """Return whether an error is permanent: the same call would fail again."""
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return 400 <= status < 500 and status != 429 and error.response["Error"]["Code"] not in _TEMPORARY
