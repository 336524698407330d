"""Looking at one job: everything that the ports know of it, in an order that no job in progress can confuse."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Lock
from typing import TypeVar
from uuid import UUID

from photo_worker.contracts.keys import manifest_key
from photo_worker.errors import InputError, PhotoWorkerError, ServiceRefused
from photo_worker.integrity.evidence import JOB_FOLDERS, Evidence, Location, StoredObject
from photo_worker.integrity.rules_results import read_manifest
from photo_worker.ports import JobRecord, JobRepository, ObjectEntry, ObjectStore, QueueState, WorkflowOrchestrator

_T = TypeVar("_T")

# A manifest is some 600 bytes; its contract bounds it to less than this.
_MANIFEST_LIMIT_BYTES = 64 * 1024

# Photos that many jobs share are hashed once while they are remembered.
_REMEMBERED_HASHES = 4096

# A check of hours does not end because one request of a million failed.
PAUSES_SECONDS = (1.0, 5.0, 15.0)


@dataclass(frozen=True)
class InspectionPorts:
    """What is looked at. ``bucket`` is the worker's own."""

    store: ObjectStore
    repository: JobRepository
    orchestrator: WorkflowOrchestrator
    bucket: str


@dataclass(frozen=True)
class InspectionConfig:
    """How it is looked at: whether photos are read and hashed, the age up to which orphans are young, and the clock.

    ``wait`` sleeps a number of seconds; ``parallel`` jobs are looked at at once. An erase that may still run is given
    ``erase_seconds``: Temporal takes a minute or two to delete the history of a job that has just ended.
    """

    now: Callable[[], datetime]
    wait: Callable[[float], Awaitable[object]] = asyncio.sleep
    hashes: bool = True
    grace: timedelta = timedelta(hours=1)
    parallel: int = 16
    erase_seconds: float = 150.0

    def with_erase_seconds(self, erase_seconds: float) -> InspectionConfig:
        """Return the same means with another time for erases."""
        return replace(self, erase_seconds=erase_seconds)


class JobInspector:
    """Gathers evidence of single jobs, with the threads of the caller's executor."""

    def __init__(self, ports: InspectionPorts, config: InspectionConfig, executor: Executor) -> None:
        self.ports = ports
        self.config = config
        self.hashed_bytes = 0
        self._executor = executor
        self._hashes: OrderedDict[Location, StoredObject] = OrderedDict()
        self._lock = Lock()

    async def inspect(
        self, job_id: UUID, row: JobRecord | None, entries: Sequence[ObjectEntry], queues: tuple[QueueState, ...]
    ) -> Evidence:
        """Look at a job whose row and objects a listing has shown; both may be older than the rest."""
        return await self._inspect(job_id, queues, lambda: (row, entries), remember=True)

    async def reinspect(self, job_id: UUID, queues: tuple[QueueState, ...]) -> Evidence:
        """Look at a job anew: the workflow, then the row, then the objects, then whether it is erased.

        A row is final before its workflow closes, its objects are there before it is final, and an erase marks the
        job before it takes anything away. Seen in this order, a job in progress looks whole.
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
        workflow = await self.with_retries(lambda: self.ports.orchestrator.state(job_id))

        def rest() -> Evidence:
            row, entries = read()
            evidence = Evidence(
                looked_at=self.config.now(),
                bucket=self.ports.bucket,
                rows={} if row is None else {job_id: row},
                workflows={job_id: workflow},
                queues=queues,
                grace=self.config.grace,
            )
            objects, unreadable = self._objects(evidence, job_id, row, entries, remember=remember)
            erased = frozenset({job_id}) if self.ports.repository.is_erased(job_id) else frozenset[UUID]()
            return replace(evidence, objects=objects, unreadable=unreadable, erased=erased)

        return await self.in_thread(rest)

    async def in_thread(self, work: Callable[[], _T]) -> _T:
        """Run what blocks in the executor, again where a service was away for a moment."""
        return await self.with_retries(lambda: self.once_in_thread(work))

    async def once_in_thread(self, work: Callable[[], _T]) -> _T:
        """Run what blocks in the executor."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def with_retries(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask, and ask again after a pause where a service was away for a moment."""
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
        """Ask for the objects that the row names, for the manifest in any case, and for the copy that it names."""
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
            # The list grows while it is gone through: which copy there is stands in the manifest alone.
            about = read_manifest(found) if location == manifest else None
            if row is not None and about is not None and about.converted is not None:
                copy = (about.converted.bucket, about.converted.key)
                wanted.append((copy, hashed if self.config.hashes else self._head))
        return objects, unreadable

    def _is_owned(self, location: Location) -> bool:
        """Tell whether the store takes these credentials in the object's bucket: a refusal is the object's own then."""
        try:
            next(iter(self.ports.store.list(*location)), None)
        except ServiceRefused:
            return False
        except InputError:
            # The bucket may be read and not listed.
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
            if location in self._hashes:
                self._hashes.move_to_end(location)
                return self._hashes[location]
        found = self._hashed(location)
        with self._lock:
            self._hashes[location] = found
            if len(self._hashes) > _REMEMBERED_HASHES:
                self._hashes.popitem(last=False)
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
