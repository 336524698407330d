"""Another deployment with its own database, whose settings name this deployment's bucket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from photo_worker.adapters.memory.job_repository import MemoryJobRepository
from photo_worker.errors import BucketBoundElsewhere, BucketNotBound, PhotoWorkerError
from photo_worker.ports.job_repository import OcrRecord
from photo_worker.services.binding import bind
from photo_worker.services.consistency.inspector import InspectionConfig, InspectionPorts, JobInspector
from photo_worker.services.consistency.repair import Repairer
from photo_worker.services.consistency.scan import Scanner
from photo_worker.services.erasure import Erasure
from tests.crash.simulation.gate import Inline
from tests.crash.simulation.orchestrator import SimulatedOrchestrator
from tests.crash.simulation.world import BUCKET, QUEUE, World
from tests.crash.violation import Violation

OWN_BUCKET = "others"
_OTHER_JOB = UUID(int=(9 << 100) + 9)
_SHA256 = "9" * 64


class Intruder:
    """Checks, repairs and erases in ``world``'s bucket, by the product's own code, on request.

    It also has its own bucket, with jobs whose rows name objects of this one: one with the id of a job here, as in a
    copied database.
    """

    def __init__(self, world: World, job_id: UUID) -> None:
        self._world = world
        self._job_id = job_id
        self._own = World(seed=1)
        self._own.gate.quiet = True
        self._own.store = world.store
        self._unbound = MemoryJobRepository(now=lambda: world.now, patience_seconds=0)
        world.store.ensure_bucket(OWN_BUCKET)
        bind(world.store, self._own.rows, OWN_BUCKET)
        self.broken: list[Violation] = []
        self.times = 0

    def intrude(self) -> None:
        """Do everything that a deployment might do here; changes in the bucket are added to ``broken``."""
        before = self._objects()
        failures: list[BaseException] = []

        def run() -> None:
            try:
                asyncio.run(self._everything())
            except BaseException as error:
                failures.append(error)

        # The interrupted strand may have a running event loop.
        thread = threading.Thread(target=run, name="intruder")
        thread.start()
        thread.join()
        if failures:
            raise failures[0]
        self.times += 1
        after = self._objects()
        for key in sorted(before.keys() | after.keys()):
            if before.get(key) != after.get(key):
                change = "deleted" if key not in after else "changed" if key in before else "written"
                self.broken.append(Violation(4, f"another deployment has {change} {key}"))

    def _objects(self) -> dict[str, bytes]:
        store = self._world.store
        return {entry.key: store.get(BUCKET, entry.key, limit_bytes=1 << 24) for entry in store.list(BUCKET, "")}

    async def _everything(self) -> None:
        for rows in (self._own.rows, self._unbound):
            await self._refused(asyncio.to_thread(bind, self._world.store, rows, BUCKET))
            await self._check(rows)
            await self._refused(self._erasure(rows, BUCKET).erase(self._job_id, with_source=True))
        await self._erase_own()

    async def _refused(self, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except BucketBoundElsewhere:
            return
        self.broken.append(Violation(4, "another deployment is let into the bucket"))

    def _erasure(self, rows: MemoryJobRepository, bucket: str) -> Erasure:
        return Erasure(self._world.store, rows, SimulatedOrchestrator(self._own, QUEUE), bucket)

    async def _check(self, rows: MemoryJobRepository) -> None:
        orchestrator = SimulatedOrchestrator(self._own, QUEUE)
        ports = InspectionPorts(self._world.store, rows, orchestrator, BUCKET)
        # A check without waits and without a grace period deletes most.
        means = InspectionConfig(now=lambda: self._world.now, wait=_at_once, grace=timedelta(0), parallel=1)
        scanner = Scanner(JobInspector(ports, means, Inline(1)))
        report = await scanner.scan_all()
        erasure = self._erasure(rows, BUCKET)

        async def erase(job_id: UUID) -> None:
            await erasure.erase(job_id)

        with suppress(PhotoWorkerError):
            await Repairer(scanner, erase=erase).repair(report, say=lambda step: None)

    async def _erase_own(self) -> None:
        """Erase jobs of its own bucket whose rows name every object of this one."""
        for key in self._objects():
            rows = MemoryJobRepository(now=lambda: self._world.now, patience_seconds=0)
            rows._deployment = self._own.rows.deployment_id()
            ocr = OcrRecord(BUCKET, key, key, "textract", "1.0", 1)
            for job_id in (_OTHER_JOB, self._job_id):
                rows.queue(job_id, bucket=BUCKET, key=key)
                rows.succeed(job_id, bucket=BUCKET, key=key, sha256=_SHA256, ocr=ocr)
                # The marker is one of the keys: if it could be deleted, the next erasures would be refused.
                with suppress(BucketNotBound):
                    await self._erasure(rows, OWN_BUCKET).erase(job_id, with_source=True)


async def _at_once(seconds: float) -> None:
    """Return at once instead of sleeping."""
