"""Workers inside a test's process, with a time limit for their shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio.worker import Worker

logger = logging.getLogger(__name__)

# Far more than any grace period of the tests and the shutdown after it.
_END_SECONDS = 30.0


@asynccontextmanager
async def running(worker: Worker, *, seconds: float = _END_SECONDS) -> AsyncIterator[Worker]:
    """Run a worker while the block runs, and leave it behind if its shutdown does not end within ``seconds``.

    The SDK's core can wait for ever for a poll that no server responds to, or for a completion that it has lost
    (https://github.com/temporalio/sdk-rust/issues/1297 and 1537). A worker's process ends itself in that case
    (``photo_worker.worker.run_until_stopped``); a test process must not.
    """
    await worker.__aenter__()
    try:
        yield worker
    finally:
        leaving = asyncio.create_task(worker.__aexit__(*sys.exc_info()))
        done, _ = await asyncio.wait({leaving}, timeout=seconds)
        if not done:
            waiting = sorted(str(getattr(task.get_coro(), "__qualname__", task)) for task in asyncio.all_tasks())
            logger.warning("a worker did not end within %g s, and is left behind with %s", seconds, waiting)
            leaving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await leaving
        else:
            await leaving
