"""Several waits at once, each in a thread of its own; the first that fails ends the others."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence


class Cancelled(Exception):
    """The wait is over for another reason; this one has no result."""


def run_all(works: Sequence[Callable[[], None]], cancelled: threading.Event) -> None:
    """Return when every work has returned, or raise the first failure.

    ``over`` is set by the first failure and at the end: a work that sees it raises ``Stopped``.
    """
    results: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    for work in works:
        # Daemons: an interrupt must not wait for a client's own timeout.
        threading.Thread(target=_report, args=(work, results), daemon=True).start()
    failure: BaseException | None = None
    try:
        for _ in works:
            outcome = results.get()
            if outcome is not None and not isinstance(outcome, Cancelled):
                failure = failure or outcome
                cancelled.set()
    finally:
        cancelled.set()
    if failure is not None:
        raise failure


def _report(work: Callable[[], None], results: queue.SimpleQueue[BaseException | None]) -> None:
    """Do one work and hand its outcome to the caller's thread."""
    try:
        work()
    except BaseException as error:
        results.put(error)
    else:
        results.put(None)
