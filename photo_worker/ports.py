"""The small interfaces that the application depends on, and the values that cross them.

Adapters live in ``storage``, ``ocr`` and ``orchestration``; ``bootstrap`` chooses them.
Every port has one contract test suite that each of its adapters passes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from uuid import UUID

if TYPE_CHECKING:
    # At run time this would load pydantic, which the dev kit's start has no use for.
    from photo_worker.contracts.image import ImageProcessingInput, ImageProcessingResult


@dataclass(frozen=True)
class Revision:
    """Which of the objects that a key has had one after the other: what the store says of it. Empty where not known.

    A version's id names its bytes for good. Without versions there are ETag and time of writing (ISO 8601, to the
    second, as S3 tells it): the same bytes written again have another time.
    """

    version_id: str = ""
    etag: str = ""
    modified_at: str = ""

    def __bool__(self) -> bool:
        """Tell whether anything is known."""
        return bool(self.version_id or self.etag)


@dataclass(frozen=True)
class ObjectInfo:
    """What the store says of an object without sending its bytes.

    ``version_id`` is empty where the bucket keeps no versions of it.
    """

    bucket: str
    key: str
    size_bytes: int
    content_type: str
    etag: str
    metadata: Mapping[str, str]
    version_id: str = ""
    modified_at: datetime | None = None

    @property
    def revision(self) -> Revision:
        """Which of the key's objects this is."""
        written = "" if self.modified_at is None else self.modified_at.replace(microsecond=0).isoformat()
        return Revision(self.version_id, self.etag, written)


@dataclass(frozen=True)
class ObjectEntry:
    """What a listing says of an object. ``version_id`` is set behind a delete marker: that of the newest version."""

    bucket: str
    key: str
    size_bytes: int
    modified_at: datetime
    version_id: str = ""

    @property
    def hidden(self) -> bool:
        """Tell whether only its version's id reaches it."""
        return bool(self.version_id)


class ObjectStore(Protocol):
    """Objects by bucket and key. Methods raise ``InputError`` or ``StorageUnavailable``.

    Where reading takes a ``version_id``, empty means the newest; an unknown one is ``ObjectMissing``.
    """

    def describe(self) -> str:
        """Name the store for messages, without credentials."""

    def head(self, bucket: str, key: str, *, version_id: str = "") -> ObjectInfo:
        """Return an object's size, type and metadata."""

    def open(
        self, bucket: str, key: str, *, version_id: str = ""
    ) -> AbstractContextManager[tuple[ObjectInfo, Iterator[bytes]]]:
        """Stream an object in pieces of at most 1 MiB; one request for information and bytes."""

    def get(self, bucket: str, key: str, *, limit_bytes: int, version_id: str = "") -> bytes:
        """Return an object's bytes, or raise ``DocumentTooLarge`` where it has more than the limit."""

    def put(
        self, bucket: str, key: str, body: bytes, *, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> None:
        """Write an object whole; a second write of the same key replaces it."""

    def put_new(
        self, bucket: str, key: str, body: bytes, *, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> bool:
        """Write an object whole where the key has none, and tell whether it was written: of many writers one wins."""

    def replace(
        self,
        bucket: str,
        key: str,
        body: bytes,
        *,
        etag: str,
        content_type: str,
        metadata: Mapping[str, str] | None = None,
    ) -> bool:
        """Write an object whole in place of the one with this ETag, and tell whether it was written."""

    def list(self, bucket: str, prefix: str) -> Iterator[ObjectEntry]:
        """List the objects whose keys begin with ``prefix``, by key, page after page."""

    def list_hidden(self, bucket: str, prefix: str) -> Iterator[ObjectEntry]:
        """List what ``list`` leaves out: of each key whose newest is a delete marker the newest version, by key."""

    def delete(self, bucket: str, key: str) -> int:
        """Delete an object with every version and marker of it; return how many there were."""

    def ensure_bucket(self, bucket: str) -> None:
        """Create the bucket where it is missing."""


# A row's status that never changes back.
FINAL_STATUSES = frozenset({"succeeded", "failed"})


@dataclass(frozen=True)
class JobRecord:
    """One job's row, joined with its OCR row where there is one."""

    id: UUID
    status: str
    s3_raw_bucket: str
    s3_raw_key: str
    content_sha256: str
    created_at: datetime
    updated_at: datetime
    error_code: str | None = None
    error_message: str | None = None
    s3_bucket: str | None = None
    s3_ocr_key: str | None = None
    s3_manifest_key: str | None = None
    ocr_engine: str | None = None
    ocr_version: str | None = None
    page_count: int | None = None


@dataclass(frozen=True)
class OcrRecord:
    """What is stored of a finished OCR run."""

    s3_bucket: str
    s3_ocr_key: str
    s3_manifest_key: str
    ocr_engine: str
    ocr_version: str
    page_count: int


class JobRepository(Protocol):
    """Job rows. Each write is one upsert that may run again, also beside a late copy of itself.

    A final status (succeeded, failed) never changes back. Methods raise ``JobConflict`` where
    the job id belongs to another asset, and ``DatabaseUnavailable``.
    """

    def describe(self) -> str:
        """Name the database for messages, without its password."""

    def deployment_id(self) -> UUID | None:
        """Return the database's own random id, None before it was made. A copy of the database has the same one."""

    def make_deployment_id(self) -> UUID:
        """Return the database's id, made where it has none; of many callers at once all get the same."""

    def queue(self, job_id: UUID, *, bucket: str, key: str, sha256: str = "") -> JobRecord:
        """Record a job as queued, or return the row it has."""

    def start(self, job_id: UUID, *, bucket: str, key: str, sha256: str, instead_of: str = "") -> JobRecord:
        """Record that a job runs and what its bytes hash to.

        A job that is not final may give up the hash ``instead_of`` for another one, where its object was replaced.
        """

    def succeed(self, job_id: UUID, *, bucket: str, key: str, sha256: str, ocr: OcrRecord) -> JobRecord:
        """Record a job's result and its final status in one transaction."""

    def fail(self, job_id: UUID, *, bucket: str, key: str, code: str, message: str) -> JobRecord:
        """Record a job's final failure with its reason."""

    def get(self, job_id: UUID) -> JobRecord | None:
        """Return a job's row."""

    def all(self, *, page: int = 1000) -> Iterator[JobRecord]:
        """Return every job's row by id, ``page`` rows a round trip, none held for longer than that."""

    def mark_erased(self, job_id: UUID) -> None:
        """Write down that the job is erased: from now on its id raises ``JobErased`` at every write.

        What is kept is a digest of the id and the time, nothing of the job.
        """

    def is_erased(self, job_id: UUID) -> bool:
        """Tell whether the job was marked as erased."""

    def earlier_hashes(self, job_id: UUID) -> frozenset[str]:
        """Return what a job's bytes hashed to before what its row says now, and those of deleted jobs of its place.

        An empty one among them says that there may have been others: the row is from before they were kept. Of a job
        without a row there are none.
        """

    def delete(self, job_id: UUID) -> bool:
        """Delete a job's rows; tell whether there were any.

        Another job of the same object that is not erased, where there is one, takes over its hashes.
        """

    def sole_user(self, job_id: UUID, *, bucket: str, key: str, sha256: str = "") -> AbstractContextManager[bool]:
        """Tell whether no other job's row refers to an object, or to these bytes of it where a hash is given.

        While the block runs, no other job can be queued for it: who queues one waits until the block ends.
        """


@dataclass(frozen=True)
class DocumentRef:
    """A verified document in the object store."""

    bucket: str
    key: str
    content_type: str
    size_bytes: int
    sha256: str
    revision: Revision = Revision()


class DocumentDecoder(Protocol):
    """Opens documents that may be hostile, without harm to the caller.

    Methods raise the ``InputError`` that says what is wrong with the document, ``DecoderUnavailable`` where trying
    again may help, and ``DecoderMissing``. ``kind`` is the media type that the first bytes show, ``name`` is for
    messages.
    """

    def check(self, content: bytes, kind: str, name: str) -> None:
        """Refuse a PDF or TIFF that OCR refuses: of several pages, protected, damaged, too large, of unusual depth."""

    def convert(self, content: bytes, kind: str, name: str) -> bytes:
        """Return the first image of a HEIC or WebP as an upright JPEG within the limits of OCR."""


@dataclass(frozen=True)
class DetectedText:
    """A document's text in the structure that Textract's DetectDocumentText answers with.

    ``response`` has the keys DocumentMetadata, Blocks and DetectDocumentTextModelVersion; no
    ResponseMetadata. The same document gives the same response, block ids included, wherever
    the backend decides them.
    """

    response: Mapping[str, Any]
    ocr_version: str

    @property
    def page_count(self) -> int:
        """How many pages were read."""
        return int(self.response["DocumentMetadata"]["Pages"])


class AttemptNotes(Protocol):
    """What an attempt leaves for the next attempt of its step: JSON data. It may be lost, and then reads as None."""

    def read(self) -> Any:
        """Return what was written last, by this attempt or by the one before it."""

    def write(self, note: Mapping[str, Any]) -> None:
        """Replace what is there."""


class OcrBackend(Protocol):
    """Reads the text of one document. Raises ``InputError``, ``OcrThrottled`` or ``OcrUnavailable``."""

    @property
    def engine(self) -> str:
        """The backend's name, as it stands in a job's ``engine`` and in ``ocr_engine``."""

    def detect_text(self, document: DocumentRef) -> DetectedText:
        """Return the document's PAGE, LINE and WORD blocks."""


@runtime_checkable
class RequiresUsable(Protocol):
    """A backend that can tell that it reads no document at all, before one is given to it."""

    def require_usable(self) -> None:
        """Raise the ``PhotoWorkerError`` that keeps every document from being read. Costs nothing."""


@dataclass(frozen=True)
class JobHandle:
    """Where a started (or joined) job runs."""

    job_id: UUID
    run_id: str
    joined: bool


@dataclass(frozen=True)
class WaitingAttempt:
    """A step whose last attempt failed: what it waits for, the next attempt's number, and when that is due.

    ``next_at`` is None while the attempt runs.
    """

    step: str
    attempt: int
    code: str
    reason: str
    next_at: datetime | None = None


@dataclass(frozen=True)
class WorkflowState:
    """What Temporal knows of a job's workflow.

    ``status`` is running, completed, failed, cancelled, terminated, timed_out or continued. ``reason`` says why a
    failed or terminated one closed; its code is in ``reason_code``.
    """

    status: str
    started_at: datetime
    closed_at: datetime | None = None
    reason_code: str | None = None
    reason: str | None = None
    waiting: WaitingAttempt | None = None

    @property
    def is_open(self) -> bool:
        """Tell whether the workflow still runs."""
        return self.status == "running"


@dataclass(frozen=True)
class QueueState:
    """What waits for workers: tasks of a task queue that nobody has taken, and the age of the oldest in seconds."""

    name: str
    backlog: int
    oldest_seconds: float
    has_worker: bool
    waits_for: tuple[str, ...] = ()
    """The codes of what the workers wait for; empty where one takes work."""


class WorkflowOrchestrator(Protocol):
    """Starts workflows and waits for them, whatever engine runs them."""

    async def start_image_processing(self, request: ImageProcessingInput) -> JobHandle:
        """Start the job, or join the one that has this id."""

    async def start_again(self, job_id: UUID) -> JobHandle:
        """Start a job whose workflow has ended without a result once more, with the input it had."""

    async def result(self, job_id: UUID) -> ImageProcessingResult:
        """Wait for the job's end; raises the ``PhotoWorkerError`` it failed with."""

    async def cancel(self, job_id: UUID) -> None:
        """Ask a running job to stop; its row ends as failed with code ``job_cancelled``."""

    async def has_worker(self) -> bool:
        """Tell whether a worker has asked for work lately: without one, jobs wait."""

    async def state(self, job_id: UUID) -> WorkflowState | None:
        """Return what Temporal knows of a job's workflow, None where it knows none."""

    def open_jobs(self) -> AsyncIterator[str]:
        """Return the workflow ids of all image processing that runs now."""

    async def queue_state(self) -> QueueState:
        """Return what waits for workers."""

    async def erase(self, job_id: UUID) -> bool:
        """Terminate a job's workflow where it runs, delete its history, and wait until it is gone.

        Tell whether there was one.
        """
