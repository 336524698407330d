"""Connections to Postgres that end by themselves: what dies without a word, and what a pooler must not remember.

Nothing here is kept at the server beyond a transaction. A pooler in transaction mode, such as PgBouncer, gives each
transaction any server connection, and with it whatever its last user left there: prepared statements, which every
psycopg names alike, and settings. So values are put into the statement's text on this side, and the limit of a
statement travels with it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import conninfo as pg_conninfo
from psycopg.abc import PQGen
from psycopg.errors import _WaitTimeout
from psycopg.rows import BaseRowFactory, Row, TupleRow

# Shown in pg_stat_activity, and what limits and log filters of a role can be told by.
APPLICATION_NAME = "photo-worker"

CONNECT_TIMEOUT_SECONDS = 5
STATEMENT_TIMEOUT_SECONDS = 15
# The server's own limit comes first wherever the server can still say so.
ANSWER_TIMEOUT_SECONDS = 18

# An idle connection whose peer is gone ends after 25 s, and one with bytes on their way after 20. Linux would take
# two hours and a quarter of one. TCP_USER_TIMEOUT is Linux's alone; elsewhere libpq ignores it (PostgreSQL
# manual, "Database Connection Control Functions").
LIVENESS: Mapping[str, int] = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}

_SIGNAL_SECONDS = 0.1

# Of the transaction that the server makes of one message; PostgreSQL manual, "Multiple Statements in a Simple Query".
_LIMIT: LiteralString = "SET LOCAL statement_timeout = %(statement_timeout)s;"

_Result = TypeVar("_Result")
_Record = TypeVar("_Record")


class Unanswered(psycopg.OperationalError):
    """The server has not answered in time; the connection is closed."""


class LimitedConnection(psycopg.Connection[Row]):
    """A connection whose every wait for the server ends, also where the bytes are swallowed on their way.

    ``patience`` is how many seconds one wait may take, None for ever. TCP's own limits do not see a peer that takes
    every byte and passes none on, as a proxy does that has lost its other side.
    """

    patience: float | None = ANSWER_TIMEOUT_SECONDS

    def __init__(self, pgconn: psycopg.pq.abc.PGconn) -> None:
        super().__init__(pgconn)
        self.opened = time.monotonic()
        self._until: float | None = None

    @contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """Give all waits of the block these seconds together."""
        self._until = time.monotonic() + seconds
        try:
            yield
        finally:
            self._until = None

    def fetch(
        self,
        statement: LiteralString,
        values: Mapping[str, object],
        rows: BaseRowFactory[_Record],
        *,
        timeout: float = STATEMENT_TIMEOUT_SECONDS,
    ) -> list[_Record]:
        """Run a statement with its limit in one message, as one transaction; return what it returns.

        Raises psycopg's errors, and ``Unanswered``.
        """
        limit = {"statement_timeout": f"{round(timeout * 1000)}ms"}
        with psycopg.ClientCursor(self, row_factory=rows) as cursor:
            cursor.execute(_LIMIT + statement, {**values, **limit})
            cursor.nextset()
            return cursor.fetchall()

    def wait(self, gen: PQGen[_Result], interval: float = _SIGNAL_SECONDS, timeout: float | None = None) -> _Result:
        """Wait for the server; psycopg passes every wait of an open connection through here."""
        left = self.patience if self._until is None else max(self._until - time.monotonic(), 0)
        if left is None or (timeout is not None and timeout <= left):
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, left)
        except _WaitTimeout:
            # What may still come would be taken for the answer to something else.
            self.pgconn.finish()
            raise Unanswered(f"the server has not answered within {left:.3g} s") from None


def options(conninfo: str, *, connect_timeout: int = CONNECT_TIMEOUT_SECONDS) -> dict[str, Any]:
    """Return what a connection is opened with; what the string itself says goes first."""
    said = pg_conninfo.conninfo_to_dict(conninfo)
    ours = {**LIVENESS, "connect_timeout": connect_timeout, "application_name": APPLICATION_NAME}
    return {
        **{name: value for name, value in ours.items() if name not in said},
        "prepare_threshold": None,
    }


def connect(
    conninfo: str, *, autocommit: bool = False, patience: float | None = ANSWER_TIMEOUT_SECONDS
) -> LimitedConnection[TupleRow]:
    """Open a connection outside of the pool. Raises psycopg's errors."""
    connection: LimitedConnection[TupleRow] = LimitedConnection.connect(
        conninfo, autocommit=autocommit, **options(conninfo)
    )
    connection.patience = patience
    return connection
