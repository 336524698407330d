"""Runs jobs page by page, so that no page is read twice.

The store has everything that is needed to continue a job. If the process dies in the middle of a job, the job
continues after the next start with the pages that are missing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from textract_local.reader.analysis.request import Analysis
from textract_local.server.counters import Counters
from textract_local.server.documents import Document, DocumentLimits
from textract_local.server.failures import INTERNAL_ERROR, DiskFails, ServiceError
from textract_local.server.jobs.document_store import DocumentStore
from textract_local.server.jobs.notifications import Notifier, notification_of
from textract_local.server.jobs.output import Output
from textract_local.server.jobs.ports import Documents, JobFaults, Pages
from textract_local.server.jobs.records import ANALYSIS, AnalysisJob, JobStatus
from textract_local.server.jobs.responses import finished, warning_code
from textract_local.server.jobs.thread import Clock, RetryWaits, StoreThread, run_until_done

logger = logging.getLogger(__name__)

BLOCKS_A_RESPONSE = 1000
"""The maximum and default number of blocks in one response (D: GetDocumentTextDetection, MaxResults)."""

# Queued jobs hold no document. More running jobs than this would only wait for each other's pages.
_MOST_RUNNING = 16
# Enough to keep a laptop's processes busy; the pages of a job alternate with those of others.
_PAGES_AT_ONCE = 4

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class _Ending:
    status: JobStatus
    message: str | None = None


class Runner:
    """Runs jobs of the store. Its methods must be called in the event loop."""

    def __init__(
        self,
        store: StoreThread,
        documents: Documents,
        recogniser: Pages,
        *,
        kept: DocumentStore,
        output: Output,
        notifier: Notifier,
        faults: JobFaults,
        limits: DocumentLimits,
        clock: Clock,
        waits: RetryWaits,
    ) -> None:
        self._store = store
        self._documents = documents
        self._recogniser = recogniser
        self._kept = kept
        self._output = output
        self._notifier = notifier
        self._faults = faults
        self._limits = limits
        self._clock = clock
        self._waits = waits
        self._slots = asyncio.Semaphore(_MOST_RUNNING)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, job_id: str, counters: Counters) -> None:
        """Start or continue a job; its work is counted in ``counters``."""
        task = asyncio.create_task(self._run(job_id, counters), name=f"job {job_id}")
        self._tasks[job_id] = task

        def ended(done: asyncio.Task[None]) -> None:
            if self._tasks.get(job_id) is done:
                del self._tasks[job_id]
            if not done.cancelled() and done.exception() is not None:
                logger.error("job %s goes on after the next start", job_id, exc_info=done.exception())

        task.add_done_callback(ended)

    async def stop(self, job_ids: Iterable[str] | None = None) -> None:
        """Stop running some jobs, or all of them; the store is not changed."""
        ids = list(self._tasks) if job_ids is None else job_ids
        tasks = [self._tasks[job_id] for job_id in ids if job_id in self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, job_id: str, counters: Counters) -> None:
        async with self._slots:
            job = await self._store.retry(lambda store: store.job(job_id, self._clock()))
            if job is None or job.status is not JobStatus.IN_PROGRESS:
                return
            try:
                ending = await self._carry_out(job, counters)
            except Exception as error:
                logger.exception("job %s meets a defect", job_id)
                ending = _Ending(JobStatus.FAILED, f"The emulator has a defect: {type(_cause(error)).__name__}")
        # Outside of the slot: a job that only waits must not delay others.
        await asyncio.sleep(max(0.0, job.hold_until - self._clock()))
        await self._end(job_id, ending, counters)

    async def _carry_out(self, job: AnalysisJob, counters: Counters) -> _Ending:
        """Read the missing pages, and return how the job ends."""
        fault = job.fault
        if fault is not None and fault.status == "FAILED":
            return _Ending(JobStatus.FAILED, fault.status_message)
        try:
            document = await self._document(job)
            counters.requested(document.sha256)
            pages = await run_until_done(lambda: self._recogniser.pages(document, self._limits), self._waits)
        except ServiceError as refusal:
            logger.info("job %s cannot read its document: %s", job.id, refusal)
            return _Ending(JobStatus.FAILED, refusal.status_message)
        engine = " ".join(self._recogniser.identity)
        await self._store.retry(lambda store: store.begin_document(job.id, engine, document.sha256, pages))
        last = pages
        if fault is not None and fault.status == "PARTIAL_SUCCESS":
            last = min(fault.pages, pages)
        problem = await self._read(job, document, range(1, last + 1), counters)
        for number in range(last + 1, pages + 1):
            code = warning_code(INTERNAL_ERROR.code)
            await self._store.retry(lambda store, number=number, code=code: store.put_unread(job.id, number, code))  # type: ignore[misc]
        if fault is not None and fault.status == "PARTIAL_SUCCESS":
            return _Ending(JobStatus.PARTIAL_SUCCESS, fault.status_message)
        done = await self._store.retry(lambda store: store.done(job.id))
        unread = [number for number, code in done.items() if code is not None]
        if len(unread) == pages:
            return _Ending(JobStatus.FAILED, problem or "No page could be read")
        if unread:
            return _Ending(JobStatus.PARTIAL_SUCCESS, problem or "Some pages could not be read")
        return _Ending(JobStatus.SUCCEEDED)

    async def _document(self, job: AnalysisJob) -> Document:
        """Return the stored document of the job, or download and store it."""
        try:
            kept = await asyncio.to_thread(self._kept.get, job)
            if kept is not None:
                return kept
            document = await _retry_s3(lambda: self._documents.get(job.location, self._limits), self._waits)
            await _wait_even_if_cancelled(asyncio.to_thread(self._kept.keep, job.id, document))
        except OSError as error:
            raise DiskFails(error.strerror or str(error)) from error
        return document

    async def _read(
        self, job: AnalysisJob, document: Document, numbers: Iterable[int], counters: Counters
    ) -> str | None:
        """Read the missing pages, some at a time; return the problem of the first unreadable one, or None."""
        done = await self._store.retry(lambda store: store.done(job.id))
        analysis = Analysis.of(job.given) if job.kind is ANALYSIS else None
        left = iter([number for number in numbers if number not in done])
        problems: dict[int, str] = {}

        async def read(number: int) -> list[dict[str, Any]]:
            return await self._recogniser.page(
                document, number, analysis, limits=self._limits, counters=counters, urgent=False
            )

        async def work() -> None:
            for number in left:
                try:
                    blocks = await run_until_done(partial(read, number), self._waits)
                except ServiceError as refusal:
                    logger.warning("job %s cannot read page %d: %s", job.id, number, refusal)
                    problems[number] = refusal.status_message
                    code = warning_code(refusal.failure.code)
                    await self._store.retry(
                        lambda store, number=number, code=code: store.put_unread(job.id, number, code)  # type: ignore[misc]
                    )
                else:
                    await self._store.retry(
                        lambda store, number=number, blocks=blocks: store.put_page(job.id, number, blocks)  # type: ignore[misc]
                    )

        async with asyncio.TaskGroup() as group:
            for _ in range(_PAGES_AT_ONCE):
                group.create_task(work())
        return problems[min(problems)] if problems else None

    async def _end(self, job_id: str, ending: _Ending, counters: Counters) -> None:
        """Write the output, then save the job's end for Get and its notification, and only then send that."""
        if ending.status is not JobStatus.FAILED:
            total = await self._store.retry(lambda store: store.count_blocks(job_id))
            try:
                await self._write_output(job_id, ending, total)
            except ServiceError as refusal:
                logger.warning("job %s cannot write its output: %s", job_id, refusal)
                ending = _Ending(JobStatus.FAILED, refusal.message)
        job = await self._store.retry(lambda store: store.job(job_id, self._clock()))
        if job is None:
            return
        fault = None
        if "NotificationChannel" in job.given:
            fault = self._faults.for_notification(job.operation, job.document_name)
        notification = notification_of(job, ending.status, self._clock(), fault)
        if not await self._store.retry(lambda store: store.finish(job_id, ending.status, ending.message, notification)):
            return
        # Before the next await: once Get reports the end, the counters must include it.
        if ending.status is not JobStatus.FAILED:
            counters.billed(job.sha256)
        logger.info("job %s of %s ends: %s", job_id, job.document_name, ending.status.value)
        self._notifier.look()
        await asyncio.to_thread(self._kept.remove, [job_id])

    async def _write_output(self, job_id: str, ending: _Ending, total: int) -> None:
        job = await self._store.retry(lambda store: store.job(job_id, self._clock()))
        if job is None or "OutputConfig" not in job.given:
            return
        for number, first in enumerate(range(0, max(total, 1), BLOCKS_A_RESPONSE), start=1):
            blocks = await self._store.retry(lambda store, first=first: store.blocks(job_id, first, BLOCKS_A_RESPONSE))  # type: ignore[misc]
            response = finished(job, ending.status, ending.message, blocks)
            await _retry_s3(
                lambda number=number, response=response: self._output.write(job_id, job.given, number, response),  # type: ignore[misc]
                self._waits,
            )


async def _wait_even_if_cancelled(work: Coroutine[Any, Any, None]) -> None:
    """Wait for work in a thread even if the caller is cancelled, since the thread does not stop."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _cause(error: Exception) -> Exception:
    """Return the first error of pages that were read in parallel."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


async def _retry_s3(work: Callable[[], Awaitable[_Result]], waits: RetryWaits) -> _Result:
    """Await ``work``, and retry it while it raises InternalServerError, as when S3 does not respond."""
    for seconds in waits.s3:
        try:
            return await work()
        except ServiceError as refusal:
            if refusal.failure is not INTERNAL_ERROR:
                raise
            logger.warning("tried again in %.1f s: %s", seconds, refusal)
        await asyncio.sleep(seconds)
    return await work()
