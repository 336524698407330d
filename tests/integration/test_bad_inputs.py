"""A job with any invalid input ends as failed with its error code, and the worker goes on with the next job."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import uuid4

import pytest

from photo_worker.contracts.image import IMAGE_PROCESSING
from photo_worker.errors import JobConflict
from photo_worker.services.jobs import JobReport
from photo_worker.sources import Source
from tests.contracts.ocr_backend import BAD_CODES
from tests.support.harness import FIXTURES, Harness, open_harness, waiting_for
from textract_support.bad_inputs import BAD_INPUTS

pytestmark = pytest.mark.stack

PHOTO = sorted((FIXTURES / "photos").glob("*.png"))[0]

# The codes of the OCR engines, except where the verification refuses the file before.
CODES = BAD_CODES | {
    "zero bytes": "object_empty",
    "text named PNG": "content_mismatch",
    "HTML named JPEG": "content_mismatch",
}


@pytest.fixture
async def running(harness: Harness) -> AsyncIterator[Harness]:
    async with harness.worker():
        yield harness


async def process(harness: Harness, key: str, *, bucket: str | None = None, engine: str = "recorded") -> JobReport:
    source = Source(key, bucket=bucket or harness.settings.s3_bucket, key=key)
    submission = await harness.service.submit(source, engine=engine)
    return await asyncio.wait_for(harness.service.wait(submission.job_id), 60)


async def put(harness: Harness, key: str, body: bytes, content_type: str) -> None:
    await asyncio.to_thread(
        harness.application.store.put, harness.settings.s3_bucket, key, body, content_type=content_type
    )


async def assert_worker_goes_on(harness: Harness) -> None:
    key = f"good/{uuid4()}.png"
    await put(harness, key, PHOTO.read_bytes(), "image/png")
    assert (await process(harness, key)).record.status == "succeeded"


def assert_failed(harness: Harness, report: JobReport, code: str) -> None:
    recipe = report.record
    assert (recipe.status, recipe.error_code) == ("failed", code), recipe.error_message
    assert recipe.error_message
    # No partial result: result keys are set only together with success.
    assert recipe.s3_ocr_key is None
    assert recipe.s3_manifest_key is None


def test_bad_inputs_have_error_codes() -> None:
    assert CODES.keys() == BAD_INPUTS.keys()


@pytest.mark.parametrize("engine", ["textract", "local"])
async def test_bad_inputs_fail_with_their_code(running: Harness, engine: str) -> None:
    async def one(name: str) -> tuple[str, JobReport]:
        bad = BAD_INPUTS[name]
        key = f"bad/{bad.filename}"
        await put(running, key, bad.content(), bad.content_type)
        return name, await process(running, key, engine=engine)

    for name, report in await asyncio.gather(*(one(name) for name in BAD_INPUTS)):
        assert_failed(running, report, CODES[name])
    await assert_worker_goes_on(running)


async def test_job_with_missing_object_or_bucket_fails(running: Harness) -> None:
    assert_failed(running, await process(running, "absent.png"), "object_missing")
    assert_failed(running, await process(running, "k.png", bucket=f"absent-{uuid4()}"), "bucket_missing")
    await assert_worker_goes_on(running)


async def test_job_with_other_content_type_than_expected_fails(running: Harness) -> None:
    await put(running, "photo.png", PHOTO.read_bytes(), "image/png")
    source = Source("photo", bucket=running.settings.s3_bucket, key="photo.png")
    submission = await running.service.submit(source, engine="recorded", expected_content_type="image/jpeg")
    assert_failed(running, await running.service.wait(submission.job_id), "content_type_mismatch")


@pytest.mark.parametrize(
    "key", ["with space.png", "a+b.png", "crème brûlée/写真.png", "per%20cent.png", "q?a=b&c#d.png"]
)
@pytest.mark.parametrize("engine", ["recorded", "textract"])
async def test_job_with_unusual_key_succeeds(running: Harness, key: str, engine: str) -> None:
    await put(running, key, PHOTO.read_bytes(), "image/png")
    report = await process(running, key, engine=engine)
    assert report.record.status == "succeeded", report.record.error_message
    assert report.record.content_sha256 == hashlib.sha256(PHOTO.read_bytes()).hexdigest()


@pytest.mark.parametrize("key", ["../secret.png", "a/../b.png", "a/./b.png"])
async def test_job_with_traversing_key_fails(running: Harness, key: str) -> None:
    assert_failed(running, await process(running, key), "key_invalid")


async def test_job_without_recording_fails(running: Harness) -> None:
    # A valid photo with one more byte, for which there is no recording.
    await put(running, "other.png", PHOTO.read_bytes() + b"\0", "image/png")
    assert_failed(running, await process(running, "other.png"), "recording_missing")


async def test_submit_same_job_id_for_other_asset_conflicts(running: Harness) -> None:
    await put(running, "one.png", PHOTO.read_bytes(), "image/png")
    await put(running, "two.png", PHOTO.read_bytes(), "image/png")
    bucket, job_id = running.settings.s3_bucket, uuid4()
    await running.service.submit(Source("one", bucket=bucket, key="one.png"), job_id=job_id, engine="recorded")
    with pytest.raises(JobConflict):
        await running.service.submit(Source("two", bucket=bucket, key="two.png"), job_id=job_id, engine="recorded")
    report = await running.service.wait(job_id)
    assert (report.record.status, report.record.s3_raw_key) == ("succeeded", "one.png")


class _Refusing(BaseHTTPRequestHandler):
    """Responds as S3 does to credentials without permission; the emulated S3 grants everything."""

    protocol_version = "HTTP/1.1"

    def _refuse(self) -> None:
        body = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = _refuse

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def refusing_s3() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(10)


async def test_job_with_forbidden_object_is_retried(stack_variables: dict[str, str], refusing_s3: str) -> None:
    async with (
        open_harness(stack_variables | {"AWS_ENDPOINT_URL_S3": refusing_s3}) as harness,
        harness.worker(),
    ):
        # A missing permission may be granted later, so the job waits and does not end.
        source = Source("photo.png", bucket=harness.settings.s3_bucket, key="photo.png")
        submission = await harness.service.submit(source, engine="recorded")
        waiting = await waiting_for(harness, submission.job_id, 1)
        assert waiting.code == "object_forbidden"
        row = harness.application.repository.get(submission.job_id)
        assert row is not None
        assert row.status == "running"
        await harness.application.orchestrator.cancel(IMAGE_PROCESSING.of(submission.job_id))
