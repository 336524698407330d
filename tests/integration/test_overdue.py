"""The worker logs an attempt that goes on after its end once, and logs when it has ended."""

from __future__ import annotations

import logging
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.client import WorkflowFailureError
from temporalio.common import RetryPolicy
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from photo_worker.activities.overdue import OverdueInterceptor
from tests.support.harness import Harness, eventually
from tests.support.workers import running

pytestmark = pytest.mark.stack

_RELEASE = threading.Event()


@activity.defn
def stuck() -> None:
    """Block like a call whose network connection is dead."""
    _RELEASE.wait(60)


@activity.defn
def quick() -> None:
    """Return at once."""


@workflow.defn
class StuckWorkflow:
    """Runs one activity that ends, and one that blocks."""

    @workflow.run
    async def run(self, heartbeat_seconds: float | None) -> None:
        once = RetryPolicy(maximum_attempts=1)
        await workflow.execute_activity(quick, start_to_close_timeout=timedelta(seconds=30), retry_policy=once)
        await workflow.execute_activity(
            stuck,
            start_to_close_timeout=timedelta(seconds=1 if heartbeat_seconds is None else 30),
            heartbeat_timeout=None if heartbeat_seconds is None else timedelta(seconds=heartbeat_seconds),
            retry_policy=once,
        )


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    found = [record for record in caplog.records if record.name.endswith("overdue")]
    return [(record.getMessage(), vars(record)["photo"]) for record in found]


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("heartbeat", "why"), [(None, "its time of 1 s is over"), (3.0, "no heartbeat came for 3 s")])
async def test_overdue_log_reports_attempt_once(
    harness: Harness, caplog: pytest.LogCaptureFixture, heartbeat: float | None, why: str
) -> None:
    caplog.set_level(logging.INFO, logger="photo_worker")
    _RELEASE.clear()
    job_id, later, queue = (secrets.token_hex(8) for _ in range(3))
    with ThreadPoolExecutor(2) as executor:
        worker = Worker(
            harness.client,
            task_queue=queue,
            workflows=[StuckWorkflow],
            activities=[stuck, quick],
            activity_executor=executor,
            workflow_runner=UnsandboxedWorkflowRunner(),
            interceptors=[OverdueInterceptor(look_seconds=0.1, grace_seconds=0.5)],
        )
        try:
            async with running(worker):
                try:
                    with pytest.raises(WorkflowFailureError):
                        await harness.client.execute_workflow(StuckWorkflow.run, heartbeat, id=job_id, task_queue=queue)

                    async def both_heard() -> bool:
                        return {facts["job_id"] for _, facts in told(caplog)} == {job_id, later}

                    # While the later attempt was awaited, the first one was checked many more times.
                    with pytest.raises(WorkflowFailureError):
                        await harness.client.execute_workflow(StuckWorkflow.run, heartbeat, id=later, task_queue=queue)
                    await eventually(both_heard)
                    [(message, facts)] = [each for each in told(caplog) if each[1]["job_id"] == job_id]
                    assert why in message
                    assert "slot is blocked" in message
                    assert (facts["activity_type"], facts["job_id"], facts["attempt"]) == ("stuck", job_id, 1)
                    assert facts["seconds"] >= 1
                finally:
                    # A worker waits for its threads before it ends.
                    _RELEASE.set()
        finally:
            _RELEASE.set()
    assert "its slot is free" in told(caplog)[-1][0]
    assert len(told(caplog)) == 4
