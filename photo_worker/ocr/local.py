"""The ``local`` backend: a real OCR engine on the worker's own machine."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any, Protocol

from photo_worker.errors import SourceReplaced
from photo_worker.ocr.reading_processes import ReadingProcesses
from photo_worker.policies import SYNC_OCR_LIMIT_BYTES
from photo_worker.ports import DetectedText, DocumentRef, ObjectStore

ENGINE = "local"


class Reader(Protocol):
    """Reads documents. Called from several threads."""

    @property
    def version(self) -> str:
        """The version of the engine and its models."""

    def warm(self) -> None:
        """Load what the first document would load."""

    def read(self, content: bytes, name: str, /) -> dict[str, Any]:
        """Return a document's text as DetectDocumentText answers, or raise ``InputError``."""


class LocalBackend:
    """Reads the object's bytes and recognises them on this machine. Needs the extra ``local-ocr``."""

    engine = ENGINE

    def __init__(
        self,
        store: ObjectStore,
        reader: Reader | None = None,
        *,
        parallel: int | None = None,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """``reader`` is shared by all calls; without one, at most ``parallel`` processes with bounds of their own read.

        ``wait`` passes seconds while they do, and raises where the attempt is to end there.
        """
        self._store = store
        self._reader = reader or ReadingProcesses(look=lambda: wait(0), parallel=parallel)

    def require_usable(self) -> None:
        """Load the models, once. Raises ``EngineUnavailable`` where the engine is not installed."""
        self._reader.warm()

    def detect_text(self, document: DocumentRef) -> DetectedText:
        """Return the document's blocks.

        Raises ``InputError``, of which ``SourceReplaced`` where it reads other bytes than were verified,
        ``StorageUnavailable``, or ``DecoderUnavailable`` where the machine has nothing left to read it with.
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
