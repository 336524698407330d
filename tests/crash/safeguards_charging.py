"""The safeguards that let a document be charged once and be read whole."""

from __future__ import annotations

from tests.crash.mutants import Edit
from tests.crash.safeguard import Safeguard

_FILE = "photo_worker/ocr/textract_jobs.py"
_FAILED = "tests/unit/ocr/test_failed_jobs.py::"
_JOBS = "tests/unit/ocr/test_textract_jobs.py::"

CHARGING: tuple[Safeguard, ...] = (
    Safeguard(
        "request-token",
        "an attempt asks with the token of the attempt before it",
        "each attempt that follows a crash is another paid job",
        (3,),
        "each start has a token by chance",
        (Edit(_FILE, "ClientRequestToken=token,", "ClientRequestToken=secrets.token_hex(32),"),),
        (_JOBS + "TestWaiting::test_the_next_attempt_joins_the_same_job",),
    ),
    Safeguard(
        "token-of-the-bytes",
        "a token stands for the bytes that are read",
        "a photo that replaced another under its name gets the other's text",
        (5,),
        "the token leaves the hash out",
        (Edit(_FILE, "document.key, document.sha256]", "document.key]"),),
        (_JOBS + "TestToken::test_whatever_is_read_otherwise_has_another",),
    ),
    Safeguard(
        "token-of-unknown-bytes",
        "bytes that nobody hashed are taken for no others",
        "two photos whose hash is not known share one answer",
        (5,),
        "unknown bytes have one token",
        (Edit(_FILE, "        return secrets.token_hex(32)\n", '        return "0" * 64\n'),),
        (_JOBS + "TestToken::test_bytes_that_nobody_hashed_are_taken_for_no_others",),
    ),
    Safeguard(
        "failed-job-is-replaced",
        "a job that failed for no reason of the document's is begun anew",
        "a missing permission, or an internal error of Textract's, is final for 7 days: the token leads to that job",
        (2,),
        "every generation has the same token",
        (Edit(_FILE, "again = [generation] if generation else []", "again = [0] if False else []"),),
        (_FAILED + "test_a_photo_is_read_when_what_was_wrong_has_been_mended",),
    ),
    Safeguard(
        "failed-job-has-its-wait",
        "a job that fails ends the attempt, and the next one begins another",
        "a fault of seconds uses up every job that a document may have before it is over",
        (2, 11),
        "the next generation is begun at once",
        (Edit(_FILE, "            if not look.had_ended:\n", "            if False:\n"),),
        (_JOBS + "TestFailedJobs::test_another_reason_ends_the_attempt_and_the_next_one_begins_another_job",),
    ),
    Safeguard(
        "failed-jobs-are-passed",
        "jobs that had failed before are passed by",
        "a photo whose jobs failed while a permission was missing needs as many attempts again before it is read",
        (2, 11),
        "a job that had failed ends the attempt too",
        (Edit(_FILE, "            if not look.had_ended:\n", "            if True:\n"),),
        (_JOBS + "TestFailedJobs::test_a_new_job_passes_what_failed_days_ago",),
    ),
    Safeguard(
        "refusal-is-not-the-documents",
        "that Textract may not read an object is no fault of the document's",
        "a permission that lacks for a minute fails every photo of that minute for good",
        (2,),
        "a refusal counts as a damaged document",
        (
            Edit(
                "photo_worker/ocr/textract_errors.py",
                "        found = _refused(message, service, document)\n",
                "        found = UnreadableDocument(name=document.key, reason=message)\n",
            ),
        ),
        (_FAILED + "test_a_photo_is_read_when_what_was_wrong_has_been_mended",),
    ),
    Safeguard(
        "document-fault-is-final",
        "a job that failed because of its document is not begun anew",
        "a damaged document is sent again by every attempt",
        (3, 11),
        "every failure gets another job",
        (Edit(_FILE, "            if not failure.retryable:\n", "            if False:\n"),),
        (_JOBS + "TestFailedJobs::test_a_reason_that_is_the_documents_is_final_at_once",),
    ),
    Safeguard(
        "all-pages",
        "an answer is fetched to its last page",
        "a document with many words is stored without its end",
        (5,),
        "the second page counts as the last",
        (Edit(_FILE, '            next_token = answer.get("NextToken")\n', "            next_token = None\n"),),
        (_JOBS + "TestOddAnswers::test_pages_without_end_come_to_one",),
    ),
    Safeguard(
        "pages-end",
        "pages that go in a circle are noticed",
        "a worker fetches the same page until its memory is full",
        (2, 11),
        "a next token may repeat, without a bound",
        (Edit(_FILE, "if next_token in seen or len(seen) >= _MOST_ANSWERS:", "if False:"),),
        (_JOBS + "TestOddAnswers::test_pages_without_end_come_to_one",),
        limit_seconds=2,
    ),
    Safeguard(
        "no-partial-answer",
        "a part of a document is no result",
        "a job succeeds with some of its text",
        (5,),
        "PARTIAL_SUCCESS counts as success",
        (Edit(_FILE, 'if first["JobStatus"] == "SUCCEEDED":', 'if first["JobStatus"] != "FAILED":'),),
        (_JOBS + "TestFailedJobs::test_a_part_of_a_document_is_no_result",),
    ),
    Safeguard(
        "throttled-looks-go-on",
        "being asked to slow down does not end an attempt",
        "under load the attempts of a job are used up while Textract works on it",
        (2, 11),
        "a throttled look raises",
        (
            Edit(
                _FILE, "            except OcrThrottled as error:\n", "            except ZeroDivisionError as error:\n"
            ),
        ),
        (_JOBS + "TestWaiting::test_being_asked_to_slow_down_while_looking_does_not_end_the_attempt",),
    ),
    Safeguard(
        "attempt-ends-in-time",
        "an attempt ends before its time does",
        "an attempt is cut off in the middle of a call, and nobody says why",
        (2, 11),
        "looking has no deadline",
        (Edit(_FILE, "        if left <= 0:\n", "        if False:\n"),),
        (_JOBS + "TestWaiting::test_a_job_that_lasts_ends_the_attempt_in_time_to_be_retried",),
        limit_seconds=2,
    ),
)
