"""Successive attempts of one activity, as Temporal makes them, at a Textract that remembers its jobs for days."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from photo_worker import policies
from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.adapters.ocr.textract import TextractBackend
from photo_worker.errors import PhotoWorkerError
from photo_worker.ports.object_store import DocumentRef
from tests.crash.simulation.textract import MemoryTextract, blocks_of

ACCESS = "Unable to get object metadata from S3. Check object key, region and/or access permissions."
FIRST, SECOND = b"a photo", b"another photo"
SHA256 = hashlib.sha256(FIRST).hexdigest()
PHOTO = DocumentRef("photos", "k.png", "image/png", len(FIRST), SHA256)
CALL = timedelta(milliseconds=50)

# No result has so many pages: an attempt that makes more calls would never end.
MOST_CALLS = 5_000


class DiedError(BaseException):
    """Stands for the end of the worker's process; a BaseException, so that no handler of the product runs."""


@dataclass
class Notes:
    """The ``AttemptNotes`` of one activity, kept between attempts."""

    note: Any = None

    def read(self) -> Any:
        return self.note

    def write(self, note: Any) -> None:
        self.note = dict(note)


@dataclass
class Reading:
    """The outcome of a document's attempts: its text, or the code of the error that ended the job."""

    seconds: list[float] = field(default_factory=list)
    """How long each attempt took."""
    died: int = 0
    """How many attempts ended with the death of the process."""
    text: list[str] = field(default_factory=list)
    code: str = ""


def text_of(body: bytes) -> list[str]:
    return texts(blocks_of(body))


def texts(blocks: list[dict[str, Any]]) -> list[str]:
    return [block["Text"] for block in blocks if "Text" in block]


class Days:
    """A fake Textract that a test can make fail, and a clock that advances with waits and calls."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.began = self.now
        self.store = MemoryObjectStore()
        self.store.ensure_bucket("photos")
        self.textract = MemoryTextract(self.store, lambda: self.now)
        self.meta = self.textract.meta
        self.calls = 0
        """The number of calls in the current attempt."""
        self.at_start: Callable[[], object] = lambda: None
        self.at_look: Callable[[], object] = lambda: None
        self.told: Callable[[dict[str, Any]], dict[str, Any]] = lambda response: response
        """Changes a response about a job before the product gets it."""
        self.put(FIRST)

    def put(self, body: bytes) -> None:
        self.store.put("photos", "k.png", body, content_type="image/png")

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=max(seconds, 0))

    def seconds(self) -> float:
        return (self.now - self.began).total_seconds()

    def start_document_text_detection(self, **request: Any) -> dict[str, Any]:
        self._call()
        self.at_start()
        return self.textract.start_document_text_detection(**request)

    def get_document_text_detection(self, **request: Any) -> dict[str, Any]:
        self._call()
        self.at_look()
        return self.told(self.textract.get_document_text_detection(**request))

    def _call(self) -> None:
        self.now += CALL
        self.calls += 1
        if self.calls > MOST_CALLS:
            raise DiedError

    def jobs_fail(self, seconds: float, says: str) -> None:
        """Fail the jobs that are started within the next ``seconds``, with this message."""
        until = self.now + timedelta(seconds=seconds)

        def fails() -> None:
            self.textract.failures[:] = [says] if self.now < until else []

        self.at_start = fails

    def read(self, document: DocumentRef = PHOTO, *, most: int = 50) -> Reading:
        """Read the document in a new job: until it is read, fails for good, or ``most`` attempts have passed."""
        client: Any = self
        found, notes = Reading(), Notes()
        while len(found.seconds) < most:
            if found.seconds:
                self.now += policies.OCR.wait_before(len(found.seconds) + 1)
            self.calls, began = 0, self.seconds()
            backend = TextractBackend(client, notes=notes, wait=self.wait, clock=self.seconds)
            try:
                found.text = texts(backend.detect_text(document).response["Blocks"])
            except DiedError:
                found.died += 1
            except PhotoWorkerError as error:
                found.code = "" if error.passes else error.code
            found.seconds.append(self.seconds() - began)
            if found.text or found.code:
                return found
        found.code = "its time is over"
        return found


@pytest.fixture
def days() -> Days:
    return Days()


def test_textract_attempts_after_crash_charge_once(days: Days) -> None:
    def dies() -> None:
        days.at_look = lambda: None
        raise DiedError

    days.at_look = dies
    found = days.read()
    assert (found.text, found.died) == (text_of(FIRST), 1)
    days.wait(3600)
    assert dict(days.textract.charges) == {SHA256: 1}


def test_textract_attempts_without_hash_read_current_bytes(days: Days) -> None:
    unknown = replace(PHOTO, sha256="")
    first = days.read(unknown)
    days.put(SECOND)
    assert (first.text, days.read(unknown).text) == (text_of(FIRST), text_of(SECOND))


def test_textract_attempts_after_brief_fault_read_photo(days: Days) -> None:
    days.jobs_fail(40, "Something")
    found = days.read()
    assert (found.code, found.text) == ("", text_of(FIRST))


def test_textract_attempts_after_missing_permission_read_photo(days: Days) -> None:
    days.jobs_fail(60, ACCESS)
    found = days.read()
    assert (found.code, found.text) == ("", text_of(FIRST))
    # A later reading passes the failed jobs and joins the one that succeeded.
    assert days.read().text == text_of(FIRST)
    assert dict(days.textract.charges) == {SHA256: 1}


def test_textract_attempts_first_one_passes_old_failed_jobs(days: Days) -> None:
    days.jobs_fail(timedelta(days=1).total_seconds(), ACCESS)
    assert days.read(most=20).text == []
    days.at_start = lambda: None
    days.textract.failures.clear()
    found = days.read()
    assert (found.text, len(found.seconds)) == (text_of(FIRST), 1)


def test_textract_attempts_damaged_document_starts_one_job(days: Days) -> None:
    days.jobs_fail(3600, "Request has unsupported document format")
    assert [days.read().code for _ in range(3)] == ["document_unsupported"] * 3
    assert days.textract.started == 1


def test_textract_attempts_sound_document_is_read_completely(days: Days) -> None:
    assert days.read().text == text_of(FIRST)


def test_textract_attempts_circular_result_pages_terminate(days: Days) -> None:
    days.told = lambda response: response | {"NextToken": "2"} if "NextToken" in response else response
    days.textract = MemoryTextract(days.store, lambda: days.now, page_size=3)
    found = days.read(most=2)
    assert (found.died, found.text) == (0, [])


def test_textract_attempts_partial_success_is_unreadable(days: Days) -> None:
    def partial(response: dict[str, Any]) -> dict[str, Any]:
        if response["JobStatus"] == "IN_PROGRESS":
            return response
        left_out = [block for block in response["Blocks"] if block.get("Text") != text_of(FIRST)[-1]]
        return response | {"JobStatus": "PARTIAL_SUCCESS", "Blocks": left_out}

    days.told = partial
    found = days.read()
    assert (found.text, found.code) == ([], "document_unreadable")


def test_textract_attempts_with_throttled_calls_read_photo(days: Days) -> None:
    asked = 0

    def refused() -> None:
        nonlocal asked
        asked += 1
        days.textract.throttled = int(asked % 3 == 0)

    days.at_start = days.at_look = refused
    found = days.read()
    assert (found.code, found.text) == ("", text_of(FIRST))


def test_textract_attempts_end_before_activity_timeout(days: Days) -> None:
    days.told = lambda response: {"JobStatus": "IN_PROGRESS"}
    found = days.read(most=3)
    limit = policies.OCR.start_to_close_timeout.total_seconds()
    assert all(60 < seconds < limit for seconds in found.seconds), found.seconds
    assert (found.died, found.text) == (0, [])
