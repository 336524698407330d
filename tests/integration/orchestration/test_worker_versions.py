"""A worker with a version: Temporal gives it work if its version is current, and it is counted as a worker."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from secrets import token_hex

import pytest
from temporalio.api.enums.v1 import VersioningBehavior
from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.service import RPCError

from photo_worker.sources import Source
from tests.integration.test_commands import worker_process
from tests.support.harness import FIXTURES, Harness, eventually, open_harness

pytestmark = pytest.mark.stack


def photo() -> Source:
    path = sorted((FIXTURES / "photos").glob("*.png"))[0]
    return Source(label=path.name, path=path)


async def make_current(harness: Harness, build_id: str) -> None:
    """Make a version current as soon as Temporal has seen a poll of it."""
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace=harness.client.namespace,
        deployment_name=str(harness.settings.temporal_deployment_name),
        build_id=build_id,
    )

    async def done() -> bool | None:
        with suppress(RPCError):
            await harness.client.workflow_service.set_worker_deployment_current_version(request)
            return True
        return None

    await eventually(done, seconds=60)


@pytest.mark.parametrize("behavior", ["auto_upgrade", "pinned"])
async def test_worker_with_current_version_gets_jobs(stack_variables: dict[str, str], behavior: str) -> None:
    version = {
        "TEMPORAL_DEPLOYMENT_NAME": f"photos-{token_hex(6)}",
        "TEMPORAL_WORKER_BUILD_ID": "1.0",
        "TEMPORAL_VERSIONING_BEHAVIOR": behavior,
        "TEMPORAL_POLLERS": "autoscaling",
    }
    async with open_harness(stack_variables | version) as harness, harness.worker():
        submission = await harness.service.submit(photo(), engine="recorded")
        await make_current(harness, "1.0")
        report = await harness.service.wait(submission.job_id)
        assert report.record.status == "succeeded"
        assert await harness.application.orchestrator.has_worker()
        described = await harness.client.get_workflow_handle(str(submission.job_id)).describe()
    versioning = described.raw_description.workflow_execution_info.versioning_info
    assert versioning.behavior == VersioningBehavior.Value(f"VERSIONING_BEHAVIOR_{behavior.upper()}")
    assert versioning.deployment_version.build_id == "1.0"


async def test_worker_without_current_version_gets_no_new_jobs(stack_variables: dict[str, str]) -> None:
    """Until its version is made current, workers without a version keep the task queue."""
    version = {"TEMPORAL_DEPLOYMENT_NAME": f"photos-{token_hex(6)}", "TEMPORAL_WORKER_BUILD_ID": "2.0"}
    async with (
        open_harness(stack_variables | version) as later,
        later.worker(),
        open_harness(stack_variables) as today,
        today.worker(),
    ):
        submission = await today.service.submit(photo(), engine="recorded")
        await today.service.wait(submission.job_id)
        described = await today.client.get_workflow_handle(str(submission.job_id)).describe()
    assert not described.raw_description.workflow_execution_info.versioning_info.deployment_version.build_id


async def test_worker_process_without_current_version_says_so(stack_variables: dict[str, str], tmp_path: Path) -> None:
    name = f"photos-{token_hex(6)}"
    version = {"TEMPORAL_DEPLOYMENT_NAME": name, "TEMPORAL_WORKER_BUILD_ID": "3.0"}
    log = tmp_path / "worker.log"

    async def logged(text: str) -> None:
        async def found() -> bool | None:
            return text in log.read_text(encoding="utf-8") or None

        await eventually(found, seconds=60)

    with worker_process(stack_variables | version, log):
        await logged("worker gets no new workflows: version 3.0")
        await logged(f"set-current-version --deployment-name {name} --build-id 3.0")
        async with open_harness(stack_variables | version) as harness:
            await make_current(harness, "3.0")
        await logged("worker gets new workflows: version 3.0")
