"""The single thread in which the store is used, outside of the event loop."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from textract_local.server.failures import DiskFails
from textract_local.server.jobs.store import JobStore

logger = logging.getLogger(__name__)

Clock = Callable[[], float]
"""Returns the time in seconds since 1970."""

# SQLite's error codes for a failing disk: read-only, I/O error, full, file cannot be opened.
_DISK = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN})

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class RetryWaits:
    """Seconds between retries.

    ``s3`` are those if S3 does not respond, before the job fails. If the disk fails they double, from ``first_disk`` to
    ``longest_disk``, without an end.
    """

    s3: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    first_disk: float = 0.5
    longest_disk: float = 5.0


async def run_until_done(work: Callable[[], Awaitable[_Result]], waits: RetryWaits) -> _Result:
    """Await ``work``, and retry it with backoff for as long as it raises ``DiskFails``."""
    seconds = waits.first_disk
    while True:
        try:
            return await work()
        except DiskFails as refusal:
            logger.warning("tried again in %.1f s: %s", seconds, refusal.message)
        await asyncio.sleep(seconds)
        seconds = min(2 * seconds, waits.longest_disk)


class StoreThread:
    """Runs functions with the store in its thread, in the order of the calls."""

    def __init__(self, store: JobStore, waits: RetryWaits) -> None:
        self._store = store
        self._waits = waits
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jobs")
        self._closed = False

    async def do(self, work: Callable[[JobStore], _Result]) -> _Result:
        """Return what ``work`` returns. Raises ``DiskFails``. Cancelling the caller does not stop ``work``."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._store)
        except sqlite3.OperationalError as error:
            # The low byte is the primary code; the rest gives details.
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DISK:
                raise DiskFails(str(error)) from error
            raise

    async def retry(self, work: Callable[[JobStore], _Result]) -> _Result:
        """Return what ``do`` returns, retried until the disk works: a failing disk must not end a job."""
        return await run_until_done(lambda: self.do(work), self._waits)

    async def close(self) -> None:
        """Wait for earlier calls, and close the store. Does nothing if called again."""
        if self._closed:
            return
        self._closed = True
        await self.do(JobStore.close)
        self._thread.shutdown(wait=True)
