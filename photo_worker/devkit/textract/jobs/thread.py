"""The one thread that the store lives in, beside the event loop."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from photo_worker.devkit.textract.failures import DiskFails
from photo_worker.devkit.textract.jobs.store import Store

logger = logging.getLogger(__name__)

Clock = Callable[[], float]
"""Returns the time in seconds since 1970."""

# What SQLite says where it is the disk that fails: read-only, input or output, full, no file can be made.
_DISK = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN})
_FIRST_RETRY_SECONDS = 0.5
_LONGEST_RETRY_SECONDS = 5.0

_Result = TypeVar("_Result")


async def run_until_done(work: Callable[[], Awaitable[_Result]]) -> _Result:
    """Do something, and again for as long as the disk does not take it."""
    seconds = _FIRST_RETRY_SECONDS
    while True:
        try:
            return await work()
        except DiskFails as refusal:
            logger.warning("tried again in %.1f s: %s", seconds, refusal.message)
        await asyncio.sleep(seconds)
        seconds = min(2 * seconds, _LONGEST_RETRY_SECONDS)


class StoreThread:
    """Does things with a store, in the order in which they are asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jobs")
        self._closed = False

    async def do(self, work: Callable[[Store], _Result]) -> _Result:
        """Return what ``work`` returns, or raise ``DiskFails``. A caller that is cancelled does not undo it."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._store)
        except sqlite3.OperationalError as error:
            # The low byte is the kind, what is above it says more about it.
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DISK:
                raise DiskFails(str(error)) from error
            raise

    async def insist(self, work: Callable[[Store], _Result]) -> _Result:
        """Return what ``do`` returns, once the disk takes it: how a job goes on is not for a disk to say."""
        return await run_until_done(lambda: self.do(work))

    async def close(self) -> None:
        """Wait for what was asked for, and close the store; a second time there is nothing to do."""
        if self._closed:
            return
        self._closed = True
        await self.do(Store.close)
        self._thread.shutdown(wait=True)
