"""The protocols of the other parts of the emulator that jobs use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from textract_local.reader.analysis.request import Analysis
from textract_local.server.counters import Counters
from textract_local.server.documents import Document, DocumentLimits
from textract_local.server.faults import JobFault, NotificationFault


class Documents(Protocol):
    """The source of documents. Both methods raise ``ServiceError``: InternalServerError if S3 does not respond."""

    async def get(self, document: Mapping[str, Any], limits: DocumentLimits, /) -> Document:
        """Return the document of a DocumentLocation."""

    async def check(self, location: Mapping[str, Any], limits: DocumentLimits, /) -> None:
        """Raise if there is no such object, or if it exceeds the limits."""


class Pages(Protocol):
    """Reads documents page by page. The methods raise ``ServiceError`` if they cannot be read."""

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
        """Return the blocks of a page, counted from 1, in the form of synchronous responses."""


class JobFaults(Protocol):
    """The injected faults of jobs."""

    def for_job(self, operation: str, document_name: str) -> JobFault | None:
        """Return the fault of a job, or None. Called once per job."""

    def for_notification(self, operation: str, document_name: str | None = None) -> NotificationFault | None:
        """Return the fault of a notification, or None. Called once per notification."""
