"""Translates an activity's error into Temporal's ``ApplicationError``: type, retryable or not, code and hint."""

from __future__ import annotations

import errno
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.activity import _CompleteAsyncError
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from photo_worker.contracts.keys import WORKER_PREFIXES
from photo_worker.errors import (
    BucketMissing,
    ObjectForbidden,
    PhotoWorkerError,
    StepFailed,
    WorkerBucketForbidden,
    WorkerBucketMissing,
    WorkerExhausted,
    WorkerIncomplete,
)
from photo_worker.policies import UNEXPECTED
from photo_worker.userinfo import without_userinfo

# CPython's messages if the system has no thread left.
_NO_THREAD = ("can't start new thread", "can't allocate lock")
# No open files, memory, processes or disk space left, or a disk that accepts no writes.
_EXHAUSTED = frozenset(
    {errno.EAGAIN, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EROFS}
)

# Temporal keeps at most 4 KiB of a pending activity's last failure and replaces a longer one, which would hide why the
# activity waits (limit.mutableStateActivityFailureSize).
_MESSAGE_BYTES = 1500


def to_application_error(error: PhotoWorkerError) -> ApplicationError:
    """Return the error in the form that histories record: its code is the type, its hint the first detail."""
    wait = error.retry_after_seconds
    return ApplicationError(
        _cut(error.message),
        error.hint,
        type=error.code,
        non_retryable=not error.passes,
        next_retry_delay=None if wait is None else timedelta(seconds=wait),
    )


def unexpected(error: BaseException) -> ApplicationError:
    """Return the form of an error that has no code: its class and text, without the chain of its causes."""
    return ApplicationError(_cut(without_userinfo(f"{type(error).__name__}: {error}")), type=UNEXPECTED)


def worker_fault(error: BaseException) -> PhotoWorkerError | None:
    """Return the fault of this worker that an error without a code shows, or None: another worker may succeed."""
    reason = f"{type(error).__name__}: {error}"
    if isinstance(error, ImportError):
        return WorkerIncomplete(reason=reason)
    without_thread = isinstance(error, RuntimeError) and str(error).startswith(_NO_THREAD)
    out_of = isinstance(error, OSError) and error.errno in _EXHAUSTED
    if without_thread or out_of or isinstance(error, MemoryError):
        return WorkerExhausted(reason=reason)
    return None


def _cut(text: str) -> str:
    return text.encode()[:_MESSAGE_BYTES].decode(errors="ignore")


class ErrorBoundary(Interceptor):
    """Turns every error of an activity into an ``ApplicationError``.

    ``bucket`` is the worker's own bucket: if it is missing or refuses writes, the worker is at fault, not the job.
    ``record_outcome`` is called after each attempt with the activity's type and the error; None means that the attempt
    succeeded or that the job is at fault. An unexpected error is passed as ``StepFailed``.
    """

    def __init__(
        self,
        bucket: str = "",
        record_outcome: Callable[[str, PhotoWorkerError | None], None] = lambda kind, error: None,
    ) -> None:
        self.bucket = bucket
        self.record_outcome = record_outcome

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wrap an activity's execution."""
        return _Inbound(super().intercept_activity(next), self)


class _Inbound(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, boundary: ErrorBoundary) -> None:
        super().__init__(next)
        self._boundary = boundary

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        kind = activity.info().activity_type
        try:
            result = await super().execute_activity(input)
        except PhotoWorkerError as error:
            raise self._explained(kind, error) from None
        except (FailureError, _CompleteAsyncError):
            # Temporal's own errors: a cancellation, or a payload that breaks its contract.
            raise
        except Exception as error:
            # The log gets the traceback; the history records only class and message.
            activity.logger.exception("activity failed unexpectedly")
            known = worker_fault(error)
            if known is not None:
                raise self._explained(kind, known) from None
            told = unexpected(error)
            # A worker on which every activity fails must not pull the backlog into final failures.
            self._boundary.record_outcome(kind, StepFailed(step=kind, reason=told.message))
            raise told from None
        self._boundary.record_outcome(kind, None)
        return result

    def _explained(self, kind: str, error: PhotoWorkerError) -> ApplicationError:
        if isinstance(error, BucketMissing) and error.context.get("bucket") == self._boundary.bucket:
            error = WorkerBucketMissing(bucket=self._boundary.bucket)
        elif isinstance(error, ObjectForbidden) and self._is_own(error):
            error = WorkerBucketForbidden(**error.context)
        activity.logger.warning(
            "activity failed: %s", error.message, extra={"photo": {"code": error.code, "final": not error.passes}}
        )
        self._boundary.record_outcome(kind, error if error.passes else None)
        return to_application_error(error)

    def _is_own(self, error: ObjectForbidden) -> bool:
        """Tell whether the refused object is in the worker's own bucket, under a prefix that workers write."""
        key = str(error.context.get("key"))
        return error.context.get("bucket") == self._boundary.bucket and key.startswith(WORKER_PREFIXES)
