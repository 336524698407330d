"""Read a document with a job of Textract's asynchronous API, charged once despite crashes and duplicate attempts.

StartDocumentTextDetection takes a ClientRequestToken: the same token with the same input is the same job, for
7 days (Amazon Textract API reference). The token here is a digest of the document's place and bytes. An attempt
after a crash, a concurrent attempt and another submission of the same photo send the same token, so that they
join the existing job and get its response.

A failed job keeps its token for 7 days as well, so that this token cannot start another one. Textract does not charge a
failed job; the document's next generation replaces it, with a token of its own. A generation is started only if Get has
reported that the one before it failed, so that at most one job of a document is charged. An attempt that starts at
generation 0 passes all failed jobs again, which costs two calls for each and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from photo_worker import policies
from photo_worker.adapters.ocr.textract_errors import explained, job_failure, too_costly, too_large
from photo_worker.contracts.keys import is_upload_of
from photo_worker.crash_points import CrashPoint, crash_point
from photo_worker.errors import (
    DocumentTooCostly,
    OcrThrottled,
    OcrUnavailable,
    PhotoWorkerError,
    UnreadableDocument,
    UnsupportedDocument,
)
from photo_worker.ports.object_store import DocumentRef
from photo_worker.ports.ocr import AttemptNotes

if TYPE_CHECKING:
    from mypy_boto3_textract import TextractClient
    from mypy_boto3_textract.type_defs import GetDocumentTextDetectionRequestTypeDef, S3ObjectTypeDef

OPERATION = "StartDocumentTextDetection"

# A failure without a stated cause may be the service's fault, and a service fault may last an hour. So the waits
# between such jobs double from one minute to half an hour, and only after twelve failures, over three and a half hours,
# is the document at fault. A later submission of it passes these jobs and starts three more, over an hour.
UNEXPLAINED_FAILURES = 12
UNEXPLAINED_LEAST_SECONDS = 3600.0
_FIRST_UNEXPLAINED_WAIT_SECONDS = 60.0
LONGEST_UNEXPLAINED_WAIT_SECONDS = 1800.0

# A document that exceeds the service's limits exceeds them again, unless the service was busy.
COSTLY_FAILURES = 3

# Longest wait between two jobs that had failed before: passing many of them stays below the allowed rate of Start.
_LONGEST_STEP_SECONDS = 1.0

FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 5.0
_GROWTH = 1.5
_JITTER = 0.2

# Share of an attempt's time to wait for the job; in the rest the last call ends and the response is stored.
_SHARE_OF_ATTEMPT = 0.6

# Textract's own limit is 3,000 pages (Amazon Textract quotas); an image of 10,000 words has 20 result pages.
_MOST_RESPONSES = 1000


def request_token(document: DocumentRef, generation: int = 0) -> str:
    """Return the token for a document's job, 64 hexadecimal digits; a random one if the sha256 is not known."""
    if not document.sha256:
        return secrets.token_hex(32)
    read: list[object] = [OPERATION, document.bucket, document.key, document.sha256, *_revision(document)]
    again = [generation] if generation else []
    return hashlib.sha256(json.dumps([*read, *again]).encode()).hexdigest()


def _revision(document: DocumentRef) -> list[dict[str, str]]:
    """Return what distinguishes a document from other objects under its key, which a job may have read instead.

    This is the version id, which the request also names, or the ETag and time that are checked again after the
    response. So a job that read other bytes under this key never counts as this document's, even if the same bytes
    return. The list is empty if no revision is known, and for an upload: its key is made from its hash, so that an
    upload that was erased and submitted again is not charged again.
    """
    revision = document.revision
    if is_upload_of(document.key, document.sha256):
        return []
    if revision.version_id:
        return [{"Version": revision.version_id}]
    return [{"ETag": revision.etag, "LastModified": revision.modified_at}] if revision else []


def s3_object(document: DocumentRef) -> S3ObjectTypeDef:
    """Return the S3Object of a document, with its version if the bucket has versions."""
    found: S3ObjectTypeDef = {"Bucket": document.bucket, "Name": document.key}
    if document.revision.version_id and not is_upload_of(document.key, document.sha256):
        found["Version"] = document.revision.version_id
    return found


def waits(token: str, longest: float = LONGEST_WAIT_SECONDS) -> Iterator[float]:
    """Yield the growing seconds between polls of a job; the jitter spreads jobs that started together."""
    factor = 1 + _JITTER * (int(token[:4], 16) / 0xFFFF - 0.5)
    seconds = FIRST_WAIT_SECONDS
    while True:
        yield seconds * factor
        seconds = min(seconds * _GROWTH, longest)


@dataclass(frozen=True)
class _Place:
    """What is known of a document's generations: those before ``generation`` failed.

    ``unexplained`` of them failed without a known cause and ``costly`` of them exceeded a limit; ``waited`` is how many
    seconds this job has waited after unexplained failures.
    """

    generation: int = 0
    unexplained: int = 0
    costly: int = 0
    waited: float = 0.0


def _noted(notes: AttemptNotes, first: str) -> _Place:
    """Return the place that the previous attempt noted; generation 0 if there is no valid note for this document."""
    found = notes.read()
    if not isinstance(found, dict) or found.get("token") != first:
        return _Place()
    generation, waited = found.get("generation"), found.get("waited", 0.0)
    counts = [found.get("unexplained"), found.get("costly", 0)]
    numbers = [each for each in (generation, *counts) if isinstance(each, int) and each >= 0]
    if len(numbers) < 3 or max(numbers) > numbers[0] or not isinstance(waited, (int, float)):
        return _Place()
    return _Place(numbers[0], numbers[1], numbers[2], waited)


@dataclass(frozen=True)
class JobLimits:
    """Limits of a document's jobs. ``attempt_seconds`` returns the time of the attempt that reads it."""

    attempt_seconds: Callable[[], float] = policies.OCR.start_to_close_timeout.total_seconds
    first_unexplained_wait_seconds: float = _FIRST_UNEXPLAINED_WAIT_SECONDS
    most_responses: int = _MOST_RESPONSES

    def unexplained_wait(self, count: int) -> float:
        """Return the seconds between two jobs after ``count`` failures without a stated cause."""
        doubled = self.first_unexplained_wait_seconds * 2.0 ** min(count - 1, 30)
        return min(doubled, LONGEST_UNEXPLAINED_WAIT_SECONDS)


class TextDetectionJobs:
    """Starts or joins jobs and waits for their responses. As thread-safe as its client."""

    def __init__(
        self,
        client: TextractClient,
        service: str,
        *,
        notes: AttemptNotes,
        wait: Callable[[float], None],
        clock: Callable[[], float],
        limits: JobLimits = JobLimits(),
    ) -> None:
        """``wait`` sleeps for seconds, and may raise to end the attempt; ``clock`` returns monotonic seconds."""
        self.limits = limits
        self._client = client
        self._service = service
        self._notes = notes
        self._wait = wait
        self._clock = clock

    def response(self, document: DocumentRef) -> dict[str, Any]:
        """Return a document's text in the shape of a DetectDocumentText response.

        Jobs that had failed before the first poll are passed, with waits that grow from 0.1 s to a second. A job that
        fails during this attempt ends it: the next attempt starts the next generation, so that the waits between
        attempts also separate jobs.

        Raises ``InputError`` if the document is at fault; ``OcrThrottled``, ``OcrUnavailable`` and ``OcrRefused`` if
        the next attempt may continue; ``RequestTokenTaken`` and ``ServiceRefused``.
        """
        if document.size_bytes > policies.SYNC_OCR_LIMIT_BYTES:
            # The asynchronous API takes PDF and TIFF fifty times as large, but the rest of the worker does not.
            raise too_large(document)
        deadline = self._clock() + self.limits.attempt_seconds() * _SHARE_OF_ATTEMPT
        first_token = request_token(document)
        place = _noted(self._notes, first_token)
        steps = waits(first_token, _LONGEST_STEP_SECONDS)
        while True:
            token = request_token(document, place.generation) if place.generation else first_token
            job_id = self._start(document, token)
            poll = _JobPoll(self, document, job_id, waits(token), deadline)
            first = poll.await_end()
            if first["JobStatus"] == "SUCCEEDED":
                return poll.whole(first)
            place, failure = self._failed(document, place, first, had_ended=poll.had_ended)
            if not failure.retryable:
                raise failure
            self._notes.write({"token": first_token, **asdict(place)})
            if not poll.had_ended:
                raise failure
            self.pause(next(steps), deadline, failure)

    def _failed(
        self, document: DocumentRef, place: _Place, response: Mapping[str, Any], *, had_ended: bool
    ) -> tuple[_Place, PhotoWorkerError]:
        """Return the place after a generation that failed, and the error for it."""
        reason = str(response.get("StatusMessage", "")) or "it gives no reason"
        if response["JobStatus"] == "PARTIAL_SUCCESS":
            return place, UnreadableDocument(name=document.key, reason=f"Textract read a part of it alone: {reason}")
        behind = replace(place, generation=place.generation + 1)
        what = too_costly(reason)
        if what is not None:
            return self._costly(document, behind, what, reason, had_ended=had_ended)
        failure = job_failure(reason, self._service, document)
        if failure is not None:
            return behind, failure
        behind = replace(behind, unexplained=place.unexplained + 1)
        count = behind.unexplained
        # A failure of an earlier submission is not final: a document that is submitted again is tried again.
        if count >= UNEXPLAINED_FAILURES and place.waited >= UNEXPLAINED_LEAST_SECONDS and not had_ended:
            return behind, UnreadableDocument(name=document.key, reason=f"{count} jobs for it failed: {reason}")
        failure = OcrUnavailable(engine=self._service, reason=f"a job for the document failed: {reason}")
        if not had_ended:
            failure.retry_after_seconds = self.limits.unexplained_wait(count)
            behind = replace(behind, waited=place.waited + failure.retry_after_seconds)
        return behind, failure

    def _costly(
        self, document: DocumentRef, behind: _Place, what: str, reason: str, *, had_ended: bool
    ) -> tuple[_Place, PhotoWorkerError]:
        behind = replace(behind, costly=behind.costly + 1)
        if behind.costly >= COSTLY_FAILURES and not had_ended:
            return behind, DocumentTooCostly(name=document.key, what=what)
        failure = OcrUnavailable(engine=self._service, reason=f"a job for the document failed: {reason}")
        if not had_ended:
            failure.retry_after_seconds = self.limits.unexplained_wait(behind.costly)
        return behind, failure

    def _start(self, document: DocumentRef, token: str) -> str:
        with explained(self._service, document), crash_point(CrashPoint.TEXTRACT_STARTED):
            response = self._client.start_document_text_detection(
                DocumentLocation={"S3Object": s3_object(document)},
                ClientRequestToken=token,
            )
        job_id = response.get("JobId")
        if not job_id:
            raise self.unusable("it has no JobId")
        return job_id

    def get(self, document: DocumentRef, job_id: str, next_token: str | None) -> dict[str, Any]:
        """Return one response about a job: its status or, if it has succeeded, a page of its result."""
        asked: GetDocumentTextDetectionRequestTypeDef = {"JobId": job_id}
        if next_token is not None:
            asked["NextToken"] = next_token
        with explained(self._service, document), crash_point(CrashPoint.RESULT_PAGE_FETCHED):
            return dict(self._client.get_document_text_detection(**asked))

    def pause(self, seconds: float, deadline: float, error: PhotoWorkerError | None = None) -> None:
        """Wait for ``seconds``, at most until the deadline.

        Raises ``error``, or ``OcrUnavailable`` without one, if the deadline has passed.
        """
        left = deadline - self._clock()
        if left <= 0:
            raise error or OcrUnavailable(
                engine=self._service, reason="its job has not ended yet; the next attempt goes on with it"
            )
        self._wait(min(seconds, left))

    def unusable(self, flaw: str) -> OcrUnavailable:
        """Return the error for a response that Textract would never give."""
        return OcrUnavailable(engine=self._service, reason=f"its response cannot be used: {flaw}")


class _JobPoll:
    """One attempt's polls of one job."""

    def __init__(
        self, jobs: TextDetectionJobs, document: DocumentRef, job_id: str, waits: Iterator[float], deadline: float
    ) -> None:
        self._jobs = jobs
        self._document = document
        self._job_id = job_id
        self._waits = waits
        self._deadline = deadline
        self.had_ended = True
        """Whether the job had ended at the first poll. Textract takes seconds, so that such a job existed before.

        A new job that fails even sooner counts as such a job and is passed within the attempt.
        """

    def await_end(self) -> dict[str, Any]:
        """Poll until the job has ended, and return that response."""
        while True:
            response = self._get(None)
            match response.get("JobStatus"):
                case "IN_PROGRESS":
                    self.had_ended = False
                    self._jobs.pause(next(self._waits), self._deadline)
                case "SUCCEEDED" | "PARTIAL_SUCCESS" | "FAILED":
                    return response
                case other:
                    raise self._jobs.unusable(f"JobStatus is {other!r}")

    def whole(self, first: dict[str, Any]) -> dict[str, Any]:
        """Return all result pages as one response with the members of DetectDocumentText's."""
        pages = (first.get("DocumentMetadata") or {}).get("Pages")
        if isinstance(pages, int) and pages > 1:
            actual = f"{self._document.content_type} of {pages} pages"
            raise UnsupportedDocument(name=self._document.key, actual=actual)
        blocks = list(first.get("Blocks") or [])
        seen: set[str] = set()
        next_token = first.get("NextToken")
        while next_token is not None:
            if next_token in seen or len(seen) >= self._jobs.limits.most_responses:
                raise self._jobs.unusable("its pages have no end")
            seen.add(next_token)
            response = self._get(next_token)
            blocks += response.get("Blocks") or []
            next_token = response.get("NextToken")
        return {
            "DocumentMetadata": first.get("DocumentMetadata"),
            # A synchronous response has one page and does not number it.
            "Blocks": [{name: value for name, value in block.items() if name != "Page"} for block in blocks],
            "DetectDocumentTextModelVersion": first.get("DetectDocumentTextModelVersion"),
        }

    def _get(self, next_token: str | None) -> dict[str, Any]:
        """Fetch one response; if the service throttles the call, wait and repeat it: the job goes on meanwhile."""
        while True:
            try:
                return self._jobs.get(self._document, self._job_id, next_token)
            except OcrThrottled as error:
                self._jobs.pause(next(self._waits), self._deadline, error)
