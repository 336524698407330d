"""What psycopg raises, in the words of ``photo_worker.errors``.

SQLSTATEs are those of the Postgres manual, appendix A. An attempt to connect that fails carries
no SQLSTATE in psycopg 3, so that there the server's message decides; a message in another
language falls back to the retryable error, never to a wrong one.

PgBouncer says all of its own as 08P01, a protocol violation, or while connecting without any SQLSTATE. What it says
of its server (away, a login that failed) and of its room may pass, whatever the server's words in it: the worker's own
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
    DatabaseMissing,
    DatabaseReadOnly,
    DatabaseUnavailable,
    PhotoWorkerError,
    SchemaMissing,
    ServiceRefused,
)
from photo_worker.permission_errors import DatabaseForbidden

UNDEFINED_NAMES = frozenset({"42P01", "42703", "3F000", "42883"})
READ_ONLY_SERVER = "25006"
INSUFFICIENT_PRIVILEGE = "42501"
DATABASE_UNKNOWN = "3D000"

# What another client of a pooler has prepared, or has not, on the server connection that this one was given.
ANOTHERS_PREPARED_STATEMENT = frozenset({"26000", "42P05"})
# The server has ended a transaction that was idle or open for too long, and the connection with it.
TRANSACTION_TIMEOUTS = frozenset({"25P03", "25P04"})
# By class they are defects of a statement; here they are a server's state.
MAY_PASS = frozenset({READ_ONLY_SERVER}) | ANOTHERS_PREPARED_STATEMENT | TRANSACTION_TIMEOUTS
# Class XX: a page or an index that is damaged, and with some poolers whatever they have to say.
INTERNAL_ERROR = "XX"

_UNKNOWN_DATABASE_MESSAGE = re.compile(r'FATAL: +(database ".*" does not exist|no such database: )')
# Of libpq, where `target_session_attrs` asks for a server that takes writes and there is none.
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
    """Name a database as user@host:port/name: the parts of a connection string that are no secret."""
    try:
        parts = pg_conninfo.conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        # libpq's message quotes the string, and with it the password.
        raise ConfigurationError(problems="DATABASE_URL is not a Postgres connection string") from None
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    user = f"{parts['user']}@" if parts.get("user") else ""
    return f"{user}{host}:{parts.get('port') or 5432}/{parts.get('dbname') or parts.get('user') or ''}"


def translate(error: psycopg.Error, database: str) -> PhotoWorkerError | None:
    """Return the error to raise in place of ``error``, or None where it is a defect of ours."""
    reason = " ".join(str(error).split())
    state = error.sqlstate
    read_only = state == READ_ONLY_SERVER or (state is None and bool(_NO_PRIMARY.search(reason)))
    if (
        read_only
        or state in MAY_PASS
        or (state or "").startswith(INTERNAL_ERROR)
        or _POOLER_WITHOUT_SERVER.search(reason)
    ):
        kind = DatabaseReadOnly if read_only else DatabaseUnavailable
        return kind(database=database, reason=reason)
    if state in UNDEFINED_NAMES:
        # Behind its first line, the server shows the statement.
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
    """Raise what ``translate`` says in place of psycopg's errors; others pass."""
    try:
        yield
    except psycopg.Error as error:
        known = translate(error, database)
        if known is None:
            raise
        raise known from error
