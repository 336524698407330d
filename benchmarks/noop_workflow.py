"""Workflows to compare with, in a separate module: the sandbox loads it again for each run."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

_STEP = timedelta(minutes=1)


@workflow.defn(name="floor")
class Floor:
    """The activities of the product, written by hand."""

    @workflow.run
    async def run(self, job: dict[str, str]) -> dict[str, str]:
        located = await workflow.execute_activity("floor_verify", job, start_to_close_timeout=_STEP)
        read = await workflow.execute_activity("floor_ocr", {**job, **located}, start_to_close_timeout=_STEP)
        await workflow.execute_activity("floor_persist", {**job, **located, **read}, start_to_close_timeout=_STEP)
        return {**job, **read}


@workflow.defn(name="noop")
class Noop:
    """Three activities that do nothing."""

    @workflow.run
    async def run(self, job: dict[str, str]) -> dict[str, str]:
        for _ in range(3):
            await workflow.execute_activity("noop_step", job, start_to_close_timeout=_STEP)
        return job
