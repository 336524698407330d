"""The ``local`` backend: a real OCR engine on the worker's own machine."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any, Protocol

from photo_worker.adapters.ocr.library_errors import product_errors
from photo_worker.errors import SourceReplaced
from photo_worker.policies import SYNC_OCR_LIMIT_BYTES
from photo_worker.ports.object_store import DocumentRef, ObjectStore
from photo_worker.ports.ocr import DetectedText
from textract_local import ReadingProcesses

ENGINE = "local"


class Reader(Protocol):
    """What ``LocalBackend`` reads documents with. Called from several threads."""

    @property
    def version(self) -> str:
        """The version of the engine and its models."""

    def warm(self) -> None:
        """Load the models, so that the first document does not wait for them."""

    def read(self, content: bytes, name: str, /) -> dict[str, Any]:
        """Return a document's DetectDocumentText response. Raises ``TextractLocalError``."""


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
        """``reader`` is shared by all calls; without one, at most ``parallel`` bounded child processes read.

        ``wait`` sleeps for seconds while they read, and raises if the attempt must end.
        """
        self._store = store
        self._reader = reader or ReadingProcesses(look=lambda: wait(0), parallel=parallel)

    def require_usable(self) -> None:
        """Load the models, once. Raises ``EngineUnavailable`` if the engine is not installed."""
        with product_errors():
            self._reader.warm()

    def detect_text(self, document: DocumentRef) -> DetectedText:
        """Return the document's blocks.

        Raises ``InputError``, in particular ``SourceReplaced`` if the object's bytes are not those that were verified;
        ``StorageUnavailable``; and ``DecoderUnavailable`` if the machine lacks the resources to read it.
        """
        content = self._store.get(
            document.bucket,
            document.key,
            version_id=document.revision.version_id,
            limit_bytes=SYNC_OCR_LIMIT_BYTES,
        )
        if document.sha256 and hashlib.sha256(content).hexdigest() != document.sha256:
            raise SourceReplaced(bucket=document.bucket, key=document.key)
        with product_errors():
            return DetectedText(self._reader.read(content, document.key), self._reader.version)
