"""The named moments at which a process may die, so that tests can make one die there.

Each point stands around one effect on the world outside the process and is used in exactly one place.
Nothing happens at a point unless a test has armed it: then entering and leaving the block is one look at a variable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from types import TracebackType
from typing import TypeAlias


class CrashPoint(StrEnum):
    """An effect that may be lost or doubled."""

    PHOTO_HASHED = "photo-hashed"
    RAW_OBJECT_STORED = "raw-object-stored"
    JOB_QUEUED = "job-queued"
    WORKFLOW_STARTED = "workflow-started"
    JOB_CLAIMED = "job-claimed"
    HASH_RECORDED = "hash-recorded"
    COPY_STORED = "copy-stored"
    TEXTRACT_STARTED = "textract-started"
    RESULT_PAGE_FETCHED = "result-page-fetched"
    RESULT_OBJECT_STORED = "result-object-stored"
    MANIFEST_STORED = "manifest-stored"
    RESULT_COMMITTED = "result-committed"
    FAILURE_RECORDED = "failure-recorded"
    ERASURE_MARKED = "erasure-marked"
    WORKFLOW_ERASED = "workflow-erased"
    ARTIFACT_ERASED = "artifact-erased"
    COPY_ERASED = "copy-erased"
    RAW_OBJECT_ERASED = "raw-object-erased"
    ROW_ERASED = "row-erased"


class Phase(StrEnum):
    """On which side of the effect."""

    BEFORE = "before"
    AFTER = "after"
    """The effect is done; whoever waits for this process has not heard of it."""


Trigger: TypeAlias = Callable[[CrashPoint, Phase], None]

# The last one counts; empty outside of tests.
_triggers: list[Trigger] = []


class crash_point:
    """The block around a point's effect. The second phase is not reached where the effect raises."""

    __slots__ = ("_point",)

    def __init__(self, point: CrashPoint) -> None:
        self._point = point

    def __enter__(self) -> None:
        if _triggers:
            _triggers[-1](self._point, Phase.BEFORE)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if _triggers and kind is None:
            _triggers[-1](self._point, Phase.AFTER)


@contextmanager
def armed(trigger: Trigger) -> Iterator[None]:
    """Call ``trigger`` at every point while the block runs, in this process. For tests alone."""
    _triggers.append(trigger)
    try:
        yield
    finally:
        _triggers.remove(trigger)
