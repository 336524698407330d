"""One workflow execution in one worker's cache: the SDK runs the workflow's code by activations."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.bridge.proto.workflow_activation.workflow_activation_pb2 import (
    NotifyHasPatch,
    QueryWorkflow,
    WorkflowActivation,
    WorkflowActivationJob,
)
from temporalio.bridge.proto.workflow_commands.workflow_commands_pb2 import QueryResult, WorkflowCommand
from temporalio.common import Priority, TypedSearchAttributes
from temporalio.converter import DefaultFailureConverter
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowInstanceDetails

from photo_worker.adapters.temporal.converter import ContractPayloadConverter
from photo_worker.workflows.policy_interceptor import POLICIES_OF
from tests.crash.simulation.core import Core, TaskFailed
from tests.crash.simulation.execution import Execution
from tests.crash.simulation.refusals import check

NAMESPACE = "simulated"


class Replica:
    """A workflow's code with its state. Call ``run_task`` with every task from the first on."""

    def __init__(self, kind: type, execution: Execution, task_queue: str, policies: Mapping[str, object]) -> None:
        """``policies`` are by workflow type, as the product's worker passes them."""
        definition = workflow._Definition.must_from_class(kind)
        before = execution.continued_from
        info = workflow.Info(
            attempt=1,
            continued_run_id=before.run_id if before is not None else None,
            cron_schedule=None,
            execution_timeout=None,
            first_execution_run_id=execution.first_run_id,
            headers={},
            namespace=NAMESPACE,
            original_execution_run_id=execution.run_id,
            parent=_parent(execution),
            root=_root(execution),
            raw_memo={},
            retry_policy=None,
            run_id=execution.run_id,
            run_timeout=None,
            search_attributes={},
            start_time=execution.started,
            workflow_start_time=execution.started,
            task_queue=task_queue,
            task_timeout=execution.task_timeout,
            typed_search_attributes=TypedSearchAttributes.empty,
            workflow_id=execution.workflow_id,
            workflow_type=definition.name or kind.__name__,
            priority=Priority.default,
        )
        self._run_id = execution.run_id
        self._instance = UnsandboxedWorkflowRunner().create_instance(
            WorkflowInstanceDetails(
                payload_converter_factory=ContractPayloadConverter,
                failure_converter_class=DefaultFailureConverter,
                interceptor_classes=[],
                defn=definition,
                info=info,
                randomness_seed=_seed(execution),
                extern_functions={
                    "__temporal_assert_local_activity_valid": lambda name: None,
                    POLICIES_OF: policies.get,
                },
                disable_eager_activity_execution=True,
                worker_level_failure_exception_types=[],
                patch_activation_callback=None,
                last_completion_result=Payloads(),
                last_failure=None,
            )
        )
        self.core = Core()
        self._task_queue = task_queue
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
        """Return the commands of one workflow task; ``flags`` and ``patches`` are those recorded in its first run."""
        self.flags |= set(flags)
        self.core.begin_task()
        self.tasks += 1
        notes = (WorkflowActivationJob(notify_has_patch=NotifyHasPatch(patch_id=one)) for one in patches)
        return self._run([*notes, *self.core.delivered(jobs)], at, replaying=replaying)

    def resolve_local(
        self, jobs: Sequence[WorkflowActivationJob], at: datetime, *, replaying: bool
    ) -> list[WorkflowCommand]:
        """Continue the task with results of local activities; return all commands of the task."""
        self.core.resolve_local(jobs)
        return self._run(jobs, at, replaying=replaying)

    def forget_task(self) -> None:
        """Forget the last task, which the history does not show."""
        self.tasks -= 1

    def _run(self, jobs: Sequence[WorkflowActivationJob], at: datetime, *, replaying: bool) -> list[WorkflowCommand]:
        while jobs:
            found = self._activate(jobs, at, replaying=replaying)
            check(found, self._task_queue, NAMESPACE)
            jobs = self.core.take(found)
        return self.core.commands

    def respond(self, query_id: str, name: str, arguments: Sequence[Payload], at: datetime) -> QueryResult:
        """Return the response to a query, in an activation of its own, as by the SDK's core."""
        asked = QueryWorkflow(query_id=query_id, query_type=name, arguments=arguments)
        found = self._activate([WorkflowActivationJob(query_workflow=asked)], at, replaying=False)
        (response,) = (command.respond_to_query for command in found if command.HasField("respond_to_query"))
        return response

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


def _seed(execution: Execution) -> int:
    """Return the seed of an execution, from which its random ids come."""
    return int.from_bytes(hashlib.sha256(f"{execution.workflow_id}/{execution.run_id}".encode()).digest()[:7])


def _parent(execution: Execution) -> workflow.ParentInfo | None:
    if execution.parent is None:
        return None
    found = execution.parent.execution
    return workflow.ParentInfo(namespace=NAMESPACE, run_id=found.run_id, workflow_id=found.workflow_id)


def _root(execution: Execution) -> workflow.RootInfo | None:
    if execution.parent is None:
        return None
    found = execution.parent.execution
    return _root(found) or workflow.RootInfo(run_id=found.run_id, workflow_id=found.workflow_id)


def patches_in(commands: Sequence[WorkflowCommand]) -> list[WorkflowActivationJob]:
    """Return the activation jobs for the patch markers in a task's history, as the SDK's core sends them."""
    marks = [command.set_patch_marker.patch_id for command in commands if command.HasField("set_patch_marker")]
    return [WorkflowActivationJob(notify_has_patch=NotifyHasPatch(patch_id=patch_id)) for patch_id in marks]


def same(one: Sequence[WorkflowCommand], other: Sequence[WorkflowCommand]) -> bool:
    """Return whether two runs of a task issued the same commands."""
    return [_bytes(each) for each in one] == [_bytes(each) for each in other]


def _bytes(command: WorkflowCommand) -> Any:
    return command.SerializeToString(deterministic=True)
