"""Job rows in Postgres, over psycopg 3 and its pool.

Each write is one statement on a connection in autocommit mode, so one round trip and one
transaction; nothing is kept for a session, so that a pooler may give each statement another one.
Because every statement may run again, a connection that turns out to be dead is answered by
running the statement once more on a new one, instead of testing each connection before each use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any, LiteralString, TypeVar
from uuid import UUID

import psycopg
from psycopg.rows import BaseRowFactory, DictRow, class_row, scalar_row
from psycopg_pool import ConnectionPool, PoolTimeout

from photo_worker.errors import DatabaseUnavailable, JobConflict, JobErased
from photo_worker.ports import Recipe, RecipeOcr
from photo_worker.storage import statements
from photo_worker.storage.pg_errors import describe_database, translate, translated
from photo_worker.storage.rows import asset, storable

CONNECT_TIMEOUT_SECONDS = 5
POOL_TIMEOUT_SECONDS = 5
STATEMENT_TIMEOUT_SECONDS = 15
# The pool doubles its wait between attempts up to this: how long a worker may lag behind a
# Postgres that has come back.
RECONNECT_TIMEOUT_SECONDS = 5

_Row = TypeVar("_Row")

_LAST_ID = UUID(int=(1 << 128) - 1)

# Where the server ends transactions that do nothing, the lock would end before the object is deleted.
_LIMITS: LiteralString = """
    SELECT set_config('statement_timeout', %(statement)s, true),
        set_config('idle_in_transaction_session_timeout', '0', true)"""

Pool = ConnectionPool[psycopg.Connection[DictRow]]


def make_pool(
    database_url: str,
    *,
    min_size: int = 1,
    max_size: int = 10,
    timeout: float = POOL_TIMEOUT_SECONDS,
    connect_timeout: int = CONNECT_TIMEOUT_SECONDS,
    statement_timeout: float = STATEMENT_TIMEOUT_SECONDS,
) -> Pool:
    """Return a pool that opens at its first use, so that a process starts while Postgres is away.

    ``max_size`` bounds the statements at once; times are seconds: how long a caller waits for a
    connection, a connection for the server, and a statement for its end. The caller closes it.
    Raises ``ConfigurationError`` where ``database_url`` is not a connection string.
    """
    describe_database(database_url)
    return ConnectionPool(
        database_url,
        connection_class=psycopg.Connection[DictRow],
        kwargs={"autocommit": True, "connect_timeout": connect_timeout, "application_name": "photo-worker"},
        min_size=min_size,
        max_size=max_size,
        timeout=timeout,
        reconnect_timeout=RECONNECT_TIMEOUT_SECONDS,
        configure=partial(_limit_statements, seconds=statement_timeout),
        name="photo-worker",
        open=False,
    )


def _limit_statements(connection: psycopg.Connection[DictRow], *, seconds: float) -> None:
    # As a start-up option it would be refused by poolers such as PgBouncer.
    connection.execute("SELECT set_config('statement_timeout', %s, false)", [f"{round(seconds * 1000)}ms"])


class PostgresRecipeRepository:
    """``ports.RecipeRepository`` over a pool whose connections are in autocommit mode. Thread-safe.

    Raises ``JobConflict``, ``JobErased``, ``DatabaseUnavailable`` where trying again may help, and where it
    will not ``SchemaMissing``, ``DatabaseMissing`` or ``ServiceRefused``.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._name = describe_database(_conninfo(pool))

    def describe(self) -> str:
        """Name the database as user@host:port/name."""
        return self._name

    def queue(self, job_id: UUID, *, bucket: str, key: str, sha256: str = "") -> Recipe:
        """Record a job as queued, or return the row it has."""
        return self._write(job_id, bucket, key, sha256=sha256, status="queued")

    def start(self, job_id: UUID, *, bucket: str, key: str, sha256: str) -> Recipe:
        """Record that a job runs and what its bytes hash to; a final status stays."""
        return self._write(job_id, bucket, key, sha256=sha256, status="running")

    def succeed(self, job_id: UUID, *, bucket: str, key: str, sha256: str, ocr: RecipeOcr) -> Recipe:
        """Record a job's result and its final status in one transaction; a failed job keeps its failure."""
        return self._write(
            job_id, bucket, key, statement=statements.WRITE_RESULT, sha256=sha256, status="succeeded", **asdict(ocr)
        )

    def fail(self, job_id: UUID, *, bucket: str, key: str, code: str, message: str) -> Recipe:
        """Record a job's final failure; the first reason stays, and a success stays a success."""
        return self._write(job_id, bucket, key, status="failed", code=storable(code), message=storable(message))

    def get(self, job_id: UUID) -> Recipe | None:
        """Return a job's row."""
        return self._read(statements.READ, {"id": job_id})

    def all(self, *, page: int = 1000) -> Iterator[Recipe]:
        """Return every job's row by id, ``page`` rows a round trip, as they are when their page is read."""
        first = UUID(int=0)
        while True:
            rows = self._run(statements.READ_PAGE, {"first": first, "page": page}, class_row(Recipe))
            yield from rows
            if len(rows) < page or rows[-1].id.int == _LAST_ID.int:
                return
            first = UUID(int=rows[-1].id.int + 1)

    def mark_erased(self, job_id: UUID) -> None:
        """Write down that the job is erased, once no writer runs that has not seen it."""
        self._run(statements.MARK_ERASED, {"id": job_id}, scalar_row)

    def is_erased(self, job_id: UUID) -> bool:
        """Tell whether the job was marked as erased."""
        return bool(self._run(statements.IS_ERASED, {"id": job_id}, scalar_row)[0])

    def delete(self, job_id: UUID) -> bool:
        """Delete a job's rows in one transaction; tell whether there were any."""
        return bool(self._run(statements.DELETE, {"id": job_id}, scalar_row))

    @contextmanager
    def sole_user(self, job_id: UUID, *, bucket: str, key: str, sha256: str = "") -> Iterator[bool]:
        """Tell whether no other job's row refers to an object; writes of others about it wait meanwhile.

        With a hash, a row counts where it has that one or none yet.

        The lock is the open transaction of a connection of its own, so that it ends with this process
        and needs no place in the pool. Who waits for it longer than a statement may take meets
        ``DatabaseUnavailable``. Where the connection is lost during the block, so is the lock: the block's end
        then raises ``DatabaseUnavailable``, because a job may have been queued for the object meanwhile.
        """
        values = {"id": job_id, "bucket": storable(bucket), "key": storable(key), "sha256": sha256}
        with translated(self._name):
            connection = psycopg.connect(
                _conninfo(self._pool),
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT_SECONDS,
                application_name="photo-worker",
                row_factory=scalar_row,
                prepare_threshold=None,
            )
        # Closing it rolls back, which lets go of the lock.
        with closing(connection):
            with translated(self._name):
                connection.execute("BEGIN")
                connection.execute(_LIMITS, {"statement": f"{STATEMENT_TIMEOUT_SECONDS}s"})
                connection.execute(statements.LOCK_OBJECT, values)
                sole = connection.execute(statements.IS_SOLE_USER, values).fetchone()
            yield bool(sole)
            with translated(self._name):
                connection.execute("COMMIT")

    def _write(
        self,
        job_id: UUID,
        bucket: str,
        key: str,
        *,
        statement: LiteralString = statements.WRITE_STATUS,
        sha256: str = "",
        **columns: object,
    ) -> Recipe:
        bucket, key = storable(bucket), storable(key)
        values = {"id": job_id, "bucket": bucket, "key": key, "sha256": sha256, "code": None, "message": None}
        row = self._read(statement, values | columns)
        while row is None:
            known = self.get(job_id)
            if known is not None:
                has = asset(known.s3_raw_bucket, known.s3_raw_key, known.content_sha256)
                raise JobConflict(job_id=job_id, known=has, asked=asset(bucket, key, sha256))
            # The row that was in the way has been erased since.
            row = self._read(statement, values | columns)
        if row.status == "succeeded" and row.s3_ocr_key is None:
            # Another writer finished the job while this statement waited for the row; its join
            # still saw the time before.
            return self.get(job_id) or row
        return row

    def _read(self, statement: LiteralString, values: Mapping[str, object]) -> Recipe | None:
        return next(iter(self._run(statement, values, class_row(Recipe))), None)

    def _run(self, statement: LiteralString, values: Mapping[str, object], rows: BaseRowFactory[_Row]) -> list[_Row]:
        with translated(self._name):
            self._pool.open()
            try:
                return self._attempt(statement, values, rows)
            except psycopg.OperationalError as error:
                if not _is_lost(error):
                    raise
            # A restart of the server leaves the pool full of dead connections.
            self._pool.check()
            return self._attempt(statement, values, rows)

    def _attempt(
        self, statement: LiteralString, values: Mapping[str, object], rows: BaseRowFactory[_Row]
    ) -> list[_Row]:
        try:
            with self._pool.connection() as connection, connection.cursor(row_factory=rows) as cursor:
                return cursor.execute(statement, values).fetchall()
        except PoolTimeout as timeout:
            raise self._explain(timeout) from timeout
        except psycopg.DatabaseError as error:
            if error.sqlstate == statements.JOB_ERASED:
                raise JobErased(job_id=values["id"]) from error
            raise

    def _explain(self, timeout: PoolTimeout) -> Exception:
        """Return the reason why the pool has no connection, which the pool itself only logs."""
        try:
            psycopg.connect(_conninfo(self._pool), connect_timeout=CONNECT_TIMEOUT_SECONDS).close()
        except psycopg.Error as error:
            return translate(error, self._name) or error
        reason = f"all {self._pool.max_size} connections are busy: {timeout}"
        return DatabaseUnavailable(database=self._name, reason=reason)


def _is_lost(error: psycopg.OperationalError) -> bool:
    """Tell whether the connection is gone: no answer, or SQLSTATE class 08 or 57P (shutdown)."""
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))


def _conninfo(pool: ConnectionPool[Any]) -> str:
    return pool.conninfo if isinstance(pool.conninfo, str) else pool.conninfo()
