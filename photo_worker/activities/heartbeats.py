"""Signs of life of a step that waits long for somebody else."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from temporalio import activity
from temporalio.exceptions import CancelledError

# Four chances within a timeout of 30 s, of which one must arrive.
_BEATS_A_TIMEOUT = 4
_LONGEST_SECONDS = 5.0


@contextmanager
def beating(*, also_cancelled: bool = False) -> Iterator[None]:
    """Send heartbeats from a thread while the block runs, where the attempt has a heartbeat timeout.

    They say that the process runs, not that the block gets on: a process that is killed or stopped is noticed
    after the heartbeat timeout, a block that hangs after the attempt's own. Once the attempt is cancelled, or
    another one has taken its place, the beats end; ``also_cancelled`` is for a block that a cancellation does not
    end, and whose end the workflow waits for.
    """
    timeout = activity.info().heartbeat_timeout
    if timeout is None:
        yield
        return
    ended = threading.Event()
    seconds = min(timeout.total_seconds() / _BEATS_A_TIMEOUT, _LONGEST_SECONDS)
    # The SDK keeps the attempt in a context variable, and a thread begins without any.
    beat = contextvars.copy_context()
    thread = threading.Thread(
        target=beat.run, args=(_beat, ended, seconds, also_cancelled), name="heartbeat", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _beat(ended: threading.Event, seconds: float, also_cancelled: bool) -> None:
    while not ended.wait(seconds) and (also_cancelled or not activity.is_cancelled()):
        try:
            activity.heartbeat()
        except TimeoutError:
            # The worker's event loop is busy; the next beat may reach it.
            continue
        except RuntimeError:
            # The event loop is closed: the process is about to end.
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
