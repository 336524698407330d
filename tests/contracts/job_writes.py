"""The writing methods of a ``JobRepository``, called with one asset and one result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar
from uuid import UUID

from photo_worker.ports.job_repository import JobRecord, JobRepository, OcrRecord

BUCKET, KEY, SHA = "photos", "raw/pie.jpg", "a" * 64
OTHER_SHA = "b" * 64
OCR = OcrRecord(
    s3_bucket="artifacts",
    s3_ocr_key="artifacts/1/textract.json",
    s3_manifest_key="artifacts/1/manifest.json",
    ocr_engine="textract",
    ocr_version="1.0",
    page_count=1,
)
FINAL = {"succeeded", "failed"}
STEPS = ("queue", "start", "succeed", "fail")

_Response = TypeVar("_Response")


def step(repository: JobRepository, name: str, job_id: UUID, *, sha256: str = SHA) -> JobRecord:
    """Call one of the writing methods, always with the same asset."""
    if name == "queue":
        return repository.queue(job_id, bucket=BUCKET, key=KEY)
    if name == "start":
        return repository.start(job_id, bucket=BUCKET, key=KEY, sha256=sha256)
    if name == "succeed":
        return repository.succeed(job_id, bucket=BUCKET, key=KEY, sha256=sha256, ocr=OCR)
    return repository.fail(job_id, bucket=BUCKET, key=KEY, code="object_missing", message="There is no object.")


def in_parallel(calls: Sequence[Callable[[], _Response]]) -> list[_Response]:
    """Make all calls at the same moment."""
    barrier = Barrier(len(calls))

    def call(one: Callable[[], _Response]) -> _Response:
        barrier.wait(timeout=10)
        return one()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))
