"""Failed jobs at a fake Textract that remembers them as the real one does: a token refers to its job for days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.adapters.ocr.textract import TextractBackend
from photo_worker.errors import OcrRefused, OcrUnavailable, PhotoWorkerError, UnsupportedDocument
from photo_worker.ports.object_store import DocumentRef
from tests.crash.simulation.textract import MemoryTextract

ACCESS = "Unable to get object metadata from S3. Check object key, region and/or access permissions."
INTERNAL = "Internal server error"
BODY = b"a photo"
PHOTO = DocumentRef("photos", "k.png", "image/png", len(BODY), "ab" * 32)


class Days:
    """A fake Textract, and a clock that advances with every wait."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        store = MemoryObjectStore()
        store.ensure_bucket("photos")
        store.put("photos", "k.png", BODY, content_type="image/png")
        self.textract = MemoryTextract(store, lambda: self.now)

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def seconds(self) -> float:
        return self.now.timestamp()

    def read(self) -> dict[str, Any]:
        """Read the photo as the first attempt of a new job does, without notes of earlier attempts."""
        client: Any = self.textract
        backend = TextractBackend(client, wait=self.wait, clock=self.seconds)
        return dict(backend.detect_text(PHOTO).response)


@pytest.fixture
def days() -> Days:
    return Days()


@pytest.mark.parametrize(("message", "kind"), [(ACCESS, OcrRefused), (INTERNAL, OcrUnavailable)])
def test_textract_after_transient_failures_reads_photo(days: Days, message: str, kind: type[PhotoWorkerError]) -> None:
    days.textract.failures += [message] * 3
    for _ in range(3):
        with pytest.raises(kind) as caught:
            days.read()
        assert caught.value.retryable
    days.wait(3600)
    assert days.read()["Blocks"]
    # A later reading passes the failed jobs and joins the one that succeeded.
    assert days.read()["Blocks"]
    assert list(days.textract.charges.values()) == [1]


def test_textract_unsupported_format_stays_unsupported(days: Days) -> None:
    days.textract.failures.append("Request has unsupported document format")
    for _ in range(2):
        with pytest.raises(UnsupportedDocument):
            days.read()
        days.wait(3600)
    assert not days.textract.charges
