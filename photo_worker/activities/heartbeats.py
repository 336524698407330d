"""Signs of life of a step that waits long for somebody else."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.exceptions import CancelledError

# Four chances within a timeout of 30 s, of which one must arrive.
_BEATS_A_TIMEOUT = 4
_LONGEST_SECONDS = 5.0


@dataclass
class _Details:
    """What the heartbeats of an attempt say; shared by the attempt's thread and that of the beats."""

    values: Sequence[Any]


_details: contextvars.ContextVar[_Details] = contextvars.ContextVar("heartbeat_details")


@contextmanager
def heartbeating(*, also_cancelled: bool = False) -> Iterator[None]:
    """Send heartbeats from a thread while the block runs, where the attempt has a heartbeat timeout.

    They say that the process runs, not that the block gets on: a process that is killed or stopped is noticed
    after the heartbeat timeout, a block that hangs after the attempt's own. Once the attempt is cancelled, or
    another one has taken its place, the beats end; ``also_cancelled`` is for a block that a cancellation does not
    end, and whose end the workflow waits for. Each beat repeats what ``HeartbeatNotes`` holds, since Temporal keeps
    the details of the last one alone.
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
    # The SDK keeps the attempt in a context variable, and a thread begins without any.
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
            activity.heartbeat(*_details.get().values)
        except TimeoutError:
            # The worker's event loop is busy; the next beat may reach it.
            continue
        except RuntimeError:
            # The event loop is closed: the process is about to end.
            return


class HeartbeatNotes:
    """``ports.AttemptNotes`` as the details of heartbeats, within ``beating``. Outside of it there are none."""

    def read(self) -> Any:
        """Return what the attempt before this one wrote, or this one since."""
        found = _details.get(None)
        return found.values[0] if found is not None and found.values else None

    def write(self, note: Mapping[str, Any]) -> None:
        """Send the note, and with every beat again. That it does not arrive is no error: the next attempt has none."""
        found = _details.get(None)
        if found is None:
            return
        found.values = [dict(note)]
        try:
            activity.heartbeat(*found.values)
        except TimeoutError:
            # The worker's event loop is busy; the next beat may reach it.
            return


def wait(seconds: float) -> None:
    """Pass some seconds in an attempt, and end the attempt where it is cancelled meanwhile.

    For waiting for what goes on without the attempt and is found again by the next one.
    """
    if not activity.in_activity():
        time.sleep(seconds)
        return
    activity.wait_for_cancelled_sync(seconds)
    stop_if_cancelled()


def stop_if_cancelled() -> None:
    """End the attempt where somebody has cancelled it."""
    if activity.is_cancelled():
        raise CancelledError("Cancelled")
