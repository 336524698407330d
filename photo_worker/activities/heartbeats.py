"""Heartbeats of an activity that waits for a service, and the notes that they carry to the next attempt."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.exceptions import CancelledError

from photo_worker.policies import OCR

# One of these heartbeats must arrive within each heartbeat timeout.
_BEATS_A_TIMEOUT = 4
_LONGEST_SECONDS = 5.0


@dataclass
class _Details:
    """The details of an attempt's heartbeats; shared by the attempt's thread and the heartbeat thread.

    The lock is held while they are sent: Temporal keeps the details that arrive last, and without it a heartbeat that
    was begun before a note was written could arrive after it.
    """

    values: Sequence[Any]
    sending: threading.Lock = field(default_factory=threading.Lock)

    def send(self) -> None:
        """Send a heartbeat with the details. Raises what ``activity.heartbeat`` raises."""
        with self.sending:
            activity.heartbeat(*self.values)

    def replace(self, values: Sequence[Any]) -> None:
        """Send other details from now on, beginning now. Raises what ``activity.heartbeat`` raises."""
        with self.sending:
            self.values = values
            activity.heartbeat(*values)


_details: contextvars.ContextVar[_Details] = contextvars.ContextVar("heartbeat_details")


@contextmanager
def heartbeating(*, also_cancelled: bool = False) -> Iterator[None]:
    """Send heartbeats from a thread while the block runs, if the attempt has a heartbeat timeout.

    They show that the process runs, not that the block makes progress: a killed or stopped process is noticed after
    the heartbeat timeout, a hanging block after the attempt's own timeout. The heartbeats end when the attempt is
    cancelled or replaced by another one; ``also_cancelled`` continues them for a block that a cancellation does not end
    and whose end the workflow awaits. Each heartbeat repeats what ``HeartbeatNotes`` holds, because Temporal keeps only
    the details of the last one.
    """
    info = activity.info()
    before = _details.set(_Details(info.heartbeat_details))
    try:
        with _heartbeat_thread(info.heartbeat_timeout, also_cancelled):
            yield
    finally:
        _details.reset(before)


@contextmanager
def _heartbeat_thread(timeout: timedelta | None, also_cancelled: bool) -> Iterator[None]:
    if timeout is None:
        yield
        return
    ended = threading.Event()
    seconds = min(timeout.total_seconds() / _BEATS_A_TIMEOUT, _LONGEST_SECONDS)
    # The SDK keeps the attempt in a context variable, and a new thread has an empty context.
    beat = contextvars.copy_context()
    thread = threading.Thread(
        target=beat.run, args=(_heartbeat_until, ended, seconds, also_cancelled), name="heartbeat", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _heartbeat_until(ended: threading.Event, seconds: float, also_cancelled: bool) -> None:
    while not ended.wait(seconds) and (also_cancelled or not activity.is_cancelled()):
        try:
            _details.get().send()
        except TimeoutError:
            # The worker's event loop is busy; the next heartbeat may reach it.
            continue
        except RuntimeError:
            # The event loop is closed: the process is about to end.
            return


class HeartbeatNotes:
    """``ports.AttemptNotes`` in the details of heartbeats, within ``heartbeating``. Outside of it there are none."""

    def read(self) -> Any:
        """Return the note that this attempt, or else the previous one, wrote last; None if there is none."""
        found = _details.get(None)
        return found.values[0] if found is not None and found.values else None

    def write(self, note: Mapping[str, Any]) -> None:
        """Send the note now and with every heartbeat. If it does not arrive, the next attempt reads None."""
        found = _details.get(None)
        if found is None:
            return
        try:
            found.replace([dict(note)])
        except TimeoutError:
            # The worker's event loop is busy; the next heartbeat may reach it.
            return


def wait(seconds: float) -> None:
    """Sleep in an attempt. Raises ``CancelledError`` if the attempt is cancelled meanwhile.

    For work that continues in a service without the attempt and that the next attempt finds again.
    """
    if not activity.in_activity():
        time.sleep(seconds)
        return
    activity.wait_for_cancelled_sync(seconds)
    stop_if_cancelled()


def attempt_seconds() -> float:
    """Return how long the running attempt may take, as its workflow has set it; outside of an attempt OCR's default."""
    limit = activity.info().start_to_close_timeout if activity.in_activity() else None
    return (limit or OCR.start_to_close_timeout).total_seconds()


def stop_if_cancelled() -> None:
    """Raise ``CancelledError`` if the attempt was cancelled."""
    if activity.is_cancelled():
        raise CancelledError("Cancelled")
