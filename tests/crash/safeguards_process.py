"""The safeguards of submissions and of the worker's process."""

from __future__ import annotations

from tests.crash.safeguard import Safeguard
from tests.support.mutation import Mutation

_ENDS = "tests/crash/test_job_outcomes.py::"
_JOBS = "tests/unit/test_jobs.py::"
_WORKFLOWS = "tests/integration/test_image_workflow.py::"
_WRONG_WORKERS = "tests/integration/test_misconfigured_workers.py::"
_STARTING = "tests/integration/orchestration/test_start_image_processing.py::"

SUBMISSION: tuple[Safeguard, ...] = (
    Safeguard(
        "object-before-row",
        "a row's object is there before the row",
        "a job that is queued by a process that dies then has no photo",
        (2, 4),
        "the photo is stored after its row",
        (Mutation("photo_worker/services/jobs.py", "JobService.submit", "await self._store_raw($photo)", ""),),
        (_JOBS + "test_submit_crash_after_row_leaves_job_with_photo",),
    ),
    Safeguard(
        "no-upload-into-another-s-bucket",
        "`submit` uploads nothing into a bucket that is another database's",
        "photos wait in a bucket whose own deployment takes them for orphans and deletes them",
        (4,),
        "the marker is not looked at",
        (
            Mutation(
                "photo_worker/cli/submit.py",
                "submit_all",
                "any($source.path is not None for $source, $_ in $sources)",
                "False",
            ),
        ),
        ("tests/integration/test_binding.py::test_submit_bucket_bound_elsewhere_uploads_nothing",),
    ),
    Safeguard(
        "object-looked-at-again",
        "a queued job's photo is there, even if another job with it was erased",
        "a photo that an erasure took between its storing and its row is missing for good",
        (2, 4),
        "the photo is not looked at after the row was written",
        (Mutation("photo_worker/services/jobs.py", "JobService.submit", "await self._keep_raw($chosen, $photo)", ""),),
        (_JOBS + "test_submit_photo_deleted_by_erasure_is_stored_again",),
    ),
    Safeguard(
        "final-job-is-joined",
        "a finished job is not started again",
        "once Temporal has forgotten a job, submitting its id again runs and charges it again",
        (1, 3, 6),
        "the row's status is not looked at",
        (Mutation("photo_worker/services/jobs.py", "JobService.submit", "$record.status in FINAL_STATUSES", "False"),),
        (_ENDS + "test_submit_of_finished_job_after_30_days_charges_nothing",),
    ),
    Safeguard(
        "submit-tells-that-nothing-runs",
        "`submit` says where a job's workflow has ended without its row",
        "submitting such a job again says that it was joined, with exit code 0, while nothing runs",
        (2,),
        "what is joined is not looked at",
        (
            Mutation(
                "photo_worker/services/jobs.py",
                "JobService.submit",
                """
                if $handle.joined:
                    await self.workflow_of($chosen)
                """,
                "",
            ),
        ),
        (_JOBS + "test_submit_closed_workflow_without_row_is_refused",),
    ),
    Safeguard(
        "show-tells-that-nothing-runs",
        "`show` says where a job's workflow has ended without its row",
        "a job that nothing runs is shown as queued or running for ever, with exit code 0",
        (2,),
        "the workflow's end is not compared with the row",
        (
            Mutation(
                "photo_worker/cli/show.py",
                "_progress",
                "$state = await $application.jobs().workflow_of($job_id)",
                """
                from photo_worker.contracts.image import IMAGE_PROCESSING
                $state = await $application.orchestrator.state(IMAGE_PROCESSING.of($job_id))
                """,
            ),
        ),
        (_WRONG_WORKERS + "test_check_repair_job_ended_without_row_is_restarted",),
    ),
    Safeguard(
        "last-look",
        "an erasure that runs beside a submission wins",
        "the workflow of an erased job is left, and its photo with it, as the erasure looked for them too early",
        (9,),
        "submit does not look for the mark after the start",
        (
            Mutation(
                "photo_worker/services/jobs.py",
                "JobService.submit",
                "await asyncio.to_thread(self._repository.is_erased, $chosen)",
                "False",
            ),
        ),
        (_JOBS + "test_submit_erased_before_start_leaves_nothing[before the photo is stored again]",),
    ),
    Safeguard(
        "refused-upload-is-taken-back",
        "an upload whose job is refused leaves no photo",
        "a photo that no job refers to stays, of an erased job even",
        (4, 9),
        "a refused upload stays",
        (
            Mutation(
                "photo_worker/services/jobs.py",
                "JobService.submit",
                "await asyncio.to_thread(self._withdraw, $chosen, $photo.key)",
                "",
            ),
        ),
        (_JOBS + "test_submit_erased_before_row_leaves_no_object",),
    ),
    Safeguard(
        "shared-photo-stays",
        "a refused upload takes no other job's photo away",
        "a job fails because the same photo was submitted under a wrong id",
        (4,),
        "a refused upload is deleted although another job uses it",
        (
            Mutation(
                "photo_worker/services/jobs.py",
                "JobService._withdraw",
                "if $sole: ...",
                "if True: ...",
            ),
        ),
        (_JOBS + "test_submit_conflict_keeps_upload_of_other_job",),
    ),
)

PROCESS: tuple[Safeguard, ...] = (
    Safeguard(
        "final-errors",
        "what would fail again is not tried again",
        "a job whose photo can never be read is tried for a day before it says so",
        (2, 11),
        "every error may be retried",
        (Mutation("photo_worker/activities/boundary.py", "to_application_error", "not $error.passes", "False"),),
        (_ENDS + "test_job_with_permanent_error_fails_at_once",),
    ),
    Safeguard(
        "drain-deadline",
        "a worker that does not drain gives its work up",
        "a deployment waits for ever for a worker whose activity hangs",
        (2,),
        "the drain has no deadline's end",
        (Mutation("photo_worker/worker.py", "run_until_stopped", "$give_up(1)", "pass"),),
        ("tests/unit/test_worker.py::test_run_until_stopped_hanging_activity_ends_process",),
    ),
    Safeguard(
        "blocked-slot-is-told",
        "an attempt that goes on after its end is logged",
        "a thread that hangs in a call takes its slot for good, and nothing says why the worker does less and less",
        (2,),
        "no attempt is looked at",
        (
            Mutation(
                "photo_worker/activities/overdue.py",
                "_Watched._look",
                """
                if $reason:
                    ...
                else:
                    ...
                """,
                """
                if False:
                    ...
                else:
                    ...
                """,
            ),
        ),
        ("tests/integration/test_overdue.py::test_overdue_log_reports_attempt_once[None-its time of 1 s is over]",),
    ),
    Safeguard(
        "wait-settles-terminated-job",
        "a terminated job gets its reason from the command that waits for it",
        "the row of a job that was terminated by hand stays queued or running",
        (2, 10),
        "wait writes nothing",
        (
            Mutation(
                "photo_worker/services/jobs.py",
                "JobService.wait",
                "await asyncio.to_thread(self._settle, $job_id, $error)",
                "True",
            ),
        ),
        (_WORKFLOWS + "test_wait_for_terminated_job_records_reason",),
    ),
    Safeguard(
        "id-used-once",
        "a job id is never run twice",
        "a job that was terminated, or ends while it is submitted again, is run a second time",
        (1, 3),
        "Temporal may use a closed workflow's id again",
        (
            Mutation(
                "photo_worker/adapters/temporal/orchestrator.py",
                "TemporalOrchestrator.start",
                "self._start($workflow, $request, WorkflowIDReusePolicy.REJECT_DUPLICATE)",
                "self._start($workflow, $request, WorkflowIDReusePolicy.ALLOW_DUPLICATE)",
            ),
        ),
        (_STARTING + "test_start_image_processing_closed_job_is_not_run_again",),
    ),
    Safeguard(
        "id-runs-once",
        "a job that runs is joined",
        "a second submission of a running job ends its run and begins it anew",
        (1, 3),
        "Temporal may end the running workflow for the new one",
        (
            Mutation(
                "photo_worker/adapters/temporal/orchestrator.py",
                "TemporalOrchestrator._start",
                "id_reuse_policy=$reuse, id_conflict_policy=WorkflowIDConflictPolicy.FAIL",
                "id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING",
            ),
        ),
        (_STARTING + "test_start_image_processing_concurrently_starts_one_run",),
    ),
    Safeguard(
        "logs-hold-no-variables",
        "a traceback in a log shows lines and no variables",
        "a failed read writes the document's words into the log",
        (12,),
        "tracebacks show each frame's variables",
        (Mutation("photo_worker/logs.py", "_tracebacks", "show_locals=False", "show_locals=True"),),
        ("tests/unit/test_logs.py::test_traceback_hides_local_variables",),
    ),
)
