"""Job rows in Postgres, over psycopg 3 and its pool.

Each write is one statement, sent with its timeout in one message: one round trip and one transaction. No state is kept
in a session, so that a pooler may run each statement on another connection (see ``pg_connection``). Because every
statement may run again, a statement whose connection turns out to be dead runs once more on a new one, instead of a
test of each connection before each use.
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

from photo_worker.adapters.job_rows import describe_asset, storable
from photo_worker.adapters.postgres import statements
from photo_worker.adapters.postgres.connection import (
    LimitedConnection,
    ResponseTimeout,
    connect,
    options,
)
from photo_worker.adapters.postgres.errors import READ_ONLY_SERVER, describe_database, translate, translated
from photo_worker.adapters.postgres.explain import Explainer
from photo_worker.adapters.postgres.pool_log import quiet_pool
from photo_worker.adapters.times import PostgresTimes
from photo_worker.errors import DatabaseUnavailable, JobConflict, JobErased
from photo_worker.ports.job_repository import JobRecord, OcrRecord

logger = logging.getLogger(__name__)

# The pool doubles its wait between attempts up to this: the longest time until a worker finds Postgres up again.
RECONNECT_TIMEOUT_SECONDS = 5

# Between two log lines about replaced connections.
SILENCE_SECONDS = 60.0

_Row = TypeVar("_Row")

_LAST_ID = UUID(int=(1 << 128) - 1)

# A server that ends idle transactions would end the lock before the object is deleted.
_LIMITS: LiteralString = """
    SELECT set_config('statement_timeout', %(statement)s, true),
        set_config('idle_in_transaction_session_timeout', '0', true)"""


class LimitedPool(ConnectionPool[LimitedConnection[TupleRow]]):
    """The pool of ``make_pool``."""

    def __init__(
        self,
        database_url: str,
        *,
        min_size: int,
        max_size: int,
        times: PostgresTimes,
    ) -> None:
        super().__init__(
            database_url,
            connection_class=LimitedConnection[TupleRow],
            kwargs={**options(database_url, times), "autocommit": True},
            configure=self._limit,
            min_size=min_size,
            max_size=max_size,
            timeout=times.pool,
            reconnect_timeout=RECONNECT_TIMEOUT_SECONDS,
            name="photo-worker",
            open=False,
        )
        self.database_url = database_url
        self.times = times
        self._renewing = threading.Lock()
        self._renewed = time.monotonic()
        self._count = threading.Lock()
        self.in_use = 0
        """How many connections are in use at this moment."""
        self._silent_until = 0.0

    def _limit(self, connection: LimitedConnection[TupleRow]) -> None:
        connection.patience = self.times.response

    def getconn(self, timeout: float | None = None) -> LimitedConnection[TupleRow]:
        """Take a connection out of the pool, and count it. Raises ``PoolTimeout``."""
        connection = super().getconn(timeout)
        with self._count:
            self.in_use += 1
        return connection

    def putconn(self, conn: LimitedConnection[TupleRow]) -> None:
        """Put a connection back into the pool."""
        with self._count:
            self.in_use -= 1
        super().putconn(conn)

    def may_log_renewal(self) -> bool:
        """Tell whether to log that connections are replaced: once a minute even if every new one is as bad."""
        with self._count:
            now = time.monotonic()
            if now < self._silent_until:
                return False
            self._silent_until = now + SILENCE_SECONDS
            return True

    def renew(self, lost: LimitedConnection[TupleRow]) -> bool:
        """Replace every connection that is as old as a lost one; tell whether this call replaced them.

        They are closed without a test: one whose bytes are dropped on the way would not respond to it.
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
    times: PostgresTimes | None = None,
) -> LimitedPool:
    """Return a pool that opens at its first use, so that a process can start while Postgres is down.

    ``max_size`` bounds the parallel statements. The caller closes the pool. Raises ``ConfigurationError`` if
    ``database_url`` is not a connection string.
    """
    describe_database(database_url)
    quiet_pool()
    return LimitedPool(
        database_url,
        min_size=min_size,
        max_size=max_size,
        times=times or PostgresTimes(),
    )


class PostgresJobRepository:
    """``ports.JobRepository`` over a pool whose connections are in autocommit mode. Thread-safe.

    Raises ``JobConflict``, ``JobErased``, ``DatabaseUnavailable`` if a retry may help, and ``SchemaMissing``,
    ``DatabaseMissing`` or ``ServiceRefused`` if it will not.
    """

    def __init__(self, pool: LimitedPool, explainer: Explainer | None = None) -> None:
        self._pool = pool
        self._name = describe_database(pool.database_url)
        self._explainer = explainer or Explainer(pool.database_url, pool.times)

    def describe(self) -> str:
        """Return the database's name for messages, as user@host:port/name."""
        return self._name

    def deployment_id(self) -> UUID | None:
        """Return the database's own random id, None before it is made."""
        return next(iter(self._run(statements.READ_DEPLOYMENT, {}, scalar_row)), None)

    def make_deployment_id(self) -> UUID:
        """Return the database's own random id, and make it first if there is none."""
        known = self.deployment_id()
        while known is None:
            self._run(statements.MAKE_DEPLOYMENT, {}, scalar_row)
            known = self.deployment_id()
        return known

    def queue(self, job_id: UUID, *, bucket: str, key: str, sha256: str = "") -> JobRecord:
        """Record a job as queued, or return its row if it has one."""
        return self._write(job_id, bucket, key, sha256=sha256, status="queued")

    def start(self, job_id: UUID, *, bucket: str, key: str, sha256: str, instead_of: str = "") -> JobRecord:
        """Record that a job runs and the hash of its bytes; a final status stays, and with it the hash."""
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
        """Yield every job's row by id, ``page`` rows a round trip, each as it is when its page is read."""
        first = UUID(int=0)
        while True:
            rows = self._run(statements.READ_PAGE, {"first": first, "page": page}, class_row(JobRecord))
            yield from rows
            if len(rows) < page or rows[-1].id.int == _LAST_ID.int:
                return
            first = UUID(int=rows[-1].id.int + 1)

    def mark_erased(self, job_id: UUID) -> None:
        """Mark the job as erased, after every write that began before the mark has ended."""
        self._run(statements.MARK_ERASED, {"id": job_id}, scalar_row)

    def is_erased(self, job_id: UUID) -> bool:
        """Tell whether the job was marked as erased."""
        return bool(self._run(statements.IS_ERASED, {"id": job_id}, scalar_row)[0])

    def earlier_hashes(self, job_id: UUID) -> frozenset[str]:
        """Return the replaced hashes of a job, with an empty one if there may have been others."""
        return frozenset(self._run(statements.EARLIER_HASHES, {"id": job_id}, scalar_row))

    def delete(self, job_id: UUID) -> bool:
        """Delete a job's rows in one transaction; tell whether there were any."""
        return bool(self._run(statements.DELETE, {"id": job_id}, scalar_row))

    @contextmanager
    def sole_user(self, job_id: UUID, *, bucket: str, key: str, sha256: str = "") -> Iterator[bool]:
        """Yield whether no other job's row refers to an object; other jobs' first writes about it wait meanwhile.

        With a hash, only rows with this hash or none yet count.

        The lock is the open transaction of a separate connection, so that it ends with this process and takes no
        connection of the pool. A call that waits for it longer than a statement's timeout raises
        ``DatabaseUnavailable``. If the connection is lost during the block, so is the lock: the block's end then raises
        ``DatabaseUnavailable``, because a job may have been queued for the object meanwhile.
        """
        values = {"id": job_id, "bucket": storable(bucket), "key": storable(key), "sha256": sha256}
        with translated(self._name):
            connection = connect(self._pool.database_url, autocommit=True, times=self._pool.times)
        # Closing the connection rolls back, which releases the lock.
        with closing(connection):
            with translated(self._name):
                connection.execute("BEGIN")
                connection.execute(_LIMITS, {"statement": f"{round(self._pool.times.statement * 1000)}ms"})
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
                has = describe_asset(known.s3_raw_bucket, known.s3_raw_key, known.content_sha256)
                raise JobConflict(job_id=job_id, known=has, asked=describe_asset(bucket, key, sha256))
            # The conflicting row has been deleted since.
            row = self._read(statement, values | columns)
        if row.status == "succeeded" and row.s3_ocr_key is None:
            # Another writer finished the job while this statement waited for the row; its join still read the earlier
            # snapshot.
            return self.get(job_id) or row
        return row

    def _read(self, statement: LiteralString, values: Mapping[str, object]) -> JobRecord | None:
        return next(iter(self._run(statement, values, class_row(JobRecord))), None)

    def _run(self, statement: LiteralString, values: Mapping[str, object], rows: BaseRowFactory[_Row]) -> list[_Row]:
        with translated(self._name):
            self._pool.open()
            until = time.monotonic() + self._pool.timeout + self._pool.times.response
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
                return connection.fetch(statement, values, rows, timeout=self._pool.times.statement)
        except PoolTimeout as timeout:
            raise self._explain(timeout) from timeout
        except psycopg.DatabaseError as error:
            if error.sqlstate == statements.JOB_ERASED:
                raise JobErased(job_id=values["id"]) from error
            raise

    @contextmanager
    def _connection(self, until: float) -> Iterator[LimitedConnection[TupleRow]]:
        """Yield a connection of the pool for one statement, until the monotonic time ``until`` at most."""
        left = until - time.monotonic()
        with self._pool.connection(min(self._pool.timeout, left)) as connection:
            left = min(self._pool.times.response, until - time.monotonic())
            try:
                with connection.limited(left):
                    yield connection
            except psycopg.DatabaseError as error:
                # A restart, a failover or a silent firewall leaves the pool full of dead connections.
                lost = _is_lost(error) or isinstance(error, ResponseTimeout)
                if lost and self._pool.renew(connection) and self._pool.may_log_renewal():
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
            # Postgres is up again, and the pool waits between its attempts to reconnect.
            reason = f"the worker has not reconnected yet: {timeout}"
        return DatabaseUnavailable(database=self._name, reason=reason)


def _is_lost(error: psycopg.DatabaseError) -> bool:
    """Tell whether a new connection may help: this one is lost, or leads to a server that is no primary any more.

    An operational error without SQLSTATE, of class 08 or of 57P (shutdown) means a lost connection. One without a
    response is lost as well, but its caller has waited long enough.
    """
    if isinstance(error, ResponseTimeout):
        return False
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate == READ_ONLY_SERVER or error.sqlstate.startswith(("08", "57P"))
