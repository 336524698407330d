"""Starting a job: its id is its workflow's id, and is used once."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

from temporalio.client import WorkflowExecutionStatus

from photo_worker.adapters.temporal.orchestrator import TemporalOrchestrator
from photo_worker.contracts.image import IMAGE_PROCESSING, ImageProcessingInput
from photo_worker.pipelines import workflow_types
from tests.support.harness import Harness


def a_request() -> ImageProcessingInput:
    return ImageProcessingInput(job_id=str(uuid4()), bucket="photos", key="raw/pie.jpg")


async def test_start_image_processing_closed_job_is_not_run_again(harness: Harness) -> None:
    request, orchestrator = (
        a_request(),
        TemporalOrchestrator(harness.client, harness.settings.temporal_task_queue, types=workflow_types()),
    )
    first = await orchestrator.start(IMAGE_PROCESSING.of(UUID(request.job_id)), request)
    handle = harness.client.get_workflow_handle(request.job_id)
    await handle.terminate("over")
    again = await orchestrator.start(IMAGE_PROCESSING.of(UUID(request.job_id)), request)
    found = await handle.describe()
    assert (found.run_id, found.status) == (first.run_id, WorkflowExecutionStatus.TERMINATED)
    assert (first.joined, again.joined) == (False, True)


async def test_start_image_processing_concurrently_starts_one_run(harness: Harness) -> None:
    request, orchestrator = (
        a_request(),
        TemporalOrchestrator(harness.client, harness.settings.temporal_task_queue, types=workflow_types()),
    )
    handles = await asyncio.gather(
        *(orchestrator.start(IMAGE_PROCESSING.of(UUID(request.job_id)), request) for _ in range(8))
    )
    runs = {handle.run_id for handle in handles}
    ways = [await harness.client.get_workflow_handle(request.job_id, run_id=run_id).describe() for run_id in runs]
    assert [found.status for found in ways] == [WorkflowExecutionStatus.RUNNING]
    assert sorted(handle.joined for handle in handles) == [False] + [True] * 7
    await harness.client.get_workflow_handle(request.job_id).terminate("over")
