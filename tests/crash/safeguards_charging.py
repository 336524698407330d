"""The safeguards by which a document is charged once and read completely."""

from __future__ import annotations

from tests.crash.safeguard import Safeguard
from tests.support.mutation import Mutation

_FILE = "photo_worker/adapters/ocr/textract_jobs.py"
_ATTEMPTS = "tests/unit/ocr/test_attempts.py::"
_REPLACED = "tests/unit/test_replaced_sources.py::"

CHARGING: tuple[Safeguard, ...] = (
    Safeguard(
        "request-token",
        "an attempt asks with the token of the attempt before it",
        "each attempt that follows a crash is another paid job",
        (3,),
        "each start has a token by chance",
        (
            Mutation(
                _FILE,
                "TextDetectionJobs._start",
                "ClientRequestToken=$token",
                "ClientRequestToken=secrets.token_hex(32)",
            ),
        ),
        (_ATTEMPTS + "test_textract_attempts_after_crash_charge_once",),
    ),
    Safeguard(
        "token-of-the-bytes",
        "a token stands for the bytes that are read",
        "a photo that replaced another under its name gets the other's text",
        (5,),
        "the token leaves the hash and the revision out",
        (
            Mutation(
                _FILE,
                "request_token",
                "[OPERATION, $document.bucket, $document.key, $document.sha256, *_revision($document)]",
                "[OPERATION, $document.bucket, $document.key]",
            ),
        ),
        (_REPLACED + "test_replaced_source_new_job_gets_new_text",),
    ),
    Safeguard(
        "token-of-the-revision",
        "a token stands for one writing of an object",
        "a photo that is put back gets the text of the one that Textract met under its name in between",
        (5,),
        "the token leaves the revision out",
        (
            Mutation(
                _FILE,
                "request_token",
                "[OPERATION, $document.bucket, $document.key, $document.sha256, *_revision($document)]",
                "[OPERATION, $document.bucket, $document.key, $document.sha256]",
            ),
        ),
        (_REPLACED + "test_replaced_source_restored_does_not_inherit_text",),
    ),
    Safeguard(
        "that-very-version",
        "Textract reads the version that was verified",
        "where a bucket keeps versions, the newest one's text stands under the verified one's hash",
        (5,),
        "the version is not sent",
        (Mutation(_FILE, "s3_object", "$found['Version'] = $document.revision.version_id", "pass"),),
        (_REPLACED + "test_replaced_source_with_versions_reads_verified_version",),
    ),
    Safeguard(
        "source-looked-at-again",
        "a response is stored once the object is seen to be the verified one",
        "an object that is replaced before Textract reads it gives a row with the first hash and the second text",
        (5,),
        "nothing looks behind the response",
        (
            Mutation(
                "photo_worker/activities/ocr.py",
                "OcrActivities._detected",
                """
                if $document.revision and not $has_versions:
                    self._require_unchanged($document)
                return $detected
                """,
                "return $detected",
            ),
        ),
        (_REPLACED + "test_replaced_source_before_ocr_is_read_again",),
    ),
    Safeguard(
        "local-engine-reads-what-was-verified",
        "the local engine hashes what it reads",
        "where a job knows the hash of what it reads and no more, of a copy or in a run that an earlier release began,"
        " an object that is replaced first gives a row with the first hash and the second text",
        (5,),
        "the hash is not compared",
        (
            Mutation(
                "photo_worker/adapters/ocr/local.py",
                "LocalBackend.detect_text",
                "$document.sha256 and hashlib.sha256($content).hexdigest() != $document.sha256",
                "False",
            ),
        ),
        (_REPLACED + "test_replaced_source_local_engine_reads_verified_bytes",),
    ),
    Safeguard(
        "overtaken-attempt-stores-nothing",
        "an attempt whose job has gone on with other bytes stores nothing over their response",
        "an attempt that was paused puts the text of the replaced photo to the hash of the new one",
        (5, 6),
        "the row is not looked at",
        (
            Mutation(
                "photo_worker/activities/ocr.py", "OcrActivities._keep", "self._require_current($job_id, $document)", ""
            ),
        ),
        (_REPLACED + "test_replaced_source_late_attempt_keeps_current_response",),
    ),
    Safeguard(
        "upload-written-once",
        "an upload is written where it is not there yet",
        "each submission of a known photo leaves another version of it in a bucket that keeps versions",
        (4,),
        "an upload is always written",
        (
            Mutation(
                "photo_worker/services/jobs.py",
                "JobService._write_raw",
                """
                $written = self._store.put_new(
                    self._bucket, $photo.key, $photo.body, content_type=$photo.content_type
                )
                """,
                """
                $written = False
                self._store.put(self._bucket, $photo.key, $photo.body, content_type=$photo.content_type)
                """,
            ),
        ),
        (_REPLACED + "test_submit_again_rewrites_upload_only_if_damaged",),
    ),
    Safeguard(
        "upload-is-what-its-name-says",
        "an upload is verified against its name",
        "a photo that was damaged in the bucket is read, and its text stands under the name of the original",
        (4, 5),
        "the name is not compared",
        (Mutation("photo_worker/activities/assets.py", "AssetActivities._verified", "$sha256 != $known", "False"),),
        (_REPLACED + "test_upload_with_other_bytes_is_not_read",),
    ),
    Safeguard(
        "token-of-unknown-bytes",
        "bytes without a hash are taken for no others",
        "a photo whose hash is not known gets the text of the one that had its name before",
        (5,),
        "unknown bytes have one token",
        (Mutation(_FILE, "request_token", "secrets.token_hex(32)", "'0' * 64"),),
        (_ATTEMPTS + "test_textract_attempts_without_hash_read_current_bytes",),
    ),
    Safeguard(
        "failed-job-is-replaced",
        "a job that failed for no reason of the document's is begun anew",
        "a missing permission, or an internal error of Textract's, is final for 7 days: the token leads to that job",
        (2,),
        "every generation has the same token",
        (Mutation(_FILE, "request_token", "[$generation] if $generation else []", "[0] if False else []"),),
        (_ATTEMPTS + "test_textract_attempts_after_missing_permission_read_photo",),
    ),
    Safeguard(
        "failed-job-has-its-wait",
        "a job that fails ends the attempt, and the next one begins another",
        "a fault of seconds uses up every job that a document may have before it is over",
        (2, 11),
        "the next generation is begun at once",
        (Mutation(_FILE, "TextDetectionJobs.response", "not $poll.had_ended", "False"),),
        (_ATTEMPTS + "test_textract_attempts_after_brief_fault_read_photo",),
    ),
    Safeguard(
        "failed-jobs-are-passed",
        "jobs that had failed before are passed by",
        "a photo whose jobs failed while a permission was missing needs as many attempts again before it is read",
        (2, 11),
        "a job that had failed ends the attempt too",
        (Mutation(_FILE, "TextDetectionJobs.response", "not $poll.had_ended", "True"),),
        (_ATTEMPTS + "test_textract_attempts_first_one_passes_old_failed_jobs",),
    ),
    Safeguard(
        "refusal-is-not-the-documents",
        "that Textract may not read an object is no fault of the document's",
        "a permission that lacks for a minute fails every photo of that minute for good",
        (2,),
        "a refusal counts as a damaged document",
        (
            Mutation(
                "photo_worker/adapters/ocr/textract_errors.py",
                "job_failure",
                "_refused($message, $service, $document)",
                "UnreadableDocument(name=$document.key, reason=$message)",
            ),
        ),
        (_ATTEMPTS + "test_textract_attempts_after_missing_permission_read_photo",),
    ),
    Safeguard(
        "document-fault-is-final",
        "a job that failed because of its document is not begun anew",
        "each later submission of a damaged document is another job of Textract's",
        (11,),
        "every failure gets another job",
        (Mutation(_FILE, "TextDetectionJobs.response", "not $failure.retryable", "False"),),
        (_ATTEMPTS + "test_textract_attempts_damaged_document_starts_one_job",),
    ),
    Safeguard(
        "all-pages",
        "a response is fetched to its last page",
        "a document with many words is stored without its end",
        (5,),
        "the second page counts as the last",
        (
            Mutation(
                _FILE,
                "_JobPoll.whole",
                """
             $blocks += $response.get('Blocks') or []
             $next_token = $response.get('NextToken')
             """,
                """
             $blocks += $response.get('Blocks') or []
             $next_token = None
             """,
            ),
        ),
        (_ATTEMPTS + "test_textract_attempts_sound_document_is_read_completely",),
    ),
    Safeguard(
        "pages-end",
        "pages that go in a circle are noticed",
        "a worker fetches the same page until its memory is full",
        (2, 11),
        "a next token may repeat, without a bound",
        (
            Mutation(
                _FILE,
                "_JobPoll.whole",
                "$next_token in $seen or len($seen) >= self._jobs.limits.most_responses",
                "False",
            ),
        ),
        (_ATTEMPTS + "test_textract_attempts_circular_result_pages_terminate",),
    ),
    Safeguard(
        "no-partial-response",
        "a part of a document is no result",
        "a job succeeds with some of its text",
        (5,),
        "PARTIAL_SUCCESS counts as success",
        (
            Mutation(
                _FILE,
                "TextDetectionJobs.response",
                "$first['JobStatus'] == 'SUCCEEDED'",
                "$first['JobStatus'] != 'FAILED'",
            ),
        ),
        (_ATTEMPTS + "test_textract_attempts_partial_success_is_unreadable",),
    ),
    Safeguard(
        "throttled-looks-go-on",
        "being asked to slow down does not end an attempt",
        "under load each refused look begins the document anew, and a response of many parts never comes to its end",
        (2, 11),
        "a throttled look raises",
        (
            Mutation(
                _FILE,
                "_JobPoll._get",
                "except OcrThrottled as $error: ...",
                "except ZeroDivisionError as $error: ...",
            ),
        ),
        (_ATTEMPTS + "test_textract_attempts_with_throttled_calls_read_photo",),
    ),
    Safeguard(
        "attempt-ends-in-time",
        "an attempt ends before its time does",
        "an attempt asks Textract without a pause until Temporal cuts it off, and nothing says why",
        (2, 11),
        "looking has no deadline",
        (Mutation(_FILE, "TextDetectionJobs.pause", "$left <= 0", "False"),),
        (_ATTEMPTS + "test_textract_attempts_end_before_activity_timeout",),
    ),
)
