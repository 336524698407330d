"""Calls activities outside of a worker, with an OCR backend and a Textract client that count."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

from PIL import Image
from temporalio.testing import ActivityEnvironment

from photo_worker.contracts.image import (
    PersistInput,
)
from photo_worker.ports.object_store import DocumentRef
from photo_worker.ports.ocr import DetectedText
from tests.crash.simulation.textract import blocks_of

BUCKET = "photos"


class Charging:
    """A Textract client that responds at once and charges each call."""

    meta = SimpleNamespace(endpoint_url="memory")

    def __init__(self) -> None:
        self.charges = 0

    def detect_document_text(self, **request: Any) -> dict[str, Any]:
        self.charges += 1
        blocks = blocks_of(str(request).encode())
        return {"DocumentMetadata": {"Pages": 1}, "Blocks": blocks, "DetectDocumentTextModelVersion": "1.0"}


class CountingBackend:
    """An OCR backend that returns an empty page and records the documents."""

    engine = "counting"

    def __init__(self) -> None:
        self.documents: list[DocumentRef] = []

    def detect_text(self, document: DocumentRef) -> DetectedText:
        self.documents.append(document)
        blocks = [{"BlockType": "PAGE", "Id": str(uuid4())}]
        return DetectedText({"DocumentMetadata": {"Pages": 1}, "Blocks": blocks}, "1.0")


def image(kind: str = "PNG", size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "white").save(buffer, kind)
    return buffer.getvalue()


def run(function: Callable[[Any], Any], request: Any, *, job_id: UUID | None = None, attempt: int = 1) -> Any:
    environment = ActivityEnvironment()
    environment.info = dataclasses.replace(
        ActivityEnvironment.default_info(), attempt=attempt, workflow_id=str(job_id or uuid4())
    )
    return environment.run(function, request)


def persist_input(job_id: UUID) -> PersistInput:
    """Return the input of the last activity of a job."""
    return PersistInput(
        job_id=str(job_id),
        s3_raw_key="raw/k",
        sha256="c" * 64,
        ocr_s3_key=f"artifacts/{job_id}/textract.json",
        ocr_engine="counting",
        ocr_version="1.0",
        page_count=1,
        bucket=BUCKET,
    )
