"""The simulated Temporal server: executions, tasks, attempts, timeouts and retries, in virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from temporalio.api.common.v1 import Payload, RetryPolicy
from temporalio.api.enums.v1 import RetryState, TimeoutType
from temporalio.api.failure.v1 import ActivityFailureInfo, Failure, TimeoutFailureInfo
from temporalio.bridge.proto.activity_result.activity_result_pb2 import ActivityResolution, Success
from temporalio.bridge.proto.activity_result.activity_result_pb2 import Failure as ActivityFailed
from temporalio.bridge.proto.workflow_activation.workflow_activation_pb2 import (
    CancelWorkflow,
    FireTimer,
    InitializeWorkflow,
    ResolveActivity,
    WorkflowActivationJob,
)
from temporalio.bridge.proto.workflow_commands.workflow_commands_pb2 import (
    ActivityCancellationType,
    ScheduleActivity,
    WorkflowCommand,
)

from photo_worker.policies import UNEXPECTED
from tests.crash.simulation.replica import TASK_TIMEOUT, cancelled

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


@dataclass(frozen=True)
class DoneTask:
    """A workflow task that a worker completed."""

    jobs: tuple[WorkflowActivationJob, ...]
    at: datetime
    commands: tuple[WorkflowCommand, ...]
    flags: frozenset[int] = frozenset()
    """The SDK's flags of its behaviour in the task."""


@dataclass
class Execution:
    """One run of a workflow."""

    workflow_id: str
    run_id: str
    kind: str
    arguments: tuple[Payload, ...]
    started: datetime
    status: str = "running"
    closed: datetime | None = None
    result: Payload | None = None
    failure: Failure | None = None
    events: list[str] = field(default_factory=list)
    attempts: list[tuple[str, int]] = field(default_factory=list)
    """Each activity that ended, with the number of its last attempt."""
    unexpected: Counter[str] = field(default_factory=Counter)
    """The number of attempts with an unexpected error, by activity type."""
    done: list[DoneTask] = field(default_factory=list)
    waiting: list[WorkflowActivationJob] = field(default_factory=list)
    wanted: bool = False
    """Whether a workflow task is due although there are no new jobs for the code."""
    reason: str = ""
    """The reason of a termination by an operator."""
    task: tuple[int, datetime, tuple[WorkflowActivationJob, ...]] | None = None
    """The task that a worker runs: token, timeout, jobs."""
    not_before: datetime | None = None
    """The earliest time of the next attempt of a failed workflow task."""
    failed_tasks: int = 0
    activities: dict[int, Activity] = field(default_factory=dict)
    timers: dict[int, datetime] = field(default_factory=dict)
    """The time at which each timer fires, by number."""


class Stale(Exception):
    """The report is about a task, an attempt or an execution that has ended already."""


class Service:
    """Executions by workflow id. ``now`` returns the time; the state changes only by calls."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._tokens = 0
        self.executions: dict[str, Execution] = {}
        self.deleted: list[str] = []
        self.task_attempts_lost = 0

    def _token(self) -> int:
        self._tokens += 1
        return self._tokens

    # -- what clients do ------------------------------------------------------

    def start(self, workflow_id: str, kind: str, arguments: Sequence[Payload]) -> tuple[Execution, bool]:
        """Start an execution, or return the one with this id, running or closed; and whether it is new."""
        known = self.executions.get(workflow_id)
        if known is not None:
            return known, False
        run_id = f"run-{self._token()}"
        found = Execution(workflow_id, run_id, kind, tuple(arguments), self._now(), events=["WorkflowExecutionStarted"])
        first = InitializeWorkflow(
            workflow_type=kind,
            workflow_id=workflow_id,
            arguments=arguments,
            first_execution_run_id=run_id,
            attempt=1,
        )
        found.waiting.append(WorkflowActivationJob(initialize_workflow=first))
        self.executions[workflow_id] = found
        return found, True

    def start_again(self, workflow_id: str) -> tuple[Execution, bool]:
        """Restart a workflow that ended without a result; return the running execution, and whether it is new.

        Raises ``KeyError``.
        """
        known = self.executions[workflow_id]
        if known.status in {"running", "completed"}:
            return known, False
        del self.executions[workflow_id]
        return self.start(workflow_id, known.kind, known.arguments)

    def cancel(self, workflow_id: str) -> None:
        """Request the cancellation of a running workflow once. Raises ``KeyError`` and ``Stale``."""
        found = self._running(workflow_id)
        if "WorkflowExecutionCancelRequested" not in found.events:
            found.events.append("WorkflowExecutionCancelRequested")
            found.waiting.append(WorkflowActivationJob(cancel_workflow=CancelWorkflow()))

    def terminate(self, workflow_id: str, reason: str = "") -> None:
        """Close a running workflow at once. Raises ``KeyError`` and ``Stale``."""
        self._running(workflow_id).reason = reason
        self._close(self._running(workflow_id), "terminated", "WorkflowExecutionTerminated")

    def delete(self, workflow_id: str) -> bool:
        """Delete a workflow; return whether there was one."""
        return self.executions.pop(workflow_id, None) is not None

    def _running(self, workflow_id: str) -> Execution:
        found = self.executions[workflow_id]
        if found.status != "running":
            raise Stale(f"{workflow_id} is closed")
        return found

    # -- what workers do ------------------------------------------------------

    def tasks(self) -> list[Execution]:
        """Return the executions with a workflow task for a worker."""
        return [
            found
            for found in self.executions.values()
            if (found.waiting or found.wanted)
            and found.task is None
            and found.status == "running"
            and (found.not_before is None or found.not_before <= self._now())
        ]

    def give_task(self, execution: Execution) -> int:
        """Start a workflow task on a worker; return its token."""
        token = self._token()
        execution.wanted = False
        execution.task = (token, self._now() + TASK_TIMEOUT, tuple(execution.waiting))
        execution.events += ["WorkflowTaskScheduled", "WorkflowTaskStarted"]
        return token

    def complete_task(
        self, execution: Execution, token: int, commands: Sequence[WorkflowCommand], flags: Collection[int] = ()
    ) -> None:
        """Apply a task's commands. Raises ``Stale`` if the task has timed out or the execution has closed."""
        if self.executions.get(execution.workflow_id) is not execution or execution.status != "running":
            raise Stale("the workflow is closed")
        if execution.task is None or execution.task[0] != token:
            raise Stale("the task was given to another worker")
        # A workflow's time is the start of its task, in a replay too.
        jobs, at = execution.task[2], execution.task[1] - TASK_TIMEOUT
        closes = any(_closes(command) for command in commands)
        if closes and len(execution.waiting) > len(jobs):
            # New events arrived: the server refuses to close, and the task runs again with all events.
            execution.task = None
            execution.wanted = True
            execution.events.append("WorkflowTaskFailed")
            # The commands are not in the history, so that the worker must drop its state.
            raise Stale("something came in between")
        execution.task = None
        execution.waiting = execution.waiting[len(jobs) :]
        execution.done.append(DoneTask(jobs, at, tuple(commands), frozenset(flags)))
        execution.events.append("WorkflowTaskCompleted")
        for command in commands:
            self._obey(execution, command)
        # An activity that has not started ends at once, in the history after the task's commands.
        for activity in list(execution.activities.values()):
            if activity.cancel_requested and activity.attempt is None:
                self._end(execution, activity, "ActivityTaskCanceled", cancelled(activity.about.seq))

    def fail_task(self, execution: Execution, token: int) -> None:
        """Record a failed workflow task: a worker gets it again after a wait, and the job continues.

        Raises ``Stale``.
        """
        if self.executions.get(execution.workflow_id) is not execution or execution.task is None:
            raise Stale("the workflow is closed")
        if execution.task[0] != token:
            raise Stale("the task was given to another worker")
        execution.task = None
        execution.wanted = True
        execution.failed_tasks += 1
        execution.not_before = self._now() + TASK_TIMEOUT
        execution.events.append("WorkflowTaskFailed")

    def _obey(self, execution: Execution, command: WorkflowCommand) -> None:
        match command.WhichOneof("variant"):
            case "schedule_activity":
                about = command.schedule_activity
                left = about.schedule_to_close_timeout.ToTimedelta()
                until = self._now() + left if left else None
                execution.activities[about.seq] = Activity(about, self._now(), until)
                execution.events.append("ActivityTaskScheduled")
            case "request_cancel_activity":
                self._cancel_activity(execution, command.request_cancel_activity.seq)
            case "start_timer":
                timer = command.start_timer
                execution.timers[timer.seq] = self._now() + timer.start_to_fire_timeout.ToTimedelta()
                execution.events.append("TimerStarted")
            case "cancel_timer":
                if execution.timers.pop(command.cancel_timer.seq, None) is not None:
                    execution.events.append("TimerCanceled")
            case "set_patch_marker":
                execution.events += ["MarkerRecorded", "UpsertWorkflowSearchAttributes"]
            case "complete_workflow_execution":
                execution.result = command.complete_workflow_execution.result
                self._close(execution, "completed", "WorkflowExecutionCompleted")
            case "fail_workflow_execution":
                execution.failure = command.fail_workflow_execution.failure
                self._close(execution, "failed", "WorkflowExecutionFailed")
            case "cancel_workflow_execution":
                self._close(execution, "cancelled", "WorkflowExecutionCanceled")
            case other:
                raise NotImplementedError(f"the simulation does not know the command {other}")

    def _close(self, execution: Execution, status: str, event: str) -> None:
        execution.status, execution.closed = status, self._now()
        execution.events.append(event)
        execution.activities.clear()
        execution.timers.clear()
        execution.waiting.clear()
        execution.task = None

    def _cancel_activity(self, execution: Execution, seq: int) -> None:
        activity = execution.activities.get(seq)
        if activity is None:
            return
        execution.events.append("ActivityTaskCancelRequested")
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
        if self.executions.get(execution.workflow_id) is not execution or activity is None:
            raise Stale("nobody waits for the activity")
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
            execution.events.append("ActivityTaskStarted")
        execution.events.append(event)
        # The server schedules a task for the end of every activity, even if the code did not wait for it.
        execution.wanted = True
        gone_on = activity.cancel_requested and activity.about.cancellation_type != WAITS
        if job is not None and not gone_on:
            execution.waiting.append(job)

    # -- time ---------------------------------------------------------------------

    def next_deadline(self) -> datetime | None:
        """Return the time of the next timeout, retry or timer."""
        now = self._now()
        found: list[datetime] = []
        for execution in self.executions.values():
            found += execution.timers.values()
            if execution.not_before is not None and execution.not_before > now and execution.status == "running":
                found.append(execution.not_before)
            if execution.task is not None:
                found.append(execution.task[1])
            for activity in execution.activities.values():
                deadline = activity.deadline()
                if deadline is not None:
                    found.append(deadline[0])
                if activity.attempt is None and activity.due > now:
                    found.append(activity.due)
        return min(found, default=None)

    def expire(self) -> None:
        """Time out tasks and attempts that are over their limits, and fire timers."""
        now = self._now()
        for execution in list(self.executions.values()):
            if execution.task is not None and execution.task[1] <= now:
                execution.task = None
                execution.wanted = True
                execution.events.append("WorkflowTaskTimedOut")
                self.task_attempts_lost += 1
            for seq, due in list(execution.timers.items()):
                if due <= now:
                    del execution.timers[seq]
                    execution.events.append("TimerFired")
                    execution.waiting.append(WorkflowActivationJob(fire_timer=FireTimer(seq=seq)))
            for activity in list(execution.activities.values()):
                deadline = activity.deadline()
                if deadline is not None and deadline[0] <= now:
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


def _closes(command: WorkflowCommand) -> bool:
    name = command.WhichOneof("variant") or ""
    return name.endswith("_workflow_execution") and name.split("_")[0] in {"complete", "fail", "cancel"}


def _wait(retry: RetryPolicy, attempt: int, failure: Failure) -> timedelta:
    """Return the wait after an attempt: the one that its failure asks for, or the policy's."""
    if failure.application_failure_info.HasField("next_retry_delay"):
        return failure.application_failure_info.next_retry_delay.ToTimedelta()
    return _backoff(retry, attempt)


def _backoff(retry: RetryPolicy, attempt: int) -> timedelta:
    longest = retry.maximum_interval.ToTimedelta().total_seconds() or _LONGEST_BACKOFF_SECONDS
    # Attempts may be unlimited, and a float ends at 2 ** 1024.
    seconds = retry.initial_interval.ToTimedelta().total_seconds() * retry.backoff_coefficient ** min(attempt - 1, 64)
    return timedelta(seconds=min(seconds, longest))
