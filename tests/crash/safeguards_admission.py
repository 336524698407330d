"""The safeguards of admission: checks of the services that a worker needs, and outcomes of its attempts."""

from __future__ import annotations

from tests.crash.safeguard import Safeguard
from tests.support.mutation import Mutation

_ADMISSION = "tests/unit/test_admission.py::"
_READINESS = "tests/unit/test_readiness.py::"
_MIGRATE = "tests/integration/storage/test_migrate.py::"

ADMISSION: tuple[Safeguard, ...] = (
    Safeguard(
        "polls-when-usable",
        "a worker begins to poll when all that it needs is there",
        "a worker with a wrong setting pulls the backlog into attempts that fail, beside workers that could do it",
        (2, 11),
        "it opens after its first look, whatever that has found",
        (
            Mutation(
                "photo_worker/admission.py", "Admission.wait_until_ready", "await self._recover(await self._look())", ""
            ),
        ),
        (_ADMISSION + "test_admission_when_database_is_away_waits_for_it",),
    ),
    Safeguard(
        "stops-when-lost",
        "a worker takes no more work while it lacks what it needs",
        "a worker that loses a permission fails attempt after attempt of jobs that other workers could do",
        (2, 11),
        "it stays open",
        (Mutation("photo_worker/admission.py", "Admission.watch", "self._open.clear()", ""),),
        (_ADMISSION + "test_watch_closes_on_refused_credentials_and_reopens",),
    ),
    Safeguard(
        "failing-step-is-held-back",
        "a step that fails again and again is asked for rarely",
        "each job of a backlog asks a service that throttles, as often as its attempts are due",
        (2, 11),
        "every attempt is let through",
        (
            Mutation(
                "photo_worker/admission.py",
                "_FailureStreak.is_held_back",
                "self.in_a_row >= MOST_IN_A_ROW",
                "self.in_a_row < 0",
            ),
        ),
        (_ADMISSION + "test_held_back_failing_step_limits_calls_of_that_step",),
    ),
    Safeguard(
        "one-job-s-faults-hold-nothing-back",
        "what concerns one job's object keeps no other job waiting",
        "a few objects that may not be read keep every other photo waiting",
        (2,),
        "they count against the step",
        (
            Mutation(
                "photo_worker/admission.py",
                "Admission.record_outcome",
                "isinstance($error, _OF_ONE_JOB)",
                "isinstance($error, ())",
            ),
        ),
        (_ADMISSION + "test_held_back_refused_objects_hold_no_healthy_job",),
    ),
    Safeguard(
        "own-bucket-is-no-job-s",
        "an object that the worker may not store in its own bucket is the worker's fault",
        "a worker without s3:PutObject has each photo of the backlog read, and can store none",
        (2, 3),
        "it counts as the job's object",
        (
            Mutation(
                "photo_worker/activities/boundary.py",
                "_Inbound._explained",
                "isinstance($error, ObjectForbidden) and self._is_own($error)",
                "False",
            ),
        ),
        ("tests/unit/test_hold_back.py::test_hold_back_forbidden_worker_bucket_limits_calls",),
    ),
    Safeguard(
        "may-store-before-it-polls",
        "a worker that may not store results takes no job",
        "a worker without s3:PutObject has photos read, and paid for, that it cannot store",
        (2, 3),
        "the look does not ask to write",
        (Mutation("photo_worker/readiness.py", "_bucket.check", "_require_writing($store, $bucket)", ""),),
        (_READINESS + "test_bucket_check_without_put_permission_names_it[artifacts/]",),
    ),
    Safeguard(
        "look-writes-nothing",
        "a look at the bucket leaves nothing there",
        "an object that belongs to no row appears in the bucket",
        (4,),
        "the look writes an object",
        (
            Mutation(
                "photo_worker/readiness.py",
                "_require_writing",
                "$store.replace($bucket, $key, b'', etag=_NO_ETAG, content_type='application/octet-stream')",
                "$store.put($bucket, $key, b'', content_type='application/octet-stream')",
            ),
        ),
        (_READINESS + "test_bucket_check_sends_three_requests_and_writes_nothing[bound]",),
    ),
    Safeguard(
        "may-read-before-it-polls",
        "a worker whose role may not have documents read takes no job",
        "a worker without textract:StartDocumentTextDetection fails every attempt that it pulls",
        (2, 11),
        "a refusal of the operation passes",
        (
            Mutation(
                "photo_worker/adapters/ocr/textract.py",
                "require_textract",
                "except $client.exceptions.AccessDeniedException as $error: ...",
                "except ZeroDivisionError as $error: ...",
            ),
        ),
        ("tests/unit/ocr/test_textract_readiness.py::test_require_usable_without_read_permission_is_refused[async]",),
    ),
    Safeguard(
        "may-write-rows-before-it-polls",
        "a worker whose role lacks a privilege on a table takes no job",
        "a role that may read rows and not write all of them fails every attempt that it pulls",
        (2, 11),
        "the privileges are not looked at",
        (
            Mutation(
                "photo_worker/adapters/postgres/migrate.py",
                "require_usable",
                "for $statement in _EXPLAINED: ...",
                "for $statement in (): ...",
            ),
        ),
        (_MIGRATE + "test_require_usable_role_without_write_is_forbidden",),
    ),
    Safeguard(
        "each-code-is-said-once",
        "a worker says once of each code that it takes no work",
        "in an outage whose codes alternate the log has a line for each look, and the operators' alarm rings all night",
        (11,),
        "each change of the code is said",
        (
            Mutation(
                "photo_worker/admission.py", "Admission._recover", "$said.add($found.code)", "$said = {$found.code}"
            ),
        ),
        (_ADMISSION + "test_admission_logs_each_code_once_per_outage",),
    ),
    Safeguard(
        "less-work-is-said-once-a-minute",
        "that a step fails is said once a minute at most",
        "a service that throttles most calls gives two lines a second",
        (11,),
        "each row of failures is said",
        (Mutation("photo_worker/admission.py", "SILENCE_SECONDS", "60.0", "0.0"),),
        (_ADMISSION + "test_admission_mostly_throttled_is_logged_once_a_minute",),
    ),
)
