"""Activity that reads a document's text with an OCR backend and stores the response."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

from temporalio import activity

from photo_worker import media
from photo_worker.activities.heartbeats import heartbeating
from photo_worker.contracts.image import OcrInput, OcrResult
from photo_worker.contracts.keys import is_upload_of, ocr_key, parse_job_id
from photo_worker.crash_points import CrashPoint, crash_point
from photo_worker.errors import (
    DocumentTooLarge,
    InputError,
    JobErased,
    ObjectForbidden,
    ObjectMissing,
    OcrRefused,
    SourceReplaced,
    StorageUnavailable,
)
from photo_worker.policies import OCR_RESULT_LIMIT_BYTES, SYNC_OCR_LIMIT_BYTES
from photo_worker.ports.job_repository import JobRepository
from photo_worker.ports.object_store import DocumentRef, ObjectInfo, ObjectStore, Revision
from photo_worker.ports.ocr import DetectedText, OcrBackend

OCR_CONTENT_TYPE = "application/json"


class OcrActivities:
    """Activities that run an OCR backend and store its whole response in the object store."""

    def __init__(
        self,
        store: ObjectStore,
        repository: JobRepository,
        backends: Callable[[str], OcrBackend],
        bucket: str,
    ) -> None:
        """``backends`` returns the backend with an engine's name, or raises ``BackendMissing``."""
        self._store = store
        self._repository = repository
        self._backends = backends
        self._bucket = bucket

    # An exception that a cancellation throws into the thread could arrive before Textract's response is stored.
    @activity.defn(no_thread_cancel_exception=True)
    def ocr_textract(self, request: OcrInput) -> OcrResult:
        """Read the document and write the full OCR response to ``artifacts/{job_id}/textract.json``.

        Recorded histories contain the activity's name, whichever backend runs. The response that is stored first is the
        job's, and later attempts return it, so a result that was reported never changes. Each attempt looks for a
        stored response first, also the attempt with number 1: after an unexpected error Temporal counts from 1 again.
        Raises ``JobErased`` if the job was erased meanwhile, and leaves nothing of it. Raises ``SourceReplaced`` if the
        object that was read may differ from the verified one, and stores no text.
        """
        with heartbeating():
            return self._read(request)

    def _read(self, request: OcrInput) -> OcrResult:
        info = activity.info()
        job_id = parse_job_id(request.job_id or info.workflow_id or "")
        backend = self._backends(request.engine)
        document = self._document(request)
        key = ocr_key(job_id)
        result = self._kept(key, document)
        if result is None:
            if document.size_bytes > SYNC_OCR_LIMIT_BYTES:
                raise DocumentTooLarge(
                    name=document.key, size_bytes=document.size_bytes, limit_bytes=SYNC_OCR_LIMIT_BYTES
                )
            result = self._keep(job_id, document, backend.engine, self._detected(backend, document))
        # Checked after the write: an erasure either finds the object, or has marked the job before.
        if self._repository.is_erased(job_id):
            self._store.delete(self._bucket, key)
            raise JobErased(job_id=job_id)
        return result

    def _detected(self, backend: OcrBackend, document: DocumentRef) -> DetectedText:
        """Return the backend's response, after making sure that it is about the verified bytes."""
        # An upload is read without its version, so that its request token outlives the version. Its current object is
        # compared as in a bucket without versions.
        has_versions = bool(document.revision.version_id) and not is_upload_of(document.key, document.sha256)
        if document.revision and not has_versions:
            # OCR of an object that was replaced would be charged for nothing.
            self._require_unchanged(document)
        try:
            detected = backend.detect_text(document)
        except (OcrRefused, InputError):
            # Textract reports a missing object as refused, and the fault may be in a document that replaced this one.
            self._require_unchanged(document)
            raise
        if document.revision and not has_versions:
            self._require_unchanged(document)
        return detected

    def _require_unchanged(self, document: DocumentRef) -> None:
        """Raise ``SourceReplaced`` if the key no longer has the object that was verified."""
        revision = document.revision
        try:
            upload = is_upload_of(document.key, document.sha256)
            version_id = "" if upload else revision.version_id
            found = self._store.head(document.bucket, document.key, version_id=version_id)
        except ObjectMissing:
            if not revision:
                raise
            found = None
        if revision and (found is None or found.revision != revision):
            raise SourceReplaced(bucket=document.bucket, key=document.key)

    def _keep(self, job_id: UUID, document: DocumentRef, engine: str, detected: DetectedText) -> OcrResult:
        """Store the response unless the job has one for these bytes, and return the result of the stored one."""
        key = ocr_key(job_id)
        body = encode_response(detected.response)
        metadata = {
            "source-sha256": document.sha256,
            "ocr-engine": engine,
            "ocr-version": detected.ocr_version,
            "page-count": str(detected.page_count),
        }
        with crash_point(CrashPoint.RESULT_OBJECT_STORED):
            written = self._store.put_new(self._bucket, key, body, content_type=OCR_CONTENT_TYPE, metadata=metadata)
        if not written:
            about = self._store.head(self._bucket, key)
            kept = _response_for(document, about)
            if kept is not None:
                return kept
            # The stored response is for other bytes, or for bytes whose hash was not known.
            self._require_current(job_id, document)
            written = self._store.replace(
                self._bucket, key, body, etag=about.etag, content_type=OCR_CONTENT_TYPE, metadata=metadata
            )
            if not written:
                # Another attempt was faster: its response is the job's if it is about the same bytes.
                raise StorageUnavailable(store=self._store.describe(), reason="another attempt stores its response")
        return OcrResult(
            ocr_engine=engine, ocr_version=detected.ocr_version, s3_ocr_key=key, page_count=detected.page_count
        )

    def _require_current(self, job_id: UUID, document: DocumentRef) -> None:
        """Raise ``SourceReplaced`` if the job's row has the hash of other bytes than this attempt has read."""
        row = self._repository.get(job_id)
        if row is not None and document.sha256 and row.content_sha256 not in {"", document.sha256}:
            raise SourceReplaced(bucket=document.bucket, key=document.key)

    def _document(self, request: OcrInput) -> DocumentRef:
        if request.size_bytes is None or request.content_type is None:
            found = self._store.head(request.bucket, request.key)
            size, content_type = found.size_bytes, media.media_type(found.content_type)
        else:
            size, content_type = request.size_bytes, request.content_type
        return DocumentRef(
            bucket=request.bucket,
            key=request.key,
            content_type=content_type,
            size_bytes=size,
            sha256=request.sha256 or "",
            revision=Revision(request.version_id or "", request.etag or "", request.modified_at or ""),
        )

    def _kept(self, key: str, document: DocumentRef) -> OcrResult | None:
        """Return the stored result for the same bytes, of whatever engine: another worker may use another one."""
        try:
            return _response_for(document, self._store.head(self._bucket, key))
        except ObjectMissing:
            return None
        except ObjectForbidden:
            # Without s3:ListBucket S3 reports a missing object as forbidden, and a first attempt rarely finds one.
            if activity.info().attempt > 1:
                raise
            return None


def _response_for(document: DocumentRef, stored: ObjectInfo) -> OcrResult | None:
    about = stored.metadata
    if not document.sha256 or about.get("source-sha256") != document.sha256:
        return None
    return OcrResult(
        ocr_engine=about["ocr-engine"],
        ocr_version=about["ocr-version"],
        s3_ocr_key=stored.key,
        page_count=int(about["page-count"]),
    )


def encode_response(response: Any) -> bytes:
    """Return an OCR response as it is stored: compact UTF-8 JSON in the response's own key order."""
    return json.dumps(response, ensure_ascii=False, separators=(",", ":")).encode()


def load_response(store: ObjectStore, bucket: str, key: str) -> dict[str, Any]:
    """Return a stored OCR response."""
    response: dict[str, Any] = json.loads(store.get(bucket, key, limit_bytes=OCR_RESULT_LIMIT_BYTES))
    return response
