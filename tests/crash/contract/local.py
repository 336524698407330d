"""Local activities: results, failures, retries within the task and by a timer, and each way to cancel them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError
from temporalio.workflow import ActivityCancellationType

from tests.crash.contract.scenario import Ask, Family, Scenario

_LIMIT = timedelta(seconds=30)


def activities(nap: Callable[[float], None]) -> Sequence[Callable[..., Any]]:
    """Return the activities; ``nap`` waits for some seconds."""

    @activity.defn(name="double")
    def double(number: int) -> int:
        return 2 * number

    @activity.defn(name="fail_until")
    def fail_until(attempt: int, final: bool) -> int:
        found = activity.info().attempt
        if found < attempt:
            raise ApplicationError(f"attempt {found}", non_retryable=final)
        return found

    @activity.defn(name="hang", no_thread_cancel_exception=True)
    def hang() -> str:
        while not activity.is_cancelled():
            nap(0.02)
        raise CancelledError("given up")

    @activity.defn(name="linger", no_thread_cancel_exception=True)
    def linger() -> str:
        while not activity.is_cancelled():
            nap(0.02)
        return "finished"

    @activity.defn(name="take")
    def take(seconds: float) -> str:
        nap(seconds)
        return "taken"

    return [double, fail_until, hang, linger, take]


@workflow.defn
class Doubler:
    """Runs local activities one after the other and side by side, and a timer between them."""

    @workflow.run
    async def run(self) -> list[int]:
        """Return their results."""
        found = [await workflow.execute_local_activity("double", 1, result_type=int, start_to_close_timeout=_LIMIT)]
        await workflow.sleep(0.1)
        found.append(await workflow.execute_local_activity("double", 2, result_type=int, start_to_close_timeout=_LIMIT))
        return [*found, workflow.patched("later")]


@workflow.defn
class Retrier:
    """Runs a local activity that fails."""

    @workflow.run
    async def run(self, attempt: int, final: bool, most: int, threshold: float) -> str:
        """Return the attempt that succeeded, or the failure."""
        try:
            found = await workflow.execute_local_activity(
                "fail_until",
                args=[attempt, final],
                result_type=int,
                start_to_close_timeout=_LIMIT,
                retry_policy=RetryPolicy(
                    initial_interval=timedelta(seconds=0.2), backoff_coefficient=2.0, maximum_attempts=most
                ),
                local_retry_threshold=timedelta(seconds=threshold),
            )
        except ActivityError as error:
            return f"{error} by {type(error.cause).__name__} {error.cause}"
        return f"attempt {found}"


@workflow.defn
class Canceller:
    """Cancels a local activity when another has ended."""

    @workflow.run
    async def run(self, name: str, cancellation: int) -> str:
        """Return how the cancelled one ended."""
        hanging = workflow.start_local_activity(
            name,
            result_type=str,
            start_to_close_timeout=_LIMIT,
            cancellation_type=ActivityCancellationType(cancellation),
        )
        await workflow.execute_local_activity("double", 1, result_type=int, start_to_close_timeout=_LIMIT)
        hanging.cancel()
        try:
            return str(await hanging)
        except (ActivityError, asyncio.CancelledError) as error:
            return f"{error} by {type(error.__cause__).__name__}"


@workflow.defn
class Slow:
    """Waits for a local activity that takes longer than a task may."""

    @workflow.run
    async def run(self, name: str, args: list[float]) -> str:
        """Return its result."""
        return str(
            await workflow.execute_local_activity(
                name,
                args=args,
                result_type=str,
                start_to_close_timeout=_LIMIT,
                cancellation_type=ActivityCancellationType.TRY_CANCEL,
            )
        )


_TRY, _WAIT = int(ActivityCancellationType.TRY_CANCEL), int(ActivityCancellationType.WAIT_CANCELLATION_COMPLETED)

LOCAL = Family(
    [
        Scenario("results", Doubler),
        Scenario("tried again within the task", Retrier, (3, False, 0, 30.0)),
        Scenario("tried again after a timer", Retrier, (3, False, 0, 0.3)),
        Scenario("fails to the end", Retrier, (9, False, 2, 30.0)),
        Scenario("is not tried again", Retrier, (9, True, 0, 30.0)),
        Scenario("cancelled, not waited for", Canceller, ("hang", _TRY)),
        Scenario("cancelled and waited for", Canceller, ("hang", _WAIT)),
        Scenario("finishes although it is cancelled", Canceller, ("linger", _WAIT)),
        # A heartbeat of the task after 80 % of its timeout.
        Scenario("takes longer than a task", Slow, ("take", [2.4]), task_timeout=2.0),
        Scenario(
            "cancelled with its workflow at a heartbeat",
            Slow,
            ("hang", []),
            (Ask("WorkflowTaskStarted", "cancel", busy=True),),
            task_timeout=2.0,
        ),
    ],
    [Doubler, Retrier, Canceller, Slow],
    activities,
)
