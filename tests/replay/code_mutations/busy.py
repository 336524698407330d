"""A workflow with many commands that are recorded later than they are issued, or not at all."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow

_STEP = timedelta(seconds=60)


@workflow.defn(name="planted_busy")
class Busy:
    """Waits for local activities, signals and an update, and takes a timer back before the server hears of it."""

    def __init__(self) -> None:
        """Begin without a signal."""
        self.rung = 0

    @workflow.signal
    async def ring(self) -> None:
        """Start a timer while the rest of the workflow continues."""
        self.rung += 1
        await asyncio.sleep(600)

    @workflow.update
    async def stir(self) -> int:
        """Wait for the second signal."""
        await workflow.wait_condition(lambda: self.rung >= 2)
        return self.rung

    @workflow.query
    def count(self) -> int:
        """Return how many signals came."""
        return self.rung

    @workflow.run
    async def run(self) -> None:
        """Never end."""
        soon = asyncio.create_task(asyncio.sleep(300))
        # A local activity ends in another activation of the same task.
        await workflow.execute_local_activity("quick", start_to_close_timeout=_STEP)
        soon.cancel()
        await workflow.execute_local_activity("slow", start_to_close_timeout=_STEP)
        await workflow.wait_condition(lambda: False)
