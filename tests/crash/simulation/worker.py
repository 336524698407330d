"""A worker process of the simulation: workflow tasks, queries, and attempts of activities."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from temporalio import activity, workflow
from temporalio.api.failure.v1 import Failure
from temporalio.converter import DefaultFailureConverter
from temporalio.exceptions import FailureError
from temporalio.testing import ActivityEnvironment

from photo_worker.activities import heartbeats
from photo_worker.activities.boundary import to_application_error, unexpected, worker_fault
from photo_worker.activities.heartbeats import HeartbeatNotes, attempt_seconds
from photo_worker.adapters.ocr.textract import TextractBackend
from photo_worker.adapters.ocr.textract_jobs import JobLimits
from photo_worker.adapters.temporal.converter import ContractPayloadConverter
from photo_worker.errors import PhotoWorkerError
from photo_worker.pipelines import ActivityPorts
from photo_worker.workflows.image import ImageProcessingWorkflow
from tests.crash.simulation.activities import Activity, Attempt
from tests.crash.simulation.core import TaskFailed
from tests.crash.simulation.execution import DoneTask, Execution, Query, Stale
from tests.crash.simulation.gate import Process, current
from tests.crash.simulation.gated import Gated
from tests.crash.simulation.local_activities import LocalActivities
from tests.crash.simulation.port_errors import TEXTRACT
from tests.crash.simulation.refusals import Unknown
from tests.crash.simulation.replica import Replica, patches_in, same
from tests.support.documents import InlineDecoder

if TYPE_CHECKING:
    from tests.crash.simulation.world import World


# The type of the product's workflow, in every release.
PRODUCT = "image_processing_workflow"


@dataclass(frozen=True)
class Hosted:
    """The workflows and activities of a test that every worker runs, besides the product's workflow."""

    workflows: Sequence[type] = ()
    activities: Sequence[Callable[..., Any]] = ()


class Worker:
    """A worker process: its cache of workflows, and the attempts it runs."""

    def __init__(self, world: World, name: str, bucket: str, queue: str) -> None:
        self.process = Process(name)
        self.release: type = ImageProcessingWorkflow
        """The code of the product's workflow, which may be that of an earlier release."""
        self._world, self._queue = world, queue
        self._cache: dict[str, Replica] = {}
        store, rows, _ = world.ports()
        client = Gated(world.gate, "textract", world.textract, TEXTRACT)
        backend = TextractBackend(
            client,  # type: ignore[arg-type]
            notes=HeartbeatNotes(),
            wait=self._wait,
            clock=world.seconds,
            limits=JobLimits(attempt_seconds=attempt_seconds),
        )
        ports = ActivityPorts(store, rows, lambda engine: backend, InlineDecoder(), bucket)
        found = [each for pipeline in world.pipelines for each in pipeline.activities(ports)]
        self._activities: dict[str, Callable[..., Any]] = {activity_name(each): each for each in found}
        self._locals = LocalActivities(world, self.process, self._activities)
        self._workflows: dict[str, type] = {pipeline.kind.name: pipeline.workflow for pipeline in world.pipelines}
        self._policies = {pipeline.kind.name: pipeline.policies for pipeline in world.pipelines}
        self.host(world.hosted)

    def host(self, hosted: Hosted) -> None:
        """Run the workflows and activities of a test, too."""
        self._activities.update({activity_name(each): each for each in hosted.activities})
        self._workflows.update({kind_of(each): each for each in hosted.workflows})

    def run(self, release: type) -> None:
        """Switch to this release of the workflow's code; as in a new process, cached workflows are dropped."""
        if release is not self.release:
            self.release = release
            self._cache.clear()

    def _wait(self, seconds: float) -> None:
        self._world.gate.until(current(), self._world.now + timedelta(seconds=seconds))

    def _code_of(self, execution: Execution) -> type:
        if execution.kind == PRODUCT:
            return self.release
        if execution.kind not in self._workflows:
            raise Unknown(f"no worker of the simulation runs workflows of the type {execution.kind}")
        return self._workflows[execution.kind]

    def take_task(self, execution: Execution) -> None:
        """Run a workflow task; its completion is a call to the service."""
        world = self._world
        task = world.service.give_task(execution)
        at, done = world.now, tuple(execution.done)
        code = self._code_of(execution)

        def work() -> None:
            replica = self._cache.pop(execution.run_id, None)
            try:
                if replica is None or replica.tasks != len(done):
                    replica = self._replayed(code, execution, done)
                replica.run_task(task.jobs, at, replaying=False)
            except TaskFailed:
                if code is not self.release or code is ImageProcessingWorkflow:
                    raise
                # An earlier release cannot replay the history, and leaves the job to another worker.
                with suppress(Stale):
                    world.gate.call(
                        "temporal.fail_workflow_task",
                        lambda: world.service.fail_task(execution, task.token),
                        repeatable=False,
                    )
                return
            with suppress(Stale):
                self._locals.complete(execution, task, replica)
                if code is self._code_of(execution):
                    self._cache[execution.run_id] = replica

        world.spawn(self.process, f"task {execution.workflow_id}", work)

    def _replayed(self, code: type, execution: Execution, done: Sequence[DoneTask]) -> Replica:
        """Return the workflow replayed from its history. Raises ``TaskFailed`` if this code diverges from it."""
        replica = asyncio.run(_replica(code, execution, self._queue, self._policies))
        for task in done:
            jobs_then = (*patches_in(task.commands), *task.jobs)
            again = replica.run_task(jobs_then, task.at, replaying=True, flags=task.flags)
            for each in task.later:
                if any(job.resolve_activity.seq not in replica.core.local for job in each.jobs):
                    raise TaskFailed(f"{execution.workflow_id}: replaying requests other local activities than before")
                again = replica.resolve_local(each.jobs, each.at, replaying=True)
            if not same(again, task.commands):
                raise TaskFailed(f"{execution.workflow_id}: replaying gives other commands than before")
        return replica

    def take_query(self, execution: Execution, query: Query) -> None:
        """Respond to a query from the cached state, or from a replay."""
        world = self._world
        token = world.service.give_query(query)
        done, code = tuple(execution.done), self._code_of(execution)

        def work() -> None:
            replica = self._cache.get(execution.run_id)
            if replica is None or replica.tasks != len(done):
                replica = self._replayed(code, execution, done)
            response = replica.respond(str(token), query.name, query.arguments, world.now)
            with suppress(Stale):
                world.gate.call(
                    "temporal.respond_to_query",
                    lambda: world.service.respond_to_query(execution, query, token, response),
                    repeatable=False,
                )

        world.spawn(self.process, f"query {execution.workflow_id}", work)

    def take_activity(self, execution: Execution, found: Activity) -> None:
        """Run an attempt of an activity."""
        attempt = self._world.service.give_activity(found)
        name = f"{found.about.activity_type} {attempt.number}"
        self._world.spawn(self.process, name, lambda: self._attempt(execution, found, attempt))

    def _attempt(self, execution: Execution, found: Activity, attempt: Attempt) -> None:
        world, about = self._world, found.about
        function = self._activities[about.activity_type]
        converter = ContractPayloadConverter()
        environment = ActivityEnvironment()
        environment.payload_converter = converter
        environment.info = replace(
            environment.info,
            activity_type=about.activity_type,
            attempt=attempt.number,
            workflow_id=execution.workflow_id,
            workflow_run_id=execution.run_id,
            start_to_close_timeout=about.start_to_close_timeout.ToTimedelta(),
            heartbeat_timeout=None,
            heartbeat_details=converter.from_payloads(found.details) if found.details else [],
        )
        seq, token = about.seq, attempt.token

        def beat(*details: Any) -> None:
            with suppress(Stale):
                world.gate.call(
                    "temporal.heartbeat",
                    lambda: world.service.heartbeat(execution, seq, token, converter.to_payloads(details)),
                )

        def beat_while_waiting() -> None:
            # In the product a thread sends heartbeats, within ``heartbeating`` alone.
            said = heartbeats._details.get(None)
            if said is not None:
                with suppress(Stale):
                    world.service.heartbeat(execution, seq, token, converter.to_payloads(said.values))

        strand = current()
        strand.beat, strand.beaten = beat_while_waiting, world.now
        environment.on_heartbeat = beat
        failure: Failure | None = None
        result: Any = None
        try:
            result = environment.run(function, *_arguments(function, found))
        except PhotoWorkerError as error:
            failure = _failure(to_application_error(error))
        except FailureError as error:
            failure = _failure(error)
        except Exception as error:
            known = worker_fault(error)
            failure = _failure(to_application_error(known) if known else unexpected(error))
        with suppress(Stale):
            if failure is not None:
                world.gate.call(
                    "temporal.fail_activity",
                    lambda: world.service.fail_activity(execution, seq, token, failure),
                    repeatable=False,
                )
            else:
                payload = converter.to_payloads([result])[0]
                world.gate.call(
                    "temporal.complete_activity",
                    lambda: world.service.complete_activity(execution, seq, token, payload),
                    repeatable=False,
                )


async def _replica(code: type, execution: Execution, queue: str, policies: Mapping[str, object]) -> Replica:
    # The SDK replaces the running event loop while it creates an instance.
    return Replica(code, execution, queue, policies)


def _arguments(function: Any, found: Activity) -> list[Any]:
    """Return the arguments of an activity; the product's have one, ``request``, which is a model."""
    hints = getattr(function, "__func__", function).__annotations__
    kind = hints.get("request")
    if isinstance(kind, str):
        kind = function.__globals__[kind]
    return ContractPayloadConverter().from_payloads(found.about.arguments, [kind] if kind is not None else None)


def activity_name(function: Callable[..., Any]) -> str:
    """Return the name of an activity's type."""
    return activity._Definition.must_from_callable(function).name or function.__name__


def kind_of(code: type) -> str:
    """Return the name of a workflow's type."""
    return workflow._Definition.must_from_class(code).name or code.__name__


def _failure(error: Exception) -> Failure:
    failure = Failure()
    DefaultFailureConverter().to_failure(error, ContractPayloadConverter(), failure)
    return failure
