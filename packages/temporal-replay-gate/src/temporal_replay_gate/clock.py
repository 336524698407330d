"""The end of a run of the gate: its time limit has passed, or a signal has asked it to end."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

# Two thousand times what a few dozen short histories take; the time limit of a CI pipeline is mostly an hour.
DEFAULT_RUN_LIMIT_SECONDS = 1800.0

# A run takes at most a week: on some systems a wait on a lock or a queue accepts no longer timeout.
LONGEST_SECONDS = 604_800.0

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class RunOver(Exception):
    """The time limit of the whole run has passed, or a signal has ended the run."""


class RunClock:
    """The time limit of one run. Its callbacks run in a signal handler and must not wait."""

    def __init__(self, limit_seconds: float = DEFAULT_RUN_LIMIT_SECONDS) -> None:
        self.limit_seconds = limit_seconds
        self.ended_by: signal.Signals | None = None
        self._ends_at = time.monotonic() + limit_seconds
        self._on_stop: list[Callable[[], None]] = []

    def within(self, limit: float) -> float:
        """Return ``limit`` in seconds, at most the time that is left of the whole run."""
        return max(0.0, min(limit, self._ends_at - time.monotonic()))

    def is_over(self) -> bool:
        """Tell whether the run has to end."""
        return time.monotonic() >= self._ends_at

    def on_stop(self, call: Callable[[], None]) -> None:
        """Register a callback for the first signal; call it at once if the signal has arrived already."""
        self._on_stop.append(call)
        if self.ended_by is not None:
            call()

    def stop(self, number: int) -> None:
        """End the run because of the signal ``number``, and call the callbacks."""
        self.ended_by = signal.Signals(number)
        self._ends_at = time.monotonic()
        for call in list(self._on_stop):
            call()


@contextlib.contextmanager
def stopping_on_signals(clock: RunClock) -> Iterator[None]:
    """Stop ``clock`` at the first SIGINT, SIGTERM or SIGHUP; a second signal acts as it did before the block."""
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may set handlers; a caller that runs the gate in another thread has its own.
        yield
        return
    before: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def first(number: int, _frame: FrameType | None) -> None:
        restore()
        clock.stop(number)

    for each in _SIGNALS:
        # An ignored signal is ignored on purpose, for example by nohup; a handler of None was not set from Python.
        if signal.getsignal(each) not in {signal.SIG_IGN, None}:
            before[each] = signal.signal(each, first)
    try:
        yield
    finally:
        restore()
