"""``TextractBackend.detect_text`` with jobs of the asynchronous API."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from photo_worker import policies
from photo_worker.adapters.ocr.textract_jobs import (
    COSTLY_FAILURES,
    LONGEST_WAIT_SECONDS,
    UNEXPLAINED_FAILURES,
    JobLimits,
    request_token,
    waits,
)
from photo_worker.adapters.times import TextractTimes
from photo_worker.errors import (
    DocumentProtected,
    DocumentTooCostly,
    DocumentTooLarge,
    OcrRefused,
    OcrThrottled,
    OcrUnavailable,
    PhotoWorkerError,
    UnreadableDocument,
    UnsupportedDocument,
)
from photo_worker.ports.object_store import DocumentRef
from tests.support.textract_responses import Reply, Served, backend_at, refusal, textract_responding

DOCUMENT = DocumentRef("photos", "Omas Karte.jpg", "image/jpeg", 1_000_000, "ab" * 32)
VERSION = {"DetectDocumentTextModelVersion": "1.0"}
STARTED = Reply(200, json.dumps({"JobId": "c0ffee"}).encode())
IN_PROGRESS = Reply(200, json.dumps({"JobStatus": "IN_PROGRESS"} | VERSION).encode())


def block(number: int) -> dict[str, Any]:
    return {"BlockType": "WORD" if number else "PAGE", "Id": f"block-{number}", "Page": 1}


def ended(status: str = "SUCCEEDED", *numbers: int, then: str | None = None, pages: int = 1, says: str = "") -> Reply:
    response: dict[str, Any] = {"DocumentMetadata": {"Pages": pages}, "JobStatus": status}
    if then is not None:
        response["NextToken"] = then
    response["Blocks"] = [block(number) for number in numbers]
    if says:
        response["StatusMessage"] = says
    return Reply(200, json.dumps(response | VERSION).encode())


def failed(says: str) -> Reply:
    return Reply(200, json.dumps({"JobStatus": "FAILED", "StatusMessage": says} | VERSION).encode())


@dataclass
class Time:
    """A clock that advances with every wait."""

    now: float = 1000.0
    waited: list[float] = field(default_factory=list)

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += seconds


@dataclass
class Notes:
    """``AttemptNotes`` that keep the note as JSON, as Temporal does."""

    note: Any = None

    def read(self) -> Any:
        return self.note

    def write(self, note: Any) -> None:
        self.note = json.loads(json.dumps(note))


@pytest.fixture
def time_passes() -> Time:
    return Time()


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def read(time_passes: Time, notes: Notes) -> Callable[[Served], dict[str, Any]]:
    def detect(served: Served, document: DocumentRef = DOCUMENT) -> dict[str, Any]:
        backend = backend_at(served.url, notes=notes, wait=time_passes.wait, clock=lambda: time_passes.now)
        return dict(backend.detect_text(document).response)

    return detect


Read = Callable[[Served], dict[str, Any]]


def asked(served: Served) -> list[tuple[str, Any]]:
    return [(str(call["target"]).removeprefix("Textract."), call["body"]) for call in served.calls]


def test_detect_text_job_is_started_polled_and_read(read: Read, time_passes: Time) -> None:
    with textract_responding(
        STARTED, IN_PROGRESS, IN_PROGRESS, ended("SUCCEEDED", 0, 1, then="two"), ended("SUCCEEDED", 2)
    ) as served:
        response = read(served)
    assert list(response) == ["DocumentMetadata", "Blocks", "DetectDocumentTextModelVersion"]
    assert [found["Id"] for found in response["Blocks"]] == ["block-0", "block-1", "block-2"]
    # As in a synchronous response, the one page has no number.
    assert all("Page" not in found for found in response["Blocks"])
    get = ("GetDocumentTextDetection", {"JobId": "c0ffee"})
    assert asked(served) == [
        (
            "StartDocumentTextDetection",
            {
                "DocumentLocation": {"S3Object": {"Bucket": "photos", "Name": "Omas Karte.jpg"}},
                "ClientRequestToken": request_token(DOCUMENT),
            },
        ),
        get,
        get,
        get,
        (get[0], {"JobId": "c0ffee", "NextToken": "two"}),
    ]
    assert len(time_passes.waited) == 2


class TestToken:
    def test_request_token_value_is_stable(self) -> None:
        # If a release changed the tokens, every document in progress would be charged again.
        assert request_token(DOCUMENT) == "48c304bc0b751f451b9d1608c49530c6c69039c6c5fa659b53ce0283d376b1d0"

    @given(st.text(), st.text(), st.integers(0, 9))
    def test_request_token_any_document_is_64_hex_digits(self, bucket: str, key: str, generation: int) -> None:
        token = request_token(replace(DOCUMENT, bucket=bucket, key=key), generation)
        assert re.fullmatch(r"[0-9a-f]{64}", token)
        assert token == request_token(replace(DOCUMENT, bucket=bucket, key=key), generation)

    def test_request_token_differs_by_document_and_generation(self) -> None:
        documents = [
            DOCUMENT,
            replace(DOCUMENT, bucket="photosO"),
            replace(DOCUMENT, key="mas Karte.jpg"),
            replace(DOCUMENT, sha256="cd" * 32),
        ]
        tokens = {request_token(document, generation) for document in documents for generation in range(9)}
        assert len(tokens) == len(documents) * 9

    def test_request_token_ignores_content_type_and_size(self) -> None:
        assert request_token(replace(DOCUMENT, content_type="image/png", size_bytes=1)) == request_token(DOCUMENT)

    def test_request_token_without_hash_is_unique(self) -> None:
        unknown = replace(DOCUMENT, sha256="")
        assert request_token(unknown) != request_token(unknown)


class TestWaiting:
    @given(st.integers(0, 2**256 - 1))
    def test_waits_grow_to_limit(self, number: int) -> None:
        seconds = list(islice(waits(f"{number:064x}"), 30))
        assert 0.05 < seconds[0] < 0.15
        assert all(earlier <= later for earlier, later in pairwise(seconds))
        assert 0.8 * LONGEST_WAIT_SECONDS < seconds[-1] < 1.2 * LONGEST_WAIT_SECONDS

    def test_detect_text_long_job_ends_attempt_before_timeout(self, read: Read, time_passes: Time) -> None:
        with (
            textract_responding(STARTED, IN_PROGRESS) as served,
            pytest.raises(OcrUnavailable, match="goes on") as caught,
        ):
            read(served)
        assert caught.value.retryable
        # A last call may take until its timeout.
        slowest = TextractTimes.job_read + TextractTimes.connect
        assert sum(time_passes.waited) + slowest < policies.OCR.start_to_close_timeout.total_seconds()
        assert sum(time_passes.waited) > 60

    def test_detect_text_next_attempt_joins_running_job(self, read: Read) -> None:
        with textract_responding(STARTED, IN_PROGRESS) as first, pytest.raises(OcrUnavailable):
            read(first)
        with textract_responding(STARTED, ended("SUCCEEDED", 0)) as second:
            read(second)
        assert asked(first)[0] == asked(second)[0]

    def test_detect_text_throttled_poll_continues_attempt(self, read: Read) -> None:
        slowly = refusal("ProvisionedThroughputExceededException")
        with textract_responding(
            STARTED, slowly, IN_PROGRESS, slowly, ended("SUCCEEDED", 0, then="two"), slowly, ended("SUCCEEDED", 1)
        ) as served:
            assert len(read(served)["Blocks"]) == 2

    def test_detect_text_endless_throttling_raises_ocr_throttled(self, read: Read) -> None:
        with (
            textract_responding(STARTED, refusal("ThrottlingException", "Rate exceeded")) as served,
            pytest.raises(OcrThrottled, match="Rate exceeded"),
        ):
            read(served)

    def test_detect_text_first_poll_does_not_wait(self, read: Read, time_passes: Time) -> None:
        with textract_responding(STARTED, ended("SUCCEEDED", 0)) as served:
            read(served)
        assert time_passes.waited == []

    def test_detect_text_cancelled_wait_ends_attempt(self) -> None:
        class CancelledHereError(Exception):
            pass

        def cancelled(seconds: float) -> None:
            raise CancelledHereError

        with textract_responding(STARTED, IN_PROGRESS) as served, pytest.raises(CancelledHereError):
            backend_at(served.url, wait=cancelled).detect_text(DOCUMENT)
        assert len(served.calls) == 2


ACCESS = "Unable to get object metadata from S3. Check object key, region and/or access permissions."
INTERNAL = "Internal server error"


def generations(served: Served) -> list[int]:
    """Return the generations that were started, in order."""
    numbers = {request_token(DOCUMENT, number): number for number in range(200)}
    return [numbers[body["ClientRequestToken"]] for name, body in asked(served) if name.startswith("Start")]


class TestFailedJobs:
    @pytest.mark.parametrize(
        ("says", "kind"),
        [
            ("Request has unsupported document format", UnsupportedDocument),
            ("The image has 20000 x 20000 pixels; at most 10000 a side", UnsupportedDocument),
            ("The document has 11000000 bytes; this operation reads at most 10485760 bytes", DocumentTooLarge),
            ("The document is too large", DocumentTooLarge),
            ("image file is truncated (3 bytes not processed)", UnreadableDocument),
            ("broken data stream when reading image file", UnreadableDocument),
            ("unrecognized data stream contents when reading image file", UnreadableDocument),
            ("Failed to load document (PDFium: Data format error)", UnreadableDocument),
            ("The PDF asks for a password", DocumentProtected),
            ("it is protected by a certificate, or an encryption of an unknown kind", DocumentProtected),
            ("Password-protected documents are not supported", DocumentProtected),
            ("The document is encrypted and damaged", DocumentProtected),
            ("Decompressed data too large for PngImagePlugin.MAX_TEXT_CHUNK", UnreadableDocument),
        ],
    )
    @pytest.mark.parametrize("before", [[], [IN_PROGRESS]], ids=["of before", "of now"])
    def test_detect_text_document_failure_is_final_at_once(
        self, read: Read, says: str, kind: type[PhotoWorkerError], before: list[Reply]
    ) -> None:
        with textract_responding(STARTED, *before, failed(says)) as served, pytest.raises(kind) as caught:
            read(served)
        assert generations(served) == [0]
        assert not caught.value.retryable

    @pytest.mark.parametrize(
        ("says", "kind"),
        [
            (ACCESS, OcrRefused),
            ("Access Denied", OcrRefused),
            ("User: arn:aws:sts::1:x is not authorized to perform: kms:Decrypt", OcrRefused),
            (INTERNAL, OcrUnavailable),
            ("S3 is throttled; write error: broken pipe", OcrUnavailable),
            ("Something", OcrUnavailable),
        ],
    )
    def test_detect_text_service_failure_next_attempt_starts_new_job(
        self, read: Read, says: str, kind: type[PhotoWorkerError]
    ) -> None:
        with textract_responding(STARTED, IN_PROGRESS, failed(says)) as first, pytest.raises(kind) as caught:
            read(first)
        assert caught.value.retryable
        assert says in caught.value.message
        with textract_responding(STARTED, ended("SUCCEEDED", 0)) as second:
            assert len(read(second)["Blocks"]) == 1
        # An attempt starts no second job: a momentary fault would fail both.
        assert (generations(first), generations(second)) == ([0], [1])

    @pytest.mark.parametrize("says", [ACCESS, INTERNAL])
    def test_detect_text_service_failure_stays_retryable(self, read: Read, says: str) -> None:
        for number in range(2 * UNEXPLAINED_FAILURES):
            with textract_responding(STARTED, IN_PROGRESS, failed(says)) as served:
                with pytest.raises(PhotoWorkerError) as caught:
                    read(served)
                assert caught.value.retryable
                assert generations(served) == [number]

    def test_detect_text_unexplained_failure_is_final_after_hours(self, read: Read) -> None:
        """A service fault that lasts an hour, with an unknown message, must not end a document's job."""
        waited = []
        for number in range(UNEXPLAINED_FAILURES):
            with textract_responding(STARTED, IN_PROGRESS, failed("Something")) as served:
                with pytest.raises(PhotoWorkerError, match="Something") as caught:
                    read(served)
                assert generations(served) == [number]
                assert caught.value.retryable == (number < UNEXPLAINED_FAILURES - 1)
                waited.append(caught.value.retry_after_seconds or 0)
        assert isinstance(caught.value, UnreadableDocument)
        assert sum(waited) > 3 * 3600
        assert (waited[0], max(waited)) == (60, 1800)

    def test_detect_text_new_failure_after_old_ones_waits_an_hour(self, read: Read, notes: Notes) -> None:
        before = [STARTED, failed("Something")] * UNEXPLAINED_FAILURES
        waited, replies = 0.0, [*before, STARTED, IN_PROGRESS, failed("Something")]
        while True:
            with textract_responding(*replies) as served, pytest.raises(PhotoWorkerError) as caught:
                read(served)
            if not caught.value.retryable:
                break
            waited += caught.value.retry_after_seconds or 0
            replies = [STARTED, IN_PROGRESS, failed("Something")]
        assert isinstance(caught.value, UnreadableDocument)
        assert 3600 <= waited <= 2 * 3600

    @pytest.mark.parametrize(
        ("says", "what"),
        [
            ("took more than 120 seconds of a processor", "time"),
            ("took more than 900 seconds by the clock", "time"),
            ("took more than 0.5 seconds", "time"),
            ("took more than 1024 MiB of memory", "memory"),
            ("took more memory than it may have", "memory"),
        ],
    )
    def test_detect_text_costly_document_is_final_after_three_jobs(self, read: Read, says: str, what: str) -> None:
        """A busy machine is slow with every document, so one failure is not enough; each one may take two minutes."""
        for number in range(COSTLY_FAILURES):
            with textract_responding(STARTED, IN_PROGRESS, failed(says)) as served:
                with pytest.raises(PhotoWorkerError) as caught:
                    read(served)
                assert generations(served) == [number]
                assert caught.value.retryable == (number < COSTLY_FAILURES - 1)
        assert isinstance(caught.value, DocumentTooCostly)
        assert f"takes more {what} " in caught.value.message
        assert COSTLY_FAILURES == 3

    def test_detect_text_service_failure_resets_unexplained_count(self, read: Read) -> None:
        for says in ["Something", INTERNAL] * (UNEXPLAINED_FAILURES - 1):
            with textract_responding(STARTED, IN_PROGRESS, failed(says)) as served, pytest.raises(OcrUnavailable):
                read(served)

    @pytest.mark.parametrize("says", [ACCESS, INTERNAL, "Something"])
    def test_detect_text_old_failed_jobs_are_passed(self, read: Read, time_passes: Time, says: str) -> None:
        # Each Start with a known token returns its failed job.
        before = [STARTED, failed(says)] * 20
        with textract_responding(*before, STARTED, IN_PROGRESS, ended("SUCCEEDED", 0)) as served:
            assert len(read(served)["Blocks"]) == 1
        assert generations(served) == list(range(21))
        # Starts are rare in some regions.
        assert 10 < sum(time_passes.waited) < 25

    def test_detect_text_long_walk_continues_in_next_attempt(self, read: Read) -> None:
        with textract_responding(*[STARTED, failed(INTERNAL)] * 200) as first, pytest.raises(OcrUnavailable):
            read(first)
        passed = generations(first)
        with textract_responding(STARTED, ended("SUCCEEDED", 0)) as second:
            read(second)
        assert 50 < len(passed) < 150
        assert generations(second) == [passed[-1] + 1]

    def test_detect_text_lost_note_restarts_walk(self, read: Read, notes: Notes) -> None:
        with textract_responding(STARTED, IN_PROGRESS, failed(INTERNAL)) as first, pytest.raises(OcrUnavailable):
            read(first)
        notes.note = None
        with textract_responding(STARTED, failed(INTERNAL), STARTED, ended("SUCCEEDED", 0)) as second:
            read(second)
        assert generations(second) == [0, 1]

    @pytest.mark.parametrize(
        "note",
        [
            17,
            {"token": request_token(DOCUMENT)},
            {"token": "another document's", "generation": 5, "unexplained": 0},
            {"token": request_token(DOCUMENT), "generation": "5", "unexplained": 0},
            {"token": request_token(DOCUMENT), "generation": -1, "unexplained": 0},
            {"token": request_token(DOCUMENT), "generation": 1, "unexplained": 8},
        ],
    )
    def test_detect_text_foreign_note_is_ignored(self, read: Read, notes: Notes, note: object) -> None:
        notes.note = note
        with textract_responding(STARTED, ended("SUCCEEDED", 0)) as served:
            read(served)
        assert generations(served) == [0]

    def test_detect_text_partial_success_is_unreadable(self, read: Read) -> None:
        with (
            textract_responding(STARTED, ended("PARTIAL_SUCCESS", 0, says="Page 2 was left out")) as served,
            pytest.raises(UnreadableDocument, match="Page 2 was left out"),
        ):
            read(served)
        assert len(served.calls) == 2


class TestOddResponses:
    @pytest.mark.parametrize(
        "replies",
        [
            [Reply(200, b"{}")],
            [STARTED, Reply(200, b"{}")],
            [STARTED, ended("LOST")],
            [STARTED, ended("SUCCEEDED")],
            [STARTED, ended("SUCCEEDED", 0, then="two"), ended("SUCCEEDED", 1, then="two")],
            [
                STARTED,
                ended("SUCCEEDED", 0, then="a"),
                ended("SUCCEEDED", 1, then="b"),
                ended("SUCCEEDED", 2, then="a"),
            ],
        ],
        ids=["no job", "no status", "a strange status", "no blocks", "a page after itself", "pages in a circle"],
    )
    def test_detect_text_unusable_response_is_unavailable(self, read: Read, replies: list[Reply]) -> None:
        with textract_responding(*replies) as served, pytest.raises(OcrUnavailable, match="cannot be used"):
            read(served)

    def test_detect_text_endless_result_pages_are_bounded(self) -> None:
        limits = JobLimits(most_responses=3)
        endless = [ended("SUCCEEDED", number, then=f"token-{number}") for number in range(9)]
        with textract_responding(STARTED, *endless) as served, pytest.raises(OcrUnavailable, match="no end"):
            backend_at(served.url, limits=limits).detect_text(DOCUMENT)
        assert len(served.calls) == 5

    def test_detect_text_forgotten_job_is_retryable(self, read: Read) -> None:
        with (
            textract_responding(STARTED, refusal("InvalidJobIdException")) as served,
            pytest.raises(OcrUnavailable, match="does not know the job") as caught,
        ):
            read(served)
        assert caught.value.retryable

    def test_detect_text_several_pages_are_refused(self, read: Read) -> None:
        with (
            textract_responding(STARTED, ended("SUCCEEDED", 0, pages=2, then="more")) as served,
            pytest.raises(UnsupportedDocument, match="of 2 pages"),
        ):
            read(served)
        assert len(served.calls) == 2


def test_detect_text_document_above_limit_is_not_sent() -> None:
    with textract_responding(STARTED) as served, pytest.raises(DocumentTooLarge, match="10485761"):
        backend_at(served.url).detect_text(replace(DOCUMENT, size_bytes=10 * 1024 * 1024 + 1))
    assert served.calls == []
