"""Connections to Postgres that notice a dead peer, and that leave no state in a server session.

No state is kept at the server beyond a transaction. A pooler in transaction mode, such as PgBouncer, gives each
transaction any server connection, with the state that its last client left there: settings, and prepared statements,
which psycopg names alike in every process. So the client puts values into the statement's text, and sends the
statement's timeout with it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import conninfo as pg_conninfo
from psycopg import pq
from psycopg.abc import Buffer, PQGen
from psycopg.adapt import Loader
from psycopg.errors import _WaitTimeout
from psycopg.rows import BaseRowFactory, Row, TupleRow

from photo_worker.adapters.times import KEEPALIVE_OPTIONS, PostgresTimes

# Shown in pg_stat_activity; limits and log filters can tell the worker's sessions by it.
APPLICATION_NAME = "photo-worker"

_SIGNAL_SECONDS = 0.1

# What libpq takes for an unset parameter: mostly no text, which it refuses for these (PostgreSQL manual, "Parameter Key
# Words"). Without text, the user is the one of the operating system.
_USUAL = {
    "require_auth": "none,password,md5,gss,sspi,scram-sha-256",
    "sslcertmode": "allow",
    "min_protocol_version": "3.0",
    "max_protocol_version": "3.0",
}
# Parameters that every connection sets (see ``options``), and the one that cannot be unset.
_OWN = frozenset({"connect_timeout", "application_name", *KEEPALIVE_OPTIONS, "service"})

# The server runs one message as one transaction (PostgreSQL manual, "Multiple Statements in a Simple Query"), so that
# the settings end with it. A database, a role or libpq's PGDATESTYLE may set any other style of dates.
_SETTINGS: tuple[LiteralString, ...] = (
    "SET LOCAL statement_timeout = %(statement_timeout)s;",
    "SET LOCAL datestyle = 'ISO, YMD';",
)

_Result = TypeVar("_Result")
_Record = TypeVar("_Record")


class ResponseTimeout(psycopg.OperationalError):
    """The server has not responded in time; the connection is closed."""


class _IsoTimestamp(Loader):
    """Reads a time of the style that ``fetch`` sets; psycopg's own goes by the session's, and refuses most."""

    def load(self, data: Buffer) -> datetime:
        return datetime.fromisoformat(bytes(data).decode("ascii"))


class LimitedConnection(psycopg.Connection[Row]):
    """A connection whose every wait for the server ends, even if bytes are dropped on the way.

    ``patience`` is how many seconds one wait may take, None means without limit. TCP's own limits do not notice a peer
    that acknowledges every byte and forwards none, such as a proxy that has lost its server.
    """

    def __init__(self, pgconn: psycopg.pq.abc.PGconn) -> None:
        super().__init__(pgconn)
        self.patience: float | None = PostgresTimes.response
        self.opened = time.monotonic()
        self.adapters.register_loader("timestamptz", _IsoTimestamp)
        self._until: float | None = None

    @contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """Limit all waits in the block to ``seconds`` in total."""
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
        timeout: float = PostgresTimes.statement,
    ) -> list[_Record]:
        """Run a statement with its timeout in one message, as one transaction; return its rows.

        Times have the offset of the session's time zone. Raises psycopg's errors, and ``ResponseTimeout``.
        """
        limit = {"statement_timeout": f"{round(timeout * 1000)}ms"}
        with psycopg.ClientCursor(self, row_factory=rows) as cursor:
            cursor.execute("".join(_SETTINGS) + statement, {**values, **limit})
            for _ in _SETTINGS:
                cursor.nextset()
            return cursor.fetchall()

    def wait(self, gen: PQGen[_Result], interval: float = _SIGNAL_SECONDS, timeout: float | None = None) -> _Result:
        """Wait for the server; psycopg calls this for every wait of an open connection."""
        left = self.patience if self._until is None else max(self._until - time.monotonic(), 0)
        if left is None or (timeout is not None and timeout <= left):
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, left)
        except _WaitTimeout:
            # A late response would be taken for that to the next statement.
            self.pgconn.finish()
            raise ResponseTimeout(f"the server has not responded within {left:.3g} s") from None


def options(conninfo: str, times: PostgresTimes) -> dict[str, Any]:
    """Return the arguments for opening a connection; parameters in the connection string take precedence."""
    said = pg_conninfo.conninfo_to_dict(conninfo)
    ours = {**times.keepalives, "connect_timeout": times.connect, "application_name": APPLICATION_NAME}
    return {
        **{name: value for name, value in ours.items() if name not in said},
        "prepare_threshold": None,
    }


def with_defaults(conninfo: str, variables: Mapping[str, str]) -> str:
    """Return ``conninfo`` with the parameters that it lacks from libpq's variables, such as PGSSLMODE.

    libpq itself reads those of the process environment, which may belong to another deployment: a parameter that only
    they set, or the service that PGSERVICE names there, gets its usual value. A service that the deployment names
    itself sets what neither ``conninfo`` nor the deployment's variables do. If the process names a service that no file
    defines, libpq refuses every connection that names none: no parameter stands for "none". PGTZ, PGDATESTYLE and
    PGGEQO have no parameter: libpq sends those of the process (PostgreSQL manual, "Environment Variables"), which the
    commands therefore remove. What ``fetch`` returns does not depend on them.
    """
    known = {option.keyword.decode(): option for option in pq.Conninfo.get_defaults()}
    names = {key: option.envvar.decode() for key, option in known.items() if option.envvar}
    try:
        said = pg_conninfo.conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        # Reported without the password, which libpq's message quotes, when the connection is made.
        return conninfo
    given = {key: variables[name] for key, name in names.items() if name in variables}
    service = said.get("service", given.get("service"))
    usual = {
        key: _USUAL.get(key, (option.compiled or b"").decode())
        for key, option in known.items()
        if option.val != option.compiled and key not in _OWN
    }
    if service is not None:
        # Also the values of its file are in ``known``, if the process names the same service.
        same = known["service"].val == str(service).encode()
        usual = {} if same else {key: value for key, value in usual.items() if key in names and key != "user"}
    more = {key: value for key, value in (usual | given).items() if key not in said}
    return pg_conninfo.make_conninfo(conninfo, **more)


def connect(
    conninfo: str, *, autocommit: bool = False, times: PostgresTimes | None = None
) -> LimitedConnection[TupleRow]:
    """Open a connection outside the pool. Raises psycopg's errors."""
    times = times or PostgresTimes()
    connection: LimitedConnection[TupleRow] = LimitedConnection.connect(
        conninfo, autocommit=autocommit, **options(conninfo, times)
    )
    connection.patience = times.response
    return connection
