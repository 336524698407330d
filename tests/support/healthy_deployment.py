"""A sound deployment in memory, for tests to damage at one place: objects, rows, and Temporal's state."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from photo_worker.adapters.memory.job_repository import MemoryJobRepository
from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.adapters.memory.orchestrator import MemoryOrchestrator
from photo_worker.contracts.image import ConvertedCopy, Manifest
from photo_worker.contracts.keys import converted_key, manifest_key, ocr_key, raw_key
from photo_worker.ports.job_repository import OcrRecord
from photo_worker.ports.orchestrator import WorkflowState
from photo_worker.services.binding import bind
from photo_worker.services.consistency.inspector import InspectionConfig, InspectionPorts

BUCKET = "worker-bucket"
FOREIGN = "their-bucket"
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

JOB = UUID("00000000-0000-4000-8000-000000000001")
OTHER = UUID("ffffffff-0000-4000-8000-000000000002")


@dataclass
class Deployment:
    """The ports in memory with a clock that the test moves; the bucket was bound to the database a day before.

    ``versions`` tells whether buckets have versioning.
    """

    time: datetime = START
    store: MemoryObjectStore = field(init=False)
    rows: MemoryJobRepository = field(init=False)
    temporal: MemoryOrchestrator = field(init=False)
    waited: list[float] = field(default_factory=list)
    versions: bool = False

    def __post_init__(self) -> None:
        self.store = MemoryObjectStore(now=lambda: self.time, versions=self.versions)
        self.rows = MemoryJobRepository(now=lambda: self.time, patience_seconds=0)
        self.temporal = MemoryOrchestrator(now=lambda: self.time)
        for bucket in (BUCKET, FOREIGN):
            self.store.ensure_bucket(bucket)
        self.time -= timedelta(days=1)
        bind(self.store, self.rows, BUCKET)
        self.time += timedelta(days=1)

    @property
    def ports(self) -> InspectionPorts:
        return InspectionPorts(self.store, self.rows, self.temporal, BUCKET)

    def means(self, *, hashes: bool = True, grace: timedelta = timedelta(hours=1)) -> InspectionConfig:
        async def wait(seconds: float) -> None:
            self.waited.append(seconds)
            self.time += timedelta(seconds=seconds)

        return InspectionConfig(now=lambda: self.time, wait=wait, hashes=hashes, grace=grace, parallel=2)

    def photo(self, body: bytes) -> tuple[str, str]:
        """Upload a photo and return its key and hash."""
        sha256 = hashlib.sha256(body).hexdigest()
        key = raw_key(sha256, ".png")
        self.store.put(BUCKET, key, body, content_type="image/png")
        return key, sha256

    def queued(self, job_id: UUID = JOB, body: bytes = b"photo") -> str:
        """Upload a photo and queue its job; return the photo's key."""
        key, sha256 = self.photo(body)
        self.rows.queue(job_id, bucket=BUCKET, key=key, sha256=sha256)
        return key

    def succeeded(
        self,
        job_id: UUID = JOB,
        body: bytes = b"photo",
        *,
        at: tuple[str, str] | None = None,
        copy: bytes | None = None,
    ) -> None:
        """Create the row and objects of a finished job, with its photo uploaded or ``at`` its owner's bucket and key.

        ``copy`` is the converted photo that OCR has read.
        """
        if at is None:
            bucket, (key, sha256) = BUCKET, self.photo(body)
        else:
            (bucket, key), sha256 = at, hashlib.sha256(body).hexdigest()
            self.store.put(bucket, key, body, content_type="image/png")
        self.rows.start(job_id, bucket=bucket, key=key, sha256=sha256)
        converted = None if copy is None else self.copy(bucket, key, sha256, copy)
        read = converted.sha256 if converted else sha256
        about = {"source-sha256": read, "ocr-engine": "textract", "ocr-version": "1.0", "page-count": "1"}
        self.store.put(BUCKET, ocr_key(job_id), b"{}", content_type="application/json", metadata=about)
        manifest = Manifest(
            job_id=str(job_id),
            s3_raw_bucket=bucket,
            s3_raw_key=key,
            sha256=sha256,
            content_type="image/png",
            size_bytes=len(body),
            converted=converted,
            s3_ocr_key=ocr_key(job_id),
            ocr_engine="textract",
            ocr_version="1.0",
            page_count=1,
        )
        self.store.put(
            BUCKET, manifest_key(job_id), manifest.model_dump_json().encode(), content_type="application/json"
        )
        ocr = OcrRecord(BUCKET, ocr_key(job_id), manifest_key(job_id), "textract", "1.0", 1)
        self.rows.succeed(job_id, bucket=bucket, key=key, sha256=sha256, ocr=ocr)
        self.temporal.states[str(job_id)] = WorkflowState("completed", self.time, self.time)

    def copy(self, bucket: str, key: str, sha256: str, body: bytes) -> ConvertedCopy:
        """Store the copy of a photo as the worker does."""
        name, digest = converted_key(bucket, key, sha256), hashlib.sha256(body).hexdigest()
        about = {"sha256": digest, "source-sha256": sha256, "source-bucket": bucket, "source-key": key}
        self.store.put(BUCKET, name, body, content_type="image/jpeg", metadata=about)
        return ConvertedCopy(bucket=BUCKET, key=name, content_type="image/jpeg", size_bytes=len(body), sha256=digest)

    def failed(self, job_id: UUID = JOB, body: bytes = b"no photo", code: str = "document_unreadable") -> None:
        """Create the row and objects of a failed job."""
        key, sha256 = self.photo(body)
        self.rows.start(job_id, bucket=BUCKET, key=key, sha256=sha256)
        self.rows.fail(job_id, bucket=BUCKET, key=key, code=code, message="It is damaged.")
        self.temporal.states[str(job_id)] = WorkflowState("failed", self.time, self.time, code, "It is damaged.")
