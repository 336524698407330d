"""The safeguards of the order of an erasure."""

from __future__ import annotations

from tests.crash.safeguard import Safeguard
from tests.support.mutation import Mutation

_ERASE = "photo_worker/services/erasure.py"
_V0004 = "photo_worker/adapters/postgres/migrations/versions/v0004_earlier_hashes.py"
_ERASURES = "tests/unit/test_erase.py::"

ERASING: tuple[Safeguard, ...] = (
    Safeguard(
        "copy-erased-with-the-job",
        "an erasure deletes the copy that OCR read",
        "the photo of an erased job stays in another form",
        (9,),
        "the copy is not looked for",
        (
            Mutation(
                _ERASE,
                "Erasure._copies",
                """
             if $photo is None:
                 return []
             """,
                "return []",
            ),
        ),
        (_ERASURES + "test_erase_copy_of_user_photo_is_deleted_at_once",),
    ),
    Safeguard(
        "shared-copy-stays",
        "a copy that another job reads stays",
        "the other job fails, because Textract does not find what the worker told it to read",
        (2, 4),
        "a copy is deleted although another job uses it",
        (
            Mutation(
                _ERASE,
                "Erasure._erase_copies",
                """
                if $sole:
                    ...
                else:
                    ...
                """,
                """
                if $sole is not None:
                    ...
                else:
                    ...
                """,
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
                _ERASE,
                "Erasure._copies",
                """
                if _is_uploaded($photo, $own):
                    return $named
                """,
                "return $named",
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
                "MemoryJobRepository.delete",
                "$heir is not None",
                "False",
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
        (Mutation(_V0004, "STATEMENTS", "FROM heir, known", "FROM heir, known WHERE false", in_text=True),),
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
            Mutation(_ERASE, "Erasure.erase", "tell(await asyncio.to_thread(self._mark, $job_id))", ""),
            Mutation(
                _ERASE,
                "Erasure.erase",
                "tell(ErasureStep(Part.ROWS, done='deleted' if $rows else 'there were none'))",
                """
                tell(await asyncio.to_thread(self._mark, job_id))
                tell(ErasureStep(Part.ROWS, done='deleted' if $rows else 'there were none'))
                """,
            ),
        ),
        (_ERASURES + "test_erase_with_concurrent_attempt_leaves_nothing",),
    ),
    Safeguard(
        "workflow-before-objects",
        "what a workflow has stored is deleted when the workflow is gone",
        "what a worker stores as it dies stays, because no attempt of its step follows that finds the mark",
        (9,),
        "objects are deleted before the workflow",
        (
            Mutation(_ERASE, "Erasure.erase", "tell(await asyncio.to_thread(self._erase_objects, $job_id, $row))", ""),
            Mutation(
                _ERASE,
                "Erasure.erase",
                "with crash_point(CrashPoint.WORKFLOW_ERASED): ...",
                """
                before = await asyncio.to_thread(self._repository.get, job_id)
                tell(await asyncio.to_thread(self._erase_objects, job_id, before))
                with crash_point(CrashPoint.WORKFLOW_ERASED):
                    ...
                """,
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
                "Erasure.erase",
                "tell(await asyncio.to_thread(self._erase_objects, $job_id, $row))",
                """
                await asyncio.to_thread(self._repository.delete, $job_id)
                tell(await asyncio.to_thread(self._erase_objects, $job_id, $row))
                """,
            ),
        ),
        (_ERASURES + "test_erase_after_crash_is_completed_by_next_call",),
    ),
    Safeguard(
        "shared-photo-outlives-an-erasure",
        "a photo that other jobs use goes with the last of them",
        "erasing one job takes the photo of another away",
        (4,),
        "the photo is deleted although another job uses it",
        (
            Mutation(
                _ERASE,
                "Erasure._erase_photo",
                "if not $sole: ...",
                "if False: ...",
            ),
        ),
        (_ERASURES + "test_erase_shared_photo_is_deleted_with_last_job",),
    ),
    Safeguard(
        "somebodys-own-photo-stays",
        "an object that the worker did not upload is deleted only when asked for",
        "erasing a job deletes the original out of its owner's bucket",
        (4,),
        "every photo counts as uploaded",
        (Mutation(_ERASE, "Erasure._erase_photo", "not _is_uploaded($photo, $own) and not $with_source", "False"),),
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
                "BotoObjectStore.delete",
                "self._versions($bucket, $key)",
                "self._versions($bucket, $key)[:1]",
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
        "a result that was deleted by hand in a bucket with versions outlives the erasure",
        (9,),
        "only what a listing shows is deleted",
        (Mutation(_ERASE, "Erasure._objects", "list(dict.fromkeys([*$named, *$listed]))", "$listed"),),
        ("tests/integration/test_erase.py::test_erase_ended_jobs_leaves_no_traces",),
    ),
    Safeguard(
        "lost-lock-is-told",
        "a holder that loses the lock on an object hears of it",
        "a deletion whose connection was cut in the middle counts as done, though a job may have been queued meanwhile",
        (4,),
        "the end of the lock's transaction is not asked for",
        (
            Mutation(
                "photo_worker/adapters/postgres/job_repository.py",
                "PostgresJobRepository.sole_user",
                """
                with translated(self._name):
                    $connection.execute('COMMIT')
                """,
                "",
            ),
        ),
        ("tests/integration/storage/test_erasures.py::test_erase_when_lock_is_lost_keeps_the_rows",),
    ),
)
