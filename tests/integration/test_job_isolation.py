"""Jobs that keep failing, each for its own reason, beside a healthy job on the same worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from photo_worker.adapters.s3.object_store import BotoObjectStore
from photo_worker.admission import Admission
from photo_worker.errors import ObjectForbidden, OcrUnavailable
from photo_worker.ports.object_store import DocumentRef, ObjectInfo
from photo_worker.ports.ocr import DetectedText, OcrBackend
from photo_worker.readiness import readiness_checks
from photo_worker.sources import Source
from tests.support.harness import FIXTURES, Harness, waiting_for

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.stack, pytest.mark.io_bound]

PHOTO = FIXTURES / "photos" / "clean-print.png"
NEIGHBOURS = 20

# Without failing jobs it takes less than one second.
SOON_SECONDS = 20


class Refusing(BotoObjectStore):
    """A store that refuses some objects, as a policy of another account's bucket does."""

    @contextmanager
    def open(self, bucket: str, key: str, *, version_id: str = "") -> Iterator[tuple[ObjectInfo, Iterator[bytes]]]:
        if key.startswith("refused/"):
            raise ObjectForbidden(bucket=bucket, key=key)
        with super().open(bucket, key, version_id=version_id) as opened:
            yield opened


class FailingForSome:
    """An OCR backend that always fails for some documents."""

    def __init__(self, backend: OcrBackend) -> None:
        self._backend = backend

    @property
    def engine(self) -> str:
        return self._backend.engine

    def detect_text(self, document: DocumentRef) -> DetectedText:
        if document.key.startswith("unreadable/"):
            raise OcrUnavailable(engine=self.engine, reason="a job for the document failed: Internal error")
        return self._backend.detect_text(document)


@asynccontextmanager
async def watched_worker(harness: Harness, client: S3Client) -> AsyncIterator[None]:
    """Run a worker with admission, as ``photo-worker worker`` does."""
    admission = Admission(readiness_checks(harness.application))
    await admission.wait_until_ready()
    watching = asyncio.create_task(admission.watch())
    registry = harness.application.backends
    refusing = replace(harness, application=replace(harness.application, store=Refusing(client)))
    try:
        async with refusing.worker(lambda engine: FailingForSome(registry(engine)), admission):
            yield
    finally:
        watching.cancel()


async def submitted(harness: Harness, key: str) -> UUID:
    bucket = harness.settings.s3_bucket
    await asyncio.to_thread(harness.application.store.put, bucket, key, PHOTO.read_bytes(), content_type="image/png")
    return (await harness.service.submit(Source(key, bucket=bucket, key=key), engine="recorded")).job_id


@pytest.mark.parametrize("directory", ["refused", "unreadable"])
async def test_admission_healthy_job_is_not_delayed(harness: Harness, s3_client: S3Client, directory: str) -> None:
    async with watched_worker(harness, s3_client):
        failing = [await submitted(harness, f"{directory}/{number}.png") for number in range(NEIGHBOURS)]
        await asyncio.gather(*(waiting_for(harness, job_id, 3) for job_id in failing))
        for number in range(3):
            async with asyncio.timeout(SOON_SECONDS):
                report = await harness.service.wait(await submitted(harness, f"healthy/{number}.png"))
            assert report.record.status == "succeeded"
