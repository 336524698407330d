"""What workflows share: running an activity by its policy, outlasting a cancellation, and the reason of a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    RetryState,
    TimeoutError,
    TimeoutType,
    is_cancelled_exception,
)

with workflow.unsafe.imports_passed_through():
    from photo_worker import policies
    from photo_worker.activities.boundary import to_application_error
    from photo_worker.errors import JobCancelled, JobExpired, StepFailed, StepTimeout

_In = TypeVar("_In")
_Out = TypeVar("_Out")


async def execute(
    method: Callable[[Any, _In], _Out],
    argument: _In,
    policy: policies.ActivityPolicy,
    retries: RetryPolicy,
    left: timedelta | None = None,
    *,
    cancellation: workflow.ActivityCancellationType = workflow.ActivityCancellationType.TRY_CANCEL,
) -> _Out:
    """Run an activity with the timeouts of ``policy``, for ``left`` with all its attempts."""
    return await workflow.execute_activity_method(
        method,
        argument,
        schedule_to_close_timeout=left,
        start_to_close_timeout=policy.start_to_close_timeout,
        heartbeat_timeout=policy.heartbeat_timeout,
        retry_policy=retries,
        cancellation_type=cancellation,
    )


async def await_ignoring_cancellation(work: Coroutine[Any, Any, str]) -> str:
    """Wait for ``work`` even if the workflow is cancelled meanwhile: a row must not stay "running"."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        # Temporal accepts one cancellation request per run, so nothing interrupts this second wait.
        return await task


def failure_reason(error: BaseException) -> ApplicationError:
    """Return why the job ends, with a stable code as its type."""
    if is_cancelled_exception(error):
        return to_application_error(JobCancelled())
    cause = error.__cause__
    step = error.activity_type if isinstance(error, ActivityError) else "workflow"
    if isinstance(error, ActivityError) and _is_over(error):
        return to_application_error(JobExpired(step=step, last=_last(cause)))
    if isinstance(cause, ApplicationError) and cause.type and cause.details:
        return ApplicationError(cause.message, *cause.details, type=cause.type, non_retryable=True)
    if isinstance(cause, TimeoutError):
        return to_application_error(StepTimeout(step=step, reason=cause.message))
    detail = str(cause or error)
    if isinstance(cause, ApplicationError):
        detail = cause.message if cause.type == policies.UNEXPECTED else f"{cause.type}: {cause.message}"
    return to_application_error(StepFailed(step=step, reason=detail))


def _is_over(error: ActivityError) -> bool:
    """Tell whether the end of the job's lifetime ended the activity."""
    cause = error.cause
    late = isinstance(cause, TimeoutError) and cause.type is TimeoutType.SCHEDULE_TO_CLOSE
    return late or error.retry_state is RetryState.TIMEOUT


def _last(cause: BaseException | None) -> str:
    """Return how the last attempt ended, for the message of ``JobExpired``."""
    if isinstance(cause, TimeoutError):
        # The time ran out during an attempt; the failure of the previous one is why the job waited.
        cause = cause.cause
    if isinstance(cause, ApplicationError):
        return f"until the end, last with [{cause.type}] {cause.message}"
    return "until the end, and did not end in its time"


def is_unexpected(error: ActivityError) -> bool:
    """Tell whether an error without a code ended the activity."""
    return isinstance(error.cause, ApplicationError) and error.cause.type == policies.UNEXPECTED


def lasting(policy: policies.ActivityPolicy) -> RetryPolicy:
    """Return retries without a limit, which an unexpected error ends."""
    return RetryPolicy(
        initial_interval=policy.initial_interval,
        backoff_coefficient=policy.backoff_coefficient,
        maximum_interval=policy.maximum_interval,
        maximum_attempts=0,
        non_retryable_error_types=[policies.UNEXPECTED],
    )


def counting(policy: policies.ActivityPolicy) -> RetryPolicy:
    """Return retries that count every attempt."""
    return RetryPolicy(
        initial_interval=policy.initial_interval,
        backoff_coefficient=policy.backoff_coefficient,
        maximum_interval=policy.maximum_interval,
        maximum_attempts=policy.maximum_attempts,
    )
