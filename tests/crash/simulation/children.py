"""Child workflows and other workflows in the simulated server: starts, ends, signals and cancellations between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import RetryState
from temporalio.api.failure.v1 import (
    ApplicationFailureInfo,
    CanceledFailureInfo,
    ChildWorkflowExecutionFailureInfo,
    Failure,
    TerminatedFailureInfo,
)
from temporalio.bridge.proto.child_workflow.child_workflow_pb2 import (
    ChildWorkflowResult,
    ParentClosePolicy,
    StartChildWorkflowExecutionFailedCause,
)
from temporalio.bridge.proto.workflow_activation.workflow_activation_pb2 import (
    CancelWorkflow,
    InitializeWorkflow,
    ResolveChildWorkflowExecution,
    ResolveChildWorkflowExecutionStart,
    ResolveRequestCancelExternalWorkflow,
    ResolveSignalExternalWorkflow,
    SignalWorkflow,
    WorkflowActivationJob,
)
from temporalio.bridge.proto.workflow_commands.workflow_commands_pb2 import (
    CancelChildWorkflowExecution,
    RequestCancelExternalWorkflowExecution,
    SignalExternalWorkflowExecution,
    StartChildWorkflowExecution,
    WorkflowCommand,
)

from tests.crash.simulation.activities import ActivityLedger
from tests.crash.simulation.execution import Child, Execution, Parent

BY_PARENT = "by parent close policy"
_EXISTS = StartChildWorkflowExecutionFailedCause.START_CHILD_WORKFLOW_EXECUTION_FAILED_CAUSE_WORKFLOW_ALREADY_EXISTS
_NOT_FOUND = "ExternalWorkflowExecutionNotFound"
_ENDS = {
    "completed": "ChildWorkflowExecutionCompleted",
    "failed": "ChildWorkflowExecutionFailed",
    "cancelled": "ChildWorkflowExecutionCanceled",
    "terminated": "ChildWorkflowExecutionTerminated",
}


def policy_name(policy: ParentClosePolicy.ValueType) -> str:
    """Return a parent close policy in lower case, such as ``request_cancel``; the default is ``terminate``."""
    name: str = ParentClosePolicy.Name(policy or ParentClosePolicy.PARENT_CLOSE_POLICY_TERMINATE)
    return name.removeprefix("PARENT_CLOSE_POLICY_").lower()


class RunLedger(ActivityLedger):
    """The part of the server that concerns runs and the relations between them."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        super().__init__(now)
        self._after: list[Callable[[], None]] = []
        """What the server does once a task's commands are recorded."""

    # -- runs -------------------------------------------------------------------

    def _open(
        self,
        workflow_id: str,
        kind: str,
        arguments: Sequence[Payload],
        *,
        parent: Parent | None = None,
        continued_from: Execution | None = None,
    ) -> Execution:
        """Start a run, the last one of its workflow from now on."""
        run_id = f"run-{self._token()}"
        first = continued_from.first_run_id if continued_from is not None else run_id
        found = Execution(workflow_id, run_id, kind, tuple(arguments), self._now(), first, continued_from, parent)
        about = " ".join(
            [kind, *(["child"] if parent is not None else []), *(["continued"] if continued_from is not None else [])]
        )
        init = InitializeWorkflow(
            workflow_type=kind,
            workflow_id=workflow_id,
            arguments=arguments,
            first_execution_run_id=first,
            attempt=1,
        )
        found.record("WorkflowExecutionStarted", about, WorkflowActivationJob(initialize_workflow=init))
        self.executions[workflow_id] = found
        return found

    def _signal(self, found: Execution, name: str, arguments: Sequence[Payload]) -> None:
        told = SignalWorkflow(signal_name=name, input=arguments, originating_event_id=len(found.history) + 1)
        found.record("WorkflowExecutionSignaled", name, WorkflowActivationJob(signal_workflow=told))

    def _request_cancel(self, found: Execution, reason: str = "") -> None:
        """Request the cancellation of a run once."""
        if not found.cancel_requested:
            found.cancel_requested = True
            job = WorkflowActivationJob(cancel_workflow=CancelWorkflow(reason=reason))
            found.record("WorkflowExecutionCancelRequested", job=job)

    def _terminate(self, found: Execution, reason: str) -> None:
        found.reason = reason
        # The server fails the task that a worker runs.
        if found.task is not None:
            found.note("WorkflowTaskFailed", "FORCE_CLOSE_COMMAND")
            found.task = None
        found.flush()
        self._close(found, "terminated", "WorkflowExecutionTerminated", reason)

    def _close(self, found: Execution, status: str, event: str, about: str = "") -> None:
        """Close a run, and tell its parent and its children."""
        found.status, found.closed = status, self._now()
        found.note(event, about)
        found.activities.clear()
        found.timers.clear()
        found.waiting.clear()
        found.buffered.clear()
        found.wanted = False
        found.task = None
        children = [child for child in found.children.values() if child.started]
        self._after.append(lambda: self._close_children(children))
        if status != "continued":
            self._abandon_updates(found, None)
        if found.parent is not None and status != "continued":
            parent = found.parent
            self._after.append(lambda: self._tell_parent(parent, found))

    def _abandon_updates(self, execution: Execution, heir: Execution | None) -> None:
        """End the updates of a closed run."""
        raise NotImplementedError

    def _settle(self) -> None:
        """Do what follows from recorded commands, and what follows from that."""
        while self._after:
            self._after.pop(0)()

    def _obey_relation(self, execution: Execution, command: WorkflowCommand) -> bool:
        """Apply a command that concerns another workflow; return whether it is one."""
        match command.WhichOneof("variant"):
            case "start_child_workflow_execution":
                self._start_child(execution, command.start_child_workflow_execution)
            case "cancel_child_workflow_execution":
                self._cancel_child(execution, command.cancel_child_workflow_execution)
            case "signal_external_workflow_execution":
                self._signal_external(execution, command.signal_external_workflow_execution)
            case "request_cancel_external_workflow_execution":
                self._cancel_external(execution, command.request_cancel_external_workflow_execution)
            case _:
                return False
        return True

    # -- parents and children ----------------------------------------------------

    def _start_child(self, parent: Execution, about: StartChildWorkflowExecution) -> None:
        child = Child(about.seq, about.workflow_id, policy_name(about.parent_close_policy))
        parent.children[about.seq] = child
        parent.note("StartChildWorkflowExecutionInitiated", f"{about.workflow_type} {child.close_policy}")
        self._after.append(lambda: self._child_started(parent, child, about))

    def _child_started(self, parent: Execution, child: Child, about: StartChildWorkflowExecution) -> None:
        # A closed parent's children are started only if they would survive it.
        if not parent.running and child.close_policy != "abandon":
            return
        known = self.executions.get(child.workflow_id)
        job = ResolveChildWorkflowExecutionStart(seq=child.seq)
        if known is not None and known.running:
            job.failed.workflow_id, job.failed.workflow_type = child.workflow_id, about.workflow_type
            job.failed.cause = _EXISTS
            del parent.children[child.seq]
            event = "StartChildWorkflowExecutionFailed"
        else:
            found = self._open(child.workflow_id, about.workflow_type, about.input, parent=Parent(parent, child.seq))
            child.started = True
            job.succeeded.run_id = found.run_id
            event = "ChildWorkflowExecutionStarted"
        if parent.running:
            wanted = WorkflowActivationJob(resolve_child_workflow_execution_start=job)
            parent.record(event, about.workflow_type, wanted)

    def _tell_parent(self, parent: Parent, found: Execution) -> None:
        if not parent.execution.running or not self.current(parent.execution):
            return
        del parent.execution.children[parent.seq]
        result = ChildWorkflowResult()
        match found.status:
            case "completed":
                result.completed.SetInParent()
                if found.result is not None:
                    result.completed.result.CopyFrom(found.result)
            case "failed":
                result.failed.failure.CopyFrom(_child_failure("failed", found, found.failure))
            case "cancelled":
                cause = Failure(message="", canceled_failure_info=CanceledFailureInfo())
                result.cancelled.failure.CopyFrom(_child_failure("cancelled", found, cause))
            case _:
                cause = Failure(message="Terminated", terminated_failure_info=TerminatedFailureInfo())
                result.failed.failure.CopyFrom(_child_failure("terminated", found, cause))
        job = ResolveChildWorkflowExecution(seq=parent.seq, result=result)
        wanted = WorkflowActivationJob(resolve_child_workflow_execution=job)
        parent.execution.record(_ENDS[found.status], found.kind, wanted)

    def _close_children(self, children: Sequence[Child]) -> None:
        for child in children:
            found = self.executions.get(child.workflow_id)
            if found is None or not found.running:
                continue
            if child.close_policy == "terminate":
                self._terminate(found, BY_PARENT)
            elif child.close_policy == "request_cancel":
                self._request_cancel(found)

    def _cancel_child(self, parent: Execution, about: CancelChildWorkflowExecution) -> None:
        child = parent.children.get(about.child_workflow_seq)
        if child is None:
            # The child ended while the task ran: the request goes out, and finds no workflow.
            raise NotImplementedError("the simulation does not know a cancellation that crosses the child's end")
        parent.note("RequestCancelExternalWorkflowExecutionInitiated", "child")
        self._after.append(lambda: self._cancel_requested(parent, child.workflow_id, None, about.reason))

    # -- other workflows -----------------------------------------------------------

    def _cancel_external(self, execution: Execution, about: RequestCancelExternalWorkflowExecution) -> None:
        execution.note("RequestCancelExternalWorkflowExecutionInitiated", "external")
        target = about.workflow_execution.workflow_id
        self._after.append(lambda: self._cancel_requested(execution, target, about.seq, about.reason))

    def _cancel_requested(self, execution: Execution, target: str, seq: int | None, reason: str) -> None:
        """Request a cancellation for a workflow; ``seq`` is the number of its own request, not that of a child."""
        if not execution.running:
            # The server drops the requests of a workflow that has closed.
            return
        found = self.executions.get(target)
        reached = found is not None and found.running
        if found is not None and reached:
            by = f"Cancel requested by workflow with run id {execution.run_id} with reason: {reason}"
            self._request_cancel(found, by)
        job: WorkflowActivationJob | None = None
        if seq is not None:
            resolved = ResolveRequestCancelExternalWorkflow(seq=seq)
            if not reached:
                resolved.failure.CopyFrom(_failed("Unable to cancel external workflow because not found"))
            job = WorkflowActivationJob(resolve_request_cancel_external_workflow=resolved)
        event = (
            "ExternalWorkflowExecutionCancelRequested" if reached else "RequestCancelExternalWorkflowExecutionFailed"
        )
        execution.record(event, job=job, task=True)

    def _signal_external(self, execution: Execution, about: SignalExternalWorkflowExecution) -> None:
        target = about.child_workflow_id or about.workflow_execution.workflow_id
        if target == execution.workflow_id:
            raise NotImplementedError("the simulation does not know a workflow that signals itself")
        execution.note("SignalExternalWorkflowExecutionInitiated", about.signal_name)

        def send() -> None:
            if not execution.running:
                return
            found = self.executions.get(target)
            reached = found is not None and found.running
            if found is not None and reached:
                self._signal(found, about.signal_name, about.args)
            job = ResolveSignalExternalWorkflow(seq=about.seq)
            if not reached:
                job.failure.CopyFrom(_failed("Unable to signal external workflow because it was not found"))
            event = "ExternalWorkflowExecutionSignaled" if reached else "SignalExternalWorkflowExecutionFailed"
            execution.record(event, job=WorkflowActivationJob(resolve_signal_external_workflow=job))

        self._after.append(send)


def _failed(message: str) -> Failure:
    return Failure(message=message, application_failure_info=ApplicationFailureInfo(type=_NOT_FOUND))


def _child_failure(end: str, found: Execution, cause: Failure | None) -> Failure:
    info = ChildWorkflowExecutionFailureInfo(retry_state=RetryState.RETRY_STATE_NON_RETRYABLE_FAILURE)
    info.workflow_type.name = found.kind
    info.workflow_execution.workflow_id = found.workflow_id
    info.workflow_execution.run_id = found.run_id
    return Failure(message=f"Child Workflow execution {end}", cause=cause, child_workflow_execution_failure_info=info)
