"""Run the contract of OCR backends for those that need no service."""

from __future__ import annotations

import pytest

from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.adapters.ocr.local import LocalBackend
from photo_worker.adapters.ocr.recorded import RecordedBackend
from photo_worker.errors import RecordingMissing
from photo_worker.ports.ocr import OcrBackend
from tests.contracts.ocr_backend import FIXTURES, OcrBackendContract, Place, ReadingBackendContract, photo, place_in
from textract_local.reader.reader import DocumentReader


@pytest.fixture
def store() -> MemoryObjectStore:
    store = MemoryObjectStore()
    store.ensure_bucket("photos")
    return store


@pytest.fixture
def place(store: MemoryObjectStore) -> Place:
    return place_in(store, "photos")


@pytest.mark.single_python
class TestLocalBackend(ReadingBackendContract):
    engine = "local"

    @pytest.fixture
    def backend(self, store: MemoryObjectStore, reader: DocumentReader) -> LocalBackend:
        return LocalBackend(store, reader)

    @pytest.fixture
    def place(self, place: Place) -> Place:
        return place


class TestRecordedBackend(OcrBackendContract):
    engine = "recorded"

    @pytest.fixture
    def backend(self) -> RecordedBackend:
        return RecordedBackend(FIXTURES / "recorded")

    @pytest.fixture
    def place(self, place: Place) -> Place:
        return place

    def test_detect_text_unrecorded_document_names_hash(self, backend: OcrBackend, place: Place) -> None:
        document = place(photo("form") + b"1")
        with pytest.raises(RecordingMissing, match=document.sha256):
            backend.detect_text(document)
