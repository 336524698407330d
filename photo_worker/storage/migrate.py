"""Brings a database to this release's schema, with Alembic and the steps in ``storage/migrations``.

Alembic and SQLAlchemy are imported where they are used: they cost more start-up time than the
rest of the command line together. Steps go forward only. All of it is one transaction with a lock of its own, so
that a pooler in transaction mode may stand between.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString
from uuid import UUID

import psycopg
from psycopg.rows import tuple_row

from photo_worker.errors import DatabaseUnavailable, SchemaMissing, SchemaUnknown
from photo_worker.storage import statements
from photo_worker.storage.pg_connection import connect
from photo_worker.storage.pg_errors import describe_database, translate, translated

if TYPE_CHECKING:
    from alembic.config import Config
    from psycopg.rows import TupleRow
    from sqlalchemy import Connection

    from photo_worker.storage.pg_connection import LimitedConnection

LOCK_TIMEOUT_SECONDS = 60
_ANSWER_SECONDS = 5
# How long a step may wait for a table, with all statements behind it; and the pause before it asks again.
_TABLE_LOCK_SECONDS = 2.0
_TABLE_PAUSE_SECONDS = 1.0
# "photo-wk": advisory locks of one database share a space of 64-bit numbers.
LOCK_ID = 0x70686F746F2D776B
STEPS = Path(__file__).parent / "migrations"
# Locks no row. A server that only reads refuses it as it refuses a write, and a pooler that sends writes to one server
# and reads to others sends it where writes go.
_WRITABLE = "SELECT FROM recipes WHERE false FOR UPDATE"
# The statements of a worker that need privileges of their own; EXPLAIN checks the privileges and runs none of them.
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


def upgrade(database_url: str, *, lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS) -> None:
    """Apply the steps that the database lacks; all of them, or none where one fails.

    Safe to run twice at once: the second waits for the first, at most ``lock_timeout_seconds``,
    and then finds nothing to do. Jobs may run: a table that others use is asked for again and again, for a short
    time each, since all statements that come after a waiting step wait behind it. Raises ``DatabaseUnavailable``,
    also where a table has been in use for ``lock_timeout_seconds``, ``DatabaseMissing``, ``ServiceRefused``, or
    ``SchemaUnknown`` where a newer release was here before.
    """
    database = describe_database(database_url)
    until = time.monotonic() + lock_timeout_seconds
    while not _upgraded(database_url, database, lock_timeout_seconds):
        if time.monotonic() > until:
            reason = f"others have used its tables without a pause for {lock_timeout_seconds:g} s"
            raise DatabaseUnavailable(database=database, reason=reason)
        time.sleep(_TABLE_PAUSE_SECONDS)


def _upgraded(database_url: str, database: str, lock_timeout_seconds: float) -> bool:
    """Apply the steps that the database lacks; tell whether none had to wait for a table for too long."""
    from alembic import command
    from alembic.util import CommandError
    from sqlalchemy.exc import DBAPIError

    with translated(database):
        # Behind a pooler with one server connection, it is this one that another migration keeps others waiting for.
        raw = connect(database_url, patience=lock_timeout_seconds + _ANSWER_SECONDS)
    try:
        with closing(raw), _over(raw) as connection, connection.begin():
            _lock(connection, database, lock_timeout_seconds)
            _limit_waiting(connection, min(_TABLE_LOCK_SECONDS, lock_timeout_seconds))
            # A step takes as long as the tables are large.
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
    """Make this release's schema in an empty database that nobody else uses yet: all of it, or nothing.

    Leaves what ``upgrade`` leaves, in a tenth of its time, as Alembic stays out. Raises ``DatabaseUnavailable``,
    ``DatabaseMissing`` and ``ServiceRefused``, and psycopg's own error where the database is not empty.
    """
    schema = SCHEMA.read_bytes()
    with translated(describe_database(database_url)), connect(database_url) as connection:
        connection.execute(schema)


def rendered() -> str:
    """Return the SQL of all steps, one after the other, with the table in which Alembic keeps the step."""
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config, written = _config(), io.StringIO()
    script = ScriptDirectory.from_config(config)

    def steps(step: Any, _: object) -> Any:
        return script._upgrade_revs("head", step)

    with EnvironmentContext(config, script, fn=steps, as_sql=True, destination_rev="head") as environment:
        environment.configure(
            dialect_name="postgresql",
            # Otherwise percent signs are doubled.
            dialect_opts={"paramstyle": "named"},
            output_buffer=written,
            # One transaction for all, which the connection makes.
            transactional_ddl=False,
        )
        environment.run_migrations()
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"


def current(database_url: str) -> str | None:
    """Return the step that the database is at, or None where none ran. Cheap: no Alembic."""
    with translated(describe_database(database_url)), connect(database_url) as connection:
        return _step_of(connection)


def head() -> str:
    """Return the newest step that this release knows."""
    from alembic.script import ScriptDirectory

    newest = ScriptDirectory.from_config(_config()).get_current_head()
    if newest is None:
        raise FileNotFoundError(STEPS / "versions")
    return newest


def require_usable(database_url: str) -> None:
    """Raise what keeps a worker from writing jobs into the database; one connection, and nothing is written.

    Raises ``SchemaMissing`` where it lacks a step of this release (a newer schema is fine), ``DatabaseReadOnly`` where
    it is a standby or otherwise takes no writes, ``DatabaseForbidden`` where this role lacks a privilege that a job
    needs, and what connecting raises.
    """
    from alembic.script import ScriptDirectory

    database = describe_database(database_url)
    script = ScriptDirectory.from_config(_config())
    older = {step.revision for step in script.walk_revisions()} - {script.get_current_head()}
    with translated(database), connect(database_url) as connection:
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
    # Alembic's options are read with interpolation, in which a percent sign of the path is special.
    config.set_main_option("script_location", str(STEPS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@contextmanager
def _over(raw: LimitedConnection[TupleRow]) -> Iterator[Connection]:
    """Give SQLAlchemy a connection that was made by libpq's own reading of the URL, which knows more forms."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import StaticPool

    engine = create_engine("postgresql+psycopg://", creator=lambda: raw, poolclass=StaticPool)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _limit_waiting(connection: Connection, seconds: float) -> None:
    """Bound how long each statement of the transaction may wait for a lock."""
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
