"""Ports: the interfaces that the application depends on, and the values that they exchange.

Adapters live in ``storage``, ``ocr`` and ``orchestration``; ``bootstrap`` chooses them.
Every port has one contract test suite that each of its adapters passes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from uuid import UUID

from photo_worker.contracts.references import Input, Result, WorkflowRef

if TYPE_CHECKING:
    # At run time this would import pydantic, which the dev kit does not need at its start.
    from photo_worker.contracts.base import Contract


@dataclass(frozen=True)
class Revision:
    """Identifies one of the objects that a key has had over time. A field is empty if it is not known.

    A version id always names the same bytes. Without versions there are the ETag and the time of writing (ISO 8601, to
    the second, as S3 reports it), which differs if the same bytes are written again.
    """

    version_id: str = ""
    etag: str = ""
    modified_at: str = ""

    def __bool__(self) -> bool:
        """Tell whether the object is identified at all."""
        return bool(self.version_id or self.etag)


@dataclass(frozen=True)
class ObjectInfo:
    """An object's properties without its bytes.

    ``version_id`` is empty if the bucket keeps no versions of it.
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
        """Identifies this object among those that the key has had."""
        written = "" if self.modified_at is None else self.modified_at.replace(microsecond=0).isoformat()
        return Revision(self.version_id, self.etag, written)


@dataclass(frozen=True)
class ObjectEntry:
    """An object in a listing. ``version_id`` is set only if a delete marker hides the object: its newest version."""

    bucket: str
    key: str
    size_bytes: int
    modified_at: datetime
    version_id: str = ""

    @property
    def hidden(self) -> bool:
        """Tell whether a delete marker hides it, so that only its version id reaches it."""
        return bool(self.version_id)


class ObjectStore(Protocol):
    """Objects by bucket and key. Methods raise ``InputError`` or ``StorageUnavailable``.

    An empty ``version_id`` means the newest version; an unknown one raises ``ObjectMissing``.
    """

    def describe(self) -> str:
        """Return the store's name for messages, without credentials."""

    def head(self, bucket: str, key: str, *, version_id: str = "") -> ObjectInfo:
        """Return an object's size, type and metadata."""

    def open(
        self, bucket: str, key: str, *, version_id: str = ""
    ) -> AbstractContextManager[tuple[ObjectInfo, Iterator[bytes]]]:
        """Stream an object in chunks of at most 1 MiB; one request returns its properties and its bytes."""

    def get(self, bucket: str, key: str, *, limit_bytes: int, version_id: str = "") -> bytes:
        """Return an object's bytes. Raises ``DocumentTooLarge`` if it has more than ``limit_bytes``."""

    def put(
        self, bucket: str, key: str, body: bytes, *, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> None:
        """Write an object atomically; a second write of the same key replaces it."""

    def put_new(
        self, bucket: str, key: str, body: bytes, *, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> bool:
        """Write an object atomically if the key has none, and tell whether it was written: only one writer succeeds."""

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
        """Replace the object that has this ETag atomically, and tell whether it was written."""

    def list(self, bucket: str, prefix: str) -> Iterator[ObjectEntry]:
        """Yield the objects whose keys begin with ``prefix``, in key order, one page per request."""

    def list_hidden(self, bucket: str, prefix: str) -> Iterator[ObjectEntry]:
        """Yield what ``list`` omits, in key order: the newest version of each key that a delete marker hides."""

    def delete(self, bucket: str, key: str) -> int:
        """Delete an object with all its versions and delete markers; return how many there were."""

    def ensure_bucket(self, bucket: str) -> None:
        """Create the bucket if it is missing."""


# Statuses of a row that never change again.
FINAL_STATUSES = frozenset({"succeeded", "failed"})


@dataclass(frozen=True)
class JobRecord:
    """One job's row, joined with its OCR row if there is one."""

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
    """A finished OCR run as it is recorded in the database."""

    s3_bucket: str
    s3_ocr_key: str
    s3_manifest_key: str
    ocr_engine: str
    ocr_version: str
    page_count: int


class JobRepository(Protocol):
    """Job rows. Each write is one idempotent upsert, also if a late copy of it runs concurrently.

    A final status (succeeded, failed) never changes again. Methods raise ``JobConflict`` if the job id belongs to
    another asset, and ``DatabaseUnavailable``.
    """

    def describe(self) -> str:
        """Return the database's name for messages, without its password."""

    def deployment_id(self) -> UUID | None:
        """Return the database's random id, None if it has none yet. A copy of the database has the same id."""

    def make_deployment_id(self) -> UUID:
        """Return the database's id; create it if there is none. Concurrent callers all get the same id."""

    def queue(self, job_id: UUID, *, bucket: str, key: str, sha256: str = "") -> JobRecord:
        """Record a job as queued, or return the row it has."""

    def start(self, job_id: UUID, *, bucket: str, key: str, sha256: str, instead_of: str = "") -> JobRecord:
        """Record that a job runs, and the hash of its bytes.

        If the object was replaced, ``instead_of`` is the old hash, which a job that is not final may exchange.
        """

    def succeed(self, job_id: UUID, *, bucket: str, key: str, sha256: str, ocr: OcrRecord) -> JobRecord:
        """Record a job's result and its final status in one transaction."""

    def fail(self, job_id: UUID, *, bucket: str, key: str, code: str, message: str) -> JobRecord:
        """Record a job's final failure with its reason."""

    def get(self, job_id: UUID) -> JobRecord | None:
        """Return a job's row, or None."""

    def all(self, *, page: int = 1000) -> Iterator[JobRecord]:
        """Yield every job's row in order of id, ``page`` rows per query; only one page is held in memory."""

    def mark_erased(self, job_id: UUID) -> None:
        """Mark the job as erased: from now on every write with its id raises ``JobErased``.

        The mark holds a digest of the id and the time, and nothing else of the job.
        """

    def is_erased(self, job_id: UUID) -> bool:
        """Tell whether the job was marked as erased."""

    def earlier_hashes(self, job_id: UUID) -> frozenset[str]:
        """Return the hashes that a job's bytes had before the current one, and those of deleted jobs of its object.

        An empty hash among them means that there may have been more: the row is older than this record. A job without a
        row has none.
        """

    def delete(self, job_id: UUID) -> bool:
        """Delete a job's rows; tell whether there were any.

        Its earlier hashes pass to another job of the same object that is not erased, if there is one.
        """

    def sole_user(self, job_id: UUID, *, bucket: str, key: str, sha256: str = "") -> AbstractContextManager[bool]:
        """Tell whether no other job's row refers to an object, or to these bytes of it if a hash is given.

        While the block runs, no other job can be queued for the object: ``queue`` waits until the block ends.
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

    Methods raise an ``InputError`` that says what is wrong with the document, ``DecoderUnavailable`` if a retry may
    help, and ``DecoderMissing``. ``kind`` is the media type that the first bytes show; ``name`` is for messages.
    """

    def check(self, content: bytes, kind: str, name: str) -> None:
        """Refuse a PDF or TIFF that OCR refuses: several pages, protected, damaged, too large, or an unusual depth."""

    def convert(self, content: bytes, kind: str, name: str) -> bytes:
        """Return the first image of a HEIC or WebP as an upright JPEG within the limits of OCR."""


@dataclass(frozen=True)
class DetectedText:
    """A document's text in the structure of Textract's DetectDocumentText response.

    ``response`` has the keys DocumentMetadata, Blocks and DetectDocumentTextModelVersion, and no ResponseMetadata. The
    same document gives the same response, including the block ids if the backend assigns them.
    """

    response: Mapping[str, Any]
    ocr_version: str

    @property
    def page_count(self) -> int:
        """Number of pages that were read."""
        return int(self.response["DocumentMetadata"]["Pages"])


class AttemptNotes(Protocol):
    """A note (JSON data) from one attempt of an activity to the next. It may be lost, and then reads as None."""

    def read(self) -> Any:
        """Return the note that was written last, by this attempt or by the previous one."""

    def write(self, note: Mapping[str, Any]) -> None:
        """Replace the note."""


class OcrBackend(Protocol):
    """Reads the text of one document. Raises ``InputError``, ``OcrThrottled`` or ``OcrUnavailable``."""

    @property
    def engine(self) -> str:
        """The backend's name, as in a job's ``engine`` and in ``ocr_engine``."""

    def detect_text(self, document: DocumentRef) -> DetectedText:
        """Return the document's PAGE, LINE and WORD blocks."""


@runtime_checkable
class RequiresUsable(Protocol):
    """An OCR backend that can tell, before it gets a document, whether it can read any."""

    def require_usable(self) -> None:
        """Raise the ``PhotoWorkerError`` that keeps it from reading any document, if there is one. Costs nothing."""


@dataclass(frozen=True)
class JobHandle:
    """The workflow run of a job that was started, or joined if it ran already."""

    job_id: UUID
    run_id: str
    joined: bool


@dataclass(frozen=True)
class WaitingAttempt:
    """An activity that Temporal retries: the error of its last attempt, the next attempt's number and when it is due.

    ``next_at`` is None while the attempt runs.
    """

    step: str
    attempt: int
    code: str
    reason: str
    next_at: datetime | None = None


@dataclass(frozen=True)
class WorkflowState:
    """State of a job's workflow in Temporal.

    ``status`` is running, completed, failed, cancelled, terminated, timed_out or continued. ``reason`` says why a
    failed or terminated workflow closed; ``reason_code`` is its error code.
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
    """A task queue's backlog: the number of tasks that no worker has taken, and the age of the oldest in seconds."""

    name: str
    backlog: int
    oldest_seconds: float
    has_worker: bool
    waits_for: tuple[str, ...] = ()
    """Error codes of what the workers wait for; empty if at least one takes work."""


@dataclass(frozen=True)
class JobWorkflow:
    """A workflow that belongs to a job, by its id."""

    workflow_id: str
    workflow_type: str
    state: WorkflowState


class WorkflowOrchestrator(Protocol):
    """Starts workflows of any type, waits for them and reports on them.

    Methods raise ``JobMissing`` if there is no such workflow, where it is needed.
    """

    async def start(self, workflow: WorkflowRef[Input, Any], request: Input) -> JobHandle:
        """Start a workflow, or join the one with its id, running or closed."""

    async def start_again(self, workflow: WorkflowRef[Any, Any]) -> JobHandle:
        """Restart a workflow that has ended without a result, with the same input; join one that runs or has one."""

    async def result(self, workflow: WorkflowRef[Any, Result]) -> Result:
        """Wait for a workflow's end and return its result. Raises the ``PhotoWorkerError`` that it failed with."""

    async def signal(self, workflow: WorkflowRef[Any, Any], name: str, argument: Contract) -> None:
        """Send a signal. Raises ``JobMissing`` if the workflow does not run."""

    async def cancel(self, workflow: WorkflowRef[Any, Any]) -> None:
        """Request the cancellation of a running workflow; a closed one does not change."""

    async def state(self, workflow: WorkflowRef[Any, Any]) -> WorkflowState | None:
        """Return a workflow's state, None if there is none."""

    async def workflows_of(self, job_id: UUID) -> Sequence[JobWorkflow]:
        """Return every workflow that belongs to a job, of any type, by id. One that began a moment ago may lack."""

    def open_workflows(self) -> AsyncIterator[str]:
        """Yield the ids of the running workflows of the application's types on the task queue."""

    async def has_worker(self) -> bool:
        """Tell whether a worker has polled lately: without one, jobs wait."""

    async def queue_state(self) -> QueueState:
        """Return the state of the task queue."""

    async def erase(self, job_id: UUID) -> bool:
        """Terminate every workflow of a job that runs, delete their histories, and wait until they are gone.

        Returns whether there was any.
        """
