"""The stack's database: created from a migrated template, probed, and emptied while the server runs.

The template is a separate database, ``<name>_pristine``, which accepts no connections. Its comment is a
digest of the migrations that made it, so a template that is incomplete, or was made by other migrations,
is detected and made again. It is made without Alembic, which takes half a second to import.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from photo_worker.devkit.ports import LOOPBACK
from photo_worker.devkit.readiness import NotReady, ResetFailed

if TYPE_CHECKING:
    from typing import LiteralString, TypeAlias

    import psycopg
    from psycopg import sql

    _Connection: TypeAlias = psycopg.Connection[tuple[object, ...]]

_CONNECT_SECONDS = 5
_OVER_THE_SHELL = {
    "hostaddr": LOOPBACK,
    "sslmode": "disable",
    "gssencmode": "disable",
    "channel_binding": "disable",
    "target_session_attrs": "any",
    # A space, because an empty value would count as not given.
    "options": " ",
}
# Objects that initdb made have lower ids (PostgreSQL's FirstNormalObjectId).
_FIRST_OF_USERS = 16_384
_SERVER_WIDE: LiteralString = """
    SELECT EXISTS (SELECT FROM pg_roles WHERE oid >= %(first)s)
        OR EXISTS (SELECT FROM pg_tablespace WHERE oid >= %(first)s)
        OR EXISTS (SELECT FROM pg_db_role_setting)
        OR EXISTS (SELECT FROM pg_replication_slots)
        OR EXISTS (SELECT FROM pg_prepared_xacts)
        OR EXISTS (SELECT FROM pg_file_settings WHERE sourcefile LIKE '%%postgresql.auto.conf')
"""
_IN_A_DATABASE: LiteralString = """
    SELECT EXISTS (SELECT FROM pg_class WHERE oid >= %(first)s)
        OR EXISTS (SELECT FROM pg_proc WHERE oid >= %(first)s)
        OR EXISTS (SELECT FROM pg_type WHERE oid >= %(first)s)
        OR EXISTS (SELECT FROM pg_namespace WHERE oid >= %(first)s)
        OR EXISTS (SELECT FROM pg_extension WHERE oid >= %(first)s)
        OR EXISTS (SELECT FROM pg_largeobject_metadata)
"""
# Databases that every server has; template0 accepts no connections, so it cannot be changed.
_OWN = ("postgres", "template1")


def migrate_and_query(env: dict[str, str]) -> None:
    """Create the database if it is missing, migrate its schema, and query it; raises ``NotReady``."""
    import psycopg

    # The stack is ready when a worker could start, and a worker needs the schema. Apart from this import, only
    # `binding` uses adapters of the application.
    from photo_worker.adapters.postgres import migrate
    from photo_worker.devkit.errors import DataMismatch
    from photo_worker.errors import DatabaseUnavailable

    url = with_explicit_parameters(env["DATABASE_URL"])
    name = _name_in(url)
    steps = _digest(migrate.STEPS)
    try:
        with _connected(url, "postgres") as server:
            if not _is_there(server, name) or _dropped_untouched(server, url):
                _create(server, url, steps)
        with _connected(url, name) as connection:
            # The last start set the comment: if the steps are the same, skip the migration and the import of Alembic.
            if _comment_of(connection, name) != steps:
                migrate.upgrade(url)
                _set_comment(connection, name, steps)
            connection.execute("SELECT count(*) FROM recipes").fetchone()
    except (psycopg.OperationalError, DatabaseUnavailable) as error:
        raise NotReady(str(error).strip()) from error
    except psycopg.ProgrammingError as error:
        # The steps were applied and a table is missing: waiting does not bring it back.
        raise DataMismatch(path=f"database {name}", reason=str(error).strip().splitlines()[0]) from error


def migrate_external(url: str) -> None:
    """Migrate an external database and query it; it is never created. Raises ``NotReady``.

    Nothing else on its server is changed: no template is made, and no comment is written.
    Raises ``DatabaseMissing``, ``ServiceRefused`` and ``SchemaUnknown``.
    """
    import psycopg

    from photo_worker.adapters.postgres import migrate
    from photo_worker.errors import DatabaseUnavailable

    try:
        migrate.upgrade(url)
        with psycopg.connect(url, autocommit=True, connect_timeout=_CONNECT_SECONDS) as connection:
            connection.execute("SELECT count(*) FROM recipes").fetchone()
    except (psycopg.Error, DatabaseUnavailable) as error:
        raise NotReady(str(error).strip()) from error


def query(url: str) -> None:
    """Query the migrated schema as the application connects to it; raises ``NotReady``."""
    import psycopg

    try:
        # A pooler in transaction mode: no prepared statement.
        with psycopg.connect(
            url, autocommit=True, connect_timeout=_CONNECT_SECONDS, prepare_threshold=None
        ) as connection:
            connection.execute("SELECT count(*) FROM recipes").fetchone()
    except psycopg.Error as error:
        raise NotReady(str(error).strip()) from error


def empty(env: dict[str, str]) -> None:
    """Drop every database but the template; ``migrate_and_query`` makes the stack's own again.

    Raises ``ResetFailed`` if that does not undo all changes: the server has users, settings or tablespaces
    of its own, or the databases that every server has contain added objects.
    """
    import psycopg
    from psycopg import sql

    url = with_explicit_parameters(env["DATABASE_URL"])
    kept = [*_OWN, "template0", _template(_name_in(url))]
    try:
        with _connected(url, "postgres") as server:
            for (name,) in server.execute("SELECT datname FROM pg_database WHERE datname <> ALL(%s)", [kept]):
                server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(str(name))))
            if server.execute(_SERVER_WIDE, {"first": _FIRST_OF_USERS}).fetchone() != (False,):
                raise ResetFailed("the server has users, settings or tablespaces of its own")
        for name in _OWN:
            with _connected(url, name) as connection:
                if connection.execute(_IN_A_DATABASE, {"first": _FIRST_OF_USERS}).fetchone() != (False,):
                    raise ResetFailed(f"the database {name} is not as it was")
    except psycopg.Error as error:
        raise ResetFailed(str(error).strip()) from error


def _is_there(server: _Connection, database: str) -> bool:
    return server.execute("SELECT FROM pg_database WHERE datname = %s", [database]).fetchone() is not None


def _dropped_untouched(server: _Connection, url: str) -> bool:
    """Drop the stack's database if it is empty, as a container's image creates it; return whether it was dropped."""
    from psycopg import sql

    name = _name_in(url)
    if _comment_of(server, name) is not None:
        return False
    with _connected(url, name) as connection:
        if connection.execute(_IN_A_DATABASE, {"first": _FIRST_OF_USERS}).fetchone() != (False,):
            return False
    server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    return True


def _create(server: _Connection, url: str, steps: str) -> None:
    """Create the stack's database as a copy of the template, which is made first if it is missing or outdated."""
    from psycopg import sql

    name = _name_in(url)
    template = _template(name)
    if _comment_of(server, template) != steps:
        _make_template(server, url, template, steps)
    copy = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
    server.execute(copy.format(sql.Identifier(name), sql.Identifier(template)))
    _set_comment(server, name, steps)


def _make_template(server: _Connection, url: str, template: str, steps: str) -> None:
    from psycopg import sql

    from photo_worker.adapters.postgres import migrate

    server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(template)))
    server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(template)))
    migrate.create(_of(url, template))
    server.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(template)))
    _set_comment(server, template, steps)


def _template(name: str) -> str:
    return f"{name}_pristine"


def _name_in(url: str) -> str:
    return urlsplit(url).path.lstrip("/")


def _of(url: str, database: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


def with_explicit_parameters(url: str) -> str:
    """Return the URL of a local database with all parameters that libpq would otherwise take from PG* variables.

    A shell's variables for another database (PGHOSTADDR, PGSSLMODE) must not affect the stack.
    """
    parts = urlsplit(url)
    if parts.hostname != LOOPBACK:
        return url
    query = dict(parse_qsl(parts.query)) | _OVER_THE_SHELL
    return urlunsplit(parts._replace(query=urlencode(query, quote_via=quote)))


@contextmanager
def _connected(url: str, database: str) -> Iterator[_Connection]:
    import psycopg

    with psycopg.connect(_of(url, database), autocommit=True, connect_timeout=_CONNECT_SECONDS) as connection:
        yield connection


def _comment_of(connection: _Connection, database: str) -> object:
    query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
    row = connection.execute(query, [database]).fetchone()
    return None if row is None else row[0]


def _set_comment(connection: _Connection, database: str, text: str) -> None:
    from psycopg import sql

    statement: sql.SQL = sql.SQL("COMMENT ON DATABASE {} IS {}")
    connection.execute(statement.format(sql.Identifier(database), sql.Literal(text)))


def _digest(directory: Path) -> str:
    """Return a digest of the names and contents of a directory's Python and SQL files."""
    digest = hashlib.sha256()
    for file in sorted([*directory.rglob("*.py"), *directory.rglob("*.sql")]):
        digest.update(str(file.relative_to(directory)).encode() + b"\0" + file.read_bytes() + b"\0")
    return f"steps {digest.hexdigest()}"
