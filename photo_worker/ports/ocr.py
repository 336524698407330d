"""The port of OCR backends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from photo_worker.ports.object_store import DocumentRef


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
