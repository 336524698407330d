"""The safeguards of rows."""

from __future__ import annotations

from tests.crash.safeguard import Safeguard
from tests.support.mutation import Mutation

_POSTGRES = "tests/integration/storage/test_contracts.py::TestPostgresJobRepository::"
_POSTGRES_FAULTS = "tests/integration/storage/test_postgres.py::"
_POOLED = "tests/integration/storage/test_pgbouncer.py::"
_SILENCE = "tests/integration/storage/test_unresponsive_services.py::"
_CONNECTION = "photo_worker/adapters/postgres/connection.py"

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
                "_UPSERT",
                "status = CASE WHEN recipes.status IN ('succeeded', 'failed') OR EXCLUDED.status = 'queued'",
                "status = CASE WHEN EXCLUDED.status = 'queued'",
                in_text=True,
            ),
        ),
        (_POSTGRES + "test_write_after_final_status_keeps_it[start-succeed]",),
    ),
    Safeguard(
        "queued-is-first",
        "queueing again does not put a running job back",
        "a second submission of an id turns a running job's row into a queued one",
        (6,),
        "the upsert lets queued replace running",
        (
            Mutation(
                "photo_worker/adapters/postgres/statements.py",
                "_UPSERT",
                "OR EXCLUDED.status = 'queued'",
                "",
                in_text=True,
            ),
        ),
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
                "_UPSERT",
                "error_code = CASE WHEN recipes.status IN ('succeeded', 'failed')"
                " THEN recipes.error_code ELSE EXCLUDED.error_code END",
                "error_code = EXCLUDED.error_code",
                in_text=True,
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
            Mutation(
                "photo_worker/adapters/postgres/statements.py",
                "_UPSERT",
                "ON CONFLICT (id) DO UPDATE SET",
                "/*",
                in_text=True,
            ),
            Mutation(
                "photo_worker/adapters/postgres/statements.py", "_UPSERT", "RETURNING *", "*/ RETURNING *", in_text=True
            ),
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
                "_UPSERT",
                "WHERE recipes.s3_raw_key = EXCLUDED.s3_raw_key",
                "WHERE recipes.id = EXCLUDED.id",
                in_text=True,
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
                "_UPSERT",
                "AND (recipes.content_sha256 = EXCLUDED.content_sha256",
                "AND (true",
                in_text=True,
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
        (
            Mutation(
                "photo_worker/adapters/postgres/statements.py",
                "WRITE_RESULT",
                "FROM job WHERE status = 'succeeded'",
                "FROM job",
                in_text=True,
            ),
        ),
        (_POSTGRES + "test_succeed_after_fail_stores_no_ocr_row",),
    ),
    Safeguard(
        "result-written-twice",
        "a result may be written again",
        "a job whose commit was not acknowledged fails at the next attempt, although its result is there",
        (2, 10),
        "the result row's insert has no conflict clause",
        (
            Mutation(
                "photo_worker/adapters/postgres/statements.py",
                "WRITE_RESULT",
                "ON CONFLICT (recipe_id) DO UPDATE SET",
                "/*",
                in_text=True,
            ),
            Mutation(
                "photo_worker/adapters/postgres/statements.py",
                "WRITE_RESULT",
                "page_count = EXCLUDED.page_count RETURNING *",
                "*/ RETURNING *",
                in_text=True,
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
                "PostgresJobRepository._run",
                "not _is_lost($error)",
                "True or not _is_lost($error)",
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
                "LimitedConnection.fetch",
                """
                $cursor.execute("".join(_SETTINGS) + $statement, {**$values, **$limit})
                for _ in _SETTINGS:
                    $cursor.nextset()
                """,
                "$cursor.execute($statement, {**$values, **$limit})",
            ),
        ),
        (_POSTGRES_FAULTS + "test_statement_given_up_leaves_no_session_waiting",),
    ),
    Safeguard(
        "result-of-a-peer",
        "a call that waited for a row reads it again",
        "an attempt beside another that finished the job hands out a succeeded row without its result",
        (10,),
        "the row is returned as the statement saw it",
        (
            Mutation(
                "photo_worker/adapters/postgres/job_repository.py",
                "PostgresJobRepository._write",
                "$row.status == 'succeeded' and $row.s3_ocr_key is None",
                "$row.status == 'never'",
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
            Mutation(_CONNECTION, "options", "'prepare_threshold': None", ""),
            Mutation(
                _CONNECTION,
                "LimitedConnection.fetch",
                """
                with psycopg.ClientCursor(self, row_factory=$rows) as $cursor:
                    $cursor.execute("".join(_SETTINGS) + $statement, {**$values, **$limit})
                    for _ in _SETTINGS:
                        $cursor.nextset()
                    return $cursor.fetchall()
                """,
                """
                with self.transaction(), self.cursor(row_factory=$rows) as $cursor:
                    $cursor.execute("SELECT set_config('statement_timeout', %(statement_timeout)s, true)", $limit)
                    $cursor.execute($statement, $values)
                    return $cursor.fetchall()
                """,
            ),
        ),
        (_POOLED + "test_pgbouncer_concurrent_reads_delete_no_row",),
    ),
    Safeguard(
        "waits-for-responses-are-limited",
        "a call whose response never comes ends",
        "a worker whose connection to Postgres died without a word hangs in its call, and its slot is lost",
        (2,),
        "a wait for the server has no limit",
        (Mutation(_CONNECTION, "LimitedConnection.wait", "$left is None", "True"),),
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
                "LimitedPool.renew",
                "$lost.opened < self._renewed",
                "True",
            ),
        ),
        (_SILENCE + "test_pool_dead_connections_cost_one_call",),
    ),
    Safeguard(
        "a-stall-opens-no-connections",
        "a call that finds every connection busy opens none to ask why",
        "workers that wait for a slow Postgres take the last connections that it has left",
        (2,),
        "a full pool is explained by a connection beside it",
        (
            Mutation(
                "photo_worker/adapters/postgres/job_repository.py",
                "PostgresJobRepository._explain",
                "None if $busy else self._explainer.ask()",
                "self._explainer.ask()",
            ),
        ),
        (_SILENCE + "test_pool_stall_opens_no_extra_connections",),
    ),
)
