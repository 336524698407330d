"""The safeguards of checks of a running deployment."""

from __future__ import annotations

from tests.crash.safeguard import Safeguard
from tests.support.mutation import Mutation

_ERASE = "photo_worker/services/erasure.py"
_SURVEY = "photo_worker/services/consistency/scan.py"
_LOOK = "photo_worker/services/consistency/inspector.py"
_REPAIR = "photo_worker/services/consistency/repair.py"
_BINDING = "photo_worker/services/binding.py"
_BINDINGS = "tests/unit/integrity/test_binding.py::"
_SURVEYS = "tests/unit/integrity/test_scan.py::"
_REPAIRS = "tests/unit/integrity/test_repair.py::"

CHECKING: tuple[Safeguard, ...] = (
    Safeguard(
        "second-look",
        "the check looks again before it reports",
        "each job that ends while the check runs is reported as damaged",
        (2, 6),
        "the first look is believed",
        (
            Mutation(
                _SURVEY,
                "Scanner._record_job",
                """
                if any(True for $_ in job_findings($job)):
                    $suspects.append($job.job_id)
                """,
                "report.findings += job_findings($job)",
            ),
        ),
        (_SURVEYS + "test_scan_job_ending_meanwhile_is_no_finding",),
    ),
    Safeguard(
        "second-look-at-photos",
        "the check asks the database again before it calls a photo an orphan",
        "the photo of a job that was submitted while the check ran is reported as an orphan",
        (4,),
        "what the listing of rows has shown is believed",
        (
            Mutation(
                _SURVEY,
                "Scanner._orphans",
                "await self._each(lambda $found: self.is_orphan(*$found.location), $objects)",
                "[True] * len($objects)",
            ),
        ),
        (_SURVEYS + "test_scan_photo_submitted_meanwhile_is_no_finding",),
    ),
    Safeguard(
        "hidden-copies-are-found",
        "the check sees copies that are behind a delete marker",
        "what a late attempt stored behind an erasure, and was deleted by hand later, stays in its version for ever",
        (9,),
        "only the current objects are listed",
        (
            Mutation(
                _SURVEY,
                "Scanner._photo_entries",
                "heapq.merge($store.list($bucket, $folder), $hidden, key=lambda $entry: $entry.key)",
                "$store.list($bucket, $folder)",
            ),
        ),
        (_REPAIRS + "test_repair_copy_stored_after_erase_deletes_all_versions[behind a delete marker]",),
    ),
    Safeguard(
        "erasure-in-progress",
        "the check gives an erasure the time to end",
        "every erasure that runs beside a check is reported as incomplete",
        (9,),
        "what is left of a marked job is reported at once",
        (Mutation(_SURVEY, "Scanner._confirm", "$found and $job_id in $seen.erased", "False"),),
        (_SURVEYS + "test_scan_waits_for_a_running_erase",),
    ),
    Safeguard(
        "gave-up-jobs-go-on",
        "a repair sets a job going again that a service or a worker has ended",
        "a job whose worker had an old password is failed for good, though nothing is wrong with its photo",
        (2,),
        "its end is written into its row, as with a job that was terminated",
        (
            Mutation(
                _REPAIR,
                "Repairer.__init__",
                "Repair.START_AGAIN: self._start_again",
                "Repair.START_AGAIN: self._record_end",
            ),
        ),
        (_REPAIRS + "test_repair_job_failed_by_dependency_restarts_workflow[service_refused]",),
    ),
    Safeguard(
        "repair-looks-first",
        "a repair acts on what it sees then",
        "the result of a job whose row came back after the check, as with a restored database, is deleted",
        (6,),
        "the check's finding is believed",
        (
            Mutation(
                _REPAIR,
                "Repairer._act",
                "any(($one.code, $one.repair) == ($finding.code, $finding.repair) for $one in job_findings($job))",
                "True",
            ),
        ),
        (_REPAIRS + "test_repair_result_whose_row_returned_is_kept",),
    ),
    Safeguard(
        "repair-leaves-used-photos",
        "a repair deletes no photo that a job uses by then",
        "a photo that is submitted between check and repair is gone, and its job fails",
        (4,),
        "the photo is deleted although a job uses it",
        (
            Mutation(
                _REPAIR,
                "Repairer._delete_photo.delete",
                "$unused and self._ports.store.delete($bucket, $key)",
                "self._ports.store.delete($bucket, $key)",
            ),
        ),
        (_REPAIRS + "test_repair_photo_submitted_since_scan_is_kept",),
    ),
    Safeguard(
        "repair-needs-the-right-database",
        "nothing is deleted where bucket and database do not belong together",
        "with another deployment's DATABASE_URL every object is an orphan, and `--repair` deletes them all",
        (4,),
        "any number of orphans is believed",
        (Mutation(_REPAIR, "_refusal", "$orphans > $report.linked", "False"),),
        (_REPAIRS + "test_repair_with_other_database_deletes_nothing",),
    ),
    Safeguard(
        "repair-needs-the-binding",
        "a repair deletes only in a bucket that is bound to the database",
        "with another deployment's bucket in the settings `--repair` deletes the photos that wait in it",
        (4,),
        "the marker is not looked at",
        (
            Mutation(
                _REPAIR,
                "Repairer.repair",
                "_refusal($finding, $report) or await self._foreign_reason($finding)",
                "_refusal($finding, $report)",
            ),
        ),
        (_BINDINGS + "test_repair_shared_bucket_deletes_nothing_of_the_other",),
    ),
    Safeguard(
        "repair-leaves-what-is-older-than-the-binding",
        "a repair deletes no orphan that was there before the bucket was bound",
        "the first deployment to bind a bucket that two have used deletes the photos of the other",
        (4,),
        "the age of the marker is not looked at",
        (Mutation(_REPAIR, "Repairer._too_old", "$since is None or $entry.modified_at <= $since", "$since is None"),),
        (_BINDINGS + "test_repair_shared_bucket_deletes_nothing_of_the_other",),
    ),
    Safeguard(
        "binding-is-written-once",
        "a bucket that is bound stays bound to its database",
        "a migration with a wrong S3_BUCKET takes the bucket of another deployment, which then counts as an orphan",
        (4,),
        "the marker is written over",
        (
            Mutation(
                _BINDING,
                "bind",
                "isinstance($found, BoundElsewhere) and not $rebind",
                "isinstance($found, BoundElsewhere) and False",
            ),
            Mutation(
                _BINDING,
                "bind",
                "if $rebind: ...",
                "if True: ...",
            ),
        ),
        (_BINDINGS + "test_bind_bucket_of_other_database_needs_rebind",),
    ),
    Safeguard(
        "worker-needs-its-own-bucket",
        "a worker takes no work with a bucket that its database was not bound to",
        "of a job that it shares with a right worker the response lies in one bucket, and the row names the other",
        (4, 5),
        "a bucket without a marker passes",
        (
            Mutation(
                _BINDING, "require_own_bucket", "isinstance($found, Unbound) and $found.deployment is not None", "False"
            ),
        ),
        ("tests/integration/test_misconfigured_workers.py::test_worker_with_unbound_bucket_stores_nothing_there",),
    ),
    Safeguard(
        "erase-needs-its-own-bucket",
        "an erase touches nothing in a bucket that is another database's",
        "erasing a job with a wrong setting deletes the photo and the result of another deployment's job",
        (4, 9),
        "the marker is not looked at",
        (
            Mutation(
                _ERASE,
                "Erasure._require_own_buckets",
                "require_bound(self._store, self._repository, self._bucket)",
                "return",
            ),
        ),
        (_BINDINGS + "test_erase_bucket_of_other_database_deletes_nothing",),
    ),
    Safeguard(
        "erase-needs-the-marker",
        "an erase deletes nothing in a bucket without the marker of its database",
        "erasing a job with a wrong S3_BUCKET deletes what another deployment that was never bound has under the id",
        (4, 9),
        "a bucket without a marker passes",
        (
            Mutation(_BINDING, "require_bound", "raise unbound_error($bucket, $repository, $found)", "return"),
            Mutation(
                _ERASE,
                "Erasure._require_own_buckets",
                "raise unbound_error($before, self._repository, $found)",
                "return",
            ),
            Mutation(
                _ERASE,
                "Erasure._own_buckets",
                "isinstance(self._binding_of($before), Bound)",
                "not self._is_elsewhere($before)",
            ),
        ),
        (_BINDINGS + "test_erase_bucket_without_own_marker_deletes_nothing",),
    ),
    Safeguard(
        "repair-after-a-restore",
        "nothing is deleted where rows seem to be lost",
        "after a restore of yesterday's database `--repair` deletes today's results",
        (4,),
        "objects without a row are orphans",
        (
            Mutation(
                _REPAIR,
                "_refusal",
                "if $lost: ...",
                "if False: ...",
            ),
        ),
        (_REPAIRS + "test_repair_after_database_restore_deletes_nothing",),
    ),
    Safeguard(
        "repair-needs-a-worker",
        "no workflow is started where no worker asks for work",
        "with another namespace's settings every queued job is started a second time there",
        (1, 3),
        "jobs are started wherever the settings lead",
        (Mutation(_REPAIR, "_refusal", "not $queue.has_worker", "False"),),
        (_REPAIRS + "test_repair_queued_job_without_worker_is_refused",),
    ),
    Safeguard(
        "repair-waits-for-rows",
        "nothing is deleted while a running workflow has no row",
        "`--repair` deletes the photo of a job whose row comes a moment later",
        (4,),
        "workflows without a row are not counted",
        (
            Mutation(
                _REPAIR,
                "_refusal",
                "if $report.rowless: ...",
                "if False: ...",
            ),
        ),
        (_REPAIRS + "test_repair_workflow_without_row_deletes_nothing",),
    ),
    Safeguard(
        "broken-listing-goes-on",
        "a listing that breaks off is gone on with where it broke",
        "a store that was away for a moment hides what is damaged behind that place, and the check says nothing of it",
        (4,),
        "the end of what came is taken for the end of what there is",
        (Mutation(_SURVEY, "Scanner._batches", "_resume_after($last, $begin(), $position)", "iter(())"),),
        (_SURVEYS + "test_scan_interrupted_listing_is_resumed",),
    ),
    Safeguard(
        "mark-is-read-last",
        "a job is asked for its mark after everything else",
        "an erasure that begins while a job is looked at is reported as a loss of its objects",
        (9,),
        "the mark is read before the objects",
        (
            Mutation(
                _LOOK,
                "JobInspector._inspect.rest",
                "$objects, $unreadable = self._objects($evidence, $job_id, $row, $entries, remember=$remember)",
                """
                before = self.ports.repository.is_erased($job_id)
                $objects, $unreadable = self._objects($evidence, $job_id, $row, $entries, remember=$remember)
                """,
            ),
            Mutation(
                _LOOK,
                "JobInspector._inspect.rest",
                "frozenset({$job_id}) if self.ports.repository.is_erased($job_id) else frozenset[UUID]()",
                "frozenset({$job_id}) if before else frozenset[UUID]()",
            ),
        ),
        (_SURVEYS + "test_confirm_erase_between_reads_is_not_a_loss",),
    ),
)
