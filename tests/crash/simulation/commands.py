"""Users of a simulated deployment: their commands are repeated if the process died or a retry was advised."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

from photo_worker.contracts.image import IMAGE_PROCESSING
from photo_worker.errors import PhotoWorkerError, TemporalUnavailable
from photo_worker.services.consistency.inspector import InspectionConfig, InspectionPorts, JobInspector
from photo_worker.services.consistency.repair import Repairer
from photo_worker.services.consistency.scan import Scanner
from photo_worker.services.erasure import Erasure
from photo_worker.services.jobs import JobService
from photo_worker.sources import Source
from tests.crash.simulation.gate import Inline, Process, Strand, current, run_async
from tests.crash.simulation.orchestrator import SimulatedOrchestrator
from tests.crash.simulation.world import BUCKET, World

# The most tries of a command; no more are needed after a service has recovered.
_MOST_TRIES = 8


class Tools:
    """The product's own services for a command of one process, over ports behind the gate."""

    def __init__(self, world: World) -> None:
        store, rows, orchestrator = world.ports()
        self.world = world
        self.store: Any = store
        self.rows: Any = rows
        self.orchestrator: SimulatedOrchestrator = orchestrator
        self.service = JobService(self.store, self.rows, orchestrator, BUCKET)
        self.erasure = Erasure(self.store, self.rows, orchestrator, BUCKET)

    async def repair(self) -> None:
        """Check the whole deployment and repair findings, as ``photo-worker check --repair`` does."""
        ports = InspectionPorts(self.store, self.rows, self.orchestrator, BUCKET)
        means = InspectionConfig(now=self._now, wait=self._wait, grace=timedelta(0), parallel=1)
        scanner = Scanner(JobInspector(ports, means, Inline(1)))
        report = await scanner.scan_all()

        async def erase(job_id: UUID) -> None:
            await self.erasure.erase(job_id)

        await Repairer(scanner, erase=erase).repair(report, say=lambda step: None)
        if any(finding.repair for finding in report.findings):
            # The command reports the remaining findings and exits with 1.
            raise TemporalUnavailable(target="memory", reason="something could not be repaired yet")

    def _now(self) -> datetime:
        return self.world.now

    async def _wait(self, seconds: float) -> None:
        self.world.gate.until(current(), self.world.now + timedelta(seconds=seconds))


Work: TypeAlias = Callable[[Tools], Awaitable[object]]


@dataclass
class Command:
    """A user's command, in as many processes as it takes."""

    name: str
    work: Work
    done: bool = False
    refused: str | None = None
    """The code of an error that a retry does not resolve."""
    tries: int = 0
    most: int = _MOST_TRIES
    strands: list[Strand] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Return whether the command has succeeded or was refused."""
        return self.done or self.refused is not None

    @property
    def in_hand(self) -> bool:
        """Return whether a process that is not paused works on it."""
        return any(not strand.done and not strand.process.paused for strand in self.strands)


class Console:
    """Gives commands, and repeats them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.commands: list[Command] = []

    def give(self, name: str, work: Work) -> Command:
        """Start a command."""
        command = Command(name, work)
        self.commands.append(command)
        self._begin(command)
        return command

    def submit(self, job_id: UUID, source: Source) -> Command:
        """Start to submit a photo."""
        return self.give(f"submit {job_id}", lambda tools: tools.service.submit(source, job_id=job_id))

    def erase(self, job_id: UUID) -> Command:
        """Start to erase a job."""
        return self.give(f"erase {job_id}", lambda tools: tools.erasure.erase(job_id))

    def cancel(self, job_id: UUID) -> Command:
        """Start to cancel a job."""
        return self.give(f"cancel {job_id}", lambda tools: tools.orchestrator.cancel(IMAGE_PROCESSING.of(job_id)))

    def repair(self) -> Command:
        """Start a check with repairs."""
        return self.give("check --repair", lambda tools: tools.repair())

    def _begin(self, command: Command) -> None:
        command.tries += 1
        process = Process(f"{command.name} #{command.tries}")
        tools = Tools(self.world)

        async def attempt() -> None:
            try:
                await command.work(tools)
            except PhotoWorkerError as error:
                # The operator fixes the service or the permissions, and the command is repeated.
                if not error.retryable and not error.passes:
                    command.refused = command.refused or error.code
                return
            command.done = True

        command.strands.append(self.world.spawn(process, process.name, lambda: run_async(attempt)))

    def reinspect(self) -> bool:
        """Repeat the unfinished commands that no process works on; return whether there were any."""
        found = [one for one in self.commands if not one.ended and not one.in_hand and one.tries < one.most]
        if found:
            # A user waits for a service that was reported as unavailable.
            self.world.outlast()
        for command in found:
            self._begin(command)
        return bool(found)

    def settle(self) -> None:
        """Run everything to its end: repeat commands, then resume paused processes."""
        while True:
            self.world.run()
            if self.reinspect():
                continue
            if not self.world.resume():
                return
            # A paused process may have held the lock because of which a command was refused.
            for command in self.commands:
                command.most = command.tries + _MOST_TRIES
