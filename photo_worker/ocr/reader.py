"""A document's bytes in, the answer of DetectDocumentText out: engine, layout and blocks together."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

from photo_worker.errors import EngineUnavailable
from photo_worker.ocr.blocks import detect_text_response
from photo_worker.ocr.document import load_image
from photo_worker.ocr.layout import lines_of
from photo_worker.ocr.ocrust_engine import OcrustEngine


class DocumentReader:
    """Reads documents with the project's engine. Safe to call from several threads."""

    def __init__(self, threads: int | None = None) -> None:
        """``threads`` is how many threads one reading uses; None leaves it to the runtime."""
        self._engine = OcrustEngine(threads)

    @property
    def engine(self) -> str:
        """The engine's name."""
        return self._engine.name

    @property
    def version(self) -> str:
        """The engine's and its models' version."""
        return self._engine.version

    def warm(self) -> None:
        """Load the models, so that the first document does not wait for them."""
        self._engine.warm()

    def read(self, content: bytes, name: str) -> dict[str, Any]:
        """Return the document's DocumentMetadata, Blocks and DetectDocumentTextModelVersion.

        The same bytes give the same answer, ids included. Raises the errors of ``load_image``, and
        ``EngineUnavailable``.
        """
        try:
            reading = self._engine.read(load_image(content, name))
        except ImportError as error:
            # Decoding needs packages of the same extra as the engine.
            raise EngineUnavailable(engine=self.engine, reason=str(error)) from error
        return detect_text_response(lines_of(reading.rows), reading.frame, hashlib.sha256(content).hexdigest())


@lru_cache(maxsize=1)
def _shared() -> DocumentReader:
    return DocumentReader()


def read_document(content: bytes) -> dict[str, Any]:
    """Read one document with this process's own reader: for scripts and measurements."""
    return _shared().read(content, "document")
