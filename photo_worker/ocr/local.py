"""The ``local`` backend: a real OCR engine in the worker's own process."""

from __future__ import annotations

import hashlib

from photo_worker.errors import SourceReplaced
from photo_worker.ocr.reader import DocumentReader
from photo_worker.policies import SYNC_OCR_LIMIT_BYTES
from photo_worker.ports import DetectedText, DocumentRef, ObjectStore

ENGINE = "local"


class LocalBackend:
    """Reads the object's bytes and recognises them here. Needs the extra ``local-ocr``."""

    engine = ENGINE

    def __init__(self, store: ObjectStore, reader: DocumentReader | None = None) -> None:
        """``reader`` is shared by all calls; without one, one is made and loads at its first use."""
        self._store = store
        self._reader = reader or DocumentReader(threads=1)

    def require_usable(self) -> None:
        """Load the models, once. Raises ``EngineUnavailable`` where the engine is not installed."""
        self._reader.warm()

    def detect_text(self, document: DocumentRef) -> DetectedText:
        """Return the document's blocks.

        Raises ``InputError``, of which ``SourceReplaced`` where it reads other bytes than were verified, or
        ``StorageUnavailable``.
        """
        content = self._store.get(
            document.bucket,
            document.key,
            version_id=document.revision.version_id,
            limit_bytes=SYNC_OCR_LIMIT_BYTES,
        )
        if document.sha256 and hashlib.sha256(content).hexdigest() != document.sha256:
            raise SourceReplaced(bucket=document.bucket, key=document.key)
        return DetectedText(self._reader.read(content, document.key), self._reader.version)
