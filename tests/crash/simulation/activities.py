"""Activities in the simulated Temporal server: attempts, retries, timeouts and cancellations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from temporalio.api.common.v1 import Payload, RetryPolicy
from temporalio.api.enums.v1 import RetryState, TimeoutType
from temporalio.api.failure.v1 import ActivityFailureInfo, Failure, TimeoutFailureInfo
from temporalio.bridge.proto.activity_result.activity_result_pb2 import ActivityResolution, Success
from temporalio.bridge.proto.activity_result.activity_result_pb2 import Failure as ActivityFailed
from temporalio.bridge.proto.workflow_activation.workflow_activation_pb2 import ResolveActivity, WorkflowActivationJob
from temporalio.bridge.proto.workflow_commands.workflow_commands_pb2 import ActivityCancellationType, ScheduleActivity

from photo_worker.policies import UNEXPECTED
from tests.crash.simulation.core import cancelled
from tests.crash.simulation.execution import Execution, Stale

_LONGEST_BACKOFF_SECONDS = 3600.0

_NAMES = {
    TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE: "StartToClose",
    TimeoutType.TIMEOUT_TYPE_HEARTBEAT: "Heartbeat",
    TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE: "ScheduleToClose",
}


@dataclass
class Attempt:
    """One attempt of an activity, given to a worker."""

    token: int
    number: int
    started: datetime
    beat: datetime
    cancel_requested: bool = False


@dataclass
class Activity:
    """A scheduled activity until it ends."""

    about: ScheduleActivity
    due: datetime
    until: datetime | None = None
    """The end of its schedule-to-close timeout."""
    number: int = 1
    attempt: Attempt | None = None
    cancel_requested: bool = False
    last_failure: Failure | None = None
    details: tuple[Payload, ...] = ()
    """The details of the last heartbeat, for the next attempt."""

    @property
    def retry(self) -> RetryPolicy:
        return self.about.retry_policy

    def deadline(self) -> tuple[datetime, TimeoutType.ValueType] | None:
        """Return when the attempt times out and by which timeout; without an attempt, when the activity does."""
        if self.attempt is None:
            return None if self.until is None else (self.until, SCHEDULE_TO_CLOSE)
        found = [] if self.until is None else [(self.until, SCHEDULE_TO_CLOSE)]
        found.append((self.attempt.started + self.about.start_to_close_timeout.ToTimedelta(), START_TO_CLOSE))
        if self.about.HasField("heartbeat_timeout"):
            found.append((self.attempt.beat + self.about.heartbeat_timeout.ToTimedelta(), HEARTBEAT))
        return min(found)


WAITS = ActivityCancellationType.WAIT_CANCELLATION_COMPLETED
START_TO_CLOSE = TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE
TIMEOUT = RetryState.RETRY_STATE_TIMEOUT
UNSPECIFIED = RetryState.RETRY_STATE_UNSPECIFIED
SCHEDULE_TO_CLOSE = TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE
HEARTBEAT = TimeoutType.TIMEOUT_TYPE_HEARTBEAT


class Ledger:
    """The executions by workflow id, the latest run of each. ``now`` returns the time."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._tokens = 0
        self.executions: dict[str, Execution] = {}

    def _token(self) -> int:
        self._tokens += 1
        return self._tokens

    def current(self, execution: Execution) -> bool:
        """Return whether an execution is the latest run of its workflow, and not deleted."""
        return self.executions.get(execution.workflow_id) is execution


class ActivityLedger(Ledger):
    """The part of the server that concerns activities."""

    def _schedule_activity(self, execution: Execution, about: ScheduleActivity) -> None:
        left = about.schedule_to_close_timeout.ToTimedelta()
        until = self._now() + left if left else None
        execution.activities[about.seq] = Activity(about, self._now(), until)
        execution.note("ActivityTaskScheduled", about.activity_type)

    def _cancel_activity(self, execution: Execution, seq: int) -> None:
        activity = execution.activities.get(seq)
        if activity is None:
            return
        execution.note("ActivityTaskCancelRequested")
        # A running attempt may still report, even if the workflow has continued without it.
        activity.cancel_requested = True
        if activity.attempt is not None:
            activity.attempt.cancel_requested = True

    def activities(self) -> list[tuple[Execution, Activity]]:
        """Return the activities whose next attempt a worker can start now."""
        now = self._now()
        return [
            (execution, activity)
            for execution in self.executions.values()
            for activity in execution.activities.values()
            if activity.attempt is None and activity.due <= now
        ]

    def give_activity(self, activity: Activity) -> Attempt:
        """Start the next attempt."""
        now = self._now()
        activity.attempt = Attempt(self._token(), activity.number, now, now, activity.cancel_requested)
        return activity.attempt

    def _find(self, execution: Execution, seq: int, token: int) -> Activity:
        activity = execution.activities.get(seq)
        if not self.current(execution) or activity is None:
            raise Stale("nothing waits for the activity")
        if activity.attempt is None or activity.attempt.token != token:
            raise Stale("the attempt was given up")
        return activity

    def heartbeat(self, execution: Execution, seq: int, token: int, details: Sequence[Payload] = ()) -> bool:
        """Record a heartbeat; return whether the attempt is cancelled. Raises ``Stale``."""
        activity = self._find(execution, seq, token)
        assert activity.attempt is not None
        activity.attempt.beat = self._now()
        activity.details = tuple(details)
        return activity.cancel_requested

    def complete_activity(self, execution: Execution, seq: int, token: int, result: Payload | None) -> None:
        """Record an attempt's result. Raises ``Stale``."""
        activity = self._find(execution, seq, token)
        resolution = ActivityResolution(completed=Success(result=result))
        self._end(execution, activity, "ActivityTaskCompleted", _resolved(seq, resolution))

    def fail_activity(self, execution: Execution, seq: int, token: int, failure: Failure) -> None:
        """Record an attempt's failure, and retry if the policy says so. Raises ``Stale``."""
        activity = self._find(execution, seq, token)
        told = failure.application_failure_info
        execution.unexpected[activity.about.activity_type] += told.type == UNEXPECTED
        final = failure.HasField("application_failure_info") and (
            told.non_retryable or told.type in activity.retry.non_retryable_error_types
        )
        if failure.HasField("canceled_failure_info") and activity.cancel_requested:
            self._end(execution, activity, "ActivityTaskCanceled", cancelled(seq))
            return
        self._failed(execution, activity, failure, final=final, event="ActivityTaskFailed")

    def _failed(self, execution: Execution, activity: Activity, failure: Failure, *, final: bool, event: str) -> None:
        most = activity.retry.maximum_attempts
        due = self._now() + _wait(activity.retry, activity.number, failure)
        # No time is left for another attempt, or the schedule-to-close timeout is over.
        late = not final and activity.until is not None and due >= activity.until
        if not final and not late and not activity.cancel_requested and (most == 0 or activity.number < most):
            activity.due = due
            activity.number += 1
            activity.attempt = None
            activity.last_failure = failure
            return
        if late and event == "ActivityTaskTimedOut":
            # The server reports schedule-to-close, whichever timeout ended the attempt.
            failure = _whole_time_over(activity.last_failure)
        about = activity.about
        whole = Failure(
            message="Activity task failed" if event == "ActivityTaskFailed" else "Activity task timed out",
            cause=failure,
            activity_failure_info=ActivityFailureInfo(
                activity_id=about.activity_id, retry_state=TIMEOUT if late else UNSPECIFIED
            ),
        )
        whole.activity_failure_info.activity_type.name = about.activity_type
        resolution = ActivityResolution(failed=ActivityFailed(failure=whole))
        self._end(execution, activity, event, _resolved(about.seq, resolution))

    def _end(self, execution: Execution, activity: Activity, event: str, job: WorkflowActivationJob | None) -> None:
        seq = activity.about.seq
        del execution.activities[seq]
        if activity.attempt is not None:
            execution.attempts.append((activity.about.activity_type, activity.number))
            execution.record("ActivityTaskStarted")
        gone_on = activity.cancel_requested and activity.about.cancellation_type != WAITS
        # The server schedules a task for the end of every activity, even if the code did not wait for it.
        execution.record(event, job=None if gone_on else job, task=True)

    def _activity_deadlines(self, execution: Execution) -> list[datetime]:
        found: list[datetime] = []
        for activity in execution.activities.values():
            deadline = activity.deadline()
            if deadline is not None:
                found.append(deadline[0])
            if activity.attempt is None and activity.due > self._now():
                found.append(activity.due)
        return found

    def _expire_activities(self, execution: Execution) -> None:
        for activity in list(execution.activities.values()):
            deadline = activity.deadline()
            if deadline is not None and deadline[0] <= self._now():
                info = TimeoutFailureInfo(timeout_type=deadline[1])
                failure = Failure(message=f"activity {_NAMES[deadline[1]]} timeout", timeout_failure_info=info)
                self._failed(execution, activity, failure, final=False, event="ActivityTaskTimedOut")


def _whole_time_over(last: Failure | None) -> Failure:
    """Return the failure of an activity by schedule-to-close; ``last`` is that of the attempt before."""
    message = "Not enough time to schedule next retry before activity ScheduleToClose timeout, giving up retrying"
    info = TimeoutFailureInfo(timeout_type=SCHEDULE_TO_CLOSE)
    return Failure(message=message, cause=last, timeout_failure_info=info)


def _resolved(seq: int, resolution: ActivityResolution) -> WorkflowActivationJob:
    return WorkflowActivationJob(resolve_activity=ResolveActivity(seq=seq, result=resolution))


def _wait(retry: RetryPolicy, attempt: int, failure: Failure) -> timedelta:
    """Return the wait after an attempt: the one that its failure asks for, or the policy's."""
    if failure.application_failure_info.HasField("next_retry_delay"):
        return failure.application_failure_info.next_retry_delay.ToTimedelta()
    return backoff(retry, attempt)


def backoff(retry: RetryPolicy, attempt: int) -> timedelta:
    longest = retry.maximum_interval.ToTimedelta().total_seconds() or _LONGEST_BACKOFF_SECONDS
    # Attempts may be unlimited, and a float ends at 2 ** 1024.
    seconds = retry.initial_interval.ToTimedelta().total_seconds() * retry.backoff_coefficient ** min(attempt - 1, 64)
    return timedelta(seconds=min(seconds, longest))
