"""Interceptor that rejects an attempt before it begins if its activity type keeps failing on this worker."""

from __future__ import annotations

from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from photo_worker.admission import Admission
from photo_worker.errors import PhotoWorkerError


class HoldBackInterceptor(Interceptor):
    """Fails attempts that ``admission`` does not admit: Temporal retries them as it does after any failure.

    The worker learns a task's activity type only after it has taken the task, so it cannot simply stop polling.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wrap an activity's execution."""
        return _Inbound(super().intercept_activity(next), self._admission)


class _Inbound(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, admission: Admission) -> None:
        super().__init__(next)
        self._admission = admission

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        info = activity.info()
        kind, job_id = info.activity_type, info.workflow_id or ""
        held = None if _is_counted(info) else self._admission.held_back(kind, job_id)
        if held is not None:
            # Not logged here: nothing was attempted, and the admission has logged the cause once.
            raise ApplicationError(held.message, held.hint, type=held.code, category=ApplicationErrorCategory.BENIGN)
        failed = False
        try:
            return await super().execute_activity(input)
        except PhotoWorkerError as error:
            failed = error.passes
            raise
        finally:
            self._admission.ended(kind, job_id, failed=failed)


def _is_counted(info: activity.Info) -> bool:
    """Tell whether the run limits its attempts, as runs do that began before jobs had a lifetime."""
    return info.retry_policy is not None and info.retry_policy.maximum_attempts > 0
