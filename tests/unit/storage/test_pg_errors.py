"""The translation of Postgres' errors, and the parts of a connection string that messages show."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors as pg

from photo_worker.adapters.postgres.errors import describe_database, translate, translated
from photo_worker.adapters.postgres.job_repository import make_pool
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

FATAL = 'connection failed: connection to server at "127.0.0.1", port 1 failed: FATAL:  '


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (pg.UndefinedTable('relation "recipes" does not exist'), SchemaMissing),
        (pg.UndefinedColumn('column "s3_raw_bucket" does not exist'), SchemaMissing),
        (pg.InvalidPassword("no"), ServiceRefused),
        (pg.InvalidAuthorizationSpecification("no"), ServiceRefused),
        (pg.InsufficientPrivilege("permission denied for table recipes"), DatabaseForbidden),
        (pg.InvalidCatalogName('database "x" does not exist'), DatabaseMissing),
        (pg.AdminShutdown("terminating connection"), DatabaseUnavailable),
        (pg.CannotConnectNow("the database system is starting up"), DatabaseUnavailable),
        (pg.TooManyConnections("sorry, too many clients already"), DatabaseUnavailable),
        (pg.DiskFull("could not extend file"), DatabaseUnavailable),
        (pg.DeadlockDetected("deadlock detected"), DatabaseUnavailable),
        (pg.QueryCanceled("canceling statement due to statement timeout"), DatabaseUnavailable),
        (pg.ReadOnlySqlTransaction("cannot execute INSERT in a read-only transaction"), DatabaseReadOnly),
        (psycopg.InterfaceError("connection already closed"), DatabaseUnavailable),
        (pg.InternalError_("invalid memory alloc request size"), DatabaseUnavailable),
        (pg.InternalError_("FATAL: the pooler has no more servers"), DatabaseUnavailable),
        (pg.DataCorrupted("invalid page in block 0 of relation base/1/2"), DatabaseUnavailable),
        (pg.IndexCorrupted("index is damaged"), DatabaseUnavailable),
        (pg.IdleInTransactionSessionTimeout("terminating connection"), DatabaseUnavailable),
        (pg.lookup("25P04")("terminating connection due to transaction timeout"), DatabaseUnavailable),
        (psycopg.OperationalError("server closed the connection unexpectedly"), DatabaseUnavailable),
        (psycopg.OperationalError(FATAL + 'password authentication failed for user "photo"'), ServiceRefused),
        (psycopg.OperationalError("connection failed: fe_sendauth: no password supplied"), ServiceRefused),
        (psycopg.OperationalError(FATAL + 'no pg_hba.conf entry for host "10.0.0.1"'), ServiceRefused),
        (psycopg.OperationalError(FATAL + 'role "photo" does not exist'), ServiceRefused),
        (psycopg.OperationalError(FATAL + 'database "photo" does not exist'), DatabaseMissing),
        (psycopg.OperationalError(FATAL + "the database system is starting up"), DatabaseUnavailable),
        (psycopg.OperationalError(FATAL + "sorry, too many clients already"), DatabaseUnavailable),
        # libpq's own messages if target_session_attrs finds no server that takes writes.
        (psycopg.OperationalError("connection failed: session is read-only"), DatabaseReadOnly),
        (psycopg.OperationalError("connection failed: server is in hot standby mode"), DatabaseReadOnly),
        # PgBouncer's messages, from its source.
        (psycopg.OperationalError(FATAL + "no such database: photo"), DatabaseMissing),
        (psycopg.OperationalError(FATAL + "SASL authentication failed"), ServiceRefused),
        (psycopg.OperationalError(FATAL + "unsupported startup parameter: options"), ServiceRefused),
        (psycopg.OperationalError(FATAL + "no more connections allowed (max_client_conn)"), DatabaseUnavailable),
        (
            psycopg.OperationalError(
                FATAL + "server login has been failing, cached error: password authentication failed for user"
                ' "photo" (server_login_retry)'
            ),
            DatabaseUnavailable,
        ),
        (pg.ProtocolViolation("server login failed: FATAL permission denied for database"), DatabaseUnavailable),
        (pg.ProtocolViolation("pgbouncer cannot connect to server"), DatabaseUnavailable),
        (pg.ProtocolViolation("query_wait_timeout"), DatabaseUnavailable),
        (pg.ProtocolViolation("client_idle_timeout"), DatabaseUnavailable),
        (pg.InvalidSqlStatementName('prepared statement "_pg3_0" does not exist'), DatabaseUnavailable),
        (pg.DuplicatePreparedStatement('prepared statement "_pg3_0" already exists'), DatabaseUnavailable),
        (psycopg.OperationalError(FATAL + "Passwort-Authentifizierung fehlgeschlagen"), DatabaseUnavailable),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.code,
)
def test_translate_maps_postgres_errors_to_error_classes(error: psycopg.Error, kind: type[PhotoWorkerError]) -> None:
    found = translate(error, "db:5432/photo")
    assert type(found) is kind
    assert "db:5432/photo" in found.message
    assert found.retryable is issubclass(kind, DatabaseUnavailable)
    assert found.message.startswith("Postgres does not respond") is (kind is DatabaseUnavailable)


def test_translate_missing_column_omits_the_statement() -> None:
    said = 'column "asset_type" does not exist\nLINE 4:                asset_type, created_at\n                       ^'
    found = translate(pg.UndefinedColumn(said), "db:5432/photo")
    assert isinstance(found, SchemaMissing)
    assert found.context["reason"] == 'column "asset_type" does not exist'
    assert not {"LINE", "^"} & set(found.message.split())


@pytest.mark.parametrize("error", [pg.SyntaxError("at or near"), pg.CheckViolation("status"), psycopg.DataError("nul")])
def test_translate_programming_error_passes_unchanged(error: psycopg.Error) -> None:
    assert translate(error, "db") is None
    with pytest.raises(type(error)), translated("db"):
        raise error


@pytest.mark.parametrize(
    ("conninfo", "name"),
    [
        ("postgresql://photo:secret@db:6432/recipes?sslmode=require", "photo@db:6432/recipes"),
        ("postgres://photo:secret@db/recipes", "photo@db:5432/recipes"),
        ("host=db user=photo password=secret dbname=recipes", "photo@db:5432/recipes"),
        ("postgresql:///recipes?host=/run/pg", "/run/pg:5432/recipes"),
        ("postgresql://photo:se%25cret@[::1]:5433/recipes", "photo@::1:5433/recipes"),
    ],
)
def test_describe_database_omits_the_password(conninfo: str, name: str) -> None:
    assert describe_database(conninfo) == name


def test_make_pool_invalid_url_is_not_quoted() -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL") as caught:
        make_pool("postgresql//photo:secret@db/recipes")
    assert "secret" not in caught.value.message
    assert caught.value.__suppress_context__, "a traceback would show libpq's message, which quotes the string"
