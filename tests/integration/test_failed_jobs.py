"""Textract jobs that fail through no fault of the photo: the photo is read anyway, and charged once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen
from uuid import UUID

import pytest
from temporalio.api.enums.v1 import EventType

from photo_worker.activities import heartbeats
from photo_worker.activities.heartbeats import HeartbeatNotes
from photo_worker.adapters.ocr.textract import TextractBackend, make_client
from photo_worker.adapters.ocr.textract_jobs import JobLimits
from photo_worker.contracts.keys import raw_key
from tests.integration.test_idempotency import Photo, a_photo, billed, submit
from tests.integration.test_image_workflow import QUICK
from tests.support.harness import Harness, waiting_for

pytestmark = pytest.mark.stack

ACCESS = "Unable to get object metadata from S3. Check object key, region and/or access permissions."
INTERNAL = "Internal server error"


def jobs_fail(harness: Harness, photo: Photo, message: str, times: int) -> None:
    """Let the next Textract jobs of a photo fail after a delay, as the real service's do."""
    rule = {"operation": "StartDocumentTextDetection", "document": raw_key(photo.sha256, ".png"), "times": times}
    rules = [rule | {"kind": "job-slow", "seconds": 0.3}, rule | {"kind": "job-fails", "message": message}]
    url = f"{harness.variables['AWS_ENDPOINT_URL_TEXTRACT']}/_emulator/faults"
    body = json.dumps({"rules": rules}).encode()
    with urlopen(Request(url, body, method="PATCH"), timeout=30) as response:  # noqa: S310
        assert response.status == 200


async def attempts(harness: Harness, job_id: UUID) -> list[int]:
    """Return the attempt number of each OCR activity that ended."""
    history = await harness.client.get_workflow_handle(str(job_id)).fetch_history()
    names: dict[int, Any] = {}
    found = []
    for event in history.events:
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            names[event.event_id] = event.activity_task_scheduled_event_attributes.activity_type.name
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            about = event.activity_task_started_event_attributes
            if names[about.scheduled_event_id] == "ocr_textract":
                found.append(about.attempt)
    return found


@pytest.fixture
async def running(harness: Harness) -> AsyncIterator[Harness]:
    async with harness.worker(policies=QUICK):
        yield harness


def impatient(harness: Harness) -> TextractBackend:
    """Return a backend that waits for milliseconds after a failure without a known cause; by default it is hours."""
    assert harness.application.session is not None
    return TextractBackend(
        make_client(session=harness.application.session),
        notes=HeartbeatNotes(),
        wait=heartbeats.wait,
        limits=JobLimits(first_unexplained_wait_seconds=0.02),
    )


@pytest.mark.parametrize("message", [ACCESS, INTERNAL, "Something that no list has"])
async def test_textract_failed_jobs_are_retried_and_billed_once(harness: Harness, tmp_path: Path, message: str) -> None:
    backend = impatient(harness)
    photo = a_photo(tmp_path)
    jobs_fail(harness, photo, message, 3)
    async with harness.worker(lambda engine: backend, policies=QUICK):
        submission = await submit(harness, photo)
        report = await harness.service.wait(submission.job_id)
    assert (report.record.status, report.record.error_code) == ("succeeded", None)
    # Each observed failure ends the attempt, and Temporal waits before the next one. A busy machine may first poll a
    # job after it has failed; the attempt then treats it as an old job and starts the next one.
    (attempt,) = await attempts(harness, submission.job_id)
    assert 2 <= attempt <= 4
    assert billed(harness, photo) == 1


@pytest.mark.parametrize(("message", "code"), [(ACCESS, "ocr_refused"), (INTERNAL, "ocr_unavailable")])
async def test_textract_failed_jobs_let_new_job_succeed(
    harness: Harness, tmp_path: Path, message: str, code: str
) -> None:
    photo = a_photo(tmp_path)
    # More than the former limit of attempts.
    jobs_fail(harness, photo, message, 7)
    async with harness.worker(policies=QUICK):
        first = await submit(harness, photo)
        waiting = await waiting_for(harness, first.job_id, 2)
        assert waiting.code == code
        again = await asyncio.gather(*(submit(harness, photo) for _ in range(2)))
        reports = [await harness.service.wait(one.job_id) for one in (first, *again)]
    assert [report.record.status for report in reports] == ["succeeded"] * 3
    # Failed Textract jobs are not charged, and a job that skips them finds the one that succeeds.
    assert billed(harness, photo) == 1


async def test_textract_failed_job_with_final_reason_is_not_retried(running: Harness, tmp_path: Path) -> None:
    photo = a_photo(tmp_path)
    jobs_fail(running, photo, "Request has unsupported document format", 1)
    for _ in range(2):
        submission = await submit(running, photo)
        report = await running.service.wait(submission.job_id)
        assert report.record.error_code == "document_unsupported"
        assert await attempts(running, submission.job_id) == [1]
    assert billed(running, photo) == 0
