"""After any crash, duplicate or race there is one execution, one charge and one row. The emulator counts charges."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import io
import json
import secrets
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from uuid import UUID, uuid4

import pytest
from PIL import Image, ImageDraw
from temporalio import activity
from temporalio.client import WorkflowExecution
from temporalio.testing import ActivityEnvironment

from photo_worker import policies
from photo_worker.activities.ocr import OcrActivities
from photo_worker.bootstrap import BackendRegistry
from photo_worker.contracts.image import OcrInput, OcrResult
from photo_worker.contracts.keys import ocr_key, raw_key
from photo_worker.crash_points import CrashPoint, Phase, armed
from photo_worker.services.binding import MARKER_KEY
from photo_worker.services.jobs import Submission
from photo_worker.sources import Source
from tests.integration.test_image_workflow import QUICK
from tests.support.harness import Harness, eventually

pytestmark = pytest.mark.stack

STARTS = 100

# The points at which an attempt may end in the worker, after effects that the next attempt must not repeat.
ENDS = [
    (point, phase)
    for point in (
        CrashPoint.JOB_CLAIMED,
        CrashPoint.HASH_RECORDED,
        CrashPoint.TEXTRACT_STARTED,
        CrashPoint.RESULT_PAGE_FETCHED,
        CrashPoint.RESULT_OBJECT_STORED,
        CrashPoint.MANIFEST_STORED,
        CrashPoint.RESULT_COMMITTED,
    )
    for phase in Phase
]


class AttemptEndsError(Exception):
    """Ends an attempt at a crash point."""


@dataclasses.dataclass(frozen=True)
class Photo:
    source: Source
    body: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


def a_photo(directory: Path) -> Photo:
    """Return a small photo that was never read before."""
    image = Image.new("L", (240, 80), 235)
    ImageDraw.Draw(image).text((20, 30), f"2 eggs {secrets.token_hex(4)}", fill=20)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    path = directory / f"{secrets.token_hex(8)}.png"
    path.write_bytes(buffer.getvalue())
    return Photo(Source(path.name, path=path), buffer.getvalue())


def billed(harness: Harness, photo: Photo) -> int:
    with urlopen(f"{harness.variables['AWS_ENDPOINT_URL_TEXTRACT']}/_emulator/counters", timeout=30) as response:  # noqa: S310
        documents: dict[str, Any] = json.load(response)["documents"]
    return int(documents.get(photo.sha256, {}).get("billed", 0))


async def submit(harness: Harness, photo: Photo, job_id: UUID | None = None) -> Submission:
    return await harness.service.submit(photo.source, job_id=job_id, engine="textract")


def response_of(harness: Harness, job_id: UUID) -> bytes:
    return harness.application.store.get(harness.settings.s3_bucket, ocr_key(job_id), limit_bytes=1 << 20)


@pytest.fixture
async def running(harness: Harness) -> AsyncIterator[Harness]:
    async with harness.worker(policies=QUICK):
        yield harness


async def test_submit_100_concurrent_starts_run_one_job(running: Harness, tmp_path: Path) -> None:
    photo, job_id = a_photo(tmp_path), uuid4()
    submissions = await asyncio.gather(*(submit(running, photo, job_id) for _ in range(STARTS)))
    assert {submission.job_id for submission in submissions} == {job_id}
    assert sum(not submission.joined for submission in submissions) == 1
    report = await running.service.wait(job_id)
    assert report.record.status == "succeeded"
    assert billed(running, photo) == 1
    assert [row.id for row in running.application.repository.all()] == [job_id]
    store, bucket = running.application.store, running.settings.s3_bucket
    assert [entry.key for entry in store.list(bucket, "")] == [
        MARKER_KEY,
        f"artifacts/{job_id}/manifest.json",
        f"artifacts/{job_id}/textract.json",
        raw_key(photo.sha256, ".png"),
    ]

    async def executions() -> list[WorkflowExecution]:
        query = f"TaskQueue = '{running.settings.temporal_task_queue}' AND ExecutionStatus = 'Completed'"
        return [execution async for execution in running.client.list_workflows(query)]

    # Executions appear in listings with a delay.
    assert [execution.id for execution in await eventually(executions)] == [str(job_id)]


async def test_ocr_attempt_ended_anywhere_is_billed_once(running: Harness, tmp_path: Path) -> None:
    jobs = {uuid4(): end for end in ENDS}
    photos = {job_id: a_photo(tmp_path) for job_id in jobs}
    ended: dict[str, tuple[CrashPoint, Phase]] = {}

    def end(point: CrashPoint, phase: Phase) -> None:
        if not activity.in_activity():
            return
        info = activity.info()
        job_id = info.workflow_id or ""
        if job_id not in ended and jobs.get(UUID(job_id)) == (point, phase):
            ended[job_id] = point, phase
            raise AttemptEndsError(f"{phase} {point}")

    with armed(end):
        await asyncio.gather(*(submit(running, photo, job_id) for job_id, photo in photos.items()))
        reports = await asyncio.gather(*(running.service.wait(job_id) for job_id in jobs))
    assert sorted(ended.values()) == sorted(ENDS)
    assert {report.record.status for report in reports} == {"succeeded"}
    charges = {jobs[job_id]: billed(running, photo) for job_id, photo in photos.items()}
    assert charges == dict.fromkeys(ENDS, 1)


async def test_ocr_jobs_with_same_photo_are_billed_once(running: Harness, tmp_path: Path) -> None:
    photo = a_photo(tmp_path)
    submissions = await asyncio.gather(*(submit(running, photo) for _ in range(4)))
    reports = await asyncio.gather(*(running.service.wait(submission.job_id) for submission in submissions))
    assert {report.record.status for report in reports} == {"succeeded"}
    assert billed(running, photo) == 1
    assert len({response_of(running, submission.job_id) for submission in submissions}) == 1


def read_in(harness: Harness, request: OcrInput, attempt: int) -> OcrResult:
    """Run an attempt as a separate process would: it shares nothing but the services."""
    application = harness.application
    environment = ActivityEnvironment()
    environment.info = dataclasses.replace(
        ActivityEnvironment.default_info(), attempt=attempt, workflow_id=request.job_id
    )
    backends = BackendRegistry(application.settings, application.store, application.session)
    activities = OcrActivities(application.store, application.repository, backends, harness.settings.s3_bucket)
    result: OcrResult = environment.run(activities.ocr_textract, request)
    return result


async def stored(harness: Harness, photo: Photo) -> OcrInput:
    """Return the input of an attempt for a photo that is stored and verified."""
    key = raw_key(photo.sha256, ".png")
    bucket = harness.settings.s3_bucket
    await asyncio.to_thread(harness.application.store.put, bucket, key, photo.body, content_type="image/png")
    return OcrInput(
        bucket=bucket,
        key=key,
        engine="textract",
        job_id=str(uuid4()),
        sha256=photo.sha256,
        content_type="image/png",
        size_bytes=len(photo.body),
    )


async def test_ocr_concurrent_attempts_are_billed_once(harness: Harness, tmp_path: Path) -> None:
    photo = a_photo(tmp_path)
    request = await stored(harness, photo)
    together = threading.Barrier(2, timeout=30)

    def meet(point: CrashPoint, phase: Phase) -> None:
        # Both start a Textract job before either polls, and both have the response before either stores it.
        if (point, phase) in {
            (CrashPoint.TEXTRACT_STARTED, Phase.AFTER),
            (CrashPoint.RESULT_OBJECT_STORED, Phase.BEFORE),
        }:
            together.wait()

    with armed(meet), ThreadPoolExecutor(2) as threads:
        first, second = await asyncio.gather(
            *(asyncio.wrap_future(threads.submit(read_in, harness, request, attempt)) for attempt in (1, 2))
        )
    assert first == second
    assert billed(harness, photo) == 1


async def test_ocr_paused_attempt_changes_nothing(harness: Harness, tmp_path: Path) -> None:
    photo = a_photo(tmp_path)
    request = await stored(harness, photo)
    asleep, awake = threading.Event(), threading.Event()

    def sleep(point: CrashPoint, phase: Phase) -> None:
        if (point, phase) == (CrashPoint.RESULT_OBJECT_STORED, Phase.BEFORE) and not asleep.is_set():
            asleep.set()
            assert awake.wait(30)

    with armed(sleep), ThreadPoolExecutor(1) as threads:
        zombie = threads.submit(read_in, harness, request, 1)
        assert await asyncio.to_thread(asleep.wait, 30)
        result = await asyncio.to_thread(read_in, harness, request, 2)
        before = response_of(harness, UUID(request.job_id))
        awake.set()
        assert await asyncio.wrap_future(zombie) == result
    assert response_of(harness, UUID(request.job_id)) == before
    assert billed(harness, photo) == 1


async def test_ocr_sync_api_is_billed_per_attempt(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The setting's documentation says so: without this cost the asynchronous API would not be needed.
    photo = a_photo(tmp_path)
    request = await stored(harness, photo)
    settings = harness.settings.model_copy(update={"textract_api": "sync"})
    monkeypatch.setattr(harness.application, "settings", settings)

    def end(point: CrashPoint, phase: Phase) -> None:
        if (point, phase) == (CrashPoint.RESULT_OBJECT_STORED, Phase.BEFORE):
            raise AttemptEndsError

    with armed(end), pytest.raises(AttemptEndsError):
        await asyncio.to_thread(read_in, harness, request, 1)
    await asyncio.to_thread(read_in, harness, request, 2)
    assert billed(harness, photo) == 2


async def test_heartbeat_timeout_exceeds_two_throttle_intervals(harness: Harness) -> None:
    async with harness.worker() as worker:
        longest = worker.config()["max_heartbeat_throttle_interval"]
    assert policies.OCR.heartbeat_timeout is not None
    assert policies.VERIFY.heartbeat_timeout is not None
    assert 2 * longest < min(policies.OCR.heartbeat_timeout, policies.VERIFY.heartbeat_timeout)
