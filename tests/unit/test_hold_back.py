"""An attempt of an activity that keeps failing is rejected before it does anything."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from photo_worker.activities.boundary import ErrorBoundary
from photo_worker.activities.hold_back import HoldBackInterceptor
from photo_worker.admission import Admission
from photo_worker.errors import ObjectForbidden, OcrThrottled, PhotoWorkerError

ASKED: Any = None
LASTING, COUNTED = RetryPolicy(maximum_attempts=0), RetryPolicy(maximum_attempts=5)


class Failing(ActivityInboundInterceptor):
    """An activity that fails, by default because its service throttles. Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.error: PhotoWorkerError = OcrThrottled(engine="textract", reason="slow down")

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        self.calls += 1
        raise self.error


class Attempts:
    """Attempts of activities on one worker."""

    def __init__(self) -> None:
        self.admission = Admission([], clock=lambda: 0.0)
        self.service = Failing()
        boundary = ErrorBoundary("photos", record_outcome=self.admission.record_outcome)
        # In the worker's order: the first interceptor is outermost.
        self._inbound = boundary.intercept_activity(
            HoldBackInterceptor(self.admission).intercept_activity(self.service)
        )

    async def fail(self, kind: str, job: str, policy: RetryPolicy = LASTING) -> ApplicationError:
        """Run an attempt and return the error that it ends with."""
        environment = ActivityEnvironment()
        environment.info = replace(environment.info, activity_type=kind, workflow_id=job, retry_policy=policy)

        async def attempt() -> None:
            await self._inbound.execute_activity(ASKED)

        with pytest.raises(ApplicationError) as caught:
            await environment.run(attempt)
        return caught.value


async def test_hold_back_held_attempt_makes_no_call(caplog: pytest.LogCaptureFixture) -> None:
    attempts = Attempts()
    jobs = [str(uuid4()) for _ in range(4)]
    for job in jobs[:3]:
        assert (await attempts.fail("ocr_textract", job)).type == "ocr_throttled"
    assert sum("takes less work" in record.getMessage() for record in caplog.records) == 1
    caplog.clear()
    with caplog.at_level(logging.INFO):
        held = [await attempts.fail("ocr_textract", jobs[0]) for _ in range(50)]
    assert attempts.service.calls == 3
    assert {error.type for error in held} == {"step_held_back"}
    assert not any(error.non_retryable for error in held)
    assert "[ocr_throttled] The OCR service asks to slow down" in held[0].message
    assert not caplog.records


async def test_hold_back_forbidden_worker_bucket_limits_calls() -> None:
    """No check sees that results are refused, and each further call would pay for OCR."""
    attempts = Attempts()
    for _ in range(20):
        job = str(uuid4())
        attempts.service.error = ObjectForbidden(bucket="photos", key=f"artifacts/{job}/textract.json")
        await attempts.fail("ocr_textract", job)
    # Three failures that start the streak, and one job that is tried in this second.
    assert attempts.service.calls == 4


async def test_hold_back_other_activities_go_on() -> None:
    attempts = Attempts()
    job = str(uuid4())
    for _ in range(5):
        await attempts.fail("ocr_textract", job)
    assert attempts.service.calls == 3
    await attempts.fail("persist_artifacts", job)
    assert attempts.service.calls == 4


async def test_hold_back_counted_attempts_are_not_held() -> None:
    attempts = Attempts()
    job = str(uuid4())
    for _ in range(5):
        assert (await attempts.fail("ocr_textract", job, COUNTED)).type == "ocr_throttled"
    assert attempts.service.calls == 5
