"""One workflow execution in one worker's cache: the SDK runs the workflow's code by activations."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import Payloads
from temporalio.api.failure.v1 import ActivityFailureInfo, CanceledFailureInfo, Failure
from temporalio.bridge.proto.activity_result.activity_result_pb2 import ActivityResolution, Cancellation
from temporalio.bridge.proto.workflow_activation.workflow_activation_pb2 import (
    NotifyHasPatch,
    ResolveActivity,
    WorkflowActivation,
    WorkflowActivationJob,
)
from temporalio.bridge.proto.workflow_commands.workflow_commands_pb2 import ActivityCancellationType, WorkflowCommand
from temporalio.common import Priority, TypedSearchAttributes
from temporalio.converter import DefaultFailureConverter
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowInstanceDetails

from photo_worker.orchestration.converter import ContractPayloadConverter

# Workflow tasks end within this time (Temporal's default), or another worker gets them.
TASK_TIMEOUT = timedelta(seconds=10)


class TaskFailed(Exception):
    """A workflow task that the SDK failed: the code has a defect, or diverges from the history."""


class Replica:
    """A workflow's code with its state. Call ``run_task`` with every task from the first on."""

    def __init__(self, kind: type, workflow_id: str, run_id: str, started: datetime, task_queue: str) -> None:
        definition = workflow._Definition.must_from_class(kind)
        info = workflow.Info(
            attempt=1,
            continued_run_id=None,
            cron_schedule=None,
            execution_timeout=None,
            first_execution_run_id=run_id,
            headers={},
            namespace="simulated",
            original_execution_run_id=run_id,
            parent=None,
            root=None,
            raw_memo={},
            retry_policy=None,
            run_id=run_id,
            run_timeout=None,
            search_attributes={},
            start_time=started,
            workflow_start_time=started,
            task_queue=task_queue,
            task_timeout=TASK_TIMEOUT,
            typed_search_attributes=TypedSearchAttributes.empty,
            workflow_id=workflow_id,
            workflow_type=definition.name or kind.__name__,
            priority=Priority.default,
        )
        self._run_id = run_id
        self._instance = UnsandboxedWorkflowRunner().create_instance(
            WorkflowInstanceDetails(
                payload_converter_factory=ContractPayloadConverter,
                failure_converter_class=DefaultFailureConverter,
                interceptor_classes=[],
                defn=definition,
                info=info,
                randomness_seed=0,
                extern_functions={},
                disable_eager_activity_execution=True,
                worker_level_failure_exception_types=[],
                patch_activation_callback=None,
                last_completion_result=Payloads(),
                last_failure=None,
            )
        )
        self._waits_for_cancellation: dict[int, bool] = {}
        self._cancelled: set[int] = set()
        self.flags: set[int] = set()
        """The SDK's flags of its behaviour, which the history keeps for replays."""
        self.tasks = 0
        """The number of tasks that it has run."""

    def run_task(
        self,
        jobs: Sequence[WorkflowActivationJob],
        at: datetime,
        *,
        replaying: bool,
        flags: Collection[int] = (),
        patches: Sequence[str] = (),
    ) -> list[WorkflowCommand]:
        """Return the commands of one workflow task; ``flags`` and ``patches`` are those recorded in its first run.

        An activity that is cancelled without waiting is cancelled within the task, as by the SDK's core; the code gets
        no later event of it, even if it ended while the task ran.
        """
        commands: list[WorkflowCommand] = []
        self.flags |= set(flags)
        jobs = [*(WorkflowActivationJob(notify_has_patch=NotifyHasPatch(patch_id=one)) for one in patches), *jobs]
        more = [job for job in jobs if job.resolve_activity.seq not in self._cancelled]
        while more:
            found = self._activate(more, at, replaying=replaying)
            commands += found
            more = []
            for command in found:
                if command.HasField("schedule_activity"):
                    about = command.schedule_activity
                    waits = about.cancellation_type == ActivityCancellationType.WAIT_CANCELLATION_COMPLETED
                    self._waits_for_cancellation[about.seq] = waits
                elif command.HasField("request_cancel_activity"):
                    seq = command.request_cancel_activity.seq
                    if not self._waits_for_cancellation[seq]:
                        self._cancelled.add(seq)
                        more.append(cancelled(seq))
        self.tasks += 1
        return commands

    def _activate(
        self, jobs: Sequence[WorkflowActivationJob], at: datetime, *, replaying: bool
    ) -> list[WorkflowCommand]:
        activation = WorkflowActivation(run_id=self._run_id, is_replaying=replaying, jobs=jobs)
        activation.available_internal_flags.extend(sorted(self.flags))
        activation.timestamp.FromDatetime(at.astimezone(UTC).replace(tzinfo=None))
        completion = self._instance.activate(activation)
        if completion.HasField("failed"):
            raise TaskFailed(str(completion.failed.failure))
        self.flags |= set(completion.successful.used_internal_flags)
        return list(completion.successful.commands)


def cancelled(seq: int) -> WorkflowActivationJob:
    """Return the activation job of a cancelled activity."""
    failure = Failure(
        message="Activity cancelled",
        activity_failure_info=ActivityFailureInfo(),
        cause=Failure(message="Cancelled", canceled_failure_info=CanceledFailureInfo()),
    )
    result = ActivityResolution(cancelled=Cancellation(failure=failure))
    return WorkflowActivationJob(resolve_activity=ResolveActivity(seq=seq, result=result))


def patches_in(commands: Sequence[WorkflowCommand]) -> list[WorkflowActivationJob]:
    """Return the activation jobs for the patch markers in a task's history, as the SDK's core sends them."""
    marks = [command.set_patch_marker.patch_id for command in commands if command.HasField("set_patch_marker")]
    return [WorkflowActivationJob(notify_has_patch=NotifyHasPatch(patch_id=patch_id)) for patch_id in marks]


def same(one: Sequence[WorkflowCommand], other: Sequence[WorkflowCommand]) -> bool:
    """Return whether two runs of a task issued the same commands."""
    return [_bytes(each) for each in one] == [_bytes(each) for each in other]


def _bytes(command: WorkflowCommand) -> Any:
    return command.SerializeToString(deterministic=True)
