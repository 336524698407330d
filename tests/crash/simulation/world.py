"""The simulated deployment: ports in memory behind the gate, Temporal, workers, clients, and their scheduling."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from temporalio.api.failure.v1 import Failure
from temporalio.converter import DefaultFailureConverter
from temporalio.exceptions import FailureError
from temporalio.testing import ActivityEnvironment

from photo_worker.activities import heartbeats
from photo_worker.activities.assets import AssetActivities
from photo_worker.activities.boundary import to_application_error, unexpected, worker_fault
from photo_worker.activities.heartbeats import HeartbeatNotes
from photo_worker.activities.ocr import OcrActivities
from photo_worker.activities.results import ResultActivities
from photo_worker.contracts.base import Contract
from photo_worker.contracts.references import Input, Result, WorkflowRef, job_of
from photo_worker.errors import JobCancelled, JobMissing, PhotoWorkerError
from photo_worker.integrity.binding import bind
from photo_worker.jobs import JobService
from photo_worker.ocr.textract import TextractBackend
from photo_worker.orchestration.converter import ContractPayloadConverter
from photo_worker.ports import JobHandle, JobWorkflow, QueueState, WorkflowState
from photo_worker.storage.memory import MemoryJobRepository, MemoryObjectStore
from photo_worker.workflows.image import ImageProcessingWorkflow
from tests.crash.simulation.gate import (
    Fault,
    Gate,
    Gated,
    GatedRepository,
    GatedStore,
    Mode,
    Process,
    Strand,
    begin,
    current,
    run_async,
)
from tests.crash.simulation.port_errors import ROWS, STORE, TEMPORAL, TEXTRACT
from tests.crash.simulation.replica import Replica, TaskFailed, patches_in, same
from tests.crash.simulation.service import Activity, Attempt, DoneTask, Execution, Service, Stale
from tests.crash.simulation.textract import MemoryTextract
from tests.support.documents import InlineDecoder

BUCKET = "photos"
QUEUE = "simulated"
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class Stuck(Exception):
    """No step is possible, and work is left."""


class World:
    """One deployment. ``seed`` decides which of several runnable processes continues.

    ``versions`` tells whether its bucket has versioning.
    """

    def __init__(
        self, *, seed: int = 0, faults: tuple[Fault, ...] = (), workers: int = 1, versions: bool = False
    ) -> None:
        self.now = _EPOCH
        self._random = random.Random(seed)  # noqa: S311
        self.gate = Gate(faults, now=lambda: self.now)
        self.gate.on_refusal = self.add_worker
        self.owner = Owner(self)
        self.gate.outside[Mode.REPLACE] = self.owner.replace
        self.versions = versions
        self.store = MemoryObjectStore(now=lambda: self.now, versions=versions)
        self.store.ensure_bucket(BUCKET)
        self.rows = MemoryJobRepository(now=lambda: self.now, patience_seconds=0)
        # The state after the first migration; an object as old as the marker is no orphan.
        bind(self.store, self.rows, BUCKET)
        self.now += timedelta(seconds=1)
        self.textract = MemoryTextract(self.store, lambda: self.now)
        self.service = Service(lambda: self.now)
        self.strands: list[Strand] = []
        self.workers: list[Worker] = []
        self._made = 0
        for _ in range(workers):
            self.add_worker()
        self.watch: Callable[[], Iterable[object]] | None = None
        """Called after every step; its results are collected in ``violations``."""
        self.violations: list[object] = []

    def seconds(self) -> float:
        """Return the virtual time in seconds."""
        return self.now.timestamp()

    # -- making -----------------------------------------------------------------

    def ports(self) -> tuple[GatedStore, GatedRepository, SimulatedOrchestrator]:
        """Return the ports of one process, behind the gate."""
        store = GatedStore(self.gate, "store", self.store, STORE)
        rows = GatedRepository(self.gate, "rows", self.rows, ROWS)
        return store, rows, SimulatedOrchestrator(self)

    def add_worker(self) -> Worker:
        """Start a worker process."""
        self._made += 1
        worker = Worker(self, f"worker-{self._made}")
        self.workers.append(worker)
        return worker

    def spawn(self, process: Process, name: str, work: Callable[[], object]) -> Strand:
        """Start a strand of work in a process; the scheduler decides when it runs."""
        strand = Strand(process, name)
        self.strands.append(strand)
        begin(strand, work)
        return strand

    def client(self, name: str, work: Callable[[JobService], Any]) -> Strand:
        """Start a client's command in a new process."""
        process = Process(name)
        store, rows, orchestrator = self.ports()
        service = JobService(store, rows, orchestrator, BUCKET)
        return self.spawn(process, name, lambda: run_async(lambda: work(service)))

    # -- the order of things --------------------------------------------------------

    def run(self, *, most: int = 20_000) -> None:
        """Run all steps, advancing the time, until nothing is left but paused processes.

        If a paused process holds a lock that others wait for, time would advance for ever: an hour is enough then.
        """
        until = self.now + timedelta(hours=1)
        for _ in range(most):
            if not self.step() or (self.now > until and self.paused):
                return
        raise Stuck(f"{most} steps, and no end")

    def step(self) -> bool:
        """Run one step; return False if there was none."""
        self._bury()
        choices: list[Callable[[], None]] = [
            partial(self._go, strand)
            for strand in self.strands
            if not strand.process.paused and (strand.until is None or strand.until <= self.now)
        ]
        able = [worker for worker in self.workers if worker.process.alive and not worker.process.paused]
        if able:
            worker = self._random.choice(able)
            choices += [partial(worker.take_task, execution) for execution in self.service.tasks()]
            choices += [partial(worker.take_activity, *found) for found in self.service.activities()]
        if choices:
            self._random.choice(choices)()
            if self.watch is not None:
                self.violations += self.watch()
            return True
        return self._pass_time()

    def _pass_time(self) -> bool:
        times = [strand.until for strand in self.strands if strand.until is not None and not strand.process.paused]
        deadline = self.service.next_deadline()
        if deadline is not None:
            times.append(deadline)
        if not times:
            return False
        self.now = max(self.now, min(times))
        self.service.expire()
        return True

    def _go(self, strand: Strand) -> None:
        strand.go.release()
        strand.stopped.acquire()
        if strand.done:
            self.strands.remove(strand)
            if strand.error is not None:
                raise strand.error

    def _bury(self) -> None:
        """Unwind the threads of dead processes, and replace dead workers."""
        for strand in [strand for strand in self.strands if not strand.process.alive]:
            self._go(strand)
        for worker in [worker for worker in self.workers if not worker.process.alive]:
            self.workers.remove(worker)
            self.add_worker()
        if all(worker.process.paused for worker in self.workers):
            self.add_worker()

    def outlast(self) -> None:
        """End all outages and refusals."""
        self.now = max([self.now, *(outage.until for outage in self.gate.outages.values())])
        self.service.expire()

    @property
    def paused(self) -> bool:
        """Return whether a process is paused in the middle of work."""
        return any(strand.process.paused for strand in self.strands)

    def resume(self) -> bool:
        """Resume paused processes; return whether there were any."""
        paused = {strand.process for strand in self.strands if strand.process.paused}
        for process in paused:
            process.paused = False
        for worker in self.workers:
            worker.process.paused = False
        return bool(paused)

    def close(self) -> None:
        """Unwind every thread."""
        for strand in list(self.strands):
            strand.process.alive = False
            with suppress(Exception):
                self._go(strand)


class Owner:
    """The owner of an object that jobs read in place, who may overwrite it at any time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.key = ""
        self.others: tuple[bytes, ...] = ()
        """The contents that replace the object, in turn."""
        self.writings: Counter[str] = Counter()
        """The number of writes of each content, by its hash."""

    def write(self, key: str, body: bytes, content_type: str = "image/png") -> None:
        """Write the object. Without versioning, the store distinguishes writes by the second."""
        self._world.now += timedelta(seconds=1)
        self.key = key
        self.writings[hashlib.sha256(body).hexdigest()] += 1
        self._world.store.put(BUCKET, key, body, content_type=content_type)

    def replace(self) -> None:
        """Overwrite the object with the next content, if it exists."""
        if not self.key or not any(self._world.store.list(BUCKET, self.key)):
            return
        about = self._world.store.head(BUCKET, self.key)
        found = self._world.store.get(BUCKET, self.key, limit_bytes=1 << 30)
        at = self.others.index(found)
        self.write(self.key, self.others[(at + 1) % len(self.others)], about.content_type)


class Worker:
    """A worker process: its cache of workflows, and the attempts it runs."""

    def __init__(self, world: World, name: str) -> None:
        self.process = Process(name)
        self.release: type = ImageProcessingWorkflow
        """The workflow's code, which may be that of an earlier release."""
        self._world = world
        self._cache: dict[str, Replica] = {}
        store, rows, _ = world.ports()
        client = Gated(world.gate, "textract", world.textract, TEXTRACT)
        backend = TextractBackend(
            client,  # type: ignore[arg-type]
            notes=HeartbeatNotes(),
            wait=self._wait,
            clock=world.seconds,
        )
        assets = AssetActivities(store, rows, InlineDecoder(), BUCKET)
        ocr = OcrActivities(store, rows, lambda engine: backend, BUCKET)
        results = ResultActivities(store, rows, BUCKET)
        found = (assets.verify_and_locate_asset, ocr.ocr_textract, results.persist_artifacts, results.record_failure)
        self._activities: Mapping[str, Callable[..., Any]] = {each.__name__: each for each in found}

    def run(self, release: type) -> None:
        """Switch to this release of the workflow's code; as in a new process, cached workflows are dropped."""
        if release is not self.release:
            self.release = release
            self._cache.clear()

    def _wait(self, seconds: float) -> None:
        self._world.gate.until(current(), self._world.now + timedelta(seconds=seconds))

    def take_task(self, execution: Execution) -> None:
        """Run a workflow task; its completion is a call to the service."""
        world = self._world
        token = world.service.give_task(execution)
        jobs, at = tuple(execution.waiting), world.now
        done = tuple(execution.done)
        release = self.release

        def work() -> None:
            replica = self._cache.pop(execution.run_id, None)
            try:
                if replica is None or replica.tasks != len(done):
                    replica = self._replayed(execution, done)
                commands = replica.run_task(jobs, at, replaying=False)
            except TaskFailed:
                if self.release is ImageProcessingWorkflow:
                    raise
                # An earlier release cannot replay the history, and leaves the job to another worker.
                with suppress(Stale):
                    world.gate.call(
                        "temporal.fail_workflow_task",
                        lambda: world.service.fail_task(execution, token),
                        repeatable=False,
                    )
                return
            with suppress(Stale):
                world.gate.call(
                    "temporal.complete_workflow_task",
                    lambda: world.service.complete_task(execution, token, commands, replica.flags),
                    repeatable=False,
                )
                if release is self.release:
                    self._cache[execution.run_id] = replica

        world.spawn(self.process, f"task {execution.workflow_id}", work)

    def _replayed(self, execution: Execution, done: Sequence[DoneTask]) -> Replica:
        """Return the workflow replayed from its history. Raises ``TaskFailed`` if this code diverges from it."""
        replica = asyncio.run(_replica(self.release, execution))
        for task in done:
            jobs_then = (*patches_in(task.commands), *task.jobs)
            again = replica.run_task(jobs_then, task.at, replaying=True, flags=task.flags)
            if not same(again, task.commands):
                raise TaskFailed(f"{execution.workflow_id}: replaying gives other commands than before")
        return replica

    def take_activity(self, execution: Execution, activity: Activity) -> None:
        """Run an attempt of an activity."""
        attempt = self._world.service.give_activity(activity)
        name = f"{activity.about.activity_type} {attempt.number}"
        self._world.spawn(self.process, name, lambda: self._attempt(execution, activity, attempt))

    def _attempt(self, execution: Execution, activity: Activity, attempt: Attempt) -> None:
        world, about = self._world, activity.about
        function = self._activities[about.activity_type]
        hint = function.__func__.__annotations__  # type: ignore[attr-defined]
        converter = ContractPayloadConverter()
        environment = ActivityEnvironment()
        environment.payload_converter = converter
        environment.info = replace(
            environment.info,
            activity_type=about.activity_type,
            attempt=attempt.number,
            workflow_id=execution.workflow_id,
            workflow_run_id=execution.run_id,
            heartbeat_timeout=None,
            heartbeat_details=converter.from_payloads(activity.details) if activity.details else [],
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
            kind = function.__globals__[hint["request"]] if isinstance(hint["request"], str) else hint["request"]
            (request,) = converter.from_payloads(about.arguments, [kind])
            result = environment.run(function, request)
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


async def _replica(release: type, execution: Execution) -> Replica:
    # The SDK replaces the running event loop while it creates an instance.
    return Replica(release, execution.workflow_id, execution.run_id, execution.started, QUEUE)


def _failure(error: Exception) -> Failure:
    failure = Failure()
    DefaultFailureConverter().to_failure(error, ContractPayloadConverter(), failure)
    return failure


class SimulatedOrchestrator:
    """``ports.WorkflowOrchestrator`` over the simulated service."""

    def __init__(self, world: World) -> None:
        self._world = world

    def _call(self, name: str, effect: Callable[[], Any]) -> Any:
        return self._world.gate.call(f"orchestrator.{name}", effect, answers=TEMPORAL)

    async def start(self, workflow: WorkflowRef[Input, Any], request: Input) -> JobHandle:
        payloads = ContractPayloadConverter().to_payloads([request])
        found, new = self._call(
            "start", lambda: self._world.service.start(workflow.workflow_id, workflow.type.name, payloads)
        )
        return JobHandle(workflow.job_id, found.run_id, joined=not new)

    async def start_again(self, workflow: WorkflowRef[Any, Any]) -> JobHandle:
        def effect() -> tuple[Execution, bool]:
            try:
                return self._world.service.start_again(workflow.workflow_id)
            except KeyError as error:
                raise JobMissing(job_id=workflow.job_id) from error

        found, new = self._call("start_again", effect)
        return JobHandle(workflow.job_id, found.run_id, joined=not new)

    async def signal(self, workflow: WorkflowRef[Any, Any], name: str, argument: Contract) -> None:
        """Not supported: no use case sends a signal."""
        raise NotImplementedError

    async def cancel(self, workflow: WorkflowRef[Any, Any]) -> None:
        def effect() -> None:
            try:
                self._world.service.cancel(workflow.workflow_id)
            except KeyError as error:
                raise JobMissing(job_id=workflow.job_id) from error
            except Stale:
                return

        self._call("cancel", effect)

    async def state(self, workflow: WorkflowRef[Any, Any]) -> WorkflowState | None:
        found: WorkflowState | None = self._call(
            "state", lambda: state_of(self._world.service.executions.get(workflow.workflow_id))
        )
        return found

    async def workflows_of(self, job_id: UUID) -> Sequence[JobWorkflow]:
        def effect() -> list[JobWorkflow]:
            known = self._world.service.executions
            found = [(name, known[name], state_of(known[name])) for name in sorted(known) if job_of(name) == job_id]
            return [JobWorkflow(name, one.kind, state) for name, one, state in found if state is not None]

        found: list[JobWorkflow] = self._call("workflows_of", effect)
        return found

    async def open_workflows(self) -> AsyncIterator[str]:
        found = self._call(
            "open_workflows",
            lambda: [one.workflow_id for one in self._world.service.executions.values() if one.status == "running"],
        )
        for each in found:
            yield each

    async def queue_state(self) -> QueueState:
        return QueueState(QUEUE, 0, 0.0, True)

    async def result(self, workflow: WorkflowRef[Any, Result]) -> Result:
        """Not supported: in the simulation, the outcome of a job is read from its row."""
        raise NotImplementedError

    async def has_worker(self) -> bool:
        return True

    async def erase(self, job_id: UUID) -> bool:
        def effect() -> bool:
            service = self._world.service
            names = [name for name in sorted(service.executions) if job_of(name) == job_id]
            for name in names:
                with suppress(Stale, KeyError):
                    service.terminate(name)
            return sum(service.delete(name) for name in names) > 0

        return bool(self._call("erase", effect))


def state_of(found: Execution | None) -> WorkflowState | None:
    """Return the state of an execution as Temporal describes it; None without one."""
    if found is None:
        return None
    code = reason = None
    if found.status == "terminated":
        code, reason = "terminated", f"the workflow was terminated by an operator: {found.reason}"
    elif found.status == "cancelled":
        code, reason = JobCancelled.code, JobCancelled().message
    elif found.failure is not None:
        code, reason = found.failure.application_failure_info.type, found.failure.message
    return WorkflowState(found.status, found.started, found.closed, code, reason)
