"""The safeguards of the order of an erasure, and of checks of a running deployment."""

from __future__ import annotations

from tests.crash.mutants import Mutation
from tests.crash.safeguard import Safeguard

_ERASE = "photo_worker/services/erasure.py"
_SURVEY = "photo_worker/services/consistency/scan.py"
_LOOK = "photo_worker/services/consistency/inspector.py"
_REPAIR = "photo_worker/services/consistency/repair.py"
_BINDING = "photo_worker/services/binding.py"
_V0004 = "photo_worker/adapters/postgres/migrations/versions/v0004_earlier_hashes.py"
_BINDINGS = "tests/unit/integrity/test_binding.py::"
_ERASURES = "tests/unit/test_erase.py::"
_SURVEYS = "tests/unit/integrity/test_scan.py::"
_REPAIRS = "tests/unit/integrity/test_repair.py::"

ERASING: tuple[Safeguard, ...] = (
    Safeguard(
        "copy-erased-with-the-job",
        "an erasure deletes the copy that OCR read",
        "the photo of an erased job stays in another form",
        (9,),
        "the copy is not looked for",
        (Mutation(_ERASE, "        if photo is None:\n            return []\n", "        return []\n"),),
        (_ERASURES + "test_erase_copy_of_user_photo_is_deleted_at_once",),
    ),
    Safeguard(
        "shared-copy-stays",
        "a copy that another job reads stays",
        "the other job fails, because Textract does not find what the worker told it to read",
        (2, 4),
        "a copy is deleted whoever uses it",
        (
            Mutation(
                _ERASE,
                "                if sole:\n                    with crash_point(CrashPoint.COPY_ERASED)",
                "                if sole is not None:\n                    with crash_point(CrashPoint.COPY_ERASED)",
            ),
        ),
        (_ERASURES + "test_erase_shared_copy_is_deleted_with_last_job",),
    ),
    Safeguard(
        "earlier-copies-are-found",
        "an erasure finds the copies of all bytes that were at the photo's place",
        "the photo of an erased job stays in another form, where its owner replaced it while the job ran",
        (9,),
        "only the copy of the bytes that the row names is looked for",
        (
            Mutation(
                _ERASE, "        if _is_uploaded(photo, own):\n            return named\n", "        return named\n"
            ),
        ),
        (
            _ERASURES + "test_erase_deletes_copies_of_replaced_bytes[False-kept]",
            _ERASURES + "test_erase_deletes_copies_of_replaced_bytes[False-older than the record]",
        ),
    ),
    Safeguard(
        "earlier-hashes-are-handed-on",
        "a copy that a waiting job may read goes with that job",
        "the copy stays for ever where the other job finds other bytes than those of the erased one",
        (9,),
        "what an erased job has read is forgotten with its row",
        (
            Mutation(
                "photo_worker/adapters/memory/job_repository.py",
                "            if heir is not None:\n",
                "            if False:\n",
            ),
        ),
        (_ERASURES + "test_erase_keeps_copy_that_queued_job_may_read",),
    ),
    Safeguard(
        "database-hands-earlier-hashes-on",
        "the database hands the hashes of a row that goes on to another job of its photo",
        "the copy stays for ever where the other job finds other bytes than those of the erased one",
        (9,),
        "the trigger of a deletion writes nothing",
        (Mutation(_V0004, "FROM heir, known", "FROM heir, known WHERE false"),),
        (
            "tests/integration/storage/test_contracts.py::TestPostgresJobRepository"
            "::test_delete_moves_hashes_to_one_job_of_the_object[1]",
        ),
    ),
    Safeguard(
        "mark-first",
        "an erasure begins with the mark",
        "an attempt that runs meanwhile writes what has just been deleted",
        (9,),
        "the mark is made at the end",
        (
            Mutation(_ERASE, "        tell(await asyncio.to_thread(self._mark, job_id))\n", ""),
            Mutation(
                _ERASE,
                "        tell(ErasureStep(Part.ROWS, done=",
                "        tell(await asyncio.to_thread(self._mark, job_id))\n        tell(ErasureStep(Part.ROWS, done=",
            ),
        ),
        (_ERASURES + "test_erase_with_concurrent_attempt_leaves_nothing",),
    ),
    Safeguard(
        "workflow-before-objects",
        "what a workflow has stored is deleted when the workflow is gone",
        "what a worker stores as it dies stays, because nobody tries its step again and finds the mark",
        (9,),
        "objects are deleted before the workflow",
        (
            Mutation(_ERASE, "        tell(await asyncio.to_thread(self._erase_objects, job_id, row))\n", ""),
            Mutation(
                _ERASE,
                "        with crash_point(CrashPoint.WORKFLOW_ERASED):\n",
                "        before = await asyncio.to_thread(self._repository.get, job_id)\n"
                "        tell(await asyncio.to_thread(self._erase_objects, job_id, before))\n"
                "        with crash_point(CrashPoint.WORKFLOW_ERASED):\n",
            ),
        ),
        (_ERASURES + "test_erase_deletes_objects_stored_before_workflow_end",),
    ),
    Safeguard(
        "rows-last",
        "the rows, which name the photo, are deleted last",
        "an erasure that is interrupted does not know any more which photo was the job's",
        (9,),
        "rows are deleted before objects",
        (
            Mutation(
                _ERASE,
                "        tell(await asyncio.to_thread(self._erase_objects, job_id, row))\n",
                "        await asyncio.to_thread(self._repository.delete, job_id)\n"
                "        tell(await asyncio.to_thread(self._erase_objects, job_id, row))\n",
            ),
        ),
        (_ERASURES + "test_erase_after_crash_is_completed_by_next_call",),
    ),
    Safeguard(
        "shared-photo-outlives-an-erasure",
        "a photo that other jobs use goes with the last of them",
        "erasing one job takes the photo of another away",
        (4,),
        "the photo is deleted whoever uses it",
        (
            Mutation(
                _ERASE,
                "            if not sole:\n                return ErasureStep(",
                "            if False:\n                return ErasureStep(",
            ),
        ),
        (_ERASURES + "test_erase_shared_photo_is_deleted_with_last_job",),
    ),
    Safeguard(
        "somebodys-own-photo-stays",
        "an object that somebody else put there is deleted only when asked for",
        "erasing a job deletes the original out of its owner's bucket",
        (4,),
        "every photo counts as uploaded",
        (Mutation(_ERASE, "if not _is_uploaded(photo, own) and not with_source:", "if False:"),),
        (_ERASURES + "test_erase_user_photo_requires_with_source",),
    ),
    Safeguard(
        "every-version-goes",
        "an object is deleted with all its versions",
        "in a bucket with versions an erased photo can be had again",
        (9,),
        "only the latest version is deleted",
        (
            Mutation(
                "photo_worker/adapters/s3/object_store.py",
                "            for version in self._versions(bucket, key):\n",
                "            for version in self._versions(bucket, key)[:1]:\n",
            ),
        ),
        (
            "tests/integration/storage/test_contracts.py::TestBotoObjectStoreWithVersions"
            "::test_delete_removes_all_versions_and_markers",
        ),
    ),
    Safeguard(
        "unlisted-versions-go",
        "an object that is behind a delete marker is deleted too",
        "an answer that somebody deleted by hand in a bucket with versions outlives the erasure",
        (9,),
        "only what a listing shows is deleted",
        (
            Mutation(
                _ERASE,
                "list(dict.fromkeys([*named, *listed]))",
                "listed",
            ),
        ),
        ("tests/integration/test_erase.py::test_erase_ended_jobs_leaves_no_traces",),
    ),
    Safeguard(
        "lost-lock-is-told",
        "who loses the lock on an object hears of it",
        "a deletion whose connection was cut in the middle counts as done, though a job may have been queued meanwhile",
        (4,),
        "the end of the lock's transaction is not asked for",
        (
            Mutation(
                "photo_worker/adapters/postgres/job_repository.py",
                '            with translated(self._name):\n                connection.execute("COMMIT")\n',
                "",
            ),
        ),
        ("tests/integration/storage/test_erasures.py::test_erase_when_lock_is_lost_keeps_the_rows",),
    ),
)

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
                "        if any(True for _ in job_findings(job)):\n            suspects.append(job.job_id)\n",
                "        report.findings += job_findings(job)\n",
            ),
        ),
        (_SURVEYS + "test_scan_job_ending_meanwhile_is_no_finding",),
    ),
    Safeguard(
        "second-look-at-photos",
        "the check asks the database again before it calls a photo nobody's",
        "the photo of a job that was submitted while the check ran is reported as nobody's",
        (4,),
        "what the listing of rows has shown is believed",
        (
            Mutation(
                _SURVEY,
                "unused = await self._each(lambda found: self.is_orphan(*found.location), objects)",
                "unused = [True] * len(objects)",
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
                "heapq.merge(store.list(bucket, folder), hidden, key=lambda entry: entry.key)",
                "store.list(bucket, folder)",
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
        (Mutation(_SURVEY, "            if found and job_id in seen.erased:\n", "            if False:\n"),),
        (_SURVEYS + "test_scan_waits_for_a_running_erase",),
    ),
    Safeguard(
        "gave-up-jobs-go-on",
        "a repair sets a job going again that a service or a worker has ended",
        "a job whose worker had an old password is failed for good, though nothing is wrong with its photo",
        (2,),
        "its end is written into its row, as with a job that was terminated",
        (Mutation(_REPAIR, "Repair.START_AGAIN: self._start_again,", "Repair.START_AGAIN: self._record_end,"),),
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
                "            if any((one.code, one.repair) == (finding.code, finding.repair)"
                " for one in job_findings(job)):\n",
                "            if True:\n",
            ),
        ),
        (_REPAIRS + "test_repair_result_whose_row_returned_is_kept",),
    ),
    Safeguard(
        "repair-leaves-used-photos",
        "a repair deletes no photo that a job uses by then",
        "a photo that is submitted between check and repair is gone, and its job fails",
        (4,),
        "the photo is deleted whoever uses it",
        (Mutation(_REPAIR, '"deleted" if unused and self._ports', '"deleted" if self._ports'),),
        (_REPAIRS + "test_repair_photo_submitted_since_scan_is_kept",),
    ),
    Safeguard(
        "repair-needs-the-right-database",
        "nothing is deleted where bucket and database do not belong together",
        "with another deployment's DATABASE_URL every object is nobody's, and `--repair` deletes them all",
        (4,),
        "any number of orphans is believed",
        (Mutation(_REPAIR, "        if orphans > report.linked:\n", "        if False:\n"),),
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
                _REPAIR, "_refusal(finding, report) or await self._foreign_reason(finding)", "_refusal(finding, report)"
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
        (Mutation(_REPAIR, "if since is None or entry.modified_at <= since:", "if since is None:"),),
        (_BINDINGS + "test_repair_shared_bucket_deletes_nothing_of_the_other",),
    ),
    Safeguard(
        "binding-is-written-once",
        "a bucket that is bound stays bound to its database",
        "a migration with a wrong S3_BUCKET takes the bucket of another deployment, which then counts as an orphan",
        (4,),
        "the marker is written over",
        (
            Mutation(_BINDING, "(found, BoundElsewhere) and not rebind:", "(found, BoundElsewhere) and False:"),
            Mutation(_BINDING, "    if rebind:\n", "    if True:\n"),
        ),
        (_BINDINGS + "test_bind_bucket_of_other_database_needs_rebind",),
    ),
    Safeguard(
        "worker-needs-its-own-bucket",
        "a worker takes no work with a bucket that its database was not bound to",
        "of a job that it shares with a right worker the answer lies in one bucket, and the row names the other",
        (4, 5),
        "a bucket without a marker passes",
        (Mutation(_BINDING, "isinstance(found, Unbound) and found.deployment is not None:", "False:"),),
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
                "        require_bound(self._store, self._repository, self._bucket)\n",
                "        return\n",
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
            Mutation(
                _BINDING,
                "        raise unbound_error(bucket, repository, found)\n",
                "        return\n",
            ),
            Mutation(
                _ERASE, "            raise unbound_error(before, self._repository, found)\n", "            return\n"
            ),
            Mutation(_ERASE, "isinstance(self._binding_of(before), Bound)", "not self._is_elsewhere(before)"),
        ),
        (_BINDINGS + "test_erase_bucket_without_own_marker_deletes_nothing",),
    ),
    Safeguard(
        "repair-after-a-restore",
        "nothing is deleted where rows seem to be lost",
        "after a restore of yesterday's database `--repair` deletes today's results",
        (4,),
        "objects without a row are nobody's",
        (Mutation(_REPAIR, "        if lost:\n", "        if False:\n"),),
        (_REPAIRS + "test_repair_after_database_restore_deletes_nothing",),
    ),
    Safeguard(
        "repair-needs-a-worker",
        "no workflow is started where no worker asks for work",
        "with another namespace's settings every queued job is started a second time there",
        (1, 3),
        "jobs are started wherever the settings lead",
        (Mutation(_REPAIR, "            if not queue.has_worker:\n", "            if False:\n"),),
        (_REPAIRS + "test_repair_queued_job_without_worker_is_refused",),
    ),
    Safeguard(
        "repair-waits-for-rows",
        "nothing is deleted while a running workflow has no row",
        "`--repair` deletes the photo of a job whose row comes a moment later",
        (4,),
        "workflows without a row are not counted",
        (Mutation(_REPAIR, "        if report.rowless:\n", "        if False:\n"),),
        (_REPAIRS + "test_repair_workflow_without_row_deletes_nothing",),
    ),
    Safeguard(
        "broken-listing-goes-on",
        "a listing that breaks off is gone on with where it broke",
        "a store that was away for a moment hides what is damaged behind that place, and the check says nothing of it",
        (4,),
        "the end of what came is taken for the end of what there is",
        (Mutation(_SURVEY, "items = _resume_after(last, begin(), position)", "items = iter(())"),),
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
                "            objects, unreadable = self._objects(",
                "            before = self.ports.repository.is_erased(job_id)\n"
                "            objects, unreadable = self._objects(",
            ),
            Mutation(_LOOK, "if self.ports.repository.is_erased(job_id) else", "if before else"),
        ),
        (_SURVEYS + "test_confirm_erase_between_reads_is_not_a_loss",),
    ),
)
