"""Textract's text detection jobs in memory, as far as ``TextractBackend`` uses them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError

from photo_worker.errors import PhotoWorkerError
from photo_worker.ports.object_store import ObjectStore

_READING = timedelta(seconds=2)
# The validity of a token (Amazon Textract API reference, StartDocumentTextDetection).
_KEPT = timedelta(days=7)
MODEL = "1.0"


@dataclass
class _Job:
    job_id: str
    location: tuple[str, str, str]
    token: str
    ready: datetime
    blocks: list[dict[str, Any]]
    sha256: str
    failure: str = ""


class MemoryTextract:
    """The two operations of a boto3 Textract client that the worker calls."""

    def __init__(self, store: ObjectStore, now: Callable[[], datetime], *, page_size: int = 2) -> None:
        self._store = store
        self._now = now
        self._page_size = page_size
        self._jobs: dict[str, _Job] = {}
        self._tokens: dict[str, str] = {}
        self.meta = SimpleNamespace(endpoint_url="memory")
        self.failures: list[str] = []
        """The StatusMessages of the next jobs, which fail."""
        self.throttled = 0
        """The number of the next calls to throttle."""

    @property
    def started(self) -> int:
        """The number of jobs."""
        return len(self._jobs)

    @property
    def refused(self) -> Counter[str]:
        """The number of refusals of each document because of its content."""
        said = "The document has an unsupported format"
        return Counter(job.sha256 for job in self._jobs.values() if job.failure == said)

    @property
    def charges(self) -> Counter[str]:
        """The number of charges of each document: jobs that ended with blocks."""
        now = self._now()
        return Counter(job.sha256 for job in self._jobs.values() if not job.failure and job.ready <= now)

    def start_document_text_detection(self, **request: Any) -> dict[str, Any]:
        """Start a job, or return the one with the same token."""
        self._throttle("StartDocumentTextDetection")
        where = request["DocumentLocation"]["S3Object"]
        version = where.get("Version", "")
        location = (where["Bucket"], where["Name"], version)
        token = request.get("ClientRequestToken", "")
        if token in self._tokens and self._now() < self._jobs[self._tokens[token]].ready - _READING + _KEPT:
            job = self._jobs[self._tokens[token]]
            if job.location != location:
                raise _error("IdempotentParameterMismatchException", "StartDocumentTextDetection")
            return {"JobId": job.job_id}
        try:
            body = self._store.get(*location[:2], version_id=version, limit_bytes=1 << 30)
        except PhotoWorkerError as error:
            raise _error("InvalidS3ObjectException", "StartDocumentTextDetection") from error
        sha256 = hashlib.sha256(body).hexdigest()
        job_id = hashlib.sha256(f"{token}/{len(self._jobs)}".encode()).hexdigest()
        failure = self.failures.pop(0) if self.failures else ""
        self._jobs[job_id] = _Job(job_id, location, token, self._now() + _READING, blocks_of(body), sha256, failure)
        if token:
            self._tokens[token] = job_id
        return {"JobId": job_id}

    def get_document_text_detection(self, **request: Any) -> dict[str, Any]:
        """Return a job's status, and its blocks in parts."""
        self._throttle("GetDocumentTextDetection")
        job = self._jobs.get(request["JobId"])
        if job is None:
            raise _error("InvalidJobIdException", "GetDocumentTextDetection")
        if self._now() < job.ready:
            return {"JobStatus": "IN_PROGRESS", "DetectDocumentTextModelVersion": MODEL}
        if job.failure:
            return {
                "JobStatus": "FAILED",
                "StatusMessage": job.failure,
                "DetectDocumentTextModelVersion": MODEL,
            }
        at = _place(request.get("NextToken", "0"), job)
        end = at + min(self._page_size, request.get("MaxResults", self._page_size))
        response: dict[str, Any] = {
            "JobStatus": "SUCCEEDED",
            "DocumentMetadata": {"Pages": 1},
            "Blocks": job.blocks[at:end],
            "DetectDocumentTextModelVersion": MODEL,
        }
        if end < len(job.blocks):
            response["NextToken"] = str(end)
        return response

    def _throttle(self, operation: str) -> None:
        if self.throttled:
            self.throttled -= 1
            raise _error("ProvisionedThroughputExceededException", operation)


def _place(token: str, job: _Job) -> int:
    """Return the offset of a part. Tokens are opaque to clients; here they are numbers."""
    if not token.isdigit() or int(token) >= len(job.blocks):
        raise _error("InvalidParameterException", "GetDocumentTextDetection")
    return int(token)


def _error(code: str, operation: str) -> ClientError:
    about: Any = {
        "Error": {"Code": code, "Message": code},
        # Without it the wait would be random, and the seed would not decide the order.
        "ResponseMetadata": {"HTTPStatusCode": 400, "HTTPHeaders": {"retry-after": "3"}},
    }
    return ClientError(about, operation)


def blocks_of(body: bytes) -> list[dict[str, Any]]:
    """Return a page with lines of one word each, parts of the document's digest."""
    digest = hashlib.sha256(body).hexdigest()
    texts = [digest[at : at + 8] for at in range(0, 24, 8)]
    box = {"Width": 0.1, "Height": 0.1, "Left": 0.1, "Top": 0.1}
    corners = [{"X": x, "Y": y} for x, y in ((0.1, 0.1), (0.2, 0.1), (0.2, 0.2), (0.1, 0.2))]
    geometry = {"BoundingBox": box, "Polygon": corners}
    ids = [f"{digest[:8]}-0000-4000-8000-{number:012d}" for number in range(2 * len(texts) + 1)]
    lines = ids[1 : len(texts) + 1]
    words = ids[len(texts) + 1 :]
    page = {"BlockType": "PAGE", "Geometry": geometry, "Id": ids[0], "Page": 1}
    page["Relationships"] = [{"Type": "CHILD", "Ids": lines}]
    found: list[dict[str, Any]] = [page]
    for block_id, word, text in zip(lines, words, texts, strict=True):
        children = [{"Type": "CHILD", "Ids": [word]}]
        about = {"Confidence": 99.0, "Text": text, "Geometry": geometry, "Page": 1}
        found.append({"BlockType": "LINE", **about, "Id": block_id, "Relationships": children})
    for word, text in zip(words, texts, strict=True):
        about = {"Confidence": 99.0, "Text": text, "TextType": "PRINTED", "Geometry": geometry, "Page": 1}
        found.append({"BlockType": "WORD", **about, "Id": word})
    return found
