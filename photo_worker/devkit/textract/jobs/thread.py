"""The one thread that the store lives in, beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from photo_worker.devkit.textract.jobs.store import Store

Clock = Callable[[], float]
"""Returns the time in seconds since 1970."""

_Result = TypeVar("_Result")


class StoreThread:
    """Does things with a store, in the order in which they are asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jobs")
        self._closed = False

    async def do(self, work: Callable[[Store], _Result]) -> _Result:
        """Return what ``work`` returns. A caller that is cancelled does not undo it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._store)

    async def close(self) -> None:
        """Wait for what was asked for, and close the store; a second time there is nothing to do."""
        if self._closed:
            return
        self._closed = True
        await self.do(Store.close)
        self._thread.shutdown(wait=True)
