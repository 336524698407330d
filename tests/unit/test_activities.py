from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from photo_worker.activities.assets import AssetActivities
from photo_worker.activities.ocr import OcrActivities
from photo_worker.activities.results import ResultActivities
from photo_worker.adapters.memory.job_repository import MemoryJobRepository
from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.adapters.ocr.textract import TextractBackend
from photo_worker.contracts.image import (
    FailureInput,
    LocateAssetInput,
    LocatedAsset,
    OcrInput,
    OcrResult,
)
from photo_worker.errors import (
    ContentMismatch,
    ContentTypeMismatch,
    DocumentProtected,
    DocumentTooLarge,
    EmptyObject,
    ImageTooLarge,
    InputError,
    InvalidJobId,
    InvalidKey,
    JobConflict,
    ObjectForbidden,
    ObjectMissing,
    UnknownEngine,
    UnsupportedDocument,
)
from photo_worker.ports.object_store import ObjectInfo
from photo_worker.ports.ocr import OcrBackend
from tests.support import documents
from tests.support.documents import InlineDecoder
from tests.unit.activity_calls import BUCKET, Charging, CountingBackend, image, persist_input, run


@pytest.fixture
def store() -> MemoryObjectStore:
    store = MemoryObjectStore()
    store.ensure_bucket(BUCKET)
    return store


@pytest.fixture
def repository() -> MemoryJobRepository:
    return MemoryJobRepository()


class TestVerify:
    def located(self, store: MemoryObjectStore, repository: MemoryJobRepository, **request: Any) -> LocatedAsset:
        job_id = request.pop("job_id", None) or uuid4()
        activities = AssetActivities(store, repository, InlineDecoder(), BUCKET)
        found: LocatedAsset = run(
            activities.verify_and_locate_asset,
            LocateAssetInput(bucket=BUCKET, job_id=str(job_id), **request),
            job_id=job_id,
        )
        return found

    def test_verify_asset_records_hash_and_running_status(
        self, store: MemoryObjectStore, repository: MemoryJobRepository
    ) -> None:
        body, job_id = image(), uuid4()
        store.put(BUCKET, "a b+ü.png", body, content_type="image/png")
        found = self.located(store, repository, key="a b+ü.png", job_id=job_id)
        seen = store.head(BUCKET, "a b+ü.png").revision
        assert found == LocatedAsset(
            bucket=BUCKET,
            key="a b+ü.png",
            content_type="image/png",
            size_bytes=len(body),
            sha256=hashlib.sha256(body).hexdigest(),
            etag=seen.etag,
            modified_at=seen.modified_at,
        )
        row = repository.get(job_id)
        assert row is not None
        assert (row.status, row.content_sha256) == ("running", found.sha256)

    @given(st.binary(min_size=1, max_size=3 << 20))
    @settings(max_examples=20, deadline=None)
    def test_verify_asset_hashes_all_bytes_in_order(self, tail: bytes) -> None:
        store, body = MemoryObjectStore(), image() + tail
        store.ensure_bucket(BUCKET)
        store.put(BUCKET, "k", body, content_type="image/png")
        found = self.located(store, MemoryJobRepository(), key="k")
        assert (found.sha256, found.size_bytes) == (hashlib.sha256(body).hexdigest(), len(body))

    def test_verify_asset_without_job_id_uses_workflow_id(
        self, store: MemoryObjectStore, repository: MemoryJobRepository
    ) -> None:
        store.put(BUCKET, "k", image(), content_type="image/png")
        job_id = uuid4()
        run(
            AssetActivities(store, repository, InlineDecoder(), BUCKET).verify_and_locate_asset,
            LocateAssetInput(bucket=BUCKET, key="k"),
            job_id=job_id,
        )
        assert repository.get(job_id) is not None

    def test_verify_asset_of_undeclared_type_sniffs_content(
        self, store: MemoryObjectStore, repository: MemoryJobRepository
    ) -> None:
        store.put(BUCKET, "k", image("JPEG"), content_type="binary/octet-stream")
        assert self.located(store, repository, key="k", expected_content_type="image/jpg").content_type == "image/jpeg"

    @pytest.mark.parametrize(
        ("body", "content_type", "expected", "error"),
        [
            (b"", "image/png", None, EmptyObject),
            (image(), "image/png", "image/jpeg", ContentTypeMismatch),
            (image(), "application/octet-stream", "image/jpeg", ContentTypeMismatch),
            (image("JPEG"), "image/png", None, ContentMismatch),
            (b"plain text", "image/png", None, ContentMismatch),
            (b"plain text", "text/plain", None, UnsupportedDocument),
            (b"plain text", "application/octet-stream", None, UnsupportedDocument),
            (image("GIF"), "image/gif", None, UnsupportedDocument),
            (image("PNG", (10_001, 2)), "image/png", None, ImageTooLarge),
            (image("PNG", (2, 10_001)), "image/png", None, ImageTooLarge),
        ],
    )
    def test_verify_asset_invalid_document_is_refused(
        self,
        store: MemoryObjectStore,
        repository: MemoryJobRepository,
        body: bytes,
        content_type: str,
        expected: str | None,
        error: type[InputError],
    ) -> None:
        store.put(BUCKET, "k", body, content_type=content_type)
        with pytest.raises(error):
            self.located(store, repository, key="k", expected_content_type=expected)

    def test_verify_asset_of_10000_pixels_is_accepted(
        self, store: MemoryObjectStore, repository: MemoryJobRepository
    ) -> None:
        store.put(BUCKET, "k", image("PNG", (10_000, 2)), content_type="image/png")
        assert self.located(store, repository, key="k").content_type == "image/png"

    def test_verify_asset_missing_object_or_bad_id_is_refused(
        self, store: MemoryObjectStore, repository: MemoryJobRepository
    ) -> None:
        with pytest.raises(ObjectMissing):
            self.located(store, repository, key="absent")
        with pytest.raises(InvalidKey):
            self.located(store, repository, key="a/../b")
        with pytest.raises(InvalidJobId):
            run(
                AssetActivities(store, repository, InlineDecoder(), BUCKET).verify_and_locate_asset,
                LocateAssetInput(bucket=BUCKET, key="k", job_id="42"),
            )

    def test_verify_asset_other_key_for_same_job_conflicts(
        self, store: MemoryObjectStore, repository: MemoryJobRepository
    ) -> None:
        job_id = uuid4()
        for key in ("one", "two"):
            store.put(BUCKET, key, image(), content_type="image/png")
        self.located(store, repository, key="one", job_id=job_id)
        with pytest.raises(JobConflict):
            self.located(store, repository, key="two", job_id=job_id)

    @pytest.mark.parametrize(
        ("body", "content_type", "said"),
        [
            (documents.big_tiff(), "image/tiff", "a BigTIFF"),
            (documents.jpeg_ls(), "image/jpeg", "a JPEG-LS"),
            (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(40), "image/avif", "an AVIF"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif" + bytes(40), "image/heif", "an AVIF"),
            (b"\0\0\0\x1cftyphevc\0\0\0\0mif1heichevc" + bytes(40), "image/heic-sequence", "a sequence of HEIC"),
            (documents.pdf(12), "application/pdf", "a PDF of 12 pages"),
            (documents.tiff(2), "image/tiff", "a TIFF of 2 pages"),
            (documents.animated_webp(), "image/webp", "an animated WebP"),
        ],
    )
    def test_verify_asset_unsupported_document_is_named(
        self,
        store: MemoryObjectStore,
        repository: MemoryJobRepository,
        body: bytes,
        content_type: str,
        said: str,
    ) -> None:
        store.put(BUCKET, "k", body, content_type=content_type)
        with pytest.raises(UnsupportedDocument, match=said):
            self.located(store, repository, key="k")

    def test_verify_asset_password_protected_pdf_is_refused(
        self, store: MemoryObjectStore, repository: MemoryJobRepository
    ) -> None:
        store.put(BUCKET, "k", documents.protected_pdf(), content_type="application/pdf")
        with pytest.raises(DocumentProtected):
            self.located(store, repository, key="k")

    @pytest.mark.parametrize(
        ("declared", "body", "size", "pieces"),
        [
            # The content type in the store suffices.
            ("image/png", image(), 300 << 20, 0),
            ("image/heic", documents.heic("turned"), 33 << 20, 0),
            # The content type is undeclared: the first chunk shows the type.
            ("binary/octet-stream", image(), 11 << 20, 1),
        ],
    )
    def test_verify_asset_too_large_is_refused_before_download(
        self, repository: MemoryJobRepository, declared: str, body: bytes, size: int, pieces: int
    ) -> None:
        taken: list[int] = []

        class Large(MemoryObjectStore):
            @contextmanager
            def open(
                self, bucket: str, key: str, *, version_id: str = ""
            ) -> Iterator[tuple[ObjectInfo, Iterator[bytes]]]:
                def read() -> Iterator[bytes]:
                    for number in range(size >> 20):
                        taken.append(number)
                        yield (body if not number else b"").ljust(1 << 20, b"\0")

                yield ObjectInfo(bucket, key, size, declared, "", {}), read()

        with suppress(DocumentTooLarge):
            self.located(Large(), repository, key="k")
        assert len(taken) == pieces, "the bytes travelled"
        with pytest.raises(DocumentTooLarge, match=str(size)):
            self.located(Large(), repository, key="k")

    def test_verify_asset_large_heic_is_converted(
        self, store: MemoryObjectStore, repository: MemoryJobRepository
    ) -> None:
        # The bytes after the last box belong to no image.
        body = documents.heic("turned") + struct.pack(">I4s", 8 + (11 << 20), b"free") + bytes(11 << 20)
        store.put(BUCKET, "k", body, content_type="image/heic")
        found = self.located(store, repository, key="k")
        assert found.converted is not None
        assert found.converted.size_bytes < 10 << 20


class TestOcr:
    def read(
        self,
        store: MemoryObjectStore,
        backend: OcrBackend,
        attempt: int = 1,
        *,
        repository: MemoryJobRepository | None = None,
        **request: Any,
    ) -> OcrResult:
        given = {"bucket": BUCKET, "key": "k", "engine": "counting", "job_id": str(uuid4())} | request
        activities = OcrActivities(
            store, repository or MemoryJobRepository(), {"counting": backend}.__getitem__, BUCKET
        )
        result: OcrResult = run(activities.ocr_textract, OcrInput(**given), attempt=attempt)
        return result

    def test_ocr_textract_stores_response_under_job_id(self, store: MemoryObjectStore) -> None:
        store.put(BUCKET, "k", image(), content_type="image/png")
        backend, job_id = CountingBackend(), uuid4()
        result = self.read(store, backend, job_id=str(job_id))
        assert result.s3_ocr_key == f"artifacts/{job_id}/textract.json"
        response = json.loads(store.get(BUCKET, result.s3_ocr_key, limit_bytes=10_000))
        assert [block["BlockType"] for block in response["Blocks"]] == ["PAGE"]
        assert (result.page_count, result.ocr_engine, result.ocr_version) == (1, "counting", "1.0")

    # After an unexpected error the workflow runs the activity anew, and its attempts begin at 1.
    @pytest.mark.parametrize("attempt", [1, 2])
    def test_ocr_textract_later_attempt_reuses_stored_response(self, store: MemoryObjectStore, attempt: int) -> None:
        store.put(BUCKET, "k", image(), content_type="image/png")
        charging, job_id = Charging(), str(uuid4())
        client: Any = charging
        backend = TextractBackend(client, api="sync")
        first = self.read(store, backend, job_id=job_id, sha256="a" * 64)
        # The worker died after storing the response and before reporting it.
        again = self.read(store, backend, job_id=job_id, sha256="a" * 64, attempt=attempt)
        assert charging.charges == 1
        assert again == first

    def test_ocr_textract_without_list_permission_reads_document(self) -> None:
        class Unlisted(MemoryObjectStore):
            """S3 as it responds without s3:ListBucket."""

            def head(self, bucket: str, key: str, *, version_id: str = "") -> ObjectInfo:
                try:
                    return super().head(bucket, key, version_id=version_id)
                except ObjectMissing:
                    raise ObjectForbidden(bucket=bucket, key=key) from None

        store = Unlisted()
        store.ensure_bucket(BUCKET)
        store.put(BUCKET, "k", image(), content_type="image/png")
        backend = CountingBackend()
        assert self.read(store, backend, sha256="a" * 64).page_count == 1
        with pytest.raises(ObjectForbidden):
            self.read(store, backend, attempt=2, sha256="a" * 64)

    @pytest.mark.parametrize("attempt", [1, 2])
    def test_ocr_textract_keeps_first_response_of_other_engine(self, store: MemoryObjectStore, attempt: int) -> None:
        # A worker with another engine may continue after the job's row describes this response.
        store.put(BUCKET, "k", image(), content_type="image/png")
        other, job_id = CountingBackend(), str(uuid4())
        other.engine = "another"
        first = self.read(store, other, job_id=job_id, sha256="a" * 64)
        kept = store.get(BUCKET, first.s3_ocr_key, limit_bytes=10_000)
        assert self.read(store, CountingBackend(), attempt, job_id=job_id, sha256="a" * 64) == first
        assert first.ocr_engine == "another"
        assert store.get(BUCKET, first.s3_ocr_key, limit_bytes=10_000) == kept

    def test_ocr_textract_over_10_mb_is_refused_before_backend(self, store: MemoryObjectStore) -> None:
        store.put(BUCKET, "k", b"\xff\xd8\xff" + bytes(10 * 1024 * 1024), content_type="image/jpeg")
        backend = CountingBackend()
        with pytest.raises(DocumentTooLarge, match="10485763"):
            self.read(store, backend)
        assert backend.documents == []

    def test_ocr_textract_unknown_engine_is_refused(self, store: MemoryObjectStore) -> None:
        def unknown(engine: str) -> OcrBackend:
            raise UnknownEngine(engine=engine, known="none")

        with pytest.raises(UnknownEngine):
            run(
                OcrActivities(store, MemoryJobRepository(), unknown, BUCKET).ocr_textract,
                OcrInput(bucket=BUCKET, key="k", engine="x", job_id=str(uuid4())),
            )


class TestResults:
    def test_persist_artifacts_twice_leaves_same_bytes_and_row(
        self, store: MemoryObjectStore, repository: MemoryJobRepository
    ) -> None:
        activities, job_id = ResultActivities(store, repository, BUCKET), uuid4()
        key = run(activities.persist_artifacts, persist_input(job_id)).s3_manifest_key
        first = store.get(BUCKET, key, limit_bytes=10_000)
        assert run(activities.persist_artifacts, persist_input(job_id)).s3_manifest_key == key
        assert store.get(BUCKET, key, limit_bytes=10_000) == first
        assert json.loads(first)["sha256"] == "c" * 64
        row = repository.get(job_id)
        assert row is not None
        assert (row.status, row.s3_manifest_key, row.s3_bucket) == ("succeeded", key, BUCKET)

    def test_record_failure_after_success_reports_success(
        self, store: MemoryObjectStore, repository: MemoryJobRepository
    ) -> None:
        activities, job_id = ResultActivities(store, repository, BUCKET), uuid4()
        run(activities.persist_artifacts, persist_input(job_id))
        failure = FailureInput(job_id=str(job_id), bucket=BUCKET, key="raw/k", code="x", message="late")
        assert run(activities.record_failure, failure).status == "succeeded"

    def test_persist_artifacts_after_failure_keeps_failure(
        self, store: MemoryObjectStore, repository: MemoryJobRepository
    ) -> None:
        activities, job_id = ResultActivities(store, repository, BUCKET), uuid4()
        failure = FailureInput(job_id=str(job_id), bucket=BUCKET, key="raw/k", code="job_cancelled", message="stop")
        assert run(activities.record_failure, failure).status == "failed"
        run(activities.persist_artifacts, persist_input(job_id))
        row = repository.get(job_id)
        assert row is not None
        assert (row.status, row.error_code) == ("failed", "job_cancelled")
