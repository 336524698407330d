"""Scans a whole deployment, or single jobs, without changing anything.

Rows and objects are merged by job as they are listed, so that memory holds a page of each, 16 bytes for every job's
photo and its copy, the ids of the running workflows, and the findings. Live data change: a suspect job is inspected
again, in an order in which a job in progress looks consistent, and reported only if it still breaks a rule.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import dropwhile, islice
from typing import TypeVar
from uuid import UUID

from photo_worker.contracts.references import job_of
from photo_worker.errors import JobMissing, ObjectMissing, PhotoWorkerError
from photo_worker.ports.object_store import ObjectEntry
from photo_worker.ports.orchestrator import QueueState, WorkflowState
from photo_worker.services.binding import Binding, read_binding
from photo_worker.services.consistency.copies import list_hidden, lock_object
from photo_worker.services.consistency.evidence import (
    CONVERTED_FOLDER,
    JOB_FOLDERS,
    RAW_FOLDER,
    Evidence,
    JobEvidence,
    Location,
    StoredObject,
    jobs_of,
)
from photo_worker.services.consistency.finding import IntegrityFinding
from photo_worker.services.consistency.inspector import (
    PAUSES_SECONDS,
    InspectionConfig,
    InspectionPorts,
    JobInspector,
    of_entry,
)
from photo_worker.services.consistency.merge import Group, LocationIndex, by_job
from photo_worker.services.consistency.rules import deployment_findings, job_findings
from photo_worker.services.consistency.rules_orphans import (
    is_named_here,
    is_orphan,
    is_young,
    is_young_object,
    orphan_photos,
    references_of,
)
from photo_worker.services.consistency.rules_results import s3

_A = TypeVar("_A")
_T = TypeVar("_T")

_BATCH = 256

_LONGEST_PAUSE_SECONDS = 15.0


@dataclass(frozen=True)
class ScanProgress:
    """The progress of a scan. ``stage`` is jobs, photos or erases, for which the scan waits.

    Ids and hashes are spread evenly, so that ``share`` follows from the value of the last one.
    """

    stage: str
    share: float
    done: int


@dataclass
class ScanReport:
    """The result of a scan. ``young`` counts objects without an owner that are too young to be a finding.

    ``linked`` counts the rows with an object in the worker's bucket: they show that the database belongs to it.
    ``rowless`` counts running workflows without a row, whatever their age: they may be about any photo.
    ``passing`` counts jobs and objects that broke a rule at first and broke none when they were inspected again.
    """

    findings: list[IntegrityFinding] = field(default_factory=list)
    binding: Binding | None = None
    jobs: int = 0
    objects: int = 0
    linked: int = 0
    rowless: int = 0
    young: int = 0
    passing: int = 0
    hashed_bytes: int = 0
    queues: tuple[QueueState, ...] = ()


def _ignore(progress: ScanProgress) -> None:
    """Ignore the progress."""


@asynccontextmanager
async def open_scanner(ports: InspectionPorts, config: InspectionConfig) -> AsyncIterator[Scanner]:
    """Yield a scanner with a thread pool of its own for blocking calls."""
    with ThreadPoolExecutor(config.parallel, thread_name_prefix="check") as executor:
        yield Scanner(JobInspector(ports, config, executor))


class Scanner:
    """Scans jobs and objects, and reports the breaches of rules."""

    def __init__(self, inspector: JobInspector) -> None:
        self.inspector = inspector
        self._ports = inspector.ports
        self._config = inspector.config

    async def scan_all(self, progress: Callable[[ScanProgress], None] = _ignore) -> ScanReport:
        """Inspect every row, every object of the worker's bucket and every running workflow.

        Raises ``DependencyError`` if a service stays down, ``ConfigurationError`` or ``BucketMissing`` if the settings
        are wrong.
        """
        report = ScanReport(queues=(await self.inspector.with_retries(self._ports.orchestrator.queue_state),))
        await self._look_at_binding(report)
        running = await self.inspector.with_retries(self._running)
        used = LocationIndex()
        suspects: list[UUID] = []
        async for batch in self._batches(self._groups, lambda group: group.name):
            for evidence in await self._inspect_batch(batch, report, used, suspects):
                running.difference_update(evidence.rows)
            progress(ScanProgress("jobs", _share_of_ids(batch), report.jobs))
        left = await self._each(self._rowless, sorted(running))
        for evidence in await self._inspect_batch(left, report, used, suspects):
            report.rowless += not evidence.rows and any(state and state.is_open for state in _states(evidence))
        await self._confirm(suspects, report, progress)
        async for entries in self._batches(self._photo_entries, lambda entry: entry.key):
            await self._photos(entries, report, used)
            progress(ScanProgress("photos", _share_of_photos(entries), report.objects))
        await self._look_at_queues(report)
        report.hashed_bytes = self.inspector.hashed_bytes
        return report

    async def scan_jobs(
        self, job_ids: Iterable[UUID], progress: Callable[[ScanProgress], None] = _ignore
    ) -> ScanReport:
        """Inspect these jobs alone. Raises ``JobMissing`` if one does not exist and was never erased."""
        report = ScanReport(queues=(await self.inspector.with_retries(self._ports.orchestrator.queue_state),))
        # A missing bucket must not look like missing objects.
        await self.inspector.in_thread(lambda: next(self._ports.store.list(self._ports.bucket, RAW_FOLDER), None))
        await self._look_at_binding(report)
        suspects: list[UUID] = []
        for job_id in sorted(set(job_ids)):
            seen = await self.inspector.reinspect(job_id, report.queues)
            if not (seen.rows or seen.objects or any(_states(seen)) or job_id in seen.erased):
                raise JobMissing(job_id=job_id)
            report.jobs += 1
            report.objects += len(seen.objects)
            for job in jobs_of(seen):
                self._record_job(job, report, LocationIndex(), suspects)
        await self._confirm(suspects, report, progress)
        await self._look_at_queues(report)
        report.hashed_bytes = self.inspector.hashed_bytes
        return report

    async def confirm(self, job_id: UUID, codes: set[str] | None = None) -> list[IntegrityFinding]:
        """Inspect a job anew and return its findings, of these codes or of any."""
        seen = await self.inspector.reinspect(
            job_id, (await self.inspector.with_retries(self._ports.orchestrator.queue_state),)
        )
        return [found for job in jobs_of(seen) for found in job_findings(job) if codes is None or found.code in codes]

    async def is_orphan(self, bucket: str, key: str) -> bool:
        """Tell whether an object exists and no row refers to it, with a database query for this object."""

        def ask() -> bool:
            try:
                with lock_object(self._ports.store, self._ports.repository, bucket, key) as unused:
                    return unused
            except ObjectMissing:
                return False

        return await self.inspector.in_thread(ask)

    async def binding(self) -> Binding:
        """Tell whether the worker's bucket belongs to the database now."""
        ports = self._ports
        return await self.inspector.in_thread(lambda: read_binding(ports.store, ports.repository, ports.bucket))

    async def _look_at_binding(self, report: ScanReport) -> None:
        report.binding = await self.binding()
        report.findings += deployment_findings(replace(self._evidence_of(()), binding=report.binding))

    def _groups(self) -> Iterator[Group]:
        listings = (self._ports.store.list(self._ports.bucket, folder) for folder in JOB_FOLDERS)
        return by_job(self._ports.repository.all(), *listings)

    async def _rowless(self, job_id: UUID) -> Group:
        """Return the job of a running workflow that had no row; one may have been written since rows were listed."""
        row = await self.inspector.in_thread(lambda: self._ports.repository.get(job_id))
        return Group(str(job_id), job_id, row, ())

    def _photo_entries(self) -> Iterator[ObjectEntry]:
        # In the order of their names, so that an interrupted listing can be resumed.
        store, bucket = self._ports.store, self._ports.bucket
        for folder in (CONVERTED_FOLDER, RAW_FOLDER):
            # Hidden objects with names that the worker does not give are ignored: other programs deleted them.
            hidden = (entry for entry in list_hidden(store, bucket, folder) if is_named_here(entry.key))
            yield from heapq.merge(store.list(bucket, folder), hidden, key=lambda entry: entry.key)

    async def _running(self) -> set[UUID]:
        found = set()
        async for workflow_id in self._ports.orchestrator.open_workflows():
            # A workflow whose id is no job's fails at its first activity, with that reason.
            if (job_id := job_of(workflow_id)) is not None:
                found.add(job_id)
        return found

    async def _batches(
        self, begin: Callable[[], Iterator[_T]], position: Callable[[_T], str]
    ) -> AsyncIterator[list[_T]]:
        """Yield the items of ``begin`` in batches, and resume behind the last one after an error.

        ``position`` grows from one item to the next.
        """
        items = begin()
        last = ""
        pauses = iter(PAUSES_SECONDS)
        while True:
            try:
                batch = await self.inspector.once_in_thread(partial(_batch_of, items))
            except PhotoWorkerError as error:
                pause = next(pauses, None)
                if not error.retryable or pause is None:
                    raise
                await self._config.wait(pause)
                # An iterator that has raised is exhausted, which must not look like the end of the listing.
                items = _resume_after(last, begin(), position)
                continue
            if not batch:
                return
            last = position(batch[-1])
            pauses = iter(PAUSES_SECONDS)
            yield batch

    async def _inspect_batch(
        self, batch: Sequence[Group], report: ScanReport, used: LocationIndex, suspects: list[UUID]
    ) -> list[Evidence]:
        """Inspect a batch once; record the photos in use, and the jobs to inspect again."""

        async def look(group: Group) -> Evidence | None:
            if group.job_id is None:
                return None
            return await self.inspector.inspect(group.job_id, group.row, group.entries, report.queues)

        seen = [evidence for evidence in await self._each(look, batch) if evidence is not None]
        report.objects += sum(len(group.entries) for group in batch)
        for evidence in seen:
            for job in jobs_of(evidence):
                report.jobs += 1
                self._record_job(job, report, used, suspects)
        strange = [of_entry(entry) for group in batch if group.job_id is None for entry in group.entries]
        report.findings += deployment_findings(self._evidence_of(await self._orphans(strange, report)))
        return seen

    async def _each(self, work: Callable[[_A], Awaitable[_T]], items: Sequence[_A]) -> list[_T]:
        """Call ``work`` for all items, ``parallel`` at once; raise the first error when the others have stopped."""
        gate = asyncio.Semaphore(self._config.parallel)

        async def one(item: _A) -> _T:
            async with gate:
                return await work(item)

        tasks = [asyncio.ensure_future(one(item)) for item in items]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _orphans(self, objects: Sequence[StoredObject], report: ScanReport) -> list[StoredObject]:
        """Return the objects that no row refers to now, even if an earlier read showed otherwise."""
        unused = await self._each(lambda found: self.is_orphan(*found.location), objects)
        kept = [found for found, nobodys in zip(objects, unused, strict=True) if nobodys]
        report.passing += len(objects) - len(kept)
        return kept

    def _record_job(self, job: JobEvidence, report: ScanReport, used: LocationIndex, suspects: list[UUID]) -> None:
        """Count a job, record the photo that it uses, and whether it has to be inspected again."""
        for location in references_of(job):
            used.add(location)
        report.linked += job.row is not None and any(bucket == self._ports.bucket for bucket, _ in job.whole.objects)
        if is_orphan(job) and is_young(job):
            report.young += len(job.objects)
        if any(True for _ in job_findings(job)):
            suspects.append(job.job_id)

    async def _confirm(
        self, suspects: Sequence[UUID], report: ScanReport, progress: Callable[[ScanProgress], None]
    ) -> None:
        """Inspect suspect jobs again, and wait for running erases to end, for ``erase_seconds`` at most."""
        erasing: list[UUID] = []
        for first in range(0, len(suspects), _BATCH):
            part = suspects[first : first + _BATCH]
            looks = await self._each(lambda job_id: self.inspector.reinspect(job_id, report.queues), part)
            for job_id, seen in zip(part, looks, strict=True):
                found = [one for job in jobs_of(seen) for one in job_findings(job)]
                if found and job_id in seen.erased:
                    erasing.append(job_id)
                else:
                    report.findings += found
                    report.passing += not found
        waited, pause = 0.0, 0.5
        while erasing and waited < self._config.erase_seconds:
            progress(ScanProgress("erases", waited / self._config.erase_seconds, len(erasing)))
            await self._config.wait(pause)
            waited, pause = waited + pause, min(2 * pause, _LONGEST_PAUSE_SECONDS)
            still = await self._each(self.confirm, erasing)
            left = [job_id for job_id, wrong in zip(erasing, still, strict=True) if wrong]
            report.passing += len(erasing) - len(left)
            erasing = left
        for job_id in erasing:
            report.findings += await self.confirm(job_id)

    async def _photos(self, entries: Sequence[ObjectEntry], report: ScanReport, used: LocationIndex) -> None:
        report.objects += sum(not entry.hidden for entry in entries)
        evidence = self._evidence_of([of_entry(entry) for entry in entries], used)
        young = [photo for photo in orphan_photos(evidence) if is_young_object(evidence, photo)]
        report.young += len(young)
        # Rows that were written during the scan are not in the index.
        doubted = {found.where for found in deployment_findings(evidence)}
        objects = [found for found in evidence.objects.values() if s3(found.location) in doubted]
        report.findings += deployment_findings(self._evidence_of(await self._orphans(objects, report)))

    async def _look_at_queues(self, report: ScanReport) -> None:
        """Report what is wrong with the queues if it was already so at the beginning of the scan."""
        before = {found.code for found in deployment_findings(self._evidence_of((), queues=report.queues))}
        report.queues = (await self.inspector.with_retries(self._ports.orchestrator.queue_state),)
        now = deployment_findings(self._evidence_of((), queues=report.queues))
        report.findings += (found for found in now if found.code in before)

    def _evidence_of(
        self,
        objects: Iterable[StoredObject],
        used: Container[Location] = frozenset(),
        *,
        queues: tuple[QueueState, ...] = (),
    ) -> Evidence:
        return Evidence(
            looked_at=self._config.now(),
            bucket=self._ports.bucket,
            objects={found.location: found for found in objects},
            referenced=used,
            queues=queues,
            grace=self._config.grace,
            pipelines=self._ports.pipelines,
        )


def _states(evidence: Evidence) -> Iterator[WorkflowState | None]:
    yield from evidence.workflows.values()
    yield from (other.state for others in evidence.others.values() for other in others)


def _batch_of(items: Iterator[_T]) -> list[_T]:
    return list(islice(items, _BATCH))


def _resume_after(last: str, items: Iterator[_T], position: Callable[[_T], str]) -> Iterator[_T]:
    return dropwhile(lambda item: position(item) <= last, items)


def _share_of_ids(batch: Sequence[Group]) -> float:
    last = max((group.job_id.int for group in batch if group.job_id is not None), default=0)
    return last / 2**128


def _share_of_photos(entries: Sequence[ObjectEntry]) -> float:
    key = entries[-1].key
    digits = key.removeprefix(CONVERTED_FOLDER).removeprefix(RAW_FOLDER)[:4]
    try:
        # There are as many photos as copies, or more.
        return (int(digits, 16) / 16**4 + (not key.startswith(CONVERTED_FOLDER))) / 2
    except ValueError:
        return 0.0
