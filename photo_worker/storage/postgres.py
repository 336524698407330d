"""Job rows in Postgres, over psycopg 3 and its pool.

Each write is one statement, sent with its limit in one message, so one round trip and one transaction;
nothing is kept for a session, so that a pooler may give each statement another one (see ``pg_connection``).
Because every statement may run again, a connection that turns out to be dead is answered by
running the statement once more on a new one, instead of testing each connection before each use.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import LiteralString, TypeVar
from uuid import UUID

import psycopg
from psycopg.rows import BaseRowFactory, TupleRow, class_row, scalar_row
from psycopg_pool import ConnectionPool, PoolTimeout

from photo_worker.errors import DatabaseUnavailable, JobConflict, JobErased
from photo_worker.ports import JobRecord, OcrRecord
from photo_worker.storage import statements
from photo_worker.storage.pg_connection import (
    ANSWER_TIMEOUT_SECONDS,
    CONNECT_TIMEOUT_SECONDS,
    STATEMENT_TIMEOUT_SECONDS,
    LimitedConnection,
    Unanswered,
    connect,
    options,
)
from photo_worker.storage.pg_errors import READ_ONLY_SERVER, describe_database, translate, translated
from photo_worker.storage.pg_explain import Explainer
from photo_worker.storage.pool_log import quiet_pool
from photo_worker.storage.rows import asset, storable

logger = logging.getLogger(__name__)

POOL_TIMEOUT_SECONDS = 5
# The longest that one round trip of the repository takes: for a connection, for the answer, and for the reason why
# there is no connection.
CALL_SECONDS = POOL_TIMEOUT_SECONDS + ANSWER_TIMEOUT_SECONDS + CONNECT_TIMEOUT_SECONDS
# The pool doubles its wait between attempts up to this: how long a worker may lag behind a
# Postgres that has come back.
RECONNECT_TIMEOUT_SECONDS = 5

# Between two log lines that say the same of the connections.
SILENCE_SECONDS = 60.0

_Row = TypeVar("_Row")

_LAST_ID = UUID(int=(1 << 128) - 1)

# Where the server ends transactions that do nothing, the lock would end before the object is deleted.
_LIMITS: LiteralString = """
    SELECT set_config('statement_timeout', %(statement)s, true),
        set_config('idle_in_transaction_session_timeout', '0', true)"""


class LimitedPool(ConnectionPool[LimitedConnection[TupleRow]]):
    """The pool of ``make_pool``; times are seconds."""

    def __init__(
        self,
        database_url: str,
        *,
        min_size: int,
        max_size: int,
        timeout: float,
        connect_timeout: int,
        statement_timeout: float,
        answer_timeout: float,
    ) -> None:
        super().__init__(
            database_url,
            connection_class=LimitedConnection[TupleRow],
            kwargs={**options(database_url, connect_timeout=connect_timeout), "autocommit": True},
            min_size=min_size,
            max_size=max_size,
            timeout=timeout,
            reconnect_timeout=RECONNECT_TIMEOUT_SECONDS,
            name="photo-worker",
            open=False,
        )
        self.database_url = database_url
        self.statement_timeout = statement_timeout
        self.answer_timeout = answer_timeout
        self._renewing = threading.Lock()
        self._renewed = time.monotonic()
        self._count = threading.Lock()
        self.in_use = 0
        """How many connections are lent at this moment."""
        self._silent_until = 0.0

    def getconn(self, timeout: float | None = None) -> LimitedConnection[TupleRow]:
        """Lend a connection. Raises ``PoolTimeout``."""
        connection = super().getconn(timeout)
        with self._count:
            self.in_use += 1
        return connection

    def putconn(self, conn: LimitedConnection[TupleRow]) -> None:
        """Take a connection back."""
        with self._count:
            self.in_use -= 1
        super().putconn(conn)

    def may_say(self) -> bool:
        """Tell whether to say that connections are replaced: where every new one is as the old, once a minute."""
        with self._count:
            now = time.monotonic()
            if now < self._silent_until:
                return False
            self._silent_until = now + SILENCE_SECONDS
            return True

    def renew(self, lost: LimitedConnection[TupleRow]) -> bool:
        """Replace every connection that is as old as a lost one; tell whether that was still to do.

        They are closed without being asked whether they live: one whose bytes are swallowed would not say.
        """
        with self._renewing:
            if lost.opened < self._renewed:
                return False
            self._renewed = time.monotonic()
        self.drain()
        return True


def make_pool(
    database_url: str,
    *,
    min_size: int = 1,
    max_size: int = 10,
    timeout: float = POOL_TIMEOUT_SECONDS,
    connect_timeout: int = CONNECT_TIMEOUT_SECONDS,
    statement_timeout: float = STATEMENT_TIMEOUT_SECONDS,
    answer_timeout: float = ANSWER_TIMEOUT_SECONDS,
) -> LimitedPool:
    """Return a pool that opens at its first use, so that a process starts while Postgres is away.

    ``max_size`` bounds the statements at once; times are seconds: how long a caller waits for a
    connection, a connection for the server, a statement for its end at the server, and this side for the
    server's answer. The caller closes it.
    Raises ``ConfigurationError`` where ``database_url`` is not a connection string.
    """
    describe_database(database_url)
    quiet_pool()
    return LimitedPool(
        database_url,
        min_size=min_size,
        max_size=max_size,
        timeout=timeout,
        connect_timeout=connect_timeout,
        statement_timeout=statement_timeout,
        answer_timeout=answer_timeout,
    )


class PostgresJobRepository:
    """``ports.RecipeRepository`` over a pool whose connections are in autocommit mode. Thread-safe.

    Raises ``JobConflict``, ``JobErased``, ``DatabaseUnavailable`` where trying again may help, and where it
    will not ``SchemaMissing``, ``DatabaseMissing`` or ``ServiceRefused``.
    """

    def __init__(self, pool: LimitedPool) -> None:
        self._pool = pool
        self._name = describe_database(pool.database_url)
        self._explainer = Explainer(pool.database_url)

    def describe(self) -> str:
        """Name the database as user@host:port/name."""
        return self._name

    def deployment_id(self) -> UUID | None:
        """Return the database's own random id, None before it was made."""
        return next(iter(self._run(statements.READ_DEPLOYMENT, {}, scalar_row)), None)

    def make_deployment_id(self) -> UUID:
        """Return the database's own random id, made where it has none."""
        known = self.deployment_id()
        while known is None:
            self._run(statements.MAKE_DEPLOYMENT, {}, scalar_row)
            known = self.deployment_id()
        return known

    def queue(self, job_id: UUID, *, bucket: str, key: str, sha256: str = "") -> JobRecord:
        """Record a job as queued, or return the row it has."""
        return self._write(job_id, bucket, key, sha256=sha256, status="queued")

    def start(self, job_id: UUID, *, bucket: str, key: str, sha256: str, instead_of: str = "") -> JobRecord:
        """Record that a job runs and what its bytes hash to; a final status stays, and with it the hash."""
        return self._write(job_id, bucket, key, sha256=sha256, status="running", instead_of=instead_of)

    def succeed(self, job_id: UUID, *, bucket: str, key: str, sha256: str, ocr: OcrRecord) -> JobRecord:
        """Record a job's result and its final status in one transaction; a failed job keeps its failure."""
        return self._write(
            job_id, bucket, key, statement=statements.WRITE_RESULT, sha256=sha256, status="succeeded", **asdict(ocr)
        )

    def fail(self, job_id: UUID, *, bucket: str, key: str, code: str, message: str) -> JobRecord:
        """Record a job's final failure; the first reason stays, and a success stays a success."""
        return self._write(job_id, bucket, key, status="failed", code=storable(code), message=storable(message))

    def get(self, job_id: UUID) -> JobRecord | None:
        """Return a job's row."""
        return self._read(statements.READ, {"id": job_id})

    def all(self, *, page: int = 1000) -> Iterator[JobRecord]:
        """Return every job's row by id, ``page`` rows a round trip, as they are when their page is read."""
        first = UUID(int=0)
        while True:
            rows = self._run(statements.READ_PAGE, {"first": first, "page": page}, class_row(JobRecord))
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

    def earlier_hashes(self, job_id: UUID) -> frozenset[str]:
        """Return the hashes that a job has given up, an empty one where there may have been others."""
        return frozenset(self._run(statements.EARLIER_HASHES, {"id": job_id}, scalar_row))

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
            connection = connect(self._pool.database_url, autocommit=True)
        # Closing it rolls back, which lets go of the lock.
        with closing(connection):
            with translated(self._name):
                connection.execute("BEGIN")
                connection.execute(_LIMITS, {"statement": f"{STATEMENT_TIMEOUT_SECONDS}s"})
                connection.execute(statements.LOCK_OBJECT, values)
                sole = connection.execute(statements.IS_SOLE_USER, values).fetchone()
            yield sole == (True,)
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
    ) -> JobRecord:
        bucket, key = storable(bucket), storable(key)
        values = {"id": job_id, "bucket": bucket, "key": key, "sha256": sha256, "instead_of": ""}
        values |= {"code": None, "message": None}
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

    def _read(self, statement: LiteralString, values: Mapping[str, object]) -> JobRecord | None:
        return next(iter(self._run(statement, values, class_row(JobRecord))), None)

    def _run(self, statement: LiteralString, values: Mapping[str, object], rows: BaseRowFactory[_Row]) -> list[_Row]:
        with translated(self._name):
            self._pool.open()
            until = time.monotonic() + self._pool.timeout + self._pool.answer_timeout
            try:
                return self._attempt(statement, values, rows, until)
            except psycopg.DatabaseError as error:
                if not _is_lost(error):
                    raise
            return self._attempt(statement, values, rows, until)

    def _attempt(
        self, statement: LiteralString, values: Mapping[str, object], rows: BaseRowFactory[_Row], until: float
    ) -> list[_Row]:
        try:
            with self._connection(until) as connection:
                return connection.fetch(statement, values, rows, timeout=self._pool.statement_timeout)
        except PoolTimeout as timeout:
            raise self._explain(timeout) from timeout
        except psycopg.DatabaseError as error:
            if error.sqlstate == statements.JOB_ERASED:
                raise JobErased(job_id=values["id"]) from error
            raise

    @contextmanager
    def _connection(self, until: float) -> Iterator[LimitedConnection[TupleRow]]:
        """Lend a connection of the pool for one statement, ``until`` a monotonic time at most."""
        left = until - time.monotonic()
        with self._pool.connection(min(self._pool.timeout, left)) as connection:
            left = min(self._pool.answer_timeout, until - time.monotonic())
            try:
                with connection.limited(left):
                    yield connection
            except psycopg.DatabaseError as error:
                # A restart, a failover or a silent firewall leaves the pool full of dead connections.
                lost = _is_lost(error) or isinstance(error, Unanswered)
                if lost and self._pool.renew(connection) and self._pool.may_say():
                    read_only = error.sqlstate == READ_ONLY_SERVER
                    logger.warning(
                        "the connections to Postgres are replaced, because one %s: %s",
                        "leads to a server that takes no writes" if read_only else "was lost",
                        " ".join(str(error).split()),
                        extra={"photo": {"database": self._name}},
                    )
                raise

    def _explain(self, timeout: PoolTimeout) -> Exception:
        """Return the reason why the pool has no connection, which the pool itself only logs."""
        busy = self._pool.in_use >= self._pool.max_size
        error = None if busy else self._explainer.ask()
        if error is not None:
            return translate(error, self._name) or error
        if busy:
            reason = f"all {self._pool.max_size} connections are busy: {timeout}"
        else:
            # It answers again, and the pool waits between its own attempts.
            reason = f"the worker has not reconnected yet: {timeout}"
        return DatabaseUnavailable(database=self._name, reason=reason)


def _is_lost(error: psycopg.DatabaseError) -> bool:
    """Tell whether a new connection may help: this one is gone, or leads to a server that is no primary any more.

    Gone is what has no SQLSTATE, class 08, or 57P (shutdown). One that was not answered is gone as well, but its
    caller has waited long enough.
    """
    if isinstance(error, Unanswered):
        return False
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate == READ_ONLY_SERVER or error.sqlstate.startswith(("08", "57P"))
