"""The asynchronous operations Start and Get."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from textract_local.errors import DataUnwritable, TextractLocalError
from textract_local.server.counters import Counters
from textract_local.server.documents import DocumentLimits
from textract_local.server.failures import INVALID_JOB_ID, DiskFails, ServiceError
from textract_local.server.jobs.aws import AwsClients
from textract_local.server.jobs.document_store import DocumentStore
from textract_local.server.jobs.notifications import Notifier
from textract_local.server.jobs.output import Output
from textract_local.server.jobs.ports import Documents, JobFaults, Pages
from textract_local.server.jobs.records import KINDS, AnalysisJob, JobStatus, name_of
from textract_local.server.jobs.responses import finished, unfinished
from textract_local.server.jobs.runner import BLOCKS_A_RESPONSE, Runner
from textract_local.server.jobs.store import JobStore
from textract_local.server.jobs.thread import Clock, RetryWaits, StoreThread
from textract_local.server.jobs.tokens import PageTokens
from textract_local.server.options import MOST_OPEN_JOBS
from textract_local.server.spool import Spool

logger = logging.getLogger(__name__)

_SWEEP_SECONDS = 60.0
_STOP_SECONDS = 0.5

_START_OF = {kind.get: kind.start for kind in KINDS}


class Jobs:
    """All jobs of one data directory. ``open`` and ``close`` it in the event loop that uses it."""

    def __init__(
        self,
        data: Path,
        documents: Documents,
        recogniser: Pages,
        spool: Spool,
        *,
        faults: JobFaults,
        counters: Callable[[], Counters],
        limits: DocumentLimits,
        most_open: int = MOST_OPEN_JOBS,
        clock: Clock = time.time,
        waits: RetryWaits = RetryWaits(),  # noqa: B008 - it is immutable
    ) -> None:
        """``counters`` returns the current ones, for jobs that continue after a restart."""
        self._documents = documents
        self._faults = faults
        self._counters = counters
        self._limits = limits
        self._most_open = most_open
        self._clock = clock
        self._clients = AwsClients()
        self._output = Output(self._clients)
        self._directory = data / "jobs"
        self._store = StoreThread(JobStore(self._directory), waits)
        self._kept = DocumentStore(self._directory / "documents", spool)
        self._notifier = Notifier(self._store, self._clients, clock)
        self._runner = Runner(
            self._store,
            documents,
            recogniser,
            kept=self._kept,
            output=self._output,
            notifier=self._notifier,
            faults=faults,
            limits=limits,
            clock=clock,
            waits=waits,
        )
        self._tokens = PageTokens(b"")
        self._turns: dict[tuple[str, str], asyncio.Lock] = {}
        self._waiting: Counter[tuple[str, str]] = Counter()
        self._background: set[asyncio.Task[Any]] = set()
        self._notifying: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Lock the directory and continue the jobs in progress. Raises like ``Store.open``."""
        try:
            await self._store.do(JobStore.open)
            self._tokens = PageTokens(await self._store.do(JobStore.page_token_key))
            await self._store.do(lambda store: store.expire(self._clock()))
            open_ids = [job.id for job in await self._store.do(JobStore.jobs) if job.status is JobStatus.IN_PROGRESS]
            await asyncio.to_thread(self._kept.open, open_ids)
        except OSError as error:
            await self._store.close()
            raise DataUnwritable(path=str(error.filename), reason=error.strerror or str(error)) from error
        except DiskFails as error:
            await self._store.close()
            raise DataUnwritable(path=str(self._directory), reason=error.message) from error
        except TextractLocalError:
            await self._store.close()
            raise
        for job_id in open_ids:
            logger.info("job %s goes on", job_id)
            self._runner.start(job_id, self._counters())
        self._notifying = self._keep(self._notifier.run())
        self._keep(self._sweep())

    async def close(self) -> None:
        """Stop all work; jobs in progress continue after the next ``open``. May be called twice."""
        await self._runner.stop()
        self._notifier.stop()
        if self._notifying is not None:
            # A notification that SNS has accepted is recorded, so that it is not sent again.
            await asyncio.wait([self._notifying], timeout=_STOP_SECONDS)
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        self._clients.close()
        await self._store.close()

    async def start(self, operation: str, given: Mapping[str, Any], counters: Counters) -> dict[str, Any]:
        """Start a job, or find the one that was started with the same token, and return the response.

        The input must be valid, including its features and queries.

        Raises ``ServiceError``: what ``DocumentSource.check`` raises for the object, InvalidS3ObjectException and
        InvalidKMSKeyException for the output, InvalidParameterException for the topic,
        IdempotentParameterMismatchException, LimitExceededException.
        """
        token = given.get("ClientRequestToken")
        told = {name: value for name, value in given.items() if name != "ClientRequestToken"}
        async with self._turn(operation, token):
            if token is not None:
                known = await self._store.do(lambda store: store.known(operation, token, told, self._clock()))
                if known is not None:
                    return {"JobId": known}
            await self._store.do(lambda store: store.require_room(self._most_open, self._clock()))
            await self._documents.check(given["DocumentLocation"], self._limits)
            await self._notifier.check(told)
            job_id = secrets.token_hex(32)
            await self._output.check(job_id, told)
            # Cancelling the caller now must not leave a saved job that does not run.
            beginning = self._keep(self._begin(job_id, operation, told, token, counters))
            return {"JobId": await asyncio.shield(beginning)}

    async def get(self, operation: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return a job's status and, if it has succeeded at least in part, some of its blocks.

        Raises ``ServiceError``: InvalidJobIdException, and InvalidParameterException for the NextToken of another job.
        """
        job_id = given["JobId"]
        job = await self._store.do(lambda store: store.job(job_id, self._clock()))
        if job is None or job.operation != _START_OF[operation]:
            raise ServiceError(INVALID_JOB_ID, "there is no such job" if job is None else f"{job.operation} began it")
        first = self._tokens.read(given["NextToken"], job_id) if "NextToken" in given else 0
        if job.blocks is None or job.status in {JobStatus.IN_PROGRESS, JobStatus.FAILED}:
            return unfinished(job)
        most = min(given.get("MaxResults", BLOCKS_A_RESPONSE), BLOCKS_A_RESPONSE)
        blocks = await self._store.do(lambda store: store.blocks(job_id, first, most))
        end = first + len(blocks)
        next_token = self._tokens.make(job_id, end) if end < job.blocks else None
        return finished(job, job.status, job.status_message, blocks, next_token)

    async def age(self, job_id: str | None, seconds: float) -> int:
        """Make a job, or all of them, older by ``seconds``; return the number of jobs changed."""
        aged = await self._store.do(lambda store: store.age(job_id, seconds))
        await self._expire()
        return aged

    async def reset(self) -> None:
        """Stop and delete all jobs."""
        await self._runner.stop()
        ids = [job.id for job in await self._store.do(JobStore.jobs)]
        await self._store.do(JobStore.clear)
        await asyncio.to_thread(self._kept.remove, ids)

    async def shown(self) -> list[dict[str, Any]]:
        """Return all jobs as JSON data, the oldest first, for users and tests."""

        def look(store: JobStore) -> list[dict[str, Any]]:
            return [_shown(job, len(store.done(job.id))) for job in store.jobs()]

        return await self._store.do(look)

    async def _begin(
        self, job_id: str, operation: str, told: Mapping[str, Any], token: str | None, counters: Counters
    ) -> str:
        now = self._clock()
        fault = self._faults.for_job(operation, name_of(told))
        hold_until = now + fault.seconds if fault is not None else now
        job = AnalysisJob(job_id, operation, told, now, JobStatus.IN_PROGRESS, fault, hold_until)
        begun = await self._store.do(lambda store: store.begin(job, token, self._most_open))
        if begun == job_id:
            self._runner.start(job_id, counters)
        return begun

    @contextlib.asynccontextmanager
    async def _turn(self, operation: str, token: str | None) -> AsyncIterator[None]:
        """Serialise calls with the same token.

        The database ensures that a token has one job; this saves the other calls from requests to S3, and from
        writing an access check for a job that is never created.
        """
        if token is None:
            yield
            return
        key = (operation, token)
        self._waiting[key] += 1
        try:
            async with self._turns.setdefault(key, asyncio.Lock()):
                yield
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key], self._turns[key]

    async def _expire(self) -> None:
        gone = await self._store.do(lambda store: store.expire(self._clock()))
        await self._runner.stop(gone)
        await asyncio.to_thread(self._kept.remove, gone)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            try:
                await self._expire()
            except (OSError, sqlite3.Error, DiskFails):
                logger.exception("expired jobs cannot be deleted")

    def _keep(self, work: Any) -> asyncio.Task[Any]:
        """Run a coroutine in the background, and hold its task: asyncio keeps only a weak reference."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


def _shown(job: AnalysisJob, done: int) -> dict[str, Any]:
    return {
        "JobId": job.id,
        "JobStatus": job.status.value,
        "API": job.operation,
        "JobTag": job.given.get("JobTag"),
        "Document": job.document_name,
        "Pages": job.pages,
        "PagesDone": done,
        "NotificationsSent": job.notified,
    }
