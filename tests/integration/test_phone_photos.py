"""Photos in the formats of phones are read like any other, and refused documents are not charged."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from photo_worker.adapters.temporal.orchestrator import TemporalOrchestrator
from photo_worker.contracts.image import Manifest
from photo_worker.pipelines import workflow_types
from photo_worker.services.binding import MARKER_KEY
from photo_worker.services.consistency.inspector import InspectionConfig, InspectionPorts
from photo_worker.services.consistency.scan import open_scanner
from photo_worker.services.erasure import Erasure
from photo_worker.services.jobs import JobReport
from photo_worker.sources import Source
from tests.crash.real.facts import emulator
from tests.integration.test_commands import photo_worker
from tests.support import documents
from tests.support.harness import Harness
from textract_support import bad_inputs

pytestmark = pytest.mark.stack


@pytest.fixture
async def running(harness: Harness) -> AsyncIterator[Harness]:
    async with harness.worker():
        yield harness


async def process(harness: Harness, path: Path, engine: str = "textract") -> JobReport:
    submission = await harness.service.submit(Source(path.name, path=path), engine=engine)
    return await asyncio.wait_for(harness.service.wait(submission.job_id), 90)


def stored(directory: Path, name: str, body: bytes) -> Path:
    path = directory / name
    path.write_bytes(body)
    return path


async def begun(harness: Harness) -> Counter[str]:
    """Count the Textract jobs that were started, whatever their outcome, by document of this test's bucket."""
    jobs = (await asyncio.to_thread(emulator, harness.variables, "jobs"))["jobs"]
    own = f"s3://{harness.settings.s3_bucket}/"
    return Counter(str(job["Document"]) for job in jobs if str(job["Document"]).startswith(own))


async def findings(harness: Harness) -> list[str]:
    application = harness.application
    orchestrator = TemporalOrchestrator(harness.client, harness.settings.temporal_task_queue, types=workflow_types())
    ports = InspectionPorts(application.store, application.repository, orchestrator, harness.settings.s3_bucket)
    means = InspectionConfig(now=lambda: datetime.now(UTC), grace=timedelta(0), parallel=2)
    async with open_scanner(ports, means) as scanner:
        return [found.code for found in (await scanner.scan_all()).findings]


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("IMG_0001.HEIC", lambda: documents.heic("turned"), {"Apple", "Cake", "200", "flour"}),
        ("primary.heic", lambda: documents.heic("several"), {"Plum", "Jam"}),
        ("sent.webp", lambda: documents.webp("Lemon Curd", "4 eggs"), {"Lemon", "Curd", "eggs"}),
    ],
)
async def test_phone_photo_is_read_and_billed_once(
    running: Harness, tmp_path: Path, name: str, make: Callable[[], bytes], words: set[str]
) -> None:
    body, store, bucket = make(), running.application.store, running.settings.s3_bucket
    path = stored(tmp_path, name, body)
    report = await process(running, path)
    assert report.record.status == "succeeded", report.record.error_message
    assert words <= set(" ".join(report.lines).split())
    # The raw object is the original. The manifest names the original and its copy, each with its hash.
    assert store.get(bucket, report.record.s3_raw_key, limit_bytes=1 << 20) == body
    assert report.record.s3_manifest_key is not None
    manifest = Manifest.model_validate_json(store.get(bucket, report.record.s3_manifest_key, limit_bytes=1 << 20))
    assert manifest.sha256 == report.record.content_sha256 == hashlib.sha256(body).hexdigest()
    copy = manifest.converted
    assert copy is not None
    assert hashlib.sha256(store.get(copy.bucket, copy.key, limit_bytes=10 << 20)).hexdigest() == copy.sha256
    assert report.as_dict()["converted"] == f"s3://{copy.bucket}/{copy.key}"

    # A second job shares the copy and the charge.
    again = await process(running, path)
    assert again.lines == report.lines
    assert await begun(running) == {f"s3://{copy.bucket}/{copy.key}": 1}
    assert await findings(running) == []

    orchestrator = TemporalOrchestrator(
        running.client, running.settings.temporal_task_queue, erase_seconds=90, types=workflow_types()
    )
    erasure = Erasure(store, running.application.repository, orchestrator, bucket)
    await erasure.erase(report.record.id)
    assert store.head(copy.bucket, copy.key)
    assert await findings(running) == []
    await erasure.erase(again.record.id)
    assert [entry.key for entry in store.list(bucket, "")] == [MARKER_KEY]


@pytest.mark.parametrize("engine", ["textract", "local"])
async def test_ocr_refused_document_is_not_billed(running: Harness, tmp_path: Path, engine: str) -> None:
    refused = {
        "pages.pdf": (documents.pdf(12), "document_unsupported", "a PDF of 12 pages"),
        "secret.pdf": (documents.protected_pdf(), "document_protected", "password"),
        "sealed.pdf": (bad_inputs.certificate_pdf(), "document_protected", "certificate"),
        "broken.pdf": (b"%PDF-1.7\n" + bytes(2000), "document_unreadable", "damaged"),
        "pages.tif": (documents.tiff(3), "document_unsupported", "a TIFF of 3 pages"),
        "deep.tif": (documents.tiff(mode="F"), "document_unsupported", "32 bits"),
        "big.tif": (documents.big_tiff(), "document_unsupported", "a BigTIFF"),
        "ls.jpg": (documents.jpeg_ls(), "document_unsupported", "a JPEG-LS"),
        "moving.webp": (documents.animated_webp(), "document_unsupported", "an animated WebP"),
        "half.heic": (documents.heic("turned")[:4000], "document_unreadable", "damaged"),
        "large.png": (b"\x89PNG\r\n\x1a\n" + bytes(11 << 20), "document_too_large", "11534344"),
    }

    async def one(name: str) -> tuple[str, JobReport]:
        return name, await process(running, stored(tmp_path, name, refused[name][0]), engine)

    for name, report in await asyncio.gather(*map(one, refused)):
        _, code, said = refused[name]
        assert (report.record.status, report.record.error_code) == ("failed", code), (name, report.record.error_message)
        assert said in (report.record.error_message or ""), name
    assert await begun(running) == {}
    good = await process(running, stored(tmp_path, "good.webp", documents.webp("Pie")), engine)
    assert good.record.status == "succeeded"


async def test_show_and_erase_include_converted_copy(running: Harness, tmp_path: Path) -> None:
    path = stored(tmp_path, "IMG_0002.HEIC", documents.heic("transparent"))
    report = await process(running, path, "local")
    shown = await asyncio.to_thread(
        photo_worker, "show", str(report.record.id), "-o", "json", variables=running.variables, cwd=tmp_path
    )
    copy = json.loads(shown.stdout)["data"]["job"]["converted"]
    assert copy.startswith(f"s3://{running.settings.s3_bucket}/converted/{report.record.content_sha256}-")
    told = await asyncio.to_thread(
        photo_worker, "erase", str(report.record.id), "--yes", variables=running.variables, cwd=tmp_path
    )
    assert told.returncode == 0, told.stderr
    assert "copy      deleted" in told.stdout
    left = running.application.store.list(running.settings.s3_bucket, "")
    assert [entry.key for entry in left] == [MARKER_KEY]
