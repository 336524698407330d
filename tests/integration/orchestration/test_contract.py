"""``TemporalOrchestrator`` passes the port's contract on a real Temporal; foreign workflows of a job are found too."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from photo_worker.adapters.temporal.connection import connect
from photo_worker.adapters.temporal.orchestrator import TemporalOrchestrator
from photo_worker.config import load_settings, read_environment
from photo_worker.pipelines import workflow_types
from tests.contracts.orchestrator import OrchestratorContract
from tests.support.harness import eventually
from tests.support.waiting_workflows import FIRST, SECOND, Wait, WaitingFirst, WaitingSecond
from tests.support.workers import running

pytestmark = pytest.mark.stack


@pytest.fixture
async def client(stack_env: dict[str, str]) -> Client:
    return await connect(load_settings(read_environment(stack_env, None)), stack_env)


class TestTemporalOrchestrator(OrchestratorContract):
    @pytest.fixture
    async def orchestrator(self, client: Client) -> AsyncIterator[TemporalOrchestrator]:
        queue = f"test-{secrets.token_hex(6)}"
        worker = Worker(
            client,
            task_queue=queue,
            workflows=[WaitingFirst, WaitingSecond],
            workflow_runner=UnsandboxedWorkflowRunner(),
        )
        async with running(worker):
            yield TemporalOrchestrator(client, queue, types=[FIRST, SECOND], erase_seconds=120)


@pytest.mark.parametrize("name", ["child/3", "it's", 'a "quoted" one', "back\\slash", "фото %_*"])
async def test_erase_deletes_further_workflow_of_job(client: Client, name: str) -> None:
    """A child workflow, or one of another release, which has no type that this release knows."""
    orchestrator = TemporalOrchestrator(
        client, f"test-{secrets.token_hex(6)}", erase_seconds=60, types=workflow_types()
    )
    job_id, alike = uuid4(), uuid4()
    for workflow_id in (f"{job_id}/{name}", f"{job_id}-alike", f"{alike}/{name}"):
        await client.start_workflow("unknown", Wait(text="w"), id=workflow_id, task_queue="unpolled")

    async def found() -> bool:
        return [one.workflow_id for one in await orchestrator.workflows_of(job_id)] == [f"{job_id}/{name}"]

    await eventually(found)
    assert await orchestrator.erase(job_id) is True
    assert await orchestrator.workflows_of(job_id) == []
    for workflow_id in (f"{job_id}-alike", f"{alike}/{name}"):
        handle = client.get_workflow_handle(workflow_id)
        assert (await handle.describe()).close_time is None
        await handle.terminate()
