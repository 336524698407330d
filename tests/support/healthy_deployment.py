"""A sound deployment in memory, for tests to damage at one place: objects, rows, and Temporal's state."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from photo_worker.contracts.image import ConvertedCopy, ImageProcessingInput, ImageProcessingResult, Manifest
from photo_worker.contracts.keys import converted_key, manifest_key, ocr_key, raw_key
from photo_worker.integrity.binding import bind
from photo_worker.integrity.inspector import InspectionConfig, InspectionPorts
from photo_worker.ports import JobHandle, OcrRecord, QueueState, WorkflowState
from photo_worker.storage.memory import MemoryJobRepository, MemoryObjectStore

BUCKET = "worker-bucket"
FOREIGN = "their-bucket"
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

JOB = UUID("00000000-0000-4000-8000-000000000001")
OTHER = UUID("ffffffff-0000-4000-8000-000000000002")


class KnownWorkflows:
    """Temporal's state as a test sets it: a ``ports.WorkflowOrchestrator`` that only describes and starts."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self.states: dict[UUID, WorkflowState] = {}
        self.queue = QueueState("recipe-process", backlog=0, oldest_seconds=0.0, has_worker=True)
        self.started: list[ImageProcessingInput] = []

    async def start_image_processing(self, request: ImageProcessingInput) -> JobHandle:
        job_id = UUID(request.job_id)
        joined = job_id in self.states
        self.started.append(request)
        self.states.setdefault(job_id, WorkflowState("running", self._now()))
        return JobHandle(job_id, "run", joined=joined)

    async def start_again(self, job_id: UUID) -> JobHandle:
        joined = self.states[job_id].is_open
        if not joined:
            self.states[job_id] = WorkflowState("running", self._now())
        return JobHandle(job_id, "run again", joined=joined)

    async def result(self, job_id: UUID) -> ImageProcessingResult:
        raise NotImplementedError("nobody who looks waits for a result")

    async def cancel(self, job_id: UUID) -> None:
        raise NotImplementedError("nobody who looks cancels")

    async def has_worker(self) -> bool:
        return self.queue.has_worker

    async def state(self, job_id: UUID) -> WorkflowState | None:
        return self.states.get(job_id)

    async def open_jobs(self) -> AsyncIterator[str]:
        for job_id in [job_id for job_id, state in self.states.items() if state.is_open]:
            yield str(job_id)

    async def queue_state(self) -> QueueState:
        return self.queue

    async def erase(self, job_id: UUID) -> bool:
        return self.states.pop(job_id, None) is not None


@dataclass
class Deployment:
    """The ports in memory with a clock that the test moves; the bucket was bound to the database a day before.

    ``versions`` tells whether buckets have versioning.
    """

    time: datetime = START
    store: MemoryObjectStore = field(init=False)
    rows: MemoryJobRepository = field(init=False)
    temporal: KnownWorkflows = field(init=False)
    waited: list[float] = field(default_factory=list)
    versions: bool = False

    def __post_init__(self) -> None:
        self.store = MemoryObjectStore(now=lambda: self.time, versions=self.versions)
        self.rows = MemoryJobRepository(now=lambda: self.time, patience_seconds=0)
        self.temporal = KnownWorkflows(now=lambda: self.time)
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
        self.temporal.states[job_id] = WorkflowState("completed", self.time, self.time)

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
        self.temporal.states[job_id] = WorkflowState("failed", self.time, self.time, code, "It is damaged.")
