"""The record of a job, and the names of its Start and Get operations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from textract_local.server.faults import JobFault

EXPIRY_SECONDS = 7 * 24 * 3600
"""How long a job and its ClientRequestToken are valid after the start of the job (D: StartDocumentAnalysis)."""


class JobStatus(StrEnum):
    """The values of JobStatus."""

    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    PARTIAL_SUCCESS = "PARTIAL_SUCCESS"


@dataclass(frozen=True)
class JobKind:
    """A Start operation, its Get operation, and the member of responses with the model's version."""

    start: str
    get: str
    version_member: str


TEXT_DETECTION = JobKind("StartDocumentTextDetection", "GetDocumentTextDetection", "DetectDocumentTextModelVersion")
ANALYSIS = JobKind("StartDocumentAnalysis", "GetDocumentAnalysis", "AnalyzeDocumentModelVersion")
KINDS = (TEXT_DETECTION, ANALYSIS)


@dataclass(frozen=True)
class AnalysisJob:
    """A job in the store. ``given`` is its input without the token; ``blocks``, their number, is set at its end.

    ``engine`` is the name and version that read the pages so far, ``sha256`` the document's hash; both are empty
    before the first page. ``created`` is in seconds since 1970; ageing the job reduces it.
    """

    id: str
    operation: str
    given: Mapping[str, Any]
    created: float
    status: JobStatus
    fault: JobFault | None = None
    hold_until: float = 0.0
    engine: str = ""
    sha256: str = ""
    status_message: str | None = None
    pages: int | None = None
    blocks: int | None = None
    unread: Mapping[int, str] | None = None
    notified: int = 0

    @property
    def kind(self) -> JobKind:
        """The Start and Get operations of the job."""
        return next(kind for kind in KINDS if kind.start == self.operation)

    @property
    def location(self) -> Mapping[str, Any]:
        """The DocumentLocation of the input."""
        location: Mapping[str, Any] = self.given["DocumentLocation"]
        return location

    @property
    def document_name(self) -> str:
        """The document's name in faults and logs, ``s3://bucket/key``."""
        return name_of(self.given)


def name_of(given: Mapping[str, Any]) -> str:
    """Return the document of a Start operation's valid input as ``s3://bucket/key``."""
    stored = given["DocumentLocation"]["S3Object"]
    return f"s3://{stored['Bucket']}/{stored['Name']}"


def canonical(given: Mapping[str, Any]) -> str:
    """Return an input as JSON that does not depend on the order of its members, for comparison."""
    return json.dumps(given, sort_keys=True, separators=(",", ":"))


def fault_to_json(fault: JobFault | None) -> str | None:
    """Return a fault as JSON for the store."""
    return None if fault is None else json.dumps(asdict(fault))


def fault_from_json(text: str | None) -> JobFault | None:
    """Return the fault from the JSON of ``fault_to_json``."""
    return None if text is None else JobFault(**json.loads(text))
