"""Translates psycopg's errors into ``photo_worker.errors``.

SQLSTATEs are those of the Postgres manual, appendix A. A failed attempt to connect carries no SQLSTATE in psycopg 3,
so that the server's message decides; a message in another language becomes the retryable error, never a wrong one.

PgBouncer reports its own errors as 08P01, a protocol violation, or without a SQLSTATE while connecting. Those about its
server (down, a failed login) and its limits may pass, even if they quote a refusal of the server: the worker's own
login was not refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import conninfo as pg_conninfo

from photo_worker.errors import (
    ConfigurationError,
    DatabaseForbidden,
    DatabaseMissing,
    DatabaseReadOnly,
    DatabaseUnavailable,
    PhotoWorkerError,
    SchemaMissing,
    ServiceRefused,
)

UNDEFINED_NAMES = frozenset({"42P01", "42703", "3F000", "42883"})
READ_ONLY_SERVER = "25006"
INSUFFICIENT_PRIVILEGE = "42501"
DATABASE_UNKNOWN = "3D000"

# A prepared statement that another client of a pooler has left, or has not made, on this server connection.
ANOTHERS_PREPARED_STATEMENT = frozenset({"26000", "42P05"})
# The server has ended a transaction that was idle or open for too long, and the connection with it.
TRANSACTION_TIMEOUTS = frozenset({"25P03", "25P04"})
# Their classes mean a defect of the statement; here they come from the state of the server.
RETRYABLE_STATES = frozenset({READ_ONLY_SERVER}) | ANOTHERS_PREPARED_STATEMENT | TRANSACTION_TIMEOUTS
# Class XX: a damaged page or index, and the errors of some poolers.
INTERNAL_ERROR = "XX"

_UNKNOWN_DATABASE_MESSAGE = re.compile(r'FATAL: +(database ".*" does not exist|no such database: )')
# libpq's messages if `target_session_attrs` asks for a server that takes writes and there is none.
_NO_PRIMARY = re.compile(r"session is read-only|server is in hot standby mode")
_POOLER_WITHOUT_SERVER = re.compile(
    r"server login (failed|has been failing)|pgbouncer cannot connect|server_login_retry"
)
_REFUSED_MESSAGE = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|permission denied"
    r'|FATAL: +role ".*" (does not exist|is not permitted)|SASL authentication|password retrieval'
    # PgBouncer does not know `options`, unless it is told to ignore it.
    r"|unsupported startup parameter"
)


def describe_database(conninfo: str) -> str:
    """Return a database's name as user@host:port/name: the parts of a connection string that are not secret."""
    try:
        parts = pg_conninfo.conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        # libpq's message quotes the string, and with it the password.
        raise ConfigurationError(problems="DATABASE_URL is not a Postgres connection string") from None
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    user = f"{parts['user']}@" if parts.get("user") else ""
    return f"{user}{host}:{parts.get('port') or 5432}/{parts.get('dbname') or parts.get('user') or ''}"


def translate(error: psycopg.Error, database: str) -> PhotoWorkerError | None:
    """Return the error to raise in place of ``error``, or None if it is a defect of this program."""
    reason = " ".join(str(error).split())
    state = error.sqlstate
    read_only = state == READ_ONLY_SERVER or (state is None and bool(_NO_PRIMARY.search(reason)))
    if (
        read_only
        or state in RETRYABLE_STATES
        or (state or "").startswith(INTERNAL_ERROR)
        or _POOLER_WITHOUT_SERVER.search(reason)
    ):
        kind = DatabaseReadOnly if read_only else DatabaseUnavailable
        return kind(database=database, reason=reason)
    if state in UNDEFINED_NAMES:
        # The server quotes the statement after the first line.
        return SchemaMissing(database=database, reason=str(error).partition("\n")[0])
    if state == DATABASE_UNKNOWN or (state is None and _UNKNOWN_DATABASE_MESSAGE.search(reason)):
        return DatabaseMissing(database=database)
    refused = bool(_REFUSED_MESSAGE.search(reason)) if state is None else state.startswith("28")
    found: PhotoWorkerError | None = None
    if state == INSUFFICIENT_PRIVILEGE:
        found = DatabaseForbidden(database=database, reason=reason)
    elif refused:
        found = ServiceRefused(service=f"Postgres ({database})", reason=reason)
    elif isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        found = DatabaseUnavailable(database=database, reason=reason)
    return found


@contextmanager
def translated(database: str) -> Iterator[None]:
    """Raise the errors of ``translate`` in place of psycopg's; others pass unchanged."""
    try:
        yield
    except psycopg.Error as error:
        known = translate(error, database)
        if known is None:
            raise
        raise known from error
