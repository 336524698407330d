"""Run several functions at once, each in its own thread; the first failure cancels the others."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence


class Cancelled(Exception):
    """The function stopped early because another one failed; it has no result."""


def run_all(functions: Sequence[Callable[[], None]], cancelled: threading.Event) -> None:
    """Call every function at once; return when all have returned, or raise the first failure.

    ``cancelled`` is set by the first failure and at the end: a function that sees it set raises ``Cancelled``.
    """
    results: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    for work in functions:
        # Daemon threads: an interrupt must not wait for a client's own timeout.
        threading.Thread(target=_report, args=(work, results), daemon=True).start()
    failure: BaseException | None = None
    try:
        for _ in functions:
            outcome = results.get()
            if outcome is not None and not isinstance(outcome, Cancelled):
                failure = failure or outcome
                cancelled.set()
    finally:
        cancelled.set()
    if failure is not None:
        raise failure


def _report(work: Callable[[], None], results: queue.SimpleQueue[BaseException | None]) -> None:
    """Call one function and pass its outcome to the caller's thread."""
    try:
        work()
    except BaseException as error:
        results.put(error)
    else:
        results.put(None)
