"""The safeguards of objects and of marks of erasures."""

from __future__ import annotations

from tests.crash.safeguard import Safeguard
from tests.support.mutation import Mutation

_POSTGRES = "tests/integration/storage/test_contracts.py::TestPostgresJobRepository::"
_TEMPORAL = "tests/integration/test_orchestration.py::"
_ERASURES = "tests/integration/storage/test_erasures.py::"
_S3 = "tests/integration/storage/test_contracts.py::TestBotoObjectStore::"
_S3_UNIT = "tests/unit/storage/test_s3_boto.py::"
_SILENCE = "tests/integration/storage/test_unresponsive_services.py::"
_COPIES = "tests/unit/test_converted_copies.py::TestConverted::"
_ASSETS = "photo_worker/activities/assets.py"
_V0002 = "photo_worker/adapters/postgres/migrations/versions/v0002_erasures.py"

ERASURE: tuple[Safeguard, ...] = (
    Safeguard(
        "erased-is-refused",
        "an erased job is refused by the statement that writes it",
        "a late attempt, or a second submission of the id, brings an erased job back",
        (9,),
        "the trigger lets writes of marked jobs pass",
        (
            Mutation(
                _V0002,
                "STATEMENTS",
                "RAISE EXCEPTION 'the job has been erased' USING ERRCODE = 'PW001'",
                "NULL",
                in_text=True,
            ),
        ),
        (_POSTGRES + "test_write_after_erase_creates_no_row[queue]",),
    ),
    Safeguard(
        "mark-waits-for-writers",
        "a mark waits for writers that have not seen it",
        "an attempt that writes at the moment of the erasure commits after the rows were deleted",
        (9,),
        "marking takes no lock",
        (
            Mutation(
                "photo_worker/adapters/postgres/statements.py",
                "MARK_ERASED",
                "SELECT pg_advisory_xact_lock(recipes_job_lock(%(id)s))",
                "SELECT 1",
                in_text=True,
            ),
        ),
        (_ERASURES + "test_erase_beside_open_write_leaves_no_row",),
    ),
    Safeguard(
        "writers-wait-for-a-mark",
        "a writer waits for a mark that is being made",
        "a submission that begins beside an erasure does not see the mark, and brings the erased job back",
        (9,),
        "writers take no lock on their job",
        (
            Mutation(
                _V0002,
                "STATEMENTS",
                "PERFORM pg_advisory_xact_lock_shared(recipes_job_lock(NEW.id));",
                "NULL;",
                in_text=True,
            ),
        ),
        (_ERASURES + "test_erase_beside_new_write_leaves_no_row",),
    ),
    Safeguard(
        "sole-user-holds-the-object",
        "no job can be queued for an object while it is being deleted",
        "a photo that is uploaded again at the moment of an erasure is deleted under its new job",
        (4, 9),
        "writers take no lock on their object",
        (
            Mutation(
                _V0002,
                "STATEMENTS",
                "PERFORM pg_advisory_xact_lock_shared(recipes_object_lock(NEW.s3_raw_key));",
                "NULL;",
                in_text=True,
            ),
        ),
        (_ERASURES + "test_submit_photo_during_its_deletion_stores_it_again",),
    ),
    Safeguard(
        "sole-user-looks-at-others",
        "an object that another job uses stays",
        "erasing one of two jobs with the same photo takes the other's photo away",
        (4,),
        "any number of users counts as one",
        (
            Mutation(
                "photo_worker/adapters/postgres/statements.py",
                "IS_SOLE_USER",
                "AND id <> %(id)s",
                "AND false",
                in_text=True,
            ),
        ),
        (_ERASURES + "test_erase_keeps_photo_that_another_job_uses",),
    ),
    Safeguard(
        "erased-jobs-use-nothing",
        "a job that is being erased keeps no object",
        "two jobs with one photo that are erased at once each leave the photo to the other",
        (9,),
        "jobs that are marked count as users",
        (
            Mutation(
                "photo_worker/adapters/postgres/statements.py",
                "IS_SOLE_USER",
                "AND NOT EXISTS (SELECT FROM erasures WHERE job_digest = recipes_job_digest(recipes.id))",
                "AND true",
                in_text=True,
            ),
        ),
        (_ERASURES + "test_erase_jobs_sharing_photo_concurrently_deletes_it",),
    ),
    Safeguard(
        "every-run-is-deleted",
        "every run of an erased job's workflow is deleted",
        "a run that an operator's reset left behind keeps the name of the photo in its history",
        (9,),
        "only the latest run is looked for",
        (
            Mutation(
                "photo_worker/adapters/temporal/erasure.py",
                "_runs",
                "{$run.run_id async for $run in $client.list_workflows($query) if $run.id == $workflow_id}",
                "set[str]()",
            ),
        ),
        (_TEMPORAL + "test_orchestrator_erase_deletes_all_runs",),
    ),
    Safeguard(
        "every-workflow-is-deleted",
        "every workflow whose id begins with an erased job's is deleted",
        "a child workflow, or one of another release, keeps the name of the photo in its history",
        (9,),
        "only the workflows of this release's types are looked for",
        (
            Mutation(
                "photo_worker/adapters/temporal/erasure.py",
                "workflow_ids",
                "{*$own, *{$found.id async for $found in $client.list_workflows($query)}}",
                "{*$own}",
            ),
        ),
        ("tests/integration/orchestration/test_contract.py::test_erase_deletes_further_workflow_of_job[child/3]",),
    ),
)

OBJECTS: tuple[Safeguard, ...] = (
    Safeguard(
        "content-md5",
        "the store refuses a body that was torn on its way",
        "bytes that changed on their way are stored as if they were the object",
        (4, 5),
        "put sends no Content-MD5",
        (
            Mutation(
                "photo_worker/adapters/s3/object_store.py",
                "BotoObjectStore._upload",
                "'ContentMD5': b64encode($digest).decode()",
                "",
            ),
        ),
        (_S3_UNIT + "test_put_body_damaged_in_transit_is_not_stored",),
    ),
    Safeguard(
        "write-once",
        "of many writers of a new object one wins",
        "two attempts at once each believe that their response is the job's",
        (5,),
        "put_new sends no If-None-Match",
        (
            Mutation(
                "photo_worker/adapters/s3/object_store.py",
                "BotoObjectStore.put_new",
                "$request['IfNoneMatch'] = '*'",
                "",
            ),
        ),
        (_S3 + "test_put_new_concurrently_one_writer_wins",),
    ),
    Safeguard(
        "listing-goes-on",
        "a listing goes on behind its first page",
        "what an erasure does not see of a job with more than 1,000 objects stays for ever",
        (4, 9),
        "only the first page is read",
        (
            Mutation(
                "photo_worker/adapters/s3/object_store.py",
                "BotoObjectStore.list",
                "for $item in $page.get('Contents', []): ...",
                """
                for $item in $page.get('Contents', []):
                    ...
                return
                """,
            ),
        ),
        (_ERASURES + "test_erase_deletes_objects_on_all_pages",),
    ),
    Safeguard(
        "silent-s3-ends",
        "a call to an S3 that says nothing ends within its attempt",
        "a store that takes requests and never responds holds the worker's threads longer than their attempts last",
        (2,),
        "the client waits for as long as botocore does by itself",
        (Mutation("photo_worker/adapters/s3/object_store.py", "make_client", "read_timeout=$read_timeout", ""),),
        (_SILENCE + "test_s3_call_ends_when_service_hangs[False]",),
    ),
    Safeguard(
        "encrypted-as-told",
        "every object is written with the encryption that the operator asks for",
        "a bucket whose policy wants it refuses every response, so that no job ends; elsewhere another key is used",
        (2, 12),
        "writes do not name it",
        (
            Mutation(
                "photo_worker/adapters/s3/object_store.py",
                "BotoObjectStore._upload",
                "$request['ServerSideEncryption'] = self._encryption",
                "pass",
            ),
        ),
        ("tests/integration/test_encryption.py::test_encryption_setting_passes_bucket_policy",),
    ),
    Safeguard(
        "size-before-bytes",
        "what is too large is refused by its size, before its bytes travel",
        "a worker streams gigabytes of an object that no OCR takes, before it refuses them",
        (2,),
        "no size is compared before all has been read",
        (
            Mutation(_ASSETS, "_check_declared", "$info.size_bytes > $limit", "False"),
            Mutation(
                _ASSETS,
                "_AssetContent.take",
                "len(self.head) >= min(media.HEAD_BYTES, $size) and $size > $limit",
                "False",
            ),
        ),
        ("tests/unit/test_activities.py::TestVerify::test_verify_asset_too_large_is_refused_before_download",),
    ),
    Safeguard(
        "converted-before-ocr",
        "HEIC and WebP are converted before Textract sees them",
        "a phone's photo is given to Textract as it is, which does not read it, and its job fails",
        (2,),
        "no photo is converted",
        (Mutation(_ASSETS, "AssetActivities._verified", "$content_type not in media.CONVERTED_TYPES", "True"),),
        (_COPIES + "test_verify_asset_converts_copy_and_keeps_original",),
    ),
    Safeguard(
        "original-is-kept",
        "a converted photo is a copy beside its original",
        "the photo that was sent is written over by a JPEG of it",
        (4, 5),
        "the copy is stored under the original's name",
        (
            Mutation(
                _ASSETS,
                "AssetActivities._converted",
                "converted_key($original.bucket, $original.key, $original.sha256)",
                "$original.key",
            ),
        ),
        (_COPIES + "test_verify_asset_converts_copy_and_keeps_original",),
    ),
)
