"""The safeguards of the workflow and its activities."""

from __future__ import annotations

from tests.crash.safeguard import Safeguard
from tests.support.mutation import Mutation

_STEPS = "tests/unit/test_activities.py::"
_CANCELLATIONS = "tests/unit/test_activity_cancellation.py::TestCancellation::"
_COPIES = "tests/unit/test_converted_copies.py::TestConverted::"
_REPLACED = "tests/unit/test_replaced_sources.py::"
_LATE = "tests/unit/test_late_attempts.py::"
_ENDS = "tests/crash/test_job_outcomes.py::"

WORKFLOW: tuple[Safeguard, ...] = (
    Safeguard(
        "failure-is-recorded",
        "every end of a job is written down",
        "a job that failed or was cancelled stays running in its row for ever",
        (2, 10),
        "the workflow ends without record_failure",
        (
            Mutation(
                "photo_worker/workflows/image.py",
                "ImageProcessingWorkflow.run",
                "await await_ignoring_cancellation(self._record_failure($request, $reason))",
                "'failed'",
            ),
        ),
        (_ENDS + "test_failed_job_has_error_code_in_row",),
    ),
    Safeguard(
        "failure-outlives-cancellation",
        "a cancellation does not interrupt the writing of the reason",
        "a job that is cancelled while the database does not take its reason stays running in its row for ever",
        (2, 10),
        "record_failure is not shielded",
        (
            Mutation(
                "photo_worker/workflows/_support.py", "await_ignoring_cancellation", "asyncio.shield($task)", "$task"
            ),
        ),
        (_ENDS + "test_job_cancelled_while_failure_is_recorded_has_reason",),
    ),
    Safeguard(
        "committed-is-succeeded",
        "a result whose reply was lost counts",
        "the workflow reports a failure for a job whose rows say succeeded",
        (2, 10),
        "the status that record_failure found is not looked at",
        (
            Mutation(
                "photo_worker/workflows/image.py",
                "ImageProcessingWorkflow.run",
                "$status == 'succeeded'",
                "$status == 'never'",
            ),
        ),
        (_ENDS + "test_job_whose_row_says_succeeded_completes",),
    ),
    Safeguard(
        "cancellation-waits-for-the-result",
        "a cancellation that comes while results are written waits for them",
        "a job whose result is just written fails as cancelled, and the manifest of a success stays behind it",
        (5,),
        "a cancellation abandons persist_artifacts",
        (
            Mutation(
                "photo_worker/workflows/image.py",
                "ImageProcessingWorkflow._persist",
                "cancellation=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED",
                "cancellation=workflow.ActivityCancellationType.TRY_CANCEL",
            ),
        ),
        (_ENDS + "test_job_cancelled_while_result_is_written_succeeds",),
    ),
    Safeguard(
        "contract-ends-the-workflow",
        "an input that breaks its contract ends the workflow",
        "the workflow's first task fails and is tried again for ever",
        (2, 11),
        "the converter lets pydantic's own error pass",
        (
            Mutation(
                "photo_worker/adapters/temporal/converter.py",
                "_ContractJsonConverter.from_payload",
                "except ValidationError as $error: ...",
                "except ZeroDivisionError as $error: ...",
            ),
        ),
        (_ENDS + "test_workflow_with_invalid_input_fails",),
    ),
    Safeguard(
        "call-ends-the-workflow",
        "a start with no argument, with two, or with none that is an object ends the workflow",
        "the workflow's first task fails and is tried again for ever",
        (2, 11),
        "the workflow lets the error that no contract fits pass as it is",
        (
            Mutation(
                "photo_worker/workflows/image.py",
                "ImageProcessingWorkflow.run",
                """
                except InputError as $error:
                    raise to_application_error($error) from None
                """,
                """
                except ZeroDivisionError as $error:
                    raise to_application_error($error) from None
                """,
            ),
        ),
        (_ENDS + "test_workflow_with_invalid_input_fails",),
    ),
    Safeguard(
        "reason-without-end",
        "the reason of a failure is written however late the database is back",
        "a job whose database was away for long stays running in its row for ever",
        (2, 10),
        "record_failure has a last attempt",
        (Mutation("photo_worker/policies.py", "RECORD_FAILURE", "maximum_attempts=0", "maximum_attempts=5"),),
        (_ENDS + "test_failure_reason_is_recorded_after_long_outage",),
    ),
    Safeguard(
        "heartbeat-timeout",
        "a worker that is killed or stopped while it reads is noticed after 30 s",
        "the job waits for the attempt's whole time, two minutes in OCR, before another worker takes it",
        (2,),
        "the workflow asks for no heartbeats",
        (Mutation("photo_worker/workflows/_support.py", "execute", "heartbeat_timeout=$policy.heartbeat_timeout", ""),),
        (_ENDS + "test_job_whose_worker_dies_in_ocr_takes_under_40s_more",),
    ),
    Safeguard(
        "attempts-end",
        "an unexpected error is tried a bounded number of times",
        "a job whose photo breaks the reader is tried for ever, and does not say so",
        (2, 11),
        "unexpected errors are not counted",
        (
            Mutation(
                "photo_worker/workflows/image.py",
                "ImageProcessingWorkflow._step",
                "not is_unexpected($error) or $tried >= $policy.maximum_attempts",
                "not is_unexpected($error)",
            ),
        ),
        (_ENDS + "test_job_whose_document_breaks_ocr_fails",),
    ),
    Safeguard(
        "outage-is-a-delay",
        "a service that is away is waited for as long as the job lives",
        "every job in flight fails for good in an outage longer than a count of attempts",
        (2,),
        "every attempt is counted",
        (Mutation("photo_worker/workflows/_support.py", "lasting", "maximum_attempts=0", "maximum_attempts=5"),),
        ("tests/crash/test_enumeration.py::test_enumeration_single_fault_ends_as_without_fault[photo]",),
    ),
    Safeguard(
        "worker-s-fault-is-no-job-s",
        "what is wrong with a worker does not end a job",
        "one worker with an old password fails every job that it polls",
        (2,),
        "only what a service is at fault for may be tried again",
        (
            Mutation(
                "photo_worker/errors/base.py",
                "PhotoWorkerError.passes",
                "self.fault in {'service', 'worker'}",
                "self.fault == 'service'",
            ),
        ),
        ("tests/crash/test_enumeration.py::test_enumeration_single_fault_ends_as_without_fault[photo]",),
    ),
)

ACTIVITIES: tuple[Safeguard, ...] = (
    Safeguard(
        "stored-response",
        "an attempt takes the response that is stored",
        "with TEXTRACT_API=sync each attempt that follows one whose response is stored is charged again",
        (3,),
        "no attempt looks for a stored response",
        (Mutation("photo_worker/activities/ocr.py", "OcrActivities._read", "self._kept($key, $document)", "None"),),
        (_STEPS + "TestOcr::test_ocr_textract_later_attempt_reuses_stored_response",),
    ),
    Safeguard(
        "stored-response-of-these-bytes",
        "a stored response counts for its own bytes alone",
        "a job whose object was replaced between two attempts gets the other photo's text",
        (4, 5),
        "the stored response's hash is not compared",
        (
            Mutation(
                "photo_worker/activities/ocr.py",
                "_response_for",
                "$about.get('source-sha256') != $document.sha256",
                "False",
            ),
        ),
        (_REPLACED + "test_replaced_source_ignores_stored_response_of_old_bytes",),
    ),
    Safeguard(
        "first-response-stays",
        "of several attempts the first stored response is the job's",
        "an attempt that was paused and goes on replaces the response that the job has reported",
        (5, 6),
        "a response is written over the one that is there",
        (
            Mutation(
                "photo_worker/activities/ocr.py",
                "OcrActivities._keep",
                "self._store.put_new(self._bucket, $key, $body, content_type=OCR_CONTENT_TYPE, metadata=$metadata)",
                "self._store.put(self._bucket, $key, $body, content_type=OCR_CONTENT_TYPE, metadata=$metadata)",
            ),
        ),
        (_LATE + "TestReading::test_ocr_textract_late_attempt_keeps_reported_response",),
    ),
    Safeguard(
        "late-response-is-deleted",
        "an attempt that stored the response of an erased job deletes it",
        "the text of an erased photo comes back with the attempt that was reading it",
        (9,),
        "the attempt does not ask whether its job was erased",
        (
            Mutation(
                "photo_worker/activities/ocr.py", "OcrActivities._read", "self._repository.is_erased($job_id)", "False"
            ),
        ),
        (_LATE + "TestReading::test_ocr_textract_when_job_is_erased_deletes_response",),
    ),
    Safeguard(
        "late-copy-is-taken-away",
        "an attempt that stored the copy of an erased job's photo deletes it",
        "an erased photo stays in a form that everybody can open",
        (9,),
        "the attempt does not ask whether its job was erased",
        (
            Mutation(
                "photo_worker/activities/assets.py",
                "AssetActivities._converted",
                "self._repository.is_erased($job_id)",
                "False",
            ),
        ),
        (_COPIES + "test_verify_asset_when_job_is_erased_deletes_copy[False]",),
    ),
    Safeguard(
        "late-copy-of-others-stays",
        "an attempt whose job was erased leaves a copy that another job may read",
        "the other job fails, because Textract does not find what the worker told it to read",
        (2, 4),
        "the copy is deleted although another job uses it",
        (
            Mutation(
                "photo_worker/activities/assets.py",
                "AssetActivities._converted",
                """
                if $sole:
                    self._store.delete(self._bucket, $key)
                """,
                "self._store.delete(self._bucket, $key)",
            ),
        ),
        (_COPIES + "test_verify_asset_when_job_is_erased_deletes_copy[True]",),
    ),
    Safeguard(
        "given-up-copy-is-taken-away",
        "an attempt that finds other bytes deletes the copy of those that were there before",
        "a picture of a photo that its owner has replaced stays, and no row names it",
        (4,),
        "the copy is left",
        (
            Mutation(
                "photo_worker/activities/assets.py", "AssetActivities._verified", "$known not in {'', $sha256}", "False"
            ),
        ),
        (_COPIES + "test_verify_asset_deletes_copy_of_replaced_bytes[False]",),
    ),
    Safeguard(
        "given-up-copy-of-others-stays",
        "an attempt that finds other bytes leaves the copy that another job reads",
        "the other job fails, because Textract does not find what the worker told it to read",
        (2, 4),
        "the copy is deleted although another job uses it",
        (
            Mutation(
                "photo_worker/activities/assets.py",
                "AssetActivities._give_up_copy",
                "if $sole: ...",
                "if True: ...",
            ),
        ),
        (_COPIES + "test_verify_asset_deletes_copy_of_replaced_bytes[True]",),
    ),
    Safeguard(
        "first-copy-stays",
        "of several attempts the first stored copy is the one that is read",
        "two jobs with one photo read different bytes, and one of them is charged for nothing",
        (3, 5),
        "a copy is written over the one that is there",
        (
            Mutation(
                "photo_worker/activities/assets.py",
                "AssetActivities._converted",
                "self._store.put_new(self._bucket, $key, $body, content_type=media.JPEG, metadata=$metadata)",
                "not self._store.put(self._bucket, $key, $body, content_type=media.JPEG, metadata=$metadata)",
            ),
        ),
        (_COPIES + "test_verify_asset_concurrent_conversion_keeps_first_copy",),
    ),
    Safeguard(
        "pages-before-paying",
        "the pages of a document are counted before Textract is paid for them",
        "a document of many pages is charged whole",
        (3,),
        "PDFs and TIFFs are not opened",
        (
            Mutation(
                "photo_worker/activities/assets.py",
                "AssetActivities._verified",
                "$content_type in _COUNTED_TYPES",
                "$content_type in frozenset[str]()",
            ),
        ),
        (_ENDS + "test_job_with_many_pages_is_refused_without_charge",),
    ),
    Safeguard(
        "late-manifest-is-taken-away",
        "an attempt that stored the manifest of an erased job deletes it",
        "the hash and the name of an erased photo stay in a manifest",
        (9,),
        "a refused row leaves its manifest",
        (
            Mutation(
                "photo_worker/activities/results.py",
                "ResultActivities._persist",
                "self._store.delete(self._bucket, $key)",
                "",
            ),
        ),
        (_LATE + "TestPersisting::test_persist_artifacts_when_job_is_erased_deletes_manifest",),
    ),
    Safeguard(
        "manifest-before-row",
        "a row that says succeeded has its objects",
        "a worker that dies in the last step leaves a succeeded job without its manifest",
        (4,),
        "the manifest is written after the row",
        (
            Mutation(
                "photo_worker/activities/results.py",
                "ResultActivities._persist",
                "self._store.put(self._bucket, $key, $body, content_type='application/json')",
                "pass",
            ),
            Mutation(
                "photo_worker/activities/results.py",
                "ResultActivities._persist",
                "return PersistResult(s3_manifest_key=$key)",
                """
                self._store.put(self._bucket, $key, body, content_type='application/json')
                return PersistResult(s3_manifest_key=$key)
                """,
            ),
        ),
        (_LATE + "TestPersisting::test_persist_artifacts_succeeded_row_has_manifest",),
    ),
    Safeguard(
        "heartbeats",
        "an attempt that takes long is told from one whose worker died",
        "each attempt that takes longer than half a minute is taken for dead, and its document is never read",
        (2,),
        "the attempt sends no heartbeats",
        (
            Mutation(
                "photo_worker/activities/ocr.py",
                "OcrActivities.ocr_textract",
                "with heartbeating(): ...",
                "if True: ...",
            ),
        ),
        (_LATE + "TestReading::test_ocr_textract_long_attempt_sends_heartbeats",),
    ),
    Safeguard(
        "response-outlives-cancellation",
        "a cancellation does not tear a response from its storing",
        "a response that has been paid for is thrown away at a cancellation or a shutdown",
        (3,),
        "a cancellation raises in the middle of the attempt",
        (
            Mutation(
                "photo_worker/activities/ocr.py",
                "OcrActivities.ocr_textract",
                "@activity.defn(no_thread_cancel_exception=True)",
                "@activity.defn",
            ),
        ),
        (_CANCELLATIONS + "test_ocr_textract_cancelled_stores_response",),
    ),
    Safeguard(
        "commit-outlives-cancellation",
        "a cancellation does not tear a commit",
        "a cancellation or a shutdown ends the attempt with its manifest stored and its row open",
        (2, 6),
        "a cancellation raises in the middle of the attempt",
        (
            Mutation(
                "photo_worker/activities/results.py",
                "ResultActivities.persist_artifacts",
                "@activity.defn(no_thread_cancel_exception=True)",
                "@activity.defn",
            ),
        ),
        (_CANCELLATIONS + "test_persist_artifacts_cancelled_commits_result",),
    ),
    Safeguard(
        "reason-outlives-cancellation",
        "a cancellation does not tear the writing of a reason",
        "a shutdown leaves a failed job running in its row until the next attempt",
        (2,),
        "a cancellation raises in the middle of the attempt",
        (
            Mutation(
                "photo_worker/activities/results.py",
                "ResultActivities.record_failure",
                "@activity.defn(no_thread_cancel_exception=True)",
                "@activity.defn",
            ),
        ),
        (_CANCELLATIONS + "test_record_failure_cancelled_writes_failure",),
    ),
)
