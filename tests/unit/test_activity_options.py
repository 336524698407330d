"""The options of the workflow's activity commands, taken from its commands during a replay."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.bridge.proto.workflow_commands import ScheduleActivity
from temporalio.client import WorkflowHistory
from temporalio.worker import Interceptor, Replayer

from photo_worker import policies
from photo_worker.adapters.temporal.converter import data_converter
from photo_worker.contracts.image import IMAGE_PROCESSING
from photo_worker.workflows.image import ImageProcessingWorkflow
from photo_worker.workflows.policy_interceptor import PolicyInterceptor
from temporal_replay_gate.trace import TracingRunner

HISTORIES = Path(__file__).resolve().parents[1] / "replay" / "histories" / "image_processing_workflow" / "0.1.0"
MINUTE = timedelta(minutes=1)


async def steps(name: str, *interceptors: Interceptor) -> dict[str, ScheduleActivity]:
    """Return the activity commands that the current workflow issues when it replays a recorded history."""
    runner = TracingRunner()
    replayer = Replayer(
        workflows=[ImageProcessingWorkflow],
        data_converter=data_converter,
        workflow_runner=runner,
        interceptors=interceptors,
    )
    text = (HISTORIES / f"{name}.json").read_text(encoding="utf-8")
    await replayer.replay_workflow(WorkflowHistory.from_json("any", text))
    issued = [one.command for trace in runner.traces.values() for one in trace.commands]
    asked = [command for command in issued if command.HasField("schedule_activity")]
    return {command.schedule_activity.activity_type: command.schedule_activity for command in asked}


async def test_workflow_heartbeat_timeouts_are_at_most_30_seconds() -> None:
    asked = await steps("lifetime-success")
    assert list(asked) == ["verify_and_locate_asset", "ocr_textract", "persist_artifacts"]
    for name, step in asked.items():
        assert step.HasField("heartbeat_timeout"), name
        assert step.heartbeat_timeout.ToTimedelta() <= timedelta(seconds=30), name


@pytest.mark.parametrize("name", ["object-missing", "lifetime-object-missing"])
async def test_workflow_record_failure_has_no_retry_limit(name: str) -> None:
    last = (await steps(name))["record_failure"]
    # Zero means no limit of attempts; without schedule_to_close_timeout their total time has none either.
    assert last.retry_policy.maximum_attempts == 0
    assert not last.HasField("schedule_to_close_timeout")
    assert last.retry_policy.non_retryable_error_types == []
    assert last.retry_policy.maximum_interval.ToTimedelta() <= MINUTE


async def test_workflow_retries_last_as_long_as_job() -> None:
    for name, step in (await steps("lifetime-success")).items():
        assert step.retry_policy.maximum_attempts == 0, name
        assert timedelta(hours=23) < step.schedule_to_close_timeout.ToTimedelta() <= timedelta(days=1), name
        assert step.retry_policy.maximum_interval.ToTimedelta() == MINUTE, name
        assert step.retry_policy.non_retryable_error_types == [policies.UNEXPECTED], name


async def test_workflow_before_lifetimes_keeps_attempt_limits() -> None:
    for name, step in (await steps("success")).items():
        assert 3 <= step.retry_policy.maximum_attempts <= 10, name
        assert step.retry_policy.maximum_interval.ToTimedelta() <= MINUTE, name


@pytest.mark.parametrize("kind", [IMAGE_PROCESSING.name, "another_workflow"])
async def test_workflow_takes_policies_of_its_worker(kind: str) -> None:
    second = timedelta(seconds=1)
    own = policies.ImagePolicies(ocr_textract=replace(policies.OCR, start_to_close_timeout=second))
    asked = await steps("lifetime-success", PolicyInterceptor({kind: own}))
    expected = second if kind == IMAGE_PROCESSING.name else policies.OCR.start_to_close_timeout
    assert asked["ocr_textract"].start_to_close_timeout.ToTimedelta() == expected
    verify = asked["verify_and_locate_asset"].start_to_close_timeout.ToTimedelta()
    assert verify == policies.VERIFY.start_to_close_timeout


@pytest.mark.parametrize("policy", [policies.VERIFY, policies.OCR, policies.PERSIST, policies.RECORD_FAILURE])
def test_activity_policy_wait_before_is_bounded(policy: policies.ActivityPolicy) -> None:
    waits = [policy.wait_before(attempt) for attempt in (2, 10, 100, 10_000)]
    assert waits == sorted(waits)
    assert waits[-1] == policy.maximum_interval
