"""Where an activity's error becomes Temporal's: type, retryable or not, code and hint."""

from __future__ import annotations

from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from photo_worker.errors import PhotoWorkerError


def to_application_error(error: PhotoWorkerError) -> ApplicationError:
    """Return the error as it travels through history: its code is the type, its hint the first detail."""
    return ApplicationError(error.message, error.hint, type=error.code, non_retryable=not error.retryable)


class ErrorBoundary(Interceptor):
    """Turns ``PhotoWorkerError`` into ``ApplicationError``, so that no activity has to."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wrap an activity's execution."""
        return _Inbound(super().intercept_activity(next))


class _Inbound(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        try:
            return await super().execute_activity(input)
        except PhotoWorkerError as error:
            activity.logger.warning(
                "activity failed: %s",
                error.message,
                extra={"photo": {"code": error.code, "final": not error.retryable}},
            )
            raise to_application_error(error) from error
