"""Use cases of jobs: submit an asset, wait for a job, report it. Independent of terminal and adapters."""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID, uuid4

from pydantic import ValidationError

from photo_worker import media
from photo_worker.activities.ocr import load_response
from photo_worker.config import ENGINE_FORM, ENGINE_NAME
from photo_worker.contracts.image import IMAGE_PROCESSING, ImageProcessingInput, Manifest
from photo_worker.contracts.keys import raw_key
from photo_worker.crash_points import CrashPoint, crash_point
from photo_worker.errors import (
    DocumentTooLarge,
    InvalidBucket,
    InvalidContract,
    InvalidEngine,
    JobCancelled,
    JobConflict,
    JobEndedWithoutRow,
    JobErased,
    JobFailed,
    JobMissing,
    JobWithoutWorkflow,
    ObjectMissing,
    PhotoWorkerError,
    SourceUnreadable,
    StorageUnavailable,
    ends_job,
)
from photo_worker.files import FileTooLarge, read_regular
from photo_worker.policies import OCR_RESULT_LIMIT_BYTES, SUBMISSION_TIME
from photo_worker.ports.job_repository import FINAL_STATUSES, JobRecord, JobRepository
from photo_worker.ports.object_store import ObjectStore
from photo_worker.ports.orchestrator import WorkflowOrchestrator, WorkflowState
from photo_worker.printable import cut
from photo_worker.sources import Source

# An upload is read into memory once; no OCR backend reads a larger one anyway.
UPLOAD_LIMIT_BYTES = 64 * 1024 * 1024

# Characters of a too long bucket name that an error repeats.
_SHOWN = 80


@dataclass(frozen=True)
class Submission:
    """A job that was started or joined."""

    label: str
    job_id: UUID
    joined: bool


@dataclass(frozen=True)
class JobReport:
    """A job record with the text of its OCR response. Confidence is Textract's, 0 to 100.

    ``converted`` is the location of the copy that OCR read instead of the photo, None if OCR read the photo itself.
    """

    record: JobRecord
    converted: str | None = None
    lines: Sequence[str] = ()
    words: int | None = None
    mean_confidence: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds from the row's first to its last change: for a finished job, how long it took."""
        return (self.record.updated_at - self.record.created_at).total_seconds()

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON shows it; keys are always present."""
        record = self.record
        return {
            "job_id": str(record.id),
            "status": record.status,
            "error": None
            if record.error_code is None
            else {"code": record.error_code, "message": record.error_message},
            "raw": f"s3://{record.s3_raw_bucket}/{record.s3_raw_key}",
            "sha256": record.content_sha256 or None,
            "converted": self.converted,
            "ocr": _location(record.s3_bucket, record.s3_ocr_key),
            "manifest": _location(record.s3_bucket, record.s3_manifest_key),
            "ocr_engine": record.ocr_engine,
            "ocr_version": record.ocr_version,
            "page_count": record.page_count,
            "words": self.words,
            "mean_confidence": None if self.mean_confidence is None else round(self.mean_confidence, 2),
            "created_at": record.created_at.isoformat(),
            "updated_at": record.updated_at.isoformat(),
            "seconds": round(self.seconds, 3),
            "lines": list(self.lines),
        }


def _location(bucket: str | None, key: str | None) -> str | None:
    return f"s3://{bucket}/{key}" if bucket and key else None


class JobService:
    """Submits jobs and reports on them, over the ports."""

    def __init__(
        self,
        store: ObjectStore,
        repository: JobRepository,
        orchestrator: WorkflowOrchestrator | None,
        bucket: str,
        *,
        lifetime_seconds: int | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``orchestrator`` may be None for a service that only reports rows.

        ``lifetime_seconds`` is how long a new job waits for unavailable services; the default is in ``policies``.
        ``now`` is the clock that determines a row's age.
        """
        self._store = store
        self._repository = repository
        self._orchestrator = orchestrator
        self._bucket = bucket
        self._lifetime_seconds = lifetime_seconds
        self._now = now

    async def submit(
        self,
        source: Source,
        *,
        job_id: UUID | None = None,
        engine: str | None = None,
        expected_content_type: str | None = None,
    ) -> Submission:
        """Upload the source if it is a file, record the job as queued, and start its workflow.

        In this order the same call completes whatever a crash leaves: an object under the hash of its bytes, a queued
        row, or a workflow, which is joined. Raises ``JobConflict`` if the id belongs to another asset, ``JobErased`` if
        the job was erased before or meanwhile; nothing is left under the id then, and no upload that no other job uses.
        Raises ``InvalidBucket``, ``InvalidEngine`` or ``InvalidContract`` before anything is written, and
        ``JobEndedWithoutRow`` if the id's workflow has ended and left its row open, since nothing would run.
        """
        check_engine(engine)
        chosen = job_id or uuid4()
        options = {
            "engine": engine,
            "expected_content_type": expected_content_type,
            "lifetime_seconds": self._lifetime_seconds,
        }
        if source.path is None:
            bucket, key = source.bucket, source.key
            request = _request(chosen, bucket, key, options)
            record = await self._queue(chosen, bucket, key)
        else:
            photo = await asyncio.to_thread(_read, source.path)
            bucket, key = self._bucket, photo.key
            request = _request(chosen, bucket, key, options)
            await self._store_raw(photo)
            try:
                record = await self._queue(chosen, bucket, key, photo.sha256)
                await self._keep_raw(chosen, photo)
            except (JobConflict, JobErased):
                await asyncio.to_thread(self._withdraw, chosen, photo.key)
                raise
        if record.status in FINAL_STATUSES:
            return Submission(source.label, chosen, joined=True)
        orchestrator = self._require_orchestrator()
        with crash_point(CrashPoint.WORKFLOW_STARTED):
            handle = await orchestrator.start(IMAGE_PROCESSING.of(chosen), request)
        # An erasure either finds the workflow, or has marked the job before the workflow started.
        if await asyncio.to_thread(self._repository.is_erased, chosen):
            await orchestrator.erase(chosen)
            if source.path is not None:
                await asyncio.to_thread(self._withdraw, chosen, key)
            raise JobErased(job_id=chosen)
        if handle.joined:
            await self.workflow_of(chosen)
        return Submission(source.label, chosen, joined=handle.joined)

    async def workflow_of(self, job_id: UUID) -> WorkflowState | None:
        """Return the state of a job's workflow, None if Temporal has none.

        Raises ``JobEndedWithoutRow`` if the workflow has ended and the job's row is still open: normally a row is final
        before its workflow closes. Raises ``JobWithoutWorkflow`` if an open row older than ``SUBMISSION_TIME`` has no
        workflow; a younger row may be in submission, which writes the row first. Raises ``JobErased`` if the job is
        erased meanwhile.
        """
        state = await self._require_orchestrator().state(IMAGE_PROCESSING.of(job_id))
        if state is not None and state.is_open:
            return state
        row = await asyncio.to_thread(self._repository.get, job_id)
        if row is None or row.status in FINAL_STATUSES:
            return state
        if state is None:
            if self._now() - row.updated_at > SUBMISSION_TIME:
                await self._raise_without_workflow(row)
            return None
        reason = f"[{state.reason_code}] {state.reason}" if state.reason else "no reason is known"
        raise JobEndedWithoutRow(job_id=job_id, status=state.status, reason=reason, row=row.status)

    async def _raise_without_workflow(self, row: JobRecord) -> NoReturn:
        # An erasure deletes the workflow first and the row last.
        if await asyncio.to_thread(self._repository.is_erased, row.id):
            raise JobErased(job_id=row.id)
        since = f"{row.updated_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        raise JobWithoutWorkflow(job_id=row.id, row=row.status, since=since)

    async def _queue(self, job_id: UUID, bucket: str, key: str, sha256: str = "") -> JobRecord:
        with crash_point(CrashPoint.JOB_QUEUED):
            return await asyncio.to_thread(self._repository.queue, job_id, bucket=bucket, key=key, sha256=sha256)

    async def _store_raw(self, photo: _Photo) -> None:
        with crash_point(CrashPoint.RAW_OBJECT_STORED):
            await asyncio.to_thread(self._write_raw, photo)

    def _write_raw(self, photo: _Photo) -> None:
        """Write a photo once: after a second write Textract would charge again, and a bucket may keep both versions.

        An existing object of another size is a partial write and is replaced. The job's verification checks the bytes.
        """
        try:
            written = self._store.put_new(self._bucket, photo.key, photo.body, content_type=photo.content_type)
        except StorageUnavailable:
            # If two clients write a new key at the same moment, S3 refuses one of them.
            if self._size_of(photo.key) is None:
                raise
            written = False
        if not written and self._size_of(photo.key) != len(photo.body):
            self._store.put(self._bucket, photo.key, photo.body, content_type=photo.content_type)

    def _size_of(self, key: str) -> int | None:
        try:
            return self._store.head(self._bucket, key).size_bytes
        except ObjectMissing:
            return None

    async def _keep_raw(self, job_id: UUID, photo: _Photo) -> None:
        """Store a queued job's photo again if the erasure of another job with the same photo has deleted it.

        From now on the job's row keeps other jobs' erasures from deleting the photo.
        """
        try:
            await asyncio.to_thread(self._store.head, self._bucket, photo.key)
        except ObjectMissing:
            if await asyncio.to_thread(self._repository.is_erased, job_id):
                raise JobErased(job_id=job_id) from None
            await self._store_raw(photo)

    def _withdraw(self, job_id: UUID, key: str) -> None:
        """Delete the upload of a refused submission, unless another job uses the same photo."""
        with self._repository.sole_user(job_id, bucket=self._bucket, key=key) as sole:
            if sole:
                self._store.delete(self._bucket, key)

    async def wait(self, job_id: UUID) -> JobReport:
        """Wait for a job's end, whatever its outcome, and report it. Raises ``JobErased`` if it is erased meanwhile.

        Raises ``JobWithoutWorkflow`` if the row is open and Temporal has no workflow, and ``JobMissing`` if there is no
        row either. A run that ended because the job was reset or restarted is not the job's end.
        """
        record = await asyncio.to_thread(self._repository.get, job_id)
        while record is None or record.status not in FINAL_STATUSES:
            try:
                await self._require_orchestrator().result(IMAGE_PROCESSING.of(job_id))
            except JobMissing as error:
                if await asyncio.to_thread(self._repository.is_erased, job_id):
                    raise JobErased(job_id=job_id) from error
                latest_row = await asyncio.to_thread(self._repository.get, job_id)
                if latest_row is None:
                    raise
                if latest_row.status not in FINAL_STATUSES:
                    await self._raise_without_workflow(latest_row)
            except (JobFailed, JobCancelled) as error:
                # Any other error says nothing about the job.
                latest = await self._require_orchestrator().state(IMAGE_PROCESSING.of(job_id))
                if latest is not None and latest.is_open:
                    continue
                succeeded = latest is not None and latest.status == "completed"
                if succeeded or not await asyncio.to_thread(self._settle, job_id, error):
                    await self.workflow_of(job_id)
            break
        return await asyncio.to_thread(self.report, job_id)

    def _settle(self, job_id: UUID, error: PhotoWorkerError) -> bool:
        """Record the failure of a job that could not do so itself, such as a terminated one.

        Returns False if a service or a worker was at fault: the row stays open and the job can be restarted.
        """
        record = self._repository.get(job_id)
        if record is None or record.status in FINAL_STATUSES:
            return True
        code = str(error.context.get("reason_code") or error.code)
        if not ends_job(code):
            return False
        self._repository.fail(
            job_id,
            bucket=record.s3_raw_bucket,
            key=record.s3_raw_key,
            code=code,
            message=str(error.context.get("reason") or error.message),
        )
        return True

    def report(self, job_id: UUID) -> JobReport:
        """Report a job's current state. Raises ``JobMissing``, or ``JobErased`` as soon as its erasure has begun."""
        if self._repository.is_erased(job_id):
            raise JobErased(job_id=job_id)
        record = self._repository.get(job_id)
        if record is None:
            raise JobMissing(job_id=job_id)
        if record.status != "succeeded" or not record.s3_bucket or not record.s3_ocr_key:
            return JobReport(record)
        response = load_response(self._store, record.s3_bucket, record.s3_ocr_key)
        return _with_text(record, response, self._converted(record.s3_bucket, record.s3_manifest_key))

    def _converted(self, bucket: str, manifest_key: str | None) -> str | None:
        """Return the location of the copy that a manifest names; ``check`` reports a missing manifest."""
        if manifest_key is None:
            return None
        try:
            text = self._store.get(bucket, manifest_key, limit_bytes=OCR_RESULT_LIMIT_BYTES)
            copy = Manifest.model_validate_json(text).converted
        except (ObjectMissing, DocumentTooLarge, ValueError):
            return None
        return _location(copy.bucket, copy.key) if copy else None

    def _require_orchestrator(self) -> WorkflowOrchestrator:
        if self._orchestrator is None:
            raise RuntimeError("this service was made without an orchestrator: it only reports")
        return self._orchestrator


@dataclass(frozen=True)
class _Photo:
    """A file's bytes with the key, hash and content type under which they are stored."""

    key: str
    sha256: str
    content_type: str
    body: bytes


def check_engine(engine: str | None) -> None:
    """Raise ``InvalidEngine`` if no OCR backend can have this name; None leaves the choice to the worker."""
    if engine is not None and not re.fullmatch(ENGINE_NAME, engine):
        raise InvalidEngine(engine=cut(engine), reason=f"the name of an engine is {ENGINE_FORM}")


def _request(job_id: UUID, bucket: str, key: str, options: Mapping[str, str | int | None]) -> ImageProcessingInput:
    """Return the workflow's input.

    Raises ``InvalidBucket`` or ``InvalidContract`` if the contract refuses a value. The caller's arguments are at fault
    then: the contract accepts the bucket of the settings.

    It is built before anything is written, so that a too long value leaves no photo and no row that no job ever reads.
    An empty bucket is refused because in the oldest rows it stands for the worker's own bucket: such a job would refer
    to another object there, and its erasure would delete that object.
    """
    if not bucket:
        raise InvalidBucket(bucket=bucket, reason="it is empty").from_option()
    try:
        return ImageProcessingInput.model_validate({"job_id": str(job_id), "bucket": bucket, "key": key, **options})
    except ValidationError as error:
        faults = {str(fault["loc"][0]): fault["msg"] for fault in error.errors(include_url=False, include_input=False)}
        if "bucket" in faults:
            long = InvalidBucket(bucket=f"{bucket[:_SHOWN]}...", reason=f"it has {len(bucket)} characters")
            raise long.from_option() from None
        reason = "; ".join(f"{name}: {fault}" for name, fault in faults.items())
        raise InvalidContract(contract=ImageProcessingInput.__name__, reason=reason).from_option() from None


def _read(path: Path) -> _Photo:
    try:
        body = read_regular(path, UPLOAD_LIMIT_BYTES)
    except FileTooLarge as error:
        raise DocumentTooLarge(name=str(path), size_bytes=error.size_bytes, limit_bytes=UPLOAD_LIMIT_BYTES) from error
    except OSError as error:
        raise SourceUnreadable(path=str(path), reason=error.strerror or str(error)) from error
    with crash_point(CrashPoint.PHOTO_HASHED):
        sha256 = hashlib.sha256(body).hexdigest()
    guessed = media.sniff(body) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return _Photo(raw_key(sha256, path.suffix), sha256, guessed, body)


def _with_text(record: JobRecord, response: dict[str, Any], converted: str | None) -> JobReport:
    blocks = response["Blocks"]
    confidences = [block["Confidence"] for block in blocks if block["BlockType"] == "WORD"]
    return JobReport(
        record=record,
        converted=converted,
        lines=[block["Text"] for block in blocks if block["BlockType"] == "LINE"],
        words=len(confidences),
        mean_confidence=sum(confidences) / len(confidences) if confidences else None,
    )
