"""Queries about jobs and their task queue, and the deletion of workflows, against a real Temporal."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from photo_worker.adapters.temporal.connection import connect
from photo_worker.adapters.temporal.orchestrator import TemporalOrchestrator
from photo_worker.config import load_settings, read_environment
from photo_worker.contracts.image import IMAGE_PROCESSING, ImageProcessingInput
from photo_worker.errors import PhotoWorkerError, TemporalUnavailable
from photo_worker.pipelines import workflow_types
from tests.support.harness import Harness, eventually

pytestmark = pytest.mark.stack


@pytest.fixture
async def client(stack_env: dict[str, str]) -> Client:
    return await connect(load_settings(read_environment(stack_env, None)), stack_env)


@pytest.fixture
def task_queue() -> str:
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture
def orchestrator(client: Client, task_queue: str) -> TemporalOrchestrator:
    return TemporalOrchestrator(client, task_queue, erase_seconds=60, types=workflow_types())


async def start(orchestrator: TemporalOrchestrator, key: str = "raw/missing.png") -> UUID:
    job_id = uuid4()
    await orchestrator.start(
        IMAGE_PROCESSING.of(job_id), ImageProcessingInput(job_id=str(job_id), bucket="photos", key=key)
    )
    return job_id


async def runs_of(client: Client, job_id: UUID) -> list[str]:
    return [run.run_id async for run in client.list_workflows(f"WorkflowId = '{job_id}'")]


async def test_state_of_unknown_job_is_none(orchestrator: TemporalOrchestrator) -> None:
    assert await orchestrator.state(IMAGE_PROCESSING.of(uuid4())) is None


async def test_state_of_running_job_is_open(orchestrator: TemporalOrchestrator) -> None:
    state = await orchestrator.state(IMAGE_PROCESSING.of(await start(orchestrator)))
    assert state is not None
    assert (state.status, state.is_open, state.closed_at) == ("running", True, None)
    assert abs(datetime.now(UTC) - state.started_at) < timedelta(minutes=5)
    assert (state.reason_code, state.reason) == (None, None)


async def test_state_of_terminated_job_has_reason(orchestrator: TemporalOrchestrator, client: Client) -> None:
    job_id = await start(orchestrator)
    await client.get_workflow_handle(str(job_id)).terminate(reason="the wrong photo")
    state = await orchestrator.state(IMAGE_PROCESSING.of(job_id))
    assert state is not None
    assert (state.status, state.is_open, state.reason_code) == ("terminated", False, "terminated")
    assert "the wrong photo" in (state.reason or "")
    assert state.closed_at is not None


async def test_state_of_failed_job_has_reason(harness: Harness) -> None:
    orchestrator = TemporalOrchestrator(harness.client, harness.settings.temporal_task_queue, types=workflow_types())
    async with harness.worker():
        job_id = uuid4()
        request = ImageProcessingInput(job_id=str(job_id), bucket=harness.settings.s3_bucket, key="raw/missing.png")
        await orchestrator.start(IMAGE_PROCESSING.of(UUID(request.job_id)), request)
        with pytest.raises(PhotoWorkerError):
            await orchestrator.result(IMAGE_PROCESSING.of(job_id))
    state = await orchestrator.state(IMAGE_PROCESSING.of(job_id))
    assert state is not None
    assert (state.status, state.reason_code) == ("failed", "object_missing")
    assert "raw/missing.png" in (state.reason or "")


async def test_state_of_cancelled_job_is_cancelled(harness: Harness) -> None:
    orchestrator = TemporalOrchestrator(harness.client, harness.settings.temporal_task_queue, types=workflow_types())
    job_id = uuid4()
    request = ImageProcessingInput(job_id=str(job_id), bucket=harness.settings.s3_bucket, key="raw/missing.png")
    await orchestrator.start(IMAGE_PROCESSING.of(UUID(request.job_id)), request)
    await orchestrator.cancel(IMAGE_PROCESSING.of(job_id))
    async with harness.worker():
        with pytest.raises(PhotoWorkerError):
            await orchestrator.result(IMAGE_PROCESSING.of(job_id))
    state = await orchestrator.state(IMAGE_PROCESSING.of(job_id))
    assert state is not None
    assert (state.status, state.reason_code) == ("cancelled", "job_cancelled")


async def test_open_jobs_are_limited_to_task_queue(orchestrator: TemporalOrchestrator, client: Client) -> None:
    other = TemporalOrchestrator(client, f"other-{secrets.token_hex(6)}", types=workflow_types())
    assert [job async for job in orchestrator.open_workflows()] == []
    started = {str(await start(orchestrator)) for _ in range(3)}
    closed = await start(orchestrator)
    await client.get_workflow_handle(str(closed)).terminate()
    await start(other)

    async def listed() -> bool:
        return {job async for job in orchestrator.open_workflows()} == started

    await eventually(listed)


@pytest.mark.parametrize("name", ["it's", 'a "quoted" one', "back\\slash", "фото %_*"])
async def test_open_jobs_accept_any_task_queue_name(client: Client, name: str) -> None:
    orchestrator = TemporalOrchestrator(client, f"{name} {secrets.token_hex(6)}", types=workflow_types())
    job_id = await start(orchestrator)

    async def listed() -> bool:
        return [job async for job in orchestrator.open_workflows()] == [str(job_id)]

    await eventually(listed)


@pytest.mark.io_bound
async def test_queue_state_reports_backlog_and_worker(harness: Harness) -> None:
    orchestrator = TemporalOrchestrator(harness.client, harness.settings.temporal_task_queue, types=workflow_types())
    empty = await orchestrator.queue_state()
    assert (empty.name, empty.backlog, empty.oldest_seconds, empty.has_worker) == (
        harness.settings.temporal_task_queue,
        0,
        0.0,
        False,
    )
    for _ in range(3):
        await start(orchestrator)

    async def three_wait() -> bool:
        found = await orchestrator.queue_state()
        return found.backlog == 3 and found.oldest_seconds > 0.5

    await eventually(three_wait)
    async with harness.worker():

        async def none_waits() -> bool:
            found = await orchestrator.queue_state()
            return found.backlog == 0 and found.has_worker

        await eventually(none_waits)


async def test_orchestrator_erase_running_job_deletes_it(orchestrator: TemporalOrchestrator, client: Client) -> None:
    job_id, kept = await start(orchestrator), await start(orchestrator)
    assert await orchestrator.erase(job_id) is True
    assert await orchestrator.state(IMAGE_PROCESSING.of(job_id)) is None
    assert await runs_of(client, job_id) == []
    with pytest.raises(RPCError) as caught:
        await client.get_workflow_handle(str(job_id)).fetch_history()
    assert caught.value.status == RPCStatusCode.NOT_FOUND
    state = await orchestrator.state(IMAGE_PROCESSING.of(kept))
    assert state is not None
    assert state.is_open
    assert await orchestrator.erase(job_id) is False


@pytest.mark.io_bound
async def test_orchestrator_erase_deletes_all_runs(orchestrator: TemporalOrchestrator, client: Client) -> None:
    """A second run with the same id is what an operator's manual start leaves."""
    job_id = await start(orchestrator)
    handles: list[WorkflowHandle[object, object]] = [client.get_workflow_handle(str(job_id))]
    await handles[0].terminate(reason="by hand")
    again = await client.start_workflow(
        "image_processing_workflow",
        ImageProcessingInput(job_id=str(job_id), bucket="photos", key="raw/missing.png"),
        id=str(job_id),
        task_queue=f"unpolled-{secrets.token_hex(6)}",
    )

    async def both_listed() -> bool:
        return len(await runs_of(client, job_id)) == 2

    await eventually(both_listed)
    assert await orchestrator.erase(job_id) is True
    assert await runs_of(client, job_id) == []
    for run_id in (None, again.first_execution_run_id):
        with pytest.raises(RPCError, match="not found"):
            await client.get_workflow_handle(str(job_id), run_id=run_id).describe()


async def test_orchestrator_erase_unknown_job_returns_false(orchestrator: TemporalOrchestrator) -> None:
    assert await orchestrator.erase(uuid4()) is False


@pytest.mark.io_bound
async def test_orchestrator_erase_timeout_can_be_repeated(
    client: Client, task_queue: str, orchestrator: TemporalOrchestrator
) -> None:
    hasty = TemporalOrchestrator(client, task_queue, erase_seconds=0, types=workflow_types())
    job_id = await start(orchestrator)
    await client.get_workflow_handle(str(job_id)).terminate()
    with pytest.raises(TemporalUnavailable, match="not yet deleted") as caught:
        await hasty.erase(job_id)
    assert caught.value.retryable
    await orchestrator.erase(job_id)
    assert await orchestrator.state(IMAGE_PROCESSING.of(job_id)) is None
