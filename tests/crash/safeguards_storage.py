"""The safeguards of rows, objects and erasures."""

from __future__ import annotations

from tests.crash.mutants import Mutation
from tests.crash.safeguard import Safeguard

_POSTGRES = "tests/integration/storage/test_contracts.py::TestPostgresJobRepository::"
_POSTGRES_FAULTS = "tests/integration/storage/test_postgres.py::"
_TEMPORAL = "tests/integration/test_orchestration.py::"
_ERASURES = "tests/integration/storage/test_erasures.py::"
_S3 = "tests/integration/storage/test_contracts.py::TestBotoObjectStore::"
_S3_UNIT = "tests/unit/storage/test_s3_boto.py::"
_POOLED = "tests/integration/storage/test_pgbouncer.py::"
_SILENCE = "tests/integration/storage/test_unresponsive_services.py::"
_COPIES = "tests/unit/test_converted_copies.py::TestConverted::"
_ASSETS = "photo_worker/activities/assets.py"
_CONNECTION = "photo_worker/adapters/postgres/connection.py"
_V0002 = "photo_worker/adapters/postgres/migrations/versions/v0002_erasures.py"

ROWS: tuple[Safeguard, ...] = (
    Safeguard(
        "final-status",
        "a final status stays",
        "a late attempt puts a finished job back to running, or turns a result into a failure",
        (6, 2),
        "the upsert writes any status over a final one",
        (
            Mutation(
                "photo_worker/adapters/postgres/statements.py",
                "status = CASE WHEN recipes.status IN ('succeeded', 'failed') OR EXCLUDED.status = 'queued'",
                "status = CASE WHEN EXCLUDED.status = 'queued'",
            ),
        ),
        (_POSTGRES + "test_write_after_final_status_keeps_it[start-succeed]",),
    ),
    Safeguard(
        "queued-is-first",
        "queueing again does not put a running job back",
        "whoever submits the same id again turns a running job's row into a queued one",
        (6,),
        "the upsert lets queued replace running",
        (Mutation("photo_worker/adapters/postgres/statements.py", " OR EXCLUDED.status = 'queued'\n", "\n"),),
        (_POSTGRES + "test_queue_running_job_stays_running",),
    ),
    Safeguard(
        "first-reason",
        "the first reason stays",
        "a second failure hides why the job really failed",
        (2, 6),
        "the upsert takes the last error code",
        (
            Mutation(
                "photo_worker/adapters/postgres/statements.py",
                "error_code = CASE WHEN recipes.status IN ('succeeded', 'failed')\n"
                "            THEN recipes.error_code ELSE EXCLUDED.error_code END",
                "error_code = EXCLUDED.error_code",
            ),
        ),
        (_POSTGRES + "test_fail_again_keeps_the_first_reason",),
    ),
    Safeguard(
        "one-row",
        "a job id has one row, however many write it",
        "a write that is repeated fails, and with it a job whose first write was not acknowledged",
        (1, 10),
        "the upsert has no conflict clause",
        (
            Mutation("photo_worker/adapters/postgres/statements.py", "    ON CONFLICT (id) DO UPDATE SET", "    /*"),
            Mutation("photo_worker/adapters/postgres/statements.py", '    RETURNING *"""', '    */ RETURNING *"""'),
        ),
        (_POSTGRES + "test_write_repeated_changes_nothing[succeed]",),
    ),
    Safeguard(
        "same-asset-key",
        "a job id belongs to one asset: its place",
        "another photo that is sent under the same job id, and fails, ends the first photo's job as failed",
        (1,),
        "the upsert takes a row of another key",
        (
            Mutation(
                "photo_worker/adapters/postgres/statements.py",
                "WHERE recipes.s3_raw_key = EXCLUDED.s3_raw_key",
                "WHERE recipes.id = EXCLUDED.id",
            ),
        ),
        (_POSTGRES + "test_fail_for_another_asset_raises_job_conflict[photos-raw/cake.jpg]",),
    ),
    Safeguard(
        "same-asset-hash",
        "a job id belongs to one asset: its bytes",
        "a verification that comes too late puts the hash of the replaced photo to the text of the new one",
        (1, 4),
        "the upsert does not compare hashes",
        (
            Mutation(
                "photo_worker/adapters/postgres/statements.py",
                "AND (recipes.content_sha256 = EXCLUDED.content_sha256",
                "AND (true",
            ),
        ),
        ("tests/integration/storage/test_replaced_sources.py::test_verify_late_attempt_keeps_hash_and_text_together",),
    ),
    Safeguard(
        "no-result-beside-a-failure",
        "a failed job has no result row",
        "a job that ended as failed shows the result of an attempt that came too late",
        (6, 10),
        "the result row is written whatever the job's status",
        (Mutation("photo_worker/adapters/postgres/statements.py", "FROM job WHERE status = 'succeeded'", "FROM job"),),
        (_POSTGRES + "test_succeed_after_fail_stores_no_ocr_row",),
    ),
    Safeguard(
        "result-written-twice",
        "a result may be written again",
        "a job whose commit was not acknowledged fails at the next attempt, although its result is there",
        (2, 10),
        "the result row's insert has no conflict clause",
        (
            Mutation("photo_worker/adapters/postgres/statements.py", "ON CONFLICT (recipe_id) DO UPDATE SET", "/*"),
            Mutation(
                "photo_worker/adapters/postgres/statements.py",
                "page_count = EXCLUDED.page_count\n        RETURNING *",
                "*/ RETURNING *",
            ),
        ),
        (_POSTGRES + "test_write_repeated_changes_nothing[succeed]",),
    ),
    Safeguard(
        "statement-again",
        "a statement is run again on a new connection",
        "after a restart of Postgres that is over, connections of the pool that it has ended fail attempts of jobs",
        (2, 11),
        "a lost connection raises at once",
        (
            Mutation(
                "photo_worker/adapters/postgres/job_repository.py",
                "if not _is_lost(error):",
                "if True or not _is_lost(error):",
            ),
        ),
        (_POSTGRES_FAULTS + "test_pool_replaces_terminated_connections_unnoticed",),
    ),
    Safeguard(
        "statement-timeout",
        "a statement that waits for a lock ends",
        "each attempt that waits for a peer paused inside a transaction leaves a session behind at the server, until "
        "Postgres takes no more of them",
        (2,),
        "statements have no limit at the server",
        (
            Mutation(
                "photo_worker/adapters/postgres/connection.py",
                "cursor.execute(_LIMIT + statement, {**values, **limit})\n            cursor.nextset()\n",
                "cursor.execute(statement, {**values, **limit})\n",
            ),
        ),
        (_POSTGRES_FAULTS + "test_statement_given_up_leaves_no_session_waiting",),
    ),
    Safeguard(
        "result-of-a-peer",
        "who waited for a row reads it again",
        "an attempt beside another that finished the job hands out a succeeded row without its result",
        (10,),
        "the row is returned as the statement saw it",
        (
            Mutation(
                "photo_worker/adapters/postgres/job_repository.py",
                'if row.status == "succeeded" and row.s3_ocr_key is None:',
                'if row.status == "never":',
            ),
        ),
        (_POSTGRES_FAULTS + "test_start_after_concurrent_succeed_returns_the_result",),
    ),
    Safeguard(
        "nothing-is-prepared",
        "no statement is prepared at the server",
        "behind a pooler such as PgBouncer workers meet statements that others have prepared, and their calls fail",
        (1, 10),
        "statements are prepared at the server after five uses, as psycopg does by itself",
        (
            Mutation(_CONNECTION, '        "prepare_threshold": None,\n', ""),
            Mutation(
                _CONNECTION,
                "        with psycopg.ClientCursor(self, row_factory=rows) as cursor:\n"
                "            cursor.execute(_LIMIT + statement, {**values, **limit})\n"
                "            cursor.nextset()\n",
                "        with self.transaction(), self.cursor(row_factory=rows) as cursor:\n"
                "            cursor.execute(\"SELECT set_config('statement_timeout', %(statement_timeout)s, true)\", "
                "limit)\n"
                "            cursor.execute(statement, values)\n",
            ),
        ),
        (_POOLED + "test_pgbouncer_concurrent_reads_delete_no_row",),
    ),
    Safeguard(
        "answers-are-waited-for-so-long",
        "a call whose answer never comes ends",
        "a worker whose connection to Postgres died without a word hangs in its call, and its slot is lost",
        (2,),
        "a wait for the server has no limit",
        (Mutation(_CONNECTION, "        if left is None or (", "        if True or ("),),
        (_SILENCE + "test_pool_dead_connections_cost_one_call",),
    ),
    Safeguard(
        "connections-of-one-age-die-together",
        "one lost connection replaces all that are as old",
        "after a network was cut without a word each connection of the pool fails one more attempt",
        (2, 11),
        "only the connection that was met is replaced",
        (
            Mutation(
                "photo_worker/adapters/postgres/job_repository.py",
                "        if lost.opened < self._renewed:\n",
                "        if True:\n",
            ),
        ),
        (_SILENCE + "test_pool_dead_connections_cost_one_call",),
    ),
    Safeguard(
        "a-stall-opens-no-connections",
        "who finds every connection busy opens none to ask why",
        "workers that wait for a slow Postgres take the last connections that it has left",
        (2,),
        "a full pool is explained by a connection beside it",
        (Mutation("photo_worker/adapters/postgres/job_repository.py", "error = None if busy else", "error ="),),
        (_SILENCE + "test_pool_stall_opens_no_extra_connections",),
    ),
)

ERASURE: tuple[Safeguard, ...] = (
    Safeguard(
        "erased-is-refused",
        "an erased job is refused by the statement that writes it",
        "a late attempt, or somebody who submits the id again, brings an erased job back",
        (9,),
        "the trigger lets writes of marked jobs pass",
        (Mutation(_V0002, "RAISE EXCEPTION 'the job has been erased' USING ERRCODE = 'PW001'", "NULL"),),
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
                "SELECT pg_advisory_xact_lock(recipes_job_lock(%(id)s))",
                "SELECT 1",
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
        (Mutation(_V0002, "PERFORM pg_advisory_xact_lock_shared(recipes_job_lock(NEW.id));", "NULL;"),),
        (_ERASURES + "test_erase_beside_new_write_leaves_no_row",),
    ),
    Safeguard(
        "sole-user-holds-the-object",
        "nobody can queue a job for an object while it is being deleted",
        "a photo that is uploaded again at the moment of an erasure is deleted under its new job",
        (4, 9),
        "writers take no lock on their object",
        (Mutation(_V0002, "PERFORM pg_advisory_xact_lock_shared(recipes_object_lock(NEW.s3_raw_key));", "NULL;"),),
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
                "            AND id <> %(id)s\n",
                "            AND false\n",
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
                "AND NOT EXISTS (SELECT FROM erasures WHERE job_digest = recipes_job_digest(recipes.id))",
                "AND true",
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
                "found = {run.run_id async for run in client.list_workflows(query) if run.id == workflow_id}",
                "found = set[str]()",
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
                "{*own, *{found.id async for found in client.list_workflows(query)}}",
                "{*own}",
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
                "photo_worker/adapters/s3/object_store.py", '        "ContentMD5": b64encode(digest).decode(),\n', ""
            ),
        ),
        (_S3_UNIT + "test_put_body_damaged_in_transit_is_not_stored",),
    ),
    Safeguard(
        "write-once",
        "of many writers of a new object one wins",
        "two attempts at once each believe that their answer is the job's",
        (5,),
        "put_new sends no If-None-Match",
        (Mutation("photo_worker/adapters/s3/object_store.py", '        request["IfNoneMatch"] = "*"\n', ""),),
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
                '                for item in page.get("Contents", []):\n'
                '                    yield ObjectEntry(bucket, item["Key"], item["Size"], item["LastModified"])\n',
                '                for item in page.get("Contents", []):\n'
                '                    yield ObjectEntry(bucket, item["Key"], item["Size"], item["LastModified"])\n'
                "                return\n",
            ),
        ),
        (_ERASURES + "test_erase_deletes_objects_on_all_pages",),
    ),
    Safeguard(
        "silent-s3-ends",
        "a call to an S3 that says nothing ends within its attempt",
        "a store that takes requests and never answers holds the worker's threads longer than their attempts last",
        (2,),
        "the client waits for as long as botocore does by itself",
        (Mutation("photo_worker/adapters/s3/object_store.py", "        read_timeout=read_timeout,\n", ""),),
        (_SILENCE + "test_s3_call_ends_when_service_hangs[False]",),
    ),
    Safeguard(
        "encrypted-as-told",
        "every object is written with the encryption that the operator asks for",
        "a bucket whose policy wants it refuses every answer, so that no job ends; elsewhere another key is used",
        (2, 12),
        "writes do not name it",
        (
            Mutation(
                "photo_worker/adapters/s3/object_store.py",
                '            request["ServerSideEncryption"] = self._encryption\n',
                "            pass\n",
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
            Mutation(_ASSETS, "    if info.size_bytes > limit:\n", "    if False:\n"),
            Mutation(_ASSETS, "if len(self.head) >= min(media.HEAD_BYTES, size) and size > limit:", "if False:"),
        ),
        ("tests/unit/test_activities.py::TestVerify::test_verify_asset_too_large_is_refused_before_download",),
    ),
    Safeguard(
        "converted-before-ocr",
        "HEIC and WebP are converted before Textract sees them",
        "a phone's photo is given to Textract as it is, which does not read it, and its job fails",
        (2,),
        "no photo is converted",
        (Mutation(_ASSETS, "        if content_type not in media.CONVERTED_TYPES:\n", "        if True:\n"),),
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
                "        key = converted_key(original.bucket, original.key, original.sha256)\n",
                "        key = original.key\n",
            ),
        ),
        (_COPIES + "test_verify_asset_converts_copy_and_keeps_original",),
    ),
)
