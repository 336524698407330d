"""Reading an asset's text."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from temporalio import activity

from photo_worker import media
from photo_worker.contracts.image import OcrInput, OcrResult
from photo_worker.contracts.keys import ocr_key, parse_job_id
from photo_worker.errors import DocumentTooLarge, ObjectMissing
from photo_worker.policies import OCR_RESULT_LIMIT_BYTES, SYNC_OCR_LIMIT_BYTES
from photo_worker.ports import DetectedText, DocumentRef, ObjectStore, OcrBackend

OCR_CONTENT_TYPE = "application/json"


class OcrActivities:
    """Activities that run an OCR backend and keep its whole answer in the object store."""

    def __init__(self, store: ObjectStore, backends: Callable[[str], OcrBackend], bucket: str) -> None:
        """``backends`` returns the backend of an engine's name, or raises ``UnknownEngine``."""
        self._store = store
        self._backends = backends
        self._bucket = bucket

    @activity.defn
    def ocr_textract(self, request: OcrInput) -> OcrResult:
        """Read the document and write the full OCR answer to ``artifacts/{job_id}/textract.json``.

        The name stands in recorded histories, whichever backend runs. A retry looks first for the
        answer of the attempt before it: synchronous Textract has no request token, so a stored
        answer is the only thing that keeps a crash from being charged twice.
        """
        info = activity.info()
        job_id = parse_job_id(request.job_id or info.workflow_id or "")
        backend = self._backends(request.engine)
        document = self._document(request)
        key = ocr_key(job_id)
        if info.attempt > 1:
            kept = self._kept(key, document, backend.engine)
            if kept is not None:
                return kept
        if document.size_bytes > SYNC_OCR_LIMIT_BYTES:
            raise DocumentTooLarge(name=document.key, size_bytes=document.size_bytes, limit_bytes=SYNC_OCR_LIMIT_BYTES)
        detected = backend.detect_text(document)
        self._store.put(
            self._bucket,
            key,
            encode_response(detected.response),
            content_type=OCR_CONTENT_TYPE,
            metadata={
                "source-sha256": document.sha256,
                "ocr-engine": backend.engine,
                "ocr-version": detected.ocr_version,
                "page-count": str(detected.page_count),
            },
        )
        return _result(backend.engine, detected, key)

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
        )

    def _kept(self, key: str, document: DocumentRef, engine: str) -> OcrResult | None:
        """Return what an earlier attempt stored for the same bytes and engine."""
        try:
            found = self._store.head(self._bucket, key)
        except ObjectMissing:
            return None
        about = found.metadata
        if not document.sha256 or about.get("source-sha256") != document.sha256 or about.get("ocr-engine") != engine:
            return None
        return OcrResult(
            ocr_engine=engine,
            ocr_version=about["ocr-version"],
            s3_ocr_key=key,
            page_count=int(about["page-count"]),
        )


def _result(engine: str, detected: DetectedText, key: str) -> OcrResult:
    return OcrResult(
        ocr_engine=engine, ocr_version=detected.ocr_version, s3_ocr_key=key, page_count=detected.page_count
    )


def encode_response(response: Any) -> bytes:
    """Return an OCR answer as the bytes that are stored: compact UTF-8 JSON in the answer's own key order."""
    return json.dumps(response, ensure_ascii=False, separators=(",", ":")).encode()


def load_response(store: ObjectStore, bucket: str, key: str) -> dict[str, Any]:
    """Read a stored OCR answer back."""
    answer: dict[str, Any] = json.loads(store.get(bucket, key, limit_bytes=OCR_RESULT_LIMIT_BYTES))
    return answer
