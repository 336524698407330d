"""Brings a database to this release's schema, with Alembic and the steps in ``migrations``.

Functions import Alembic and SQLAlchemy when they need them: these cost more start-up time than the rest of the command
line together. Steps go forward only. A migration is one transaction with its own lock, so that it also works through a
pooler in transaction mode.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString
from uuid import UUID

import psycopg
from psycopg.rows import tuple_row

from photo_worker.adapters.postgres import statements
from photo_worker.adapters.postgres.connection import connect
from photo_worker.adapters.postgres.errors import describe_database, translate, translated
from photo_worker.adapters.times import PostgresTimes
from photo_worker.errors import DatabaseUnavailable, SchemaMissing, SchemaUnknown

if TYPE_CHECKING:
    from alembic.config import Config
    from psycopg.rows import TupleRow
    from sqlalchemy import Connection

    from photo_worker.adapters.postgres.connection import LimitedConnection

LOCK_TIMEOUT_SECONDS = 60
_RESPONSE_SECONDS = 5
# How long a step may wait for a table lock, while later statements queue behind it; and the pause before the next try.
_TABLE_LOCK_SECONDS = 2.0
_TABLE_PAUSE_SECONDS = 1.0
# "photo-wk": advisory locks of one database share a space of 64-bit numbers.
LOCK_ID = 0x70686F746F2D776B
STEPS = Path(__file__).parent / "migrations"
# Locks no row. A read-only server refuses it like a write, and a pooler that splits writes and reads sends it to the
# server for writes.
_WRITABLE = "SELECT FROM recipes WHERE false FOR UPDATE"
# The worker's statements that need different privileges; EXPLAIN checks the privileges and runs none of them.
_EXPLAINED: tuple[LiteralString, ...] = (
    statements.WRITE_RESULT,
    statements.IS_ERASED,
    statements.IS_SOLE_USER,
)
_ANY_VALUES: dict[str, object] = {
    **dict.fromkeys(("bucket", "key", "sha256", "instead_of", "code", "message"), ""),
    **dict.fromkeys(("s3_bucket", "s3_ocr_key", "s3_manifest_key", "ocr_engine", "ocr_version"), ""),
    "id": UUID(int=0),
    "status": "succeeded",
    "page_count": 1,
}
# All of the steps on an empty database, as ``rendered`` returns them.
SCHEMA = STEPS / "schema.sql"


def upgrade(
    database_url: str,
    *,
    lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS,
    connect: Callable[..., LimitedConnection[TupleRow]] = connect,
) -> None:
    """Apply the steps that the database lacks; all of them, or none if one fails.

    Safe to run twice at once: the second run waits for the first, at most ``lock_timeout_seconds``, and then finds
    nothing to do. Jobs may run: a step waits for a table in use only for a short time and tries again, because all
    later statements queue behind a waiting step. Raises ``DatabaseUnavailable``, also if a table has been in use for
    ``lock_timeout_seconds``, ``DatabaseMissing``, ``ServiceRefused``, and ``SchemaUnknown`` if a newer release has
    migrated the database. ``connect`` opens the connection.
    """
    database = describe_database(database_url)
    until = time.monotonic() + lock_timeout_seconds
    while not _upgraded(database_url, database, lock_timeout_seconds, connect):
        if time.monotonic() > until:
            reason = f"others have used its tables without a pause for {lock_timeout_seconds:g} s"
            raise DatabaseUnavailable(database=database, reason=reason)
        time.sleep(_TABLE_PAUSE_SECONDS)


def _upgraded(
    database_url: str,
    database: str,
    lock_timeout_seconds: float,
    connect: Callable[..., LimitedConnection[TupleRow]],
) -> bool:
    """Apply the steps that the database lacks; return False, with none applied, if one waited too long for a table."""
    from alembic import command
    from alembic.util import CommandError
    from sqlalchemy.exc import DBAPIError

    with translated(database):
        # Behind a pooler with one server connection, connecting itself waits for another migration.
        raw = connect(database_url, times=PostgresTimes(response=lock_timeout_seconds + _RESPONSE_SECONDS))
    try:
        with closing(raw), _sqlalchemy_connection(raw) as connection, connection.begin():
            _lock(connection, database, lock_timeout_seconds)
            _limit_waiting(connection, min(_TABLE_LOCK_SECONDS, lock_timeout_seconds))
            # The time of a step grows with the size of the tables, so that no limit fits.
            raw.patience = None
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            return True
    except CommandError as error:
        raise SchemaUnknown(database=database, reason=str(error)) from error
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.errors.LockNotAvailable):
            return False
        known = translate(error.orig, database) if isinstance(error.orig, psycopg.Error) else None
        if known is None:
            raise
        raise known from error


def create(database_url: str) -> None:
    """Make this release's schema in an empty database that is not in use yet: all of it, or nothing.

    The result is that of ``upgrade``, in a tenth of its time, because Alembic is not loaded. Raises
    ``DatabaseUnavailable``, ``DatabaseMissing`` and ``ServiceRefused``, and psycopg's own error if the database is not
    empty.
    """
    schema = SCHEMA.read_bytes()
    with translated(describe_database(database_url)), connect(database_url) as connection:
        connection.execute(schema)


def rendered() -> str:
    """Return the SQL of all steps in order, with the table in which Alembic records the current step."""
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config, written = _config(), io.StringIO()
    script = ScriptDirectory.from_config(config)

    def steps(step: Any, _: object) -> Any:
        return script._upgrade_revs("head", step)

    with EnvironmentContext(config, script, fn=steps, as_sql=True, destination_rev="head") as environment:
        environment.configure(
            dialect_name="postgresql",
            # Other parameter styles double the percent signs.
            dialect_opts={"paramstyle": "named"},
            output_buffer=written,
            # The connection begins the one transaction for all steps.
            transactional_ddl=False,
        )
        environment.run_migrations()
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"


def current(database_url: str) -> str | None:
    """Return the step that the database is at, or None if none was applied. Fast: does not load Alembic."""
    with translated(describe_database(database_url)), connect(database_url) as connection:
        return _step_of(connection)


def head() -> str:
    """Return the newest step that this release knows."""
    from alembic.script import ScriptDirectory

    newest = ScriptDirectory.from_config(_config()).get_current_head()
    if newest is None:
        raise FileNotFoundError(STEPS / "versions")
    return newest


def require_usable(database_url: str, times: PostgresTimes | None = None) -> None:
    """Raise if a worker cannot write jobs into the database. Opens one connection, and writes nothing.

    Raises ``SchemaMissing`` if the database lacks a step of this release (a newer schema is accepted),
    ``DatabaseReadOnly`` if it is a standby or otherwise takes no writes, ``DatabaseForbidden`` if this role lacks a
    privilege that a job needs, and the errors of connecting.
    """
    from alembic.script import ScriptDirectory

    database = describe_database(database_url)
    script = ScriptDirectory.from_config(_config())
    older = {step.revision for step in script.walk_revisions()} - {script.get_current_head()}
    with translated(database), connect(database_url, times=times) as connection:
        found = _step_of(connection)
        if found is None or found in older:
            reason = "no step was applied" if found is None else f"it is at step {found}"
            raise SchemaMissing(database=database, reason=reason)
        connection.execute(_WRITABLE)
        for statement in _EXPLAINED:
            connection.fetch("EXPLAIN " + statement, _ANY_VALUES, tuple_row)


def _step_of(connection: LimitedConnection[TupleRow]) -> str | None:
    if connection.execute("SELECT to_regclass('alembic_version') IS NULL").fetchone() == (True,):
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    # Alembic interpolates its options, so that a percent sign in the path has to be doubled.
    config.set_main_option("script_location", str(STEPS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@contextmanager
def _sqlalchemy_connection(raw: LimitedConnection[TupleRow]) -> Iterator[Connection]:
    """Yield an SQLAlchemy connection over one of libpq, which parses more forms of the URL than SQLAlchemy."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import StaticPool

    engine = create_engine("postgresql+psycopg://", creator=lambda: raw, poolclass=StaticPool)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _limit_waiting(connection: Connection, seconds: float) -> None:
    """Limit how long each statement of the transaction may wait for a lock."""
    from sqlalchemy import text

    connection.execute(text("SELECT set_config('lock_timeout', :limit, true)"), {"limit": f"{seconds:.3f}s"})


def _lock(connection: Connection, database: str, timeout_seconds: float) -> None:
    from sqlalchemy import text
    from sqlalchemy.exc import OperationalError

    _limit_waiting(connection, timeout_seconds)
    try:
        connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": LOCK_ID})
    except OperationalError as error:
        if not isinstance(error.orig, psycopg.errors.LockNotAvailable):
            raise
        reason = f"another migration has been running for {timeout_seconds:g} s"
        raise DatabaseUnavailable(database=database, reason=reason) from error
