"""Where an attempt is put back before it begins, because its step fails again and again on this worker."""

from __future__ import annotations

from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from photo_worker.admission import Admission
from photo_worker.errors import PhotoWorkerError


class HoldBack(Interceptor):
    """Puts back what ``admission`` does not let through: Temporal offers it again as it would after a failure.

    Which step a task is of is known only once it is taken, so this cannot be left to not asking for it.
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
            # Said once, by the admission: no attempt has failed here.
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
    """Tell whether the run's attempts are counted, as those were that began before jobs had a lifetime."""
    return info.retry_policy is not None and info.retry_policy.maximum_attempts > 0
