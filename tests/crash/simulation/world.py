"""The simulated deployment: ports in memory behind the gate, Temporal, workers, clients, and their scheduling."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from photo_worker.adapters.memory.job_repository import MemoryJobRepository
from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.pipelines import PIPELINES, Pipeline
from photo_worker.services.binding import bind
from photo_worker.services.jobs import JobService
from tests.crash.simulation.gate import Fault, Gate, Mode, Process, Strand, begin, run_async
from tests.crash.simulation.gated import GatedRepository, GatedStore
from tests.crash.simulation.orchestrator import SimulatedOrchestrator
from tests.crash.simulation.owner import Owner
from tests.crash.simulation.port_errors import ROWS, STORE
from tests.crash.simulation.service import Service
from tests.crash.simulation.textract import MemoryTextract
from tests.crash.simulation.worker import Hosted, Worker

BUCKET = "photos"
QUEUE = "simulated"
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class Stuck(Exception):
    """No step is possible, and work is left."""


class World:
    """One deployment. ``seed`` decides which of several runnable processes continues.

    ``versions`` tells whether its bucket has versioning. Workers run the workflows of ``pipelines``.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        faults: tuple[Fault, ...] = (),
        workers: int = 1,
        versions: bool = False,
        pipelines: Sequence[Pipeline] = PIPELINES,
    ) -> None:
        self.now = _EPOCH
        self._random = random.Random(seed)  # noqa: S311
        self.gate = Gate(faults, now=lambda: self.now)
        self.gate.on_refusal = self.add_worker
        self.owner = Owner(self, BUCKET)
        self.gate.outside[Mode.REPLACE] = self.owner.replace
        self.versions = versions
        self.pipelines = pipelines
        self.store = MemoryObjectStore(now=lambda: self.now, versions=versions)
        self.store.ensure_bucket(BUCKET)
        self.rows = MemoryJobRepository(now=lambda: self.now, patience_seconds=0)
        # The state after the first migration; an object as old as the marker is no orphan.
        bind(self.store, self.rows, BUCKET)
        self.now += timedelta(seconds=1)
        self.textract = MemoryTextract(self.store, lambda: self.now)
        self.service = Service(lambda: self.now)
        self.hosted = Hosted()
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
        return store, rows, SimulatedOrchestrator(self, QUEUE)

    def add_worker(self) -> Worker:
        """Start a worker process."""
        self._made += 1
        worker = Worker(self, f"worker-{self._made}", BUCKET, QUEUE)
        self.workers.append(worker)
        return worker

    def host(self, hosted: Hosted) -> None:
        """Let every worker run the workflows and activities of a test, besides the product's workflow."""
        self.hosted = hosted
        for worker in self.workers:
            worker.host(hosted)

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
            partial(self._go, strand) for strand in self.strands if strand.runnable(self.now)
        ]
        able = [worker for worker in self.workers if worker.process.alive and not worker.process.paused]
        if able:
            worker = self._random.choice(able)
            choices += [partial(worker.take_task, execution) for execution in self.service.tasks()]
            choices += [partial(worker.take_activity, *found) for found in self.service.activities()]
            choices += [partial(worker.take_query, *found) for found in self.service.queries()]
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
