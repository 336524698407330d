"""Every safeguard of the product: what it prevents, how it is switched off, and the test that must then go red.

A safeguard is switched off by replacing a text that stands exactly once in one of the product's files. Whoever removes
or moves a safeguard hears so from ``test_safeguards.py``, which names it; whoever adds one adds it here and runs
``python scripts/make_safeguards.py``, which writes ``docs/reference/safeguards.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.crash.mutants import Edit

MEMORY = "tests/unit/storage/test_memory.py::TestMemoryRecipeRepository::"
POSTGRES = "tests/integration/storage/test_contracts.py::TestPostgresRecipeRepository::"
POSTGRES_FAULTS = "tests/integration/storage/test_postgres.py::"
ERASURES = "tests/integration/storage/test_erasures.py::"
S3_UNIT = "tests/unit/storage/test_s3_boto.py::"
ACTIVITIES = "tests/unit/test_activities.py::"
WORKFLOW = "tests/integration/test_image_workflow.py::"
STARTING = "tests/integration/orchestration/test_starting.py::"
HISTORIES = "tests/replay/test_histories.py::test_the_bare_replayer_accepts_it"

V0002 = "photo_worker/storage/migrations/versions/v0002_erasures.py"


@dataclass(frozen=True)
class Safeguard:
    """One safeguard. ``otherwise`` is what a user would meet without it.

    ``invariants`` are those of docs/explanation/crash-safety.md, ``off`` says in words what ``edits`` do, and
    ``tests`` are the pytest ids of which at least one must fail then.
    """

    name: str
    title: str
    otherwise: str
    invariants: tuple[int, ...]
    off: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    limit_seconds: float = 40.0
    """After which a test that hangs counts as red."""

    @property
    def needs_stack(self) -> bool:
        """Tell whether its tests use the native stack."""
        return any(test.startswith(("tests/integration", "tests/e2e")) for test in self.tests)


_ROWS = (
    Safeguard(
        "final-status",
        "a final status stays",
        "a late attempt puts a finished job back to running, or turns a result into a failure",
        (6, 2),
        "the upsert writes any status over a final one",
        (
            Edit(
                "photo_worker/storage/statements.py",
                "status = CASE WHEN recipes.status IN ('succeeded', 'failed') OR EXCLUDED.status = 'queued'",
                "status = CASE WHEN EXCLUDED.status = 'queued'",
            ),
        ),
        (POSTGRES + "test_a_final_status_never_changes",),
    ),
    Safeguard(
        "queued-is-first",
        "queueing again does not put a running job back",
        "whoever submits the same id again turns a running job's row into a queued one",
        (6,),
        "the upsert lets queued replace running",
        (Edit("photo_worker/storage/statements.py", " OR EXCLUDED.status = 'queued'\n", "\n"),),
        (POSTGRES + "test_a_queue_call_does_not_put_a_running_job_back",),
    ),
    Safeguard(
        "first-reason",
        "the first reason stays",
        "a second failure hides why the job really failed",
        (2, 6),
        "the upsert takes the last error code",
        (
            Edit(
                "photo_worker/storage/statements.py",
                "error_code = CASE WHEN recipes.status IN ('succeeded', 'failed')\n"
                "            THEN recipes.error_code ELSE EXCLUDED.error_code END",
                "error_code = EXCLUDED.error_code",
            ),
        ),
        (POSTGRES + "test_a_failure_keeps_its_first_reason",),
    ),
    Safeguard(
        "one-row",
        "a job id has one row, however many write it",
        "a write that is repeated fails, and with it a job whose first write was not acknowledged",
        (1, 10),
        "the upsert has no conflict clause",
        (
            Edit("photo_worker/storage/statements.py", "    ON CONFLICT (id) DO UPDATE SET", "    /*"),
            Edit("photo_worker/storage/statements.py", '    RETURNING *"""', '    */ RETURNING *"""'),
        ),
        (POSTGRES + "test_a_repeated_write_changes_nothing",),
    ),
    Safeguard(
        "same-asset-key",
        "a job id belongs to one asset: its place",
        "two photos under one job id overwrite each other's result",
        (1,),
        "the upsert takes a row of another bucket or key",
        (
            Edit(
                "photo_worker/storage/statements.py",
                "WHERE recipes.s3_raw_key = EXCLUDED.s3_raw_key",
                "WHERE recipes.id = EXCLUDED.id",
            ),
        ),
        (POSTGRES + "test_a_job_id_of_another_asset_is_refused",),
    ),
    Safeguard(
        "same-asset-hash",
        "a job id belongs to one asset: its bytes",
        "an object that is replaced while its job runs gives a row whose hash is not that of its text",
        (1, 4),
        "the upsert does not compare hashes",
        (
            Edit(
                "photo_worker/storage/statements.py",
                "AND (recipes.content_sha256 = EXCLUDED.content_sha256",
                "AND (true",
            ),
        ),
        (POSTGRES + "test_a_job_id_of_another_asset_is_refused",),
    ),
    Safeguard(
        "no-result-beside-a-failure",
        "a failed job has no result row",
        "a job that ended as failed shows the result of an attempt that came too late",
        (6, 10),
        "the result row is written whatever the job's status",
        (Edit("photo_worker/storage/statements.py", "FROM job WHERE status = 'succeeded'", "FROM job"),),
        (POSTGRES + "test_a_result_after_a_failure_leaves_no_ocr_row",),
    ),
    Safeguard(
        "result-written-twice",
        "a result may be written again",
        "a job whose commit was not acknowledged fails at the next attempt, although its result is there",
        (2, 10),
        "the result row's insert has no conflict clause",
        (
            Edit("photo_worker/storage/statements.py", "ON CONFLICT (recipe_id) DO UPDATE SET", "/*"),
            Edit(
                "photo_worker/storage/statements.py",
                "page_count = EXCLUDED.page_count\n        RETURNING *",
                "*/ RETURNING *",
            ),
        ),
        (POSTGRES + "test_a_repeated_write_changes_nothing",),
    ),
    Safeguard(
        "statement-again",
        "a statement is run again on a new connection",
        "after a restart of Postgres every connection of the pool fails one job's attempt",
        (2, 11),
        "a lost connection raises at once",
        (Edit("photo_worker/storage/postgres.py", "if not _is_lost(error):", "if True or not _is_lost(error):"),),
        (POSTGRES_FAULTS + "test_a_restart_that_is_over_goes_unnoticed",),
    ),
    Safeguard(
        "statement-timeout",
        "a statement that waits for a lock ends",
        "a worker whose peer was paused inside a transaction waits with it for ever",
        (2,),
        "connections have no statement timeout",
        (
            Edit(
                "photo_worker/storage/postgres.py",
                "configure=partial(_limit_statements, seconds=statement_timeout),\n",
                "\n",
            ),
        ),
        (POSTGRES_FAULTS + "test_a_statement_that_waits_too_long_is_given_up",),
        limit_seconds=5,
    ),
    Safeguard(
        "result-of-a-peer",
        "who waited for a row reads it again",
        "an attempt beside another that finished the job hands out a succeeded row without its result",
        (10,),
        "the row is returned as the statement saw it",
        (
            Edit(
                "photo_worker/storage/postgres.py",
                'if row.status == "succeeded" and row.s3_ocr_key is None:',
                'if row.status == "never":',
            ),
        ),
        (POSTGRES_FAULTS + "test_the_result_of_a_job_finished_meanwhile_comes_back_whole",),
    ),
)

_ERASURE = (
    Safeguard(
        "erased-is-refused",
        "an erased job is refused by the statement that writes it",
        "a late attempt, or somebody who submits the id again, brings an erased job back",
        (9,),
        "the trigger lets writes of marked jobs pass",
        (Edit(V0002, "RAISE EXCEPTION 'the job has been erased' USING ERRCODE = 'PW001'", "NULL"),),
        (POSTGRES + "test_an_erased_job_is_never_written_again",),
    ),
    Safeguard(
        "mark-waits-for-writers",
        "a mark waits for writers that have not seen it",
        "an attempt that writes at the moment of the erasure commits after the rows were deleted",
        (9,),
        "marking takes no lock",
        (
            Edit(
                "photo_worker/storage/statements.py",
                "SELECT pg_advisory_xact_lock(recipes_job_lock(%(id)s))",
                "SELECT 1",
            ),
        ),
        (ERASURES + "test_a_mark_waits_for_a_writer_that_has_not_seen_it",),
    ),
    Safeguard(
        "writers-wait-for-a-mark",
        "a writer waits for a mark that is being made",
        "a submission that begins beside an erasure does not see the mark",
        (9,),
        "writers take no lock on their job",
        (Edit(V0002, "PERFORM pg_advisory_xact_lock_shared(recipes_job_lock(NEW.id));", "NULL;"),),
        (ERASURES + "test_a_writer_that_waited_for_the_mark_sees_it",),
    ),
    Safeguard(
        "sole-user-holds-the-object",
        "nobody can queue a job for an object while it is being deleted",
        "a photo that is uploaded again at the moment of an erasure is deleted under its new job",
        (4, 9),
        "writers take no lock on their object",
        (Edit(V0002, "PERFORM pg_advisory_xact_lock_shared(recipes_object_lock(NEW.s3_raw_key));", "NULL;"),),
        (POSTGRES + "test_who_queues_a_job_for_a_held_object_waits",),
    ),
    Safeguard(
        "sole-user-looks-at-others",
        "an object that another job uses stays",
        "erasing one of two jobs with the same photo takes the other's photo away",
        (4,),
        "any number of users counts as one",
        (Edit("photo_worker/storage/statements.py", "            AND id <> %(id)s\n", "            AND false\n"),),
        (POSTGRES + "test_another_jobs_row_about_an_object_is_seen",),
    ),
    Safeguard(
        "erased-jobs-use-nothing",
        "a job that is being erased keeps no object",
        "two jobs with one photo that are erased at once each leave the photo to the other",
        (9,),
        "jobs that are marked count as users",
        (
            Edit(
                "photo_worker/storage/statements.py",
                "AND NOT EXISTS (SELECT FROM erasures WHERE job_digest = recipes_job_digest(recipes.id))",
                "AND true",
            ),
        ),
        (POSTGRES + "test_jobs_that_are_erased_at_once_do_not_keep_their_object_for_each_other",),
    ),
)

_OBJECTS = (
    Safeguard(
        "content-md5",
        "the store refuses a body that was torn on its way",
        "half an object is stored as if it were whole",
        (4, 5),
        "put sends no Content-MD5",
        (Edit("photo_worker/storage/s3_boto.py", "ContentMD5=b64encode(digest).decode(),\n", "\n"),),
        (S3_UNIT + "test_put_sends_what_the_store_needs_to_check_the_body",),
    ),
)

_WORKFLOW = (
    Safeguard(
        "failure-is-recorded",
        "every end of a job is written down",
        "a job that failed or was cancelled stays running in its row for ever",
        (2, 10),
        "the workflow ends without record_failure",
        (
            Edit(
                "photo_worker/workflows/image.py",
                "status = await _to_the_end(_record_failure(request, reason))",
                'status = "failed"',
            ),
        ),
        (HISTORIES + "[object-missing]",),
    ),
    Safeguard(
        "failure-outlives-cancellation",
        "a cancellation does not interrupt the writing of the reason",
        "a job that is cancelled while its failure is written stays running in its row",
        (2, 10),
        "record_failure is not shielded",
        (Edit("photo_worker/workflows/image.py", "return await asyncio.shield(task)", "return await task"),),
        (HISTORIES + "[cancelled-in-record-failure]",),
    ),
    Safeguard(
        "committed-is-succeeded",
        "a result whose reply was lost counts",
        "the workflow reports a failure for a job whose rows say succeeded",
        (2, 10),
        "the status that record_failure found is not looked at",
        (
            Edit(
                "photo_worker/workflows/image.py",
                'if status == "succeeded" and self._located and self._ocr:',
                'if status == "never" and self._located and self._ocr:',
            ),
        ),
        (HISTORIES + "[reply-lost-for-good]",),
    ),
    Safeguard(
        "cancellation-waits-for-the-result",
        "a cancellation that comes while results are written waits for them",
        "row and workflow contradict each other: one succeeded, one cancelled",
        (6, 10),
        "a cancellation abandons persist_artifacts",
        (
            Edit(
                "photo_worker/workflows/image.py",
                "ActivityCancellationType.WAIT_CANCELLATION_COMPLETED",
                "ActivityCancellationType.TRY_CANCEL",
            ),
        ),
        (HISTORIES + "[cancelled-in-persist]",),
    ),
    Safeguard(
        "contract-ends-the-workflow",
        "an input that breaks its contract ends the workflow",
        "the workflow's first task fails and is tried again for ever",
        (2, 11),
        "the converter lets pydantic's own error pass",
        (
            Edit(
                "photo_worker/orchestration/converter.py",
                "except ValidationError as error:",
                "except ZeroDivisionError as error:",
            ),
        ),
        (HISTORIES + "[contract-invalid]",),
    ),
)

_ACTIVITIES = (
    Safeguard(
        "kept-answer",
        "a retry takes the answer that is stored",
        "an attempt that died after storing is read by OCR once more",
        (3, 11),
        "no attempt looks for a stored answer",
        (Edit("photo_worker/activities/ocr.py", "if info.attempt > 1:", "if info.attempt > 1_000:"),),
        (ACTIVITIES + "TestOcr::test_a_retry_takes_the_answer_that_is_there",),
    ),
    Safeguard(
        "kept-answer-of-these-bytes",
        "a stored answer counts for its own bytes alone",
        "a job whose object was replaced between two attempts gets the other photo's text",
        (4, 5),
        "the stored answer's hash is not compared",
        (
            Edit(
                "photo_worker/activities/ocr.py",
                'about.get("source-sha256") != document.sha256',
                "False",
            ),
        ),
        (ACTIVITIES + "TestOcr::test_a_retry_does_not_take_the_answer_for_other_bytes",),
    ),
)

_PROCESS = (
    Safeguard(
        "final-errors",
        "what would fail again is not tried again",
        "a document that Textract refuses is sent, and charged, once for each attempt of the policy",
        (3, 11),
        "every error may be retried",
        (Edit("photo_worker/activities/boundary.py", "non_retryable=not error.retryable", "non_retryable=False"),),
        ("tests/unit/test_boundary.py::test_what_would_fail_again_is_not_tried_again",),
    ),
    Safeguard(
        "drain-deadline",
        "a worker that does not drain gives its work up",
        "a deployment waits for ever for a worker whose activity hangs",
        (2,),
        "the drain has no deadline's end",
        (Edit("photo_worker/worker.py", "        give_up(1)\n", "        pass\n"),),
        ("tests/unit/test_worker.py::test_a_drain_that_hangs_gives_the_process_up",),
    ),
    Safeguard(
        "settled-by-who-waits",
        "a terminated job gets its reason from whoever waits for it",
        "the row of a job that was terminated by hand stays queued or running",
        (2, 10),
        "wait writes nothing",
        (
            Edit(
                "photo_worker/jobs.py",
                "await asyncio.to_thread(self._settle, job_id, error)",
                "pass",
            ),
        ),
        (WORKFLOW + "test_a_terminated_job_is_settled_by_who_waits_for_it",),
    ),
    Safeguard(
        "id-used-once",
        "a job id is never run twice",
        "a second submit of a finished job runs and is charged again",
        (1, 3),
        "Temporal may use a closed workflow's id again",
        (
            Edit(
                "photo_worker/orchestration/temporal.py",
                "WorkflowIDReusePolicy.REJECT_DUPLICATE",
                "WorkflowIDReusePolicy.ALLOW_DUPLICATE",
            ),
        ),
        (STARTING + "test_the_id_of_a_closed_job_is_not_run_again",),
    ),
    Safeguard(
        "id-runs-once",
        "a job that runs is joined",
        "whoever submits a running job's id again ends it and starts it anew",
        (1, 3),
        "Temporal may end the running workflow for the new one",
        (
            Edit(
                "photo_worker/orchestration/temporal.py",
                "                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,\n"
                "                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,\n",
                "                id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING,\n",
            ),
        ),
        (STARTING + "test_of_many_starts_one_starts_and_the_others_join_it",),
    ),
)

CHAPTERS: dict[str, tuple[Safeguard, ...]] = {
    "Rows": _ROWS,
    "Erasure": _ERASURE,
    "Objects": _OBJECTS,
    "The workflow": _WORKFLOW,
    "Reading": _ACTIVITIES,
    "Processes and submissions": _PROCESS,
}

SAFEGUARDS: tuple[Safeguard, ...] = tuple(safeguard for chapter in CHAPTERS.values() for safeguard in chapter)
