"""The converted copy of a photo that OCR cannot read: made once, shared, and deleted with an erased job."""

from __future__ import annotations

import hashlib
import io
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from PIL import Image

from photo_worker import media
from photo_worker.activities.assets import AssetActivities
from photo_worker.activities.ocr import OcrActivities
from photo_worker.adapters.memory.job_repository import MemoryJobRepository
from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.adapters.ocr.textract import TextractBackend
from photo_worker.contracts.image import LocateAssetInput, LocatedAsset, OcrInput
from photo_worker.errors import JobErased, ObjectForbidden, OcrThrottled
from photo_worker.ports.document_decoder import DocumentDecoder
from tests.crash.simulation.textract import MemoryTextract
from tests.support import documents
from tests.support.documents import InlineDecoder
from tests.unit.activity_calls import BUCKET, image, run


@pytest.fixture
def store() -> MemoryObjectStore:
    store = MemoryObjectStore()
    store.ensure_bucket(BUCKET)
    return store


@pytest.fixture
def repository() -> MemoryJobRepository:
    return MemoryJobRepository()


class TestConverted:
    def located(
        self,
        store: MemoryObjectStore,
        repository: MemoryJobRepository,
        decoder: DocumentDecoder | None = None,
        *,
        key: str = "inbox/photo.heic",
        job_id: UUID | None = None,
    ) -> LocatedAsset:
        job_id = job_id or uuid4()
        activities = AssetActivities(store, repository, decoder or InlineDecoder(), BUCKET)
        request = LocateAssetInput(bucket=BUCKET, key=key, job_id=str(job_id))
        found: LocatedAsset = run(activities.verify_and_locate_asset, request, job_id=job_id)
        return found

    def read(
        self,
        store: MemoryObjectStore,
        repository: MemoryJobRepository,
        textract: MemoryTextract,
        located: LocatedAsset,
    ) -> None:
        """Start to read the copy of a photo, as another job does."""
        assert located.converted is not None
        copy = located.converted
        request = OcrInput(**copy.model_dump(), engine="textract", job_id=str(uuid4()))
        client: Any = textract

        def ends(seconds: float) -> None:
            raise OcrThrottled(engine="textract", reason="the job goes on")

        backend = TextractBackend(client, wait=ends)
        with pytest.raises(OcrThrottled):
            run(OcrActivities(store, repository, lambda engine: backend, BUCKET).ocr_textract, request)

    def test_verify_asset_heic_gets_jpeg_copy(self, store: MemoryObjectStore, repository: MemoryJobRepository) -> None:
        body = documents.heic("turned")
        store.put(BUCKET, "inbox/photo.heic", body, content_type="image/heif")
        found = self.located(store, repository)
        # The job refers to the original.
        assert (found.key, found.content_type, found.size_bytes) == ("inbox/photo.heic", "image/heic", len(body))
        assert found.sha256 == hashlib.sha256(body).hexdigest()
        copy = found.converted
        assert copy is not None
        stored = store.get(BUCKET, copy.key, limit_bytes=10 << 20)
        assert copy.key.startswith(f"converted/{found.sha256}-")
        assert (copy.sha256, copy.size_bytes) == (hashlib.sha256(stored).hexdigest(), len(stored))
        assert (copy.content_type, store.head(BUCKET, copy.key).content_type) == ("image/jpeg", "image/jpeg")
        with Image.open(io.BytesIO(stored)) as opened:
            assert opened.size == (900, 600)

    @pytest.mark.parametrize(
        ("name", "body"),
        [
            ("photo.heic", documents.heic("turned")),
            ("photo.webp", documents.webp("Lemon Curd")),
        ],
        ids=["heic", "webp"],
    )
    def test_verify_asset_converts_copy_and_keeps_original(
        self, store: MemoryObjectStore, repository: MemoryJobRepository, name: str, body: bytes
    ) -> None:
        key = f"inbox/{name}"
        store.put(BUCKET, key, body, content_type="binary/octet-stream")
        found = self.located(store, repository, key=key)
        assert store.get(BUCKET, key, limit_bytes=10 << 20) == body, "the original is gone"
        given = found.converted or found
        kind = media.sniff(store.get(given.bucket, given.key, limit_bytes=10 << 20)[: media.HEAD_BYTES])
        assert kind in media.DOCUMENT_TYPES, "Textract does not read it"

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "PDF"])
    def test_verify_asset_readable_by_ocr_gets_no_copy(
        self, store: MemoryObjectStore, repository: MemoryJobRepository, kind: str
    ) -> None:
        store.put(BUCKET, "k", image(kind), content_type="binary/octet-stream")
        found = self.located(store, repository, key="k")
        assert found.converted is None
        assert "converted" not in found.model_dump_json()
        assert list(store.list(BUCKET, "converted/")) == []

    def test_verify_asset_again_reuses_copy(self, store: MemoryObjectStore, repository: MemoryJobRepository) -> None:
        made: list[str] = []

        class Counting(InlineDecoder):
            def convert(self, content: bytes, kind: str, name: str) -> bytes:
                made.append(name)
                return super().convert(content, kind, name)

        for key in ("one.webp", "other.webp"):
            store.put(BUCKET, key, documents.webp("Pie"), content_type="image/webp")
        one, again = (self.located(store, repository, Counting(), key="one.webp") for _ in range(2))
        assert one == again
        other = self.located(store, repository, Counting(), key="other.webp")
        assert other.converted is not None
        assert one.converted is not None
        assert other.converted.key != one.converted.key
        assert made == ["one.webp", "other.webp"]

    def test_verify_asset_concurrent_conversion_keeps_first_copy(
        self, store: MemoryObjectStore, repository: MemoryJobRepository
    ) -> None:
        store.put(BUCKET, "inbox/photo.heic", documents.heic("turned"), content_type="image/heic")

        class Beaten(InlineDecoder):
            """During the conversion a worker of another release stores its copy, which differs by a byte."""

            def convert(inner, content: bytes, kind: str, name: str) -> bytes:
                body = super().convert(content, kind, name)
                first.append(self.located(store, repository, Other()))
                self.read(store, repository, textract, first[0])
                return body

        class Other(InlineDecoder):
            def convert(self, content: bytes, kind: str, name: str) -> bytes:
                return super().convert(content, kind, name) + b"\0"

        now = datetime(2026, 1, 1, tzinfo=UTC)
        textract = MemoryTextract(store, lambda: now)
        first: list[LocatedAsset] = []
        late = self.located(store, repository, Beaten())
        self.read(store, repository, textract, late)
        now += timedelta(hours=1)
        # Both read the same bytes, so Textract has one job for them.
        assert list(textract.charges.values()) == [1]
        assert late == first[0]
        assert late.converted is not None
        stored = store.get(BUCKET, late.converted.key, limit_bytes=10 << 20)
        assert hashlib.sha256(stored).hexdigest() == late.converted.sha256

    def test_verify_asset_foreign_copy_is_replaced(
        self, store: MemoryObjectStore, repository: MemoryJobRepository
    ) -> None:
        store.put(BUCKET, "inbox/photo.heic", documents.heic("turned"), content_type="image/heic")
        first = self.located(store, repository)
        assert first.converted is not None
        store.put(BUCKET, first.converted.key, b"another photo", content_type="image/jpeg")
        assert self.located(store, repository) == first
        assert store.head(BUCKET, first.converted.key).size_bytes == first.converted.size_bytes

    @pytest.mark.parametrize("shared", [False, True])
    def test_verify_asset_when_job_is_erased_deletes_copy(
        self, store: MemoryObjectStore, repository: MemoryJobRepository, shared: bool
    ) -> None:
        store.put(BUCKET, "inbox/photo.heic", documents.heic("turned"), content_type="image/heic")
        job_id = uuid4()
        if shared:
            repository.queue(uuid4(), bucket=BUCKET, key="inbox/photo.heic")

        class Erased(InlineDecoder):
            def convert(self, content: bytes, kind: str, name: str) -> bytes:
                repository.mark_erased(job_id)
                return super().convert(content, kind, name)

        refused = False
        try:
            self.located(store, repository, Erased(), job_id=job_id)
        except JobErased:
            refused = True
        # A job that is about to read the photo may have seen the copy.
        assert len(list(store.list(BUCKET, "converted/"))) == shared
        assert refused

    @pytest.mark.parametrize("shared", [False, True])
    def test_verify_asset_deletes_copy_of_replaced_bytes(
        self, store: MemoryObjectStore, repository: MemoryJobRepository, shared: bool
    ) -> None:
        """An attempt that died after storing the copy leaves an object that no row and no manifest names."""
        job_id = uuid4()
        copies = []
        for words in ("Lemon Curd", "Plum Cake"):
            store.put(BUCKET, "inbox/photo.webp", documents.webp(words), content_type="image/webp")
            found = self.located(store, repository, key="inbox/photo.webp", job_id=job_id)
            assert found.converted is not None
            copies.append(found.converted.key)
            if shared:
                repository.start(uuid4(), bucket=BUCKET, key="inbox/photo.webp", sha256=found.sha256)
        left = [entry.key for entry in store.list(BUCKET, "converted/")]
        assert sorted(left) == sorted(copies if shared else copies[1:])

    def test_verify_asset_when_delete_is_forbidden_succeeds(
        self, store: MemoryObjectStore, repository: MemoryJobRepository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def forbidden(bucket: str, key: str) -> int:
            raise ObjectForbidden(bucket=bucket, key=key)

        job_id = uuid4()
        for words in ("Lemon Curd", "Plum Cake"):
            store.put(BUCKET, "inbox/photo.webp", documents.webp(words), content_type="image/webp")
            monkeypatch.setattr(store, "delete", forbidden)
            found = self.located(store, repository, key="inbox/photo.webp", job_id=job_id)
        row = repository.get(job_id)
        assert row is not None
        assert row.content_sha256 == found.sha256
