"""Named points at which a process may crash, so that tests can make it crash there.

Each point surrounds one external effect and is used in exactly one place. Nothing happens at a point unless a test has
armed a trigger; without one, entering and leaving the block costs one check of a variable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from types import TracebackType
from typing import TypeAlias


class CrashPoint(StrEnum):
    """External effects that a crash may lose or repeat."""

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
    """The side of the effect on which a trigger is called."""

    BEFORE = "before"
    AFTER = "after"
    """The effect is done, and no other process has been told of it."""


Trigger: TypeAlias = Callable[[CrashPoint, Phase], None]

# Only the last trigger is called; empty outside of tests.
_triggers: list[Trigger] = []


class crash_point:
    """Context manager around a point's effect. ``Phase.AFTER`` is skipped if the effect raises."""

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
