"""What jobs need of the parts beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from photo_worker.devkit.textract.counters import Counters
from photo_worker.devkit.textract.documents import Document, DocumentLimits
from photo_worker.devkit.textract.faults import JobFault, NotificationFault
from photo_worker.ocr.analysis.request import Analysis


class Documents(Protocol):
    """Where documents come from. Both methods raise ``Refusal``, InternalServerError where S3 does not answer."""

    async def get(self, document: Mapping[str, Any], limits: DocumentLimits, /) -> Document:
        """Return the document of a DocumentLocation."""

    async def check(self, location: Mapping[str, Any], limits: DocumentLimits, /) -> None:
        """Raise where there is no such object, or where it is larger than any document may be."""


class Pages(Protocol):
    """Reads documents page by page. The methods raise ``Refusal`` for what cannot be read."""

    @property
    def identity(self) -> tuple[str, str]:
        """The engine's name and version."""

    async def pages(self, document: Document, limits: DocumentLimits) -> int:
        """Return how many pages a document has."""

    async def page(
        self,
        document: Document,
        number: int,
        analysis: Analysis | None,
        *,
        limits: DocumentLimits,
        counters: Counters,
        urgent: bool,
    ) -> list[dict[str, Any]]:
        """Return the blocks of a page, counted from 1, in the form of synchronous answers."""


class JobFaults(Protocol):
    """What goes wrong on purpose."""

    def for_job(self, operation: str, document_name: str) -> JobFault | None:
        """Return what becomes of a job; asked once for each."""

    def for_notification(self, operation: str, document_name: str | None = None) -> NotificationFault | None:
        """Return what becomes of a notification; asked once for each."""
