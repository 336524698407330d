"""Local activities: a worker runs them within a workflow task, and the history has only their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from temporalio.api.failure.v1 import Failure
from temporalio.bridge.proto.activity_result.activity_result_pb2 import ActivityResolution
from temporalio.bridge.proto.workflow_activation.workflow_activation_pb2 import ResolveActivity, WorkflowActivationJob
from temporalio.bridge.proto.workflow_commands.workflow_commands_pb2 import ScheduleLocalActivity
from temporalio.converter import DefaultFailureConverter
from temporalio.exceptions import CancelledError
from temporalio.testing import ActivityEnvironment

from photo_worker.adapters.temporal.converter import ContractPayloadConverter
from tests.crash.simulation.activities import backoff
from tests.crash.simulation.core import cancelled
from tests.crash.simulation.execution import Activation, Execution, Task
from tests.crash.simulation.gate import Process, current
from tests.crash.simulation.refusals import Unknown
from tests.crash.simulation.replica import Replica

if TYPE_CHECKING:
    from tests.crash.simulation.world import World

# The share of a task's timeout after which the core sends a heartbeat for it.
_HEARTBEAT = 0.8
# The core's default: a retry after a longer wait is a timer of the workflow.
_LONGEST_LOCAL_WAIT = timedelta(minutes=1)


@dataclass(eq=False)
class LocalRun:
    """A local activity in a worker, with its attempts."""

    about: ScheduleLocalActivity
    number: int
    environment: ActivityEnvironment
    told: bool = False
    """Whether it was told that it is cancelled."""
    resolution: ActivityResolution | None = None

    def tell(self) -> None:
        """Tell the attempt once that it is cancelled."""
        if not self.told:
            self.told = True
            self.environment.cancel()


class LocalActivities:
    """The local activities of one worker process."""

    def __init__(self, world: World, process: Process, activities: Mapping[str, Callable[..., Any]]) -> None:
        self._world, self._process, self._activities = world, process, activities

    def complete(self, execution: Execution, task: Task, replica: Replica) -> None:
        """Complete a workflow task after its local activities. Raises ``Stale``."""
        world, core = self._world, replica.core
        running: dict[int, LocalRun] = {}
        later: list[Activation] = []
        while core.local and not core.ended:
            self._start(execution, replica, running)
            beat = task.until - execution.task_timeout * (1 - _HEARTBEAT)
            if not world.gate.wait(current(), lambda: bool(_ended(replica, running)), beat):
                task = self._heartbeat(execution, task, replica, later)
                later = []
                replica.run_task(task.jobs, world.now, replaying=False)
                continue
            jobs = tuple(_ended(replica, running))
            later.append(Activation(jobs, world.now))
            replica.resolve_local(jobs, world.now, replaying=False)
        for run in running.values():
            if run.about.seq in core.local_cancelled:
                run.tell()
        recorded = world.gate.call(
            "temporal.complete_workflow_task",
            lambda: world.service.complete_task(execution, task.token, core.commands, replica.flags, later),
            repeatable=False,
        )
        if not recorded:
            replica.forget_task()

    def _heartbeat(self, execution: Execution, task: Task, replica: Replica, later: Sequence[Activation]) -> Task:
        world, commands, flags = self._world, list(replica.core.commands), set(replica.flags)
        return world.gate.call(
            "temporal.heartbeat_workflow_task",
            lambda: world.service.heartbeat_task(execution, task.token, commands, flags, later),
            repeatable=False,
        )

    def _start(self, execution: Execution, replica: Replica, running: dict[int, LocalRun]) -> None:
        """Start the local activities that do not run yet, and tell cancelled ones."""
        for seq, command in replica.core.local.items():
            if seq not in running:
                about = command.schedule_local_activity
                run = LocalRun(about, about.attempt or 1, ActivityEnvironment())
                running[seq] = run
                self._world.spawn(self._process, about.activity_type, partial(self._run, execution, run))
        for seq in replica.core.local_cancelled & running.keys():
            running[seq].tell()

    def _run(self, execution: Execution, run: LocalRun) -> None:
        about = run.about
        while run.resolution is None:
            found = ActivityResolution()
            try:
                result = self._attempt(execution, run)
            except CancelledError:
                run.resolution = cancelled(about.seq, local=True).resolve_activity.result
                return
            except Unknown:
                raise
            except Exception as error:
                failure = Failure()
                DefaultFailureConverter().to_failure(error, ContractPayloadConverter(), failure)
                wait = self._wait(run, failure)
                if wait is None:
                    found.failed.failure.CopyFrom(failure)
                elif wait > _threshold(about):
                    found.backoff.attempt = run.number + 1
                    found.backoff.backoff_duration.FromTimedelta(wait)
                    found.backoff.original_schedule_time.CopyFrom(about.original_schedule_time)
                else:
                    run.number += 1
                    if self._world.gate.wait(current(), lambda: run.told, self._world.now + wait):
                        run.resolution = cancelled(about.seq, local=True).resolve_activity.result
                    continue
            else:
                found.completed.SetInParent()
                found.completed.result.CopyFrom(ContractPayloadConverter().to_payloads([result])[0])
            run.resolution = found

    def _attempt(self, execution: Execution, run: LocalRun) -> Any:
        about, environment = run.about, run.environment
        converter = ContractPayloadConverter()
        environment.payload_converter = converter
        environment.info = replace(
            environment.info,
            activity_type=about.activity_type,
            attempt=run.number,
            workflow_id=execution.workflow_id,
            workflow_run_id=execution.run_id,
            is_local=True,
        )
        began = self._world.now
        result = environment.run(self._activities[about.activity_type], *converter.from_payloads(about.arguments))
        self._in_time(about, began)
        return result

    def _in_time(self, about: ScheduleLocalActivity, began: datetime) -> None:
        for field in ("start_to_close_timeout", "schedule_to_close_timeout"):
            limit = getattr(about, field).ToTimedelta()
            if limit and self._world.now - began > limit:
                raise Unknown(f"the simulation does not know a local activity that exceeds its {field}")

    def _wait(self, run: LocalRun, failure: Failure) -> timedelta | None:
        """Return the wait before another attempt; None if there is none."""
        retry, told = run.about.retry_policy, failure.application_failure_info
        if told.non_retryable or told.type in retry.non_retryable_error_types:
            return None
        if retry.maximum_attempts and run.number >= retry.maximum_attempts:
            return None
        if told.HasField("next_retry_delay"):
            return told.next_retry_delay.ToTimedelta()
        return backoff(retry, run.number)


def _threshold(about: ScheduleLocalActivity) -> timedelta:
    return about.local_retry_threshold.ToTimedelta() or _LONGEST_LOCAL_WAIT


def _ended(replica: Replica, running: Mapping[int, LocalRun]) -> list[WorkflowActivationJob]:
    """Return the results that the workflow's code has not got."""
    return [
        WorkflowActivationJob(resolve_activity=ResolveActivity(seq=seq, result=run.resolution, is_local=True))
        for seq, run in running.items()
        if seq in replica.core.local and run.resolution is not None
    ]
