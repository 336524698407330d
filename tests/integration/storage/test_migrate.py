"""Migrations: of empty databases, repeated, concurrent, after a newer release; and the constraints of the tables."""

from __future__ import annotations

import hashlib
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import conninfo, sql

from photo_worker.adapters.postgres import migrate
from photo_worker.adapters.postgres.job_repository import PostgresJobRepository, make_pool
from photo_worker.errors import (
    ConfigurationError,
    DatabaseForbidden,
    DatabaseMissing,
    DatabaseUnavailable,
    SchemaMissing,
    SchemaUnknown,
    ServiceRefused,
)

pytestmark = pytest.mark.stack


def columns(database_url: str, table: str) -> dict[str, tuple[str, bool, str | None]]:
    """Return type, not null and default of a table's columns."""
    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            "SELECT column_name, data_type, is_nullable = 'NO', column_default"
            " FROM information_schema.columns WHERE table_name = %s",
            [table],
        )
        return {name: (kind, required, default) for name, kind, required, default in found}


def test_upgrade_empty_database_reaches_head(empty_database_url: str) -> None:
    assert migrate.current(empty_database_url) is None
    with pytest.raises(SchemaMissing, match="no step was applied"):
        migrate.require_usable(empty_database_url)
    migrate.upgrade(empty_database_url)
    assert migrate.current(empty_database_url) == migrate.head()
    migrate.require_usable(empty_database_url)


@pytest.fixture
def role(database_url: str) -> Iterator[tuple[Callable[[str], None], str]]:
    """Make a role without privileges; yield a function that runs a statement with its name for ``{}``, and its URL."""
    name, password = f"pw_{secrets.token_hex(6)}", secrets.token_hex(8)
    with psycopg.connect(database_url, autocommit=True) as owner:

        def run(statement: str) -> None:
            owner.execute(sql.SQL(statement).format(sql.Identifier(name)))

        owner.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(password)))
        try:
            yield run, conninfo.make_conninfo(database_url, user=name, password=password)
        finally:
            run("DROP OWNED BY {}")
            run("DROP ROLE {}")


def test_require_usable_role_without_write_is_forbidden(
    database_url: str, role: tuple[Callable[[str], None], str]
) -> None:
    run, url = role
    run("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}")
    with pytest.raises(DatabaseForbidden, match="permission denied for table recipes") as caught:
        migrate.require_usable(url)
    assert "SELECT, INSERT, UPDATE" in caught.value.hint
    run("GRANT INSERT, UPDATE ON recipes, recipe_ocr TO {}")
    migrate.require_usable(url)
    for privilege in ("INSERT ON recipes", "UPDATE ON recipe_ocr"):
        # A worker needs the second only when it has a result.
        run(f"REVOKE {privilege} FROM {{}}")
        with pytest.raises(DatabaseForbidden, match="permission denied"):
            migrate.require_usable(url)
        run(f"GRANT {privilege} TO {{}}")
    migrate.require_usable(url)
    with psycopg.connect(database_url) as owner:
        assert owner.execute("SELECT count(*) FROM recipes").fetchone() == (0,)


def test_upgrade_role_of_previous_release_still_works(
    database_url: str, role: tuple[Callable[[str], None], str]
) -> None:
    """The role's privileges were granted table by table, and it has none on a table of a later step."""
    run, url = role
    run("GRANT SELECT ON recipes, recipe_ocr, erasures TO {}")
    run("GRANT INSERT, UPDATE, DELETE ON recipes TO {}")
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(
            "INSERT INTO recipes (id, status, s3_raw_bucket, s3_raw_key, content_sha256)"
            " SELECT gen_random_uuid(), 'running', 'photos', 'pie.jpg', 'a' FROM generate_series(1, 2)"
        )
        with psycopg.connect(url) as worker:
            worker.execute("UPDATE recipes SET content_sha256 = 'b' WHERE content_sha256 = 'a'")
            worker.execute("DELETE FROM recipes WHERE id = (SELECT id FROM recipes LIMIT 1)")
        kept = owner.execute("SELECT DISTINCT content_sha256 FROM earlier_hashes ORDER BY 1").fetchall()
    assert kept == [("a",), ("b",)]


def catalogue(database_url: str) -> list[tuple[object, ...]]:
    """Return what a database holds besides rows: columns, constraints, indexes, functions and triggers."""
    queries = (
        "SELECT attrelid::regclass::text, attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute"
        " JOIN pg_class ON pg_class.oid = attrelid WHERE relnamespace = 'public'::regnamespace AND attnum > 0",
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace",
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
        "SELECT proname, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
        "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    )
    with psycopg.connect(database_url) as connection:
        return sorted(row for query in queries for row in connection.execute(query).fetchall())


def test_create_makes_the_same_schema_as_upgrade(database_url: str, empty_database_url: str) -> None:
    migrate.create(empty_database_url)
    assert len(catalogue(empty_database_url)) > 20
    assert catalogue(empty_database_url) == catalogue(database_url)
    assert migrate.current(empty_database_url) == migrate.head()
    migrate.upgrade(empty_database_url)


def test_create_when_table_exists_makes_nothing(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("CREATE TABLE erasures (job_digest BYTEA)")
    with pytest.raises(psycopg.errors.DuplicateTable, match="erasures"):
        migrate.create(empty_database_url)
    assert migrate.current(empty_database_url) is None
    assert columns(empty_database_url, "recipes") == {}


def test_upgrade_again_keeps_the_rows(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("INSERT INTO recipes (id, s3_raw_key, content_sha256) VALUES (%s, 'k', '')", [uuid4()])
    migrate.upgrade(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT count(*) FROM recipes").fetchone() == (1,)


def test_upgrade_concurrently_succeeds(empty_database_url: str) -> None:
    barrier = Barrier(4)

    def run(_: int) -> None:
        barrier.wait(timeout=10)
        migrate.upgrade(empty_database_url)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(run, range(4)))
    assert migrate.current(empty_database_url) == migrate.head()


def test_upgrade_beside_another_times_out(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [migrate.LOCK_ID])
        with pytest.raises(DatabaseUnavailable, match="another migration"):
            migrate.upgrade(empty_database_url, lock_timeout_seconds=0.1)
    migrate.upgrade(empty_database_url)


def test_upgrade_failing_step_leaves_nothing(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("CREATE TABLE recipe_ocr (mine int)")
    with pytest.raises(Exception, match="already exists"):
        migrate.upgrade(empty_database_url)
    assert migrate.current(empty_database_url) is None
    assert columns(empty_database_url, "recipes") == {}


def test_upgrade_newer_schema_is_left_alone(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaUnknown, match="9999"):
        migrate.upgrade(empty_database_url)
    assert migrate.current(empty_database_url) == "9999"
    migrate.require_usable(empty_database_url)


def test_upgrade_wrong_address_raises_matching_error(empty_database_url: str) -> None:
    with pytest.raises(DatabaseMissing):
        migrate.upgrade(conninfo.make_conninfo(empty_database_url, dbname="no_such_database"))
    with pytest.raises(ServiceRefused):
        migrate.upgrade(conninfo.make_conninfo(empty_database_url, password="wrong"))
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        migrate.current("not a url")


def test_upgrade_accepts_percent_sign_in_url(empty_database_url: str) -> None:
    parts: dict[str, Any] = conninfo.conninfo_to_dict(empty_database_url)
    url = "postgresql://{user}:%70{rest}@{host}:{port}/{dbname}"
    if not parts["password"].startswith("p"):
        url = "postgresql://{user}:{password}@{host}:{port}/{dbname}?application_name=%70w"
    migrate.upgrade(url.format(rest=parts["password"][1:], **parts))
    assert migrate.current(empty_database_url) == migrate.head()


def test_earlier_hashes_of_older_rows_include_unknown(empty_database_url: str) -> None:
    """Their earlier attempts may have left copies of unknown hashes, so that an erasure has to list all copies."""
    old, heir, new = (uuid4() for _ in range(3))
    to_step(empty_database_url, "0003")
    with psycopg.connect(empty_database_url) as connection:
        for job_id in (old, heir):
            connection.execute(
                "INSERT INTO recipes (id, s3_raw_bucket, s3_raw_key, content_sha256) VALUES (%s, 'b', %s, 'c0')",
                [job_id, f"{old}.heic" if job_id == old else f"{heir}.heic"],
            )
    migrate.upgrade(empty_database_url)
    with make_pool(empty_database_url) as pool:
        repository = PostgresJobRepository(pool)
        assert repository.earlier_hashes(old) == {""}
        # The job's attempts continue under the new schema.
        repository.start(old, bucket="b", key=f"{old}.heic", sha256="c1", instead_of="c0")
        assert repository.earlier_hashes(old) == {"", "c0"}
        repository.queue(new, bucket="b", key=f"{old}.heic")
        assert repository.earlier_hashes(new) == frozenset()
        repository.mark_erased(old)
        repository.delete(old)
        assert repository.earlier_hashes(new) == {"", "c0", "c1"}
        assert repository.earlier_hashes(heir) == {""}


def to_step(database_url: str, step: str) -> None:
    """Bring a database to the schema of an earlier release."""
    from alembic import command

    config = migrate._config()
    with (
        closing(psycopg.connect(database_url)) as raw,
        migrate._sqlalchemy_connection(raw) as connection,  # type: ignore[arg-type]
        connection.begin(),
    ):
        config.attributes["connection"] = connection
        command.upgrade(config, step)


def test_schema_tables_match_the_data_model(database_url: str) -> None:
    recipes = columns(database_url, "recipes")
    assert recipes["id"][:2] == ("uuid", True)
    assert recipes["s3_raw_key"] == ("text", True, None)
    assert recipes["content_sha256"] == ("text", True, None)
    assert recipes["status"] == ("text", True, "'queued'::text")
    stamp = ("timestamp with time zone", True, "now()")
    assert recipes["created_at"] == recipes["updated_at"] == stamp
    ocr = columns(database_url, "recipe_ocr")
    assert ocr["page_count"] == ("integer", False, "1")
    assert ocr["created_at"] == stamp
    assert {name for name, (_, required, _) in ocr.items() if required} == {
        "recipe_id",
        "s3_ocr_key",
        "ocr_engine",
        "ocr_version",
        "created_at",
    }
    with psycopg.connect(database_url) as connection:
        found = connection.execute("SELECT indexdef FROM pg_indexes WHERE tablename = 'recipes'").fetchall()
    indexed = " ".join(str(row[0]) for row in found)
    assert "(content_sha256)" in indexed
    assert "(status)" in indexed


def insert(connection: psycopg.Connection[Any], status: str = "queued") -> UUID:
    job_id = uuid4()
    connection.execute(
        "INSERT INTO recipes (id, s3_raw_key, content_sha256, status) VALUES (%s, 'k', '', %s)", [job_id, status]
    )
    connection.commit()
    return job_id


def test_schema_unknown_status_is_refused(database_url: str) -> None:
    with psycopg.connect(database_url) as connection, pytest.raises(psycopg.errors.CheckViolation):
        insert(connection, "done")


def test_schema_ocr_row_is_deleted_with_its_job(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        job_id = insert(connection)
        connection.execute(
            "INSERT INTO recipe_ocr (recipe_id, s3_ocr_key, ocr_engine, ocr_version) VALUES (%s, 'k', 'e', 'v')",
            [job_id],
        )
        assert connection.execute("SELECT page_count FROM recipe_ocr").fetchone() == (1,)
        connection.execute("DELETE FROM recipes WHERE id = %s", [job_id])
        assert connection.execute("SELECT count(*) FROM recipe_ocr").fetchone() == (0,)


def test_schema_updated_at_moves_only_with_a_change(database_url: str) -> None:
    def updated(connection: psycopg.Connection[Any], status: str) -> datetime:
        connection.execute("UPDATE recipes SET status = %s", [status])
        connection.commit()
        row = connection.execute("SELECT updated_at FROM recipes").fetchone()
        connection.commit()
        assert row is not None
        return row[0]  # type: ignore[no-any-return]

    with psycopg.connect(database_url) as connection:
        insert(connection)
        unchanged = updated(connection, "queued")
        changed = updated(connection, "running")
        assert changed > unchanged
        assert updated(connection, "running") == changed


def test_current_does_not_import_alembic(database_url: str) -> None:
    code = (
        "import sys; from photo_worker.adapters.postgres import migrate;"
        "migrate.current(sys.argv[1]);"
        "sys.exit(bool({'alembic', 'sqlalchemy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code, database_url], check=False).returncode == 0


# The exact statement of the release before step 0002, whose workers run beside new ones during a deploy.
PREVIOUS_RELEASE = """
    WITH job AS (
    INSERT INTO recipes (id, s3_raw_bucket, s3_raw_key, content_sha256, status, error_code, error_message)
    VALUES (%(id)s, %(bucket)s, %(key)s, %(sha256)s, %(status)s, %(code)s, %(message)s)
    ON CONFLICT (id) DO UPDATE SET
        s3_raw_bucket = COALESCE(NULLIF(recipes.s3_raw_bucket, ''), EXCLUDED.s3_raw_bucket),
        content_sha256 = COALESCE(NULLIF(recipes.content_sha256, ''), EXCLUDED.content_sha256),
        status = CASE WHEN recipes.status IN ('succeeded', 'failed') OR EXCLUDED.status = 'queued'
            THEN recipes.status ELSE EXCLUDED.status END,
        error_code = CASE WHEN recipes.status IN ('succeeded', 'failed')
            THEN recipes.error_code ELSE EXCLUDED.error_code END,
        error_message = CASE WHEN recipes.status IN ('succeeded', 'failed')
            THEN recipes.error_message ELSE EXCLUDED.error_message END
    WHERE recipes.s3_raw_key = EXCLUDED.s3_raw_key
    RETURNING *)
    SELECT job.id, job.status FROM job"""


def previous_release(connection: psycopg.Connection[Any], job_id: UUID, status: str) -> object:
    values = {"id": job_id, "bucket": "photos", "key": "pie.jpg", "sha256": "", "status": status}
    row = connection.execute(PREVIOUS_RELEASE, values | {"code": None, "message": None}).fetchone()
    connection.commit()
    return row


def upgrade_to(database_url: str, step: str) -> None:
    """Bring a database to an older release's schema."""
    from alembic import command
    from sqlalchemy import create_engine

    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(database_url))
    with engine.connect() as connection, connection.begin():
        config = migrate._config()
        config.attributes["connection"] = connection
        command.upgrade(config, step)
    engine.dispose()


# The columns that rows had before later steps added others.
ROWS_OF_0001 = """
    SELECT to_jsonb(r) - 'hashes_kept', to_jsonb(o) FROM recipes r LEFT JOIN recipe_ocr o ON o.recipe_id = id
"""


def test_upgrade_from_0001_keeps_jobs_and_adds_erasures(empty_database_url: str) -> None:
    upgrade_to(empty_database_url, "0001")
    with pytest.raises(SchemaMissing, match="it is at step 0001"):
        migrate.require_usable(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        job_id, done = insert(connection), insert(connection, "succeeded")
        connection.execute(
            "INSERT INTO recipe_ocr (recipe_id, s3_ocr_key, ocr_engine, ocr_version) VALUES (%s, 'k', 'e', 'v')", [done]
        )
        connection.commit()
        before = connection.execute(ROWS_OF_0001).fetchall()
    migrate.upgrade(empty_database_url)
    migrate.require_usable(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        after = connection.execute(ROWS_OF_0001).fetchall()
        assert sorted(map(str, after)) == sorted(map(str, before))
        assert connection.execute("SELECT count(*) FROM erasures").fetchone() == (0,)
    with make_pool(empty_database_url) as pool:
        repository = PostgresJobRepository(pool)
        assert {row.id for row in repository.all()} == {job_id, done}
        repository.mark_erased(job_id)
        assert repository.is_erased(job_id)


def test_mark_erased_refuses_writes_of_previous_release(database_url: str) -> None:
    job_id, erased = uuid4(), uuid4()
    with psycopg.connect(database_url) as connection, make_pool(database_url) as pool:
        for status in ("queued", "running", "succeeded"):
            assert previous_release(connection, job_id, status) == (job_id, status)
        assert previous_release(connection, erased, "running") == (erased, "running")
        PostgresJobRepository(pool).mark_erased(erased)
        with pytest.raises(psycopg.DatabaseError, match="has been erased") as caught:
            previous_release(connection, erased, "succeeded")
        connection.rollback()
        assert str(erased) not in str(caught.value)
        assert connection.execute("SELECT status FROM recipes WHERE id = %s", [erased]).fetchone() == ("running",)


def test_mark_erased_stores_only_a_digest(database_url: str) -> None:
    job_id = uuid4()
    with make_pool(database_url) as pool:
        PostgresJobRepository(pool).mark_erased(job_id)
    with psycopg.connect(database_url) as connection:
        found = connection.execute("SELECT * FROM erasures").fetchall()
    assert [row[0] for row in found] == [hashlib.sha256(str(job_id).encode()).digest()]
    assert len(found[0]) == 2


def test_upgrade_waiting_for_a_table_lets_workers_go_on(empty_database_url: str) -> None:
    """A dump or an open transaction holds the table for a while; later statements queue behind a waiting step."""
    upgrade_to(empty_database_url, "0003")
    waits: list[float] = []
    with psycopg.connect(empty_database_url) as holder, ThreadPoolExecutor(1) as threads:
        holder.execute("SELECT FROM recipes")
        migration = threads.submit(migrate.upgrade, empty_database_url, lock_timeout_seconds=60)
        with psycopg.connect(empty_database_url, autocommit=True) as worker:
            until = time.monotonic() + 60
            while sum(wait > 0.5 for wait in waits) < 2 and time.monotonic() < until:
                began = time.monotonic()
                insert(worker)
                waits.append(time.monotonic() - began)
        assert not migration.done()
        holder.rollback()
        migration.result(timeout=60)
    assert sum(wait > 0.5 for wait in waits) == 2, "it waited behind the step, and went on, twice"
    assert max(waits) < 10
    assert migrate.current(empty_database_url) == migrate.head()


def test_upgrade_table_never_free_raises_unavailable(empty_database_url: str) -> None:
    upgrade_to(empty_database_url, "0003")
    with psycopg.connect(empty_database_url) as holder:
        holder.execute("SELECT FROM recipes")
        with pytest.raises(DatabaseUnavailable, match="others have used its tables without a pause"):
            migrate.upgrade(empty_database_url, lock_timeout_seconds=0.2)
    assert migrate.current(empty_database_url) == "0003"
