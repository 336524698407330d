"""Updates in the simulated server: admission, acceptance or rejection, and completion."""

from __future__ import annotations

from collections.abc import Sequence

from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure
from temporalio.bridge.proto.workflow_activation.workflow_activation_pb2 import DoUpdate, WorkflowActivationJob
from temporalio.bridge.proto.workflow_commands.workflow_commands_pb2 import UpdateResponse, WorkflowCommand

from tests.crash.simulation.children import RunLedger
from tests.crash.simulation.execution import Execution, Stale, Task, Update

_ENDED = "Workflow Update failed because the Workflow completed before the Update completed."


class UpdateLedger(RunLedger):
    """The part of the server that concerns updates."""

    def update(self, workflow_id: str, update_id: str, name: str, arguments: Sequence[Payload] = ()) -> Update:
        """Send an update, or join the one with this id. Raises ``KeyError`` and ``Stale``."""
        found = self.executions[workflow_id]
        if update_id in found.updates:
            return found.updates[update_id]
        if not found.running:
            raise Stale(f"{workflow_id} is closed")
        update = Update(update_id, name, tuple(arguments))
        found.updates[update_id] = update
        found.undelivered.append(update_id)
        return update

    def _deliver(self, execution: Execution) -> tuple[WorkflowActivationJob, ...]:
        """Return the jobs of the updates that no task has responded to."""
        return tuple(_job(execution.updates[each], validated=False) for each in execution.undelivered)

    def _responses(
        self, execution: Execution, task: Task, commands: Sequence[WorkflowCommand]
    ) -> tuple[tuple[WorkflowActivationJob, ...], tuple[WorkflowCommand, ...]]:
        """Take the responses to a task's updates; return the jobs and commands that the history keeps.

        A rejected update leaves no trace in the history, so that a replay does not see it.
        """
        responses = [command.update_response for command in commands if command.HasField("update_response")]
        responded = {one.protocol_instance_id for one in responses}
        accepted = {one.protocol_instance_id for one in responses if one.HasField("accepted")}
        accepted |= {each for each in responded if execution.updates[each].accepted}
        rejected = responded - accepted
        for update_id in [each for each in task.updates if each in responded]:
            execution.undelivered.remove(update_id)
        for one in responses:
            if one.protocol_instance_id in rejected:
                execution.updates[one.protocol_instance_id].failure = one.rejected
        jobs = tuple(
            _job(execution.updates[job.do_update.id], validated=True) if job.HasField("do_update") else job
            for job in task.jobs
            if job.do_update.id not in rejected
        )
        kept = tuple(one for one in commands if one.update_response.protocol_instance_id not in rejected)
        return jobs, kept

    def _respond(self, execution: Execution, about: UpdateResponse) -> None:
        """Apply a response that the history keeps."""
        update = execution.updates[about.protocol_instance_id]
        match about.WhichOneof("response"):
            case "accepted":
                update.accepted = True
                execution.note("WorkflowExecutionUpdateAccepted", update.name)
            case "completed":
                update.result = about.completed
                execution.note("WorkflowExecutionUpdateCompleted", "success")
            case _:
                update.failure = about.rejected
                execution.note("WorkflowExecutionUpdateCompleted", "failure")

    def _abandon_updates(self, execution: Execution, heir: Execution | None) -> None:
        """End the updates of a closed run; its next run gets those that were not accepted."""
        for update in execution.updates.values():
            if update.done:
                continue
            if update.accepted:
                info = ApplicationFailureInfo(type="AcceptedUpdateCompletedWorkflow", non_retryable=True)
                update.failure = Failure(message=_ENDED, application_failure_info=info)
            elif heir is not None:
                heir.updates[update.update_id] = update
                heir.undelivered.append(update.update_id)
            else:
                update.refused = True
        execution.undelivered.clear()


def _job(update: Update, *, validated: bool) -> WorkflowActivationJob:
    job = DoUpdate(
        id=update.update_id,
        protocol_instance_id=update.update_id,
        name=update.name,
        input=update.arguments,
        run_validator=not validated,
    )
    job.meta.update_id = update.update_id
    return WorkflowActivationJob(do_update=job)
