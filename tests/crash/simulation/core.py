"""What the SDK's core does between the workflow's code and the server: it responds to some commands itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from temporalio.api.enums.v1 import RetryState
from temporalio.api.failure.v1 import (
    ActivityFailureInfo,
    CanceledFailureInfo,
    ChildWorkflowExecutionFailureInfo,
    Failure,
)
from temporalio.bridge.proto.activity_result.activity_result_pb2 import ActivityResolution, Cancellation
from temporalio.bridge.proto.child_workflow.child_workflow_pb2 import ChildWorkflowCancellationType
from temporalio.bridge.proto.workflow_activation.workflow_activation_pb2 import (
    ResolveActivity,
    ResolveChildWorkflowExecution,
    ResolveChildWorkflowExecutionStart,
    ResolveSignalExternalWorkflow,
    WorkflowActivationJob,
)
from temporalio.bridge.proto.workflow_commands.workflow_commands_pb2 import (
    ActivityCancellationType,
    StartChildWorkflowExecution,
    WorkflowCommand,
)

# Workflow tasks end within this time (Temporal's default), or another worker gets them.
TASK_TIMEOUT = timedelta(seconds=10)

_ABANDON = ActivityCancellationType.ABANDON
_WAITS = ActivityCancellationType.WAIT_CANCELLATION_COMPLETED
_ENDS = frozenset(
    {
        "complete_workflow_execution",
        "fail_workflow_execution",
        "cancel_workflow_execution",
        "continue_as_new_workflow_execution",
    }
)


class TaskFailed(Exception):
    """A workflow task that the SDK failed: the code has a defect, or diverges from the history."""


class Core:
    """The state of one execution in the core. Commands that never reach the server are not in ``commands``."""

    def __init__(self) -> None:
        self.commands: list[WorkflowCommand] = []
        """The commands of the present task for the server."""
        self._activities: dict[int, ActivityCancellationType.ValueType] = {}
        self._cancelled: set[int] = set()
        """The activities that the code takes for cancelled, whose later events it does not get."""
        self._children: dict[int, StartChildWorkflowExecution] = {}
        self._left: dict[int, ChildWorkflowCancellationType.ValueType] = {}
        """The children that the code takes for cancelled, by the way in which it cancelled them."""
        self.local: dict[int, WorkflowCommand] = {}
        """The local activities without a result. Each becomes a command for the server once it has one."""
        self.local_cancelled: set[int] = set()
        """The local activities whose attempts are told that they are cancelled."""
        self._ended = False

    @property
    def ended(self) -> bool:
        """Return whether the workflow's code has closed the workflow."""
        return self._ended

    def begin_task(self) -> None:
        """Begin a workflow task: everything issued so far has reached the server."""
        self.commands = []

    def delivered(self, jobs: Sequence[WorkflowActivationJob]) -> list[WorkflowActivationJob]:
        """Return the jobs of a task that the code gets."""
        return [job for job in jobs if not self._dropped(job)]

    def _dropped(self, job: WorkflowActivationJob) -> bool:
        """Return whether the code has gone on without what the job is about."""
        if job.resolve_child_workflow_execution_start.seq in self._left:
            return True
        ended = job.resolve_child_workflow_execution
        if ended.seq not in self._left:
            return job.resolve_activity.seq in self._cancelled
        if self._left[ended.seq] != ChildWorkflowCancellationType.ABANDON and not ended.result.HasField("cancelled"):
            # The core takes this for a divergence from the history.
            raise TaskFailed("a child that was cancelled without waiting has ended otherwise")
        return True

    def take(self, found: Sequence[WorkflowCommand]) -> list[WorkflowActivationJob]:
        """Take the commands of an activation; return the jobs that follow within the same task."""
        jobs: list[WorkflowActivationJob] = []
        for command in found:
            if self._ended:
                # Nothing follows the command that closes a workflow.
                continue
            variant = command.WhichOneof("variant")
            self._ended = variant in _ENDS
            match variant:
                case "schedule_activity":
                    about = command.schedule_activity
                    self._activities[about.seq] = about.cancellation_type
                    self.commands.append(command)
                case "request_cancel_activity":
                    jobs += self._cancel_activity(command)
                case "cancel_timer":
                    self._cancel_timer(command)
                case "start_child_workflow_execution":
                    child = command.start_child_workflow_execution
                    self._children[child.seq] = child
                    self.commands.append(command)
                case "cancel_child_workflow_execution":
                    jobs += self._cancel_child(command)
                case "schedule_local_activity":
                    self.local[command.schedule_local_activity.seq] = command
                case "request_cancel_local_activity":
                    jobs += self._cancel_local(command.request_cancel_local_activity.seq)
                case "cancel_signal_workflow":
                    jobs += self._cancel_signal(command.cancel_signal_workflow.seq)
                case _:
                    self.commands.append(command)
        return jobs

    def _withdraw(self, unsent: Callable[[WorkflowCommand], bool]) -> bool:
        """Remove a command that was issued in this task; return whether there was one."""
        found = [command for command in self.commands if unsent(command)]
        self.commands = [command for command in self.commands if command not in found]
        return bool(found)

    def _cancel_timer(self, command: WorkflowCommand) -> None:
        if not self._withdraw(lambda one: one.start_timer.seq == command.cancel_timer.seq):
            self.commands.append(command)

    def _cancel_activity(self, command: WorkflowCommand) -> list[WorkflowActivationJob]:
        seq = command.request_cancel_activity.seq
        kind = self._activities[seq]
        if not self._withdraw(lambda one: one.schedule_activity.seq == seq):
            if kind != _ABANDON:
                self.commands.append(command)
            if kind == _WAITS:
                return []
        self._cancelled.add(seq)
        return [cancelled(seq)]

    def resolve_local(self, jobs: Sequence[WorkflowActivationJob]) -> None:
        """Note that local activities have results, in this order."""
        self.commands += [self.local.pop(job.resolve_activity.seq) for job in jobs]

    def _cancel_local(self, seq: int) -> list[WorkflowActivationJob]:
        kind = self.local[seq].schedule_local_activity.cancellation_type
        if kind != _ABANDON:
            self.local_cancelled.add(seq)
        if kind == _WAITS:
            return []
        job = cancelled(seq, local=True)
        self.resolve_local([job])
        return [job]

    def _cancel_child(self, command: WorkflowCommand) -> list[WorkflowActivationJob]:
        about = command.cancel_child_workflow_execution
        seq = about.child_workflow_seq
        if self._withdraw(lambda one: one.start_child_workflow_execution.seq == seq):
            failure = _child_cancelled(self._children[seq])
            failure.message = f"Child Workflow Execution cancelled before scheduled: {about.reason}"
            start = ResolveChildWorkflowExecutionStart(seq=seq)
            start.cancelled.failure.CopyFrom(failure)
            return [WorkflowActivationJob(resolve_child_workflow_execution_start=start)]
        kind = self._children[seq].cancellation_type
        if kind != ChildWorkflowCancellationType.ABANDON:
            self.commands.append(command)
        if kind not in {ChildWorkflowCancellationType.ABANDON, ChildWorkflowCancellationType.TRY_CANCEL}:
            return []
        self._left[seq] = kind
        job = ResolveChildWorkflowExecution(seq=seq)
        job.result.cancelled.failure.CopyFrom(_child_cancelled(self._children[seq]))
        return [WorkflowActivationJob(resolve_child_workflow_execution=job)]

    def _cancel_signal(self, seq: int) -> list[WorkflowActivationJob]:
        # A signal that was sent cannot be cancelled.
        if not self._withdraw(lambda one: one.signal_external_workflow_execution.seq == seq):
            return []
        failure = Failure(message="Signal was cancelled before being sent", canceled_failure_info=CanceledFailureInfo())
        job = ResolveSignalExternalWorkflow(seq=seq, failure=failure)
        return [WorkflowActivationJob(resolve_signal_external_workflow=job)]


def _child_cancelled(about: StartChildWorkflowExecution) -> Failure:
    info = ChildWorkflowExecutionFailureInfo(retry_state=RetryState.RETRY_STATE_NON_RETRYABLE_FAILURE)
    info.workflow_type.name, info.workflow_execution.workflow_id = about.workflow_type, about.workflow_id
    cause = Failure(canceled_failure_info=CanceledFailureInfo())
    return Failure(
        message="Child Workflow execution cancelled", cause=cause, child_workflow_execution_failure_info=info
    )


def cancelled(seq: int, *, local: bool = False) -> WorkflowActivationJob:
    """Return the activation job of a cancelled activity."""
    failure = Failure(
        message="Local Activity cancelled" if local else "Activity cancelled",
        activity_failure_info=ActivityFailureInfo(),
        cause=Failure(message="Cancelled", canceled_failure_info=CanceledFailureInfo()),
    )
    result = ActivityResolution(cancelled=Cancellation(failure=failure))
    return WorkflowActivationJob(resolve_activity=ResolveActivity(seq=seq, result=result, is_local=local))
