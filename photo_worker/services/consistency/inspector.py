"""Gathers the evidence of one job from all ports, in an order in which a job in progress looks consistent."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from threading import Lock
from typing import TypeVar
from uuid import UUID

from cachetools import LRUCache

from photo_worker.contracts.keys import manifest_key
from photo_worker.errors import InputError, PhotoWorkerError, ServiceRefused
from photo_worker.pipelines import PIPELINES, Pipeline, further_pipelines, job_pipeline
from photo_worker.ports.job_repository import JobRecord, JobRepository
from photo_worker.ports.object_store import ObjectEntry, ObjectStore
from photo_worker.ports.orchestrator import JobWorkflow, QueueState, WorkflowOrchestrator
from photo_worker.services.consistency.evidence import JOB_FOLDERS, Evidence, Location, StoredObject
from photo_worker.services.consistency.rules_results import read_manifest

_T = TypeVar("_T")

# A manifest is some 600 bytes; its contract bounds it to less than this.
_MANIFEST_LIMIT_BYTES = 64 * 1024

# Photos that many jobs share are hashed once while they are remembered.
_REMEMBERED_HASHES = 4096

# A check that runs for hours must not end because one request of a million failed.
PAUSES_SECONDS = (1.0, 5.0, 15.0)


@dataclass(frozen=True)
class InspectionPorts:
    """The services to inspect. ``bucket`` is the worker's bucket, ``pipelines`` those of the deployment."""

    store: ObjectStore
    repository: JobRepository
    orchestrator: WorkflowOrchestrator
    bucket: str
    pipelines: Sequence[Pipeline] = PIPELINES


@dataclass(frozen=True)
class InspectionConfig:
    """How to inspect: whether photos are read and hashed, the age up to which orphans are young, and the clock.

    ``wait`` sleeps a number of seconds; ``parallel`` jobs are inspected at once. A scan waits ``erase_seconds`` for
    erases that may still run: Temporal takes a minute or two to delete the history of a job that has just ended.
    """

    now: Callable[[], datetime]
    wait: Callable[[float], Awaitable[object]] = asyncio.sleep
    hashes: bool = True
    grace: timedelta = timedelta(hours=1)
    parallel: int = 16
    erase_seconds: float = 150.0

    def with_erase_seconds(self, erase_seconds: float) -> InspectionConfig:
        """Return a copy with another time to wait for erases, in seconds."""
        return replace(self, erase_seconds=erase_seconds)


class JobInspector:
    """Gathers evidence of single jobs; blocking calls run in the caller's executor."""

    def __init__(self, ports: InspectionPorts, config: InspectionConfig, executor: Executor) -> None:
        self.ports = ports
        self.config = config
        self.hashed_bytes = 0
        self._executor = executor
        self._hashes = LRUCache[Location, StoredObject](_REMEMBERED_HASHES)
        self._lock = Lock()

    async def inspect(
        self, job_id: UUID, row: JobRecord | None, entries: Sequence[ObjectEntry], queues: tuple[QueueState, ...]
    ) -> Evidence:
        """Gather evidence of a job with the row and the objects of a listing; both may be older than the rest."""
        return await self._inspect(job_id, queues, lambda: (row, entries), remember=True)

    async def reinspect(self, job_id: UUID, queues: tuple[QueueState, ...]) -> Evidence:
        """Gather all evidence of a job anew: the workflow, the row, the objects, then whether it is erased.

        A row is final before its workflow closes, its objects exist before it is final, and an erase marks the job
        before it deletes anything. Read in this order, a job in progress looks consistent.
        """

        def read() -> tuple[JobRecord | None, Sequence[ObjectEntry]]:
            row = self.ports.repository.get(job_id)
            return row, [
                entry
                for folder in JOB_FOLDERS
                for entry in self.ports.store.list(self.ports.bucket, f"{folder}{job_id}/")
            ]

        return await self._inspect(job_id, queues, read, remember=False)

    async def _inspect(
        self,
        job_id: UUID,
        queues: tuple[QueueState, ...],
        read: Callable[[], tuple[JobRecord | None, Sequence[ObjectEntry]]],
        *,
        remember: bool,
    ) -> Evidence:
        main = job_pipeline(self.ports.pipelines).kind.of(job_id)
        workflow = await self.with_retries(lambda: self.ports.orchestrator.state(main))
        further = await self._further(job_id)

        def rest() -> Evidence:
            row, entries = read()
            evidence = Evidence(
                looked_at=self.config.now(),
                bucket=self.ports.bucket,
                rows={} if row is None else {job_id: row},
                workflows={job_id: workflow},
                others={job_id: list(further.values())} if further else {},
                queues=queues,
                grace=self.config.grace,
                pipelines=self.ports.pipelines,
            )
            objects, unreadable = self._objects(evidence, job_id, row, entries, remember=remember)
            erased = frozenset({job_id}) if self.ports.repository.is_erased(job_id) else frozenset[UUID]()
            return replace(evidence, objects=objects, unreadable=unreadable, erased=erased)

        evidence = await self.in_thread(rest)
        if evidence.rows and not evidence.erased:
            return evidence
        known = await self.with_retries(lambda: self.ports.orchestrator.workflows_of(job_id))
        # A list may lack a workflow that has just begun.
        found = further | {one.workflow_id: one for one in known if one.workflow_id != main.workflow_id}
        return replace(evidence, others={job_id: [found[name] for name in sorted(found)]})

    async def _further(self, job_id: UUID) -> dict[str, JobWorkflow]:
        """Return the job's workflows of the further pipelines, by id."""
        found = {}
        for pipeline in further_pipelines(self.ports.pipelines):
            workflow = pipeline.kind.of(job_id)
            state = await self.with_retries(partial(self.ports.orchestrator.state, workflow))
            if state is not None:
                found[workflow.workflow_id] = JobWorkflow(workflow.workflow_id, pipeline.kind.name, state)
        return found

    async def in_thread(self, work: Callable[[], _T]) -> _T:
        """Run a blocking call in the executor, with retries if a service is down for a moment."""
        return await self.with_retries(lambda: self.once_in_thread(work))

    async def once_in_thread(self, work: Callable[[], _T]) -> _T:
        """Run a blocking call in the executor, without retries."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def with_retries(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Call ``ask``, and again after each of ``PAUSES_SECONDS`` while it raises a retryable error."""
        for pause in PAUSES_SECONDS:
            try:
                return await ask()
            except PhotoWorkerError as error:
                if not error.retryable:
                    raise
                await self.config.wait(pause)
        return await ask()

    def _objects(
        self, evidence: Evidence, job_id: UUID, row: JobRecord | None, entries: Sequence[ObjectEntry], *, remember: bool
    ) -> tuple[dict[Location, StoredObject], dict[Location, PhotoWorkerError]]:
        """Read the objects that the row names, the manifest even without a row, and the copy that it names."""
        hashed = self._remembered if remember else self._hashed
        objects = {(entry.bucket, entry.key): of_entry(entry) for entry in entries}
        unreadable: dict[Location, PhotoWorkerError] = {}
        wanted: list[tuple[Location, Callable[[Location], StoredObject]]] = []
        manifest = (self.ports.bucket, manifest_key(job_id))
        if row is not None and row.status == "succeeded":
            bucket = row.s3_bucket or self.ports.bucket
            if row.s3_ocr_key:
                wanted.append(((bucket, row.s3_ocr_key), self._head))
            manifest = (bucket, row.s3_manifest_key or manifest[1])
        if manifest in objects or (row is not None and row.status == "succeeded"):
            wanted.append((manifest, self._body))
        if row is not None and (evidence.uploaded(row) or row.status == "succeeded"):
            final = row.status in {"succeeded", "failed"}
            wanted.append((evidence.raw_location(row), hashed if self.config.hashes and final else self._head))
        for location, ask in wanted:
            listed = objects.pop(location, None)
            try:
                found = ask(location)
            except (InputError, ServiceRefused) as error:
                if isinstance(error, ServiceRefused) and not self._is_owned(location):
                    raise
                unreadable[location] = error
                continue
            objects[location] = replace(found, modified_at=listed.modified_at if listed else None)
            # The list grows during the loop: only the manifest names the copy.
            about = read_manifest(found) if location == manifest else None
            if row is not None and about is not None and about.converted is not None:
                copy = (about.converted.bucket, about.converted.key)
                wanted.append((copy, hashed if self.config.hashes else self._head))
        return objects, unreadable

    def _is_owned(self, location: Location) -> bool:
        """Tell whether these credentials may use the object's bucket: then a refusal is about the object alone."""
        try:
            next(iter(self.ports.store.list(*location)), None)
        except ServiceRefused:
            return False
        except InputError:
            # The credentials may read the bucket and not list it.
            return True
        return True

    def _head(self, location: Location) -> StoredObject:
        info = self.ports.store.head(*location)
        return StoredObject(*location, size_bytes=info.size_bytes, metadata=info.metadata, etag=info.etag)

    def _body(self, location: Location) -> StoredObject:
        body = self.ports.store.get(*location, limit_bytes=_MANIFEST_LIMIT_BYTES)
        return StoredObject(*location, size_bytes=len(body), body=body)

    def _remembered(self, location: Location) -> StoredObject:
        with self._lock:
            known = self._hashes.get(location)
        if known is not None:
            return known
        found = self._hashed(location)
        with self._lock:
            self._hashes[location] = found
        return found

    def _hashed(self, location: Location) -> StoredObject:
        """Read an object to its end in constant memory."""
        digest, size = hashlib.sha256(), 0
        with self.ports.store.open(*location) as (info, pieces):
            for piece in pieces:
                digest.update(piece)
                size += len(piece)
        with self._lock:
            self.hashed_bytes += size
        return StoredObject(
            *location, size_bytes=size, metadata=info.metadata, sha256=digest.hexdigest(), etag=info.etag
        )


def of_entry(entry: ObjectEntry) -> StoredObject:
    """Return a listing's object as evidence."""
    return StoredObject(entry.bucket, entry.key, entry.size_bytes, entry.modified_at, hidden=entry.hidden)
