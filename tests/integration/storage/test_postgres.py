"""The Postgres repository with a server that is down, restarts, refuses connections or lacks its tables."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import conninfo, sql

from photo_worker.adapters.postgres.connection import connect
from photo_worker.adapters.postgres.job_repository import PostgresJobRepository, make_pool
from photo_worker.adapters.times import PostgresTimes
from photo_worker.errors import (
    DatabaseMissing,
    DatabaseUnavailable,
    PhotoWorkerError,
    SchemaMissing,
    ServiceRefused,
)
from photo_worker.ports.job_repository import JobRecord, OcrRecord
from tests.support.proxy import Proxy

pytestmark = pytest.mark.stack

OCR = OcrRecord("artifacts", "a/textract.json", "a/manifest.json", "textract", "1.0", 1)


def queue(repository: PostgresJobRepository) -> JobRecord:
    return repository.queue(uuid4(), bucket="photos", key="pie.jpg")


def eventually(call: Callable[[], JobRecord], *, seconds: float = 20) -> JobRecord:
    """Repeat a call, as a workflow's retry policy does, until Postgres responds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return call()
        except DatabaseUnavailable:
            if time.monotonic() > deadline:
                raise


def backends(database_url: str) -> list[int]:
    """Return the ids of the server processes behind the pool's connections."""
    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'photo-worker'"
        )
        return [row[0] for row in found]


@pytest.fixture
def repository_behind_proxy(database_url: str, proxy: Proxy) -> Iterator[PostgresJobRepository]:
    url = conninfo.make_conninfo(database_url, host="127.0.0.1", port=proxy.port)
    with make_pool(url, times=PostgresTimes(pool=0.5)) as pool:
        yield PostgresJobRepository(pool)


def test_pool_opened_before_postgres_works_when_it_comes(database_url: str, proxy: Proxy) -> None:
    proxy.down()
    url = conninfo.make_conninfo(database_url, host="127.0.0.1", port=proxy.port)
    pool = make_pool(url, times=PostgresTimes(pool=0.2))
    repository = PostgresJobRepository(pool)
    try:
        with pytest.raises(DatabaseUnavailable, match="onnection refused") as caught:
            queue(repository)
        assert caught.value.retryable
        assert f":{proxy.port}/" in caught.value.message
        proxy.up()
        assert eventually(lambda: queue(repository)).status == "queued"
    finally:
        pool.close()


def test_pool_recovers_after_postgres_was_away(repository_behind_proxy: PostgresJobRepository, proxy: Proxy) -> None:
    row = queue(repository_behind_proxy)
    proxy.down()
    with pytest.raises(DatabaseUnavailable):
        repository_behind_proxy.get(row.id)
    proxy.up()
    assert eventually(lambda: repository_behind_proxy.get(row.id) or pytest.fail("the row is lost")) == row


def test_pool_replaces_terminated_connections_unnoticed(database_url: str) -> None:
    with make_pool(database_url, min_size=4, max_size=4) as pool:
        pool.wait(timeout=10)
        repository = PostgresJobRepository(pool)
        pids = backends(database_url)
        assert len(pids) == 4
        with psycopg.connect(database_url, autocommit=True) as connection:
            for pid in pids:
                connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        with ThreadPoolExecutor(4) as threads:
            assert {row.status for row in threads.map(lambda _: queue(repository), range(4))} == {"queued"}


def test_pool_keeps_name_and_timeout_of_the_url(database_url: str) -> None:
    """An operator finds the worker's sessions by the name in the connection string."""
    name = f"kitchen-{uuid4().hex[:8]}"
    theirs = conninfo.make_conninfo(database_url, application_name=name, connect_timeout=30)
    with make_pool(theirs) as pool, make_pool(database_url) as plain:
        queue(PostgresJobRepository(pool))
        queue(PostgresJobRepository(plain))
        with psycopg.connect(database_url) as connection:
            rows = connection.execute(
                "SELECT application_name FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid()"
            ).fetchall()
        assert {name for (name,) in rows} == {name, "photo-worker"}
        with pool.connection() as pooled, plain.connection() as default, connect(theirs) as alone:
            waits = [each.info.get_parameters()["connect_timeout"] for each in (pooled, default, alone)]
        assert waits == ["30", "5", "30"]


def test_pool_busy_raises_database_unavailable(database_url: str) -> None:
    with make_pool(database_url, max_size=1, times=PostgresTimes(pool=0.2)) as pool:
        repository = PostgresJobRepository(pool)
        queue(repository)
        with pool.connection(), pytest.raises(DatabaseUnavailable, match="all 1 connections are busy"):
            queue(repository)


def test_statement_timeout_ends_a_blocked_write(database_url: str) -> None:
    with make_pool(database_url, times=PostgresTimes(statement=0.3)) as pool:
        repository = PostgresJobRepository(pool)
        row = queue(repository)
        with psycopg.connect(database_url) as other:
            other.execute("SELECT 1 FROM recipes WHERE id = %s FOR UPDATE", [row.id])
            with pytest.raises(DatabaseUnavailable, match="statement timeout"):
                repository.start(row.id, bucket="photos", key="pie.jpg", sha256="")
        assert repository.start(row.id, bucket="photos", key="pie.jpg", sha256="").status == "running"


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ({"password": "wrong"}, ServiceRefused, "password authentication failed"),
        ({"user": "nobody_of_that_name"}, ServiceRefused, "nobody_of_that_name"),
        ({"dbname": "no_such_database"}, DatabaseMissing, "no_such_database"),
    ],
)
def test_pool_wrong_setting_is_named_and_not_retryable(
    database_url: str, change: dict[str, str], kind: type[PhotoWorkerError], says: str
) -> None:
    with make_pool(conninfo.make_conninfo(database_url, **change), times=PostgresTimes(pool=0.2)) as pool:
        repository = PostgresJobRepository(pool)
        with pytest.raises(kind, match=says) as caught:
            queue(repository)
    assert caught.value.retryable is False
    assert "wrong" not in caught.value.message


def test_queue_without_tables_raises_schema_missing(empty_database_url: str) -> None:
    with make_pool(empty_database_url) as pool, pytest.raises(SchemaMissing) as caught:
        queue(PostgresJobRepository(pool))
    assert caught.value.retryable is False
    assert caught.value.context["reason"] == 'relation "recipes" does not exist'
    assert "photo-worker migrate" in caught.value.hint


def test_describe_omits_the_password(database_url: str) -> None:
    url = conninfo.make_conninfo(database_url, password="a-secret")
    name = PostgresJobRepository(make_pool(url)).describe()
    assert "a-secret" not in name
    assert str(conninfo.conninfo_to_dict(database_url)["port"]) in name


def test_statement_given_up_leaves_no_session_waiting(database_url: str) -> None:
    """Otherwise each attempt would leave a session behind, until Postgres accepts no more."""
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'photo-worker' AND wait_event_type = 'Lock'"
    )
    with make_pool(database_url, times=PostgresTimes(statement=0.2, response=0.6)) as pool:
        repository = PostgresJobRepository(pool)
        row = queue(repository)
        with psycopg.connect(database_url) as holder, psycopg.connect(database_url, autocommit=True) as observer:
            holder.execute("SELECT 1 FROM recipes WHERE id = %s FOR UPDATE", [row.id])
            for _ in range(3):
                with pytest.raises(DatabaseUnavailable):
                    repository.start(row.id, bucket="photos", key="pie.jpg", sha256="")
            assert observer.execute(waiting).fetchone() == (0,)


def test_start_after_concurrent_succeed_returns_the_result(database_url: str) -> None:
    """A late ``start`` waits for the row that ``succeed`` has locked, and then returns the result in it."""
    job_id = uuid4()
    with make_pool(database_url) as pool, psycopg.connect(database_url) as other:
        repository = PostgresJobRepository(pool)
        repository.start(job_id, bucket="photos", key="pie.jpg", sha256="")
        other.execute("UPDATE recipes SET status = 'succeeded' WHERE id = %s", [job_id])
        other.execute(
            "INSERT INTO recipe_ocr (recipe_id, s3_ocr_key, ocr_engine, ocr_version) VALUES (%s, 'k', 'textract', '1')",
            [job_id],
        )
        with ThreadPoolExecutor(1) as threads:
            late = threads.submit(repository.start, job_id, bucket="photos", key="pie.jpg", sha256="")
            wait_until_blocked(database_url)
            other.commit()
            row = late.result(timeout=10)
    assert (row.status, row.s3_ocr_key, row.ocr_engine) == ("succeeded", "k", "textract")


def test_queue_row_deleted_during_conflict_is_written_anew(database_url: str) -> None:
    job_id = uuid4()
    erased = threading.Event()

    class Erasing(PostgresJobRepository):
        def get(self, job_id: Any) -> JobRecord | None:
            if not erased.is_set():
                with psycopg.connect(database_url) as connection:
                    connection.execute("DELETE FROM recipes WHERE id = %s", [job_id])
                erased.set()
            return super().get(job_id)

    with make_pool(database_url) as pool:
        repository = Erasing(pool)
        repository.queue(job_id, bucket="photos", key="cake.jpg")
        assert repository.queue(job_id, bucket="photos", key="pie.jpg").s3_raw_key == "pie.jpg"


def test_succeed_writes_both_rows_in_one_transaction(database_url: str) -> None:
    """The rows of a succeeded job have the same transaction id, even if both are new."""
    job_id = uuid4()
    with make_pool(database_url) as pool, psycopg.connect(database_url) as other:
        PostgresJobRepository(pool).succeed(job_id, bucket="photos", key="pie.jpg", sha256="", ocr=OCR)
        found = other.execute(
            "SELECT r.xmin = o.xmin FROM recipes r JOIN recipe_ocr o ON o.recipe_id = r.id WHERE r.id = %s", [job_id]
        )
        assert found.fetchone() == (True,)


def terminate_idle(database_url: str) -> int:
    """End the server processes with idle transactions, as a cut network does; return how many there were."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        found = connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'photo-worker' AND state = 'idle in transaction'"
        )
        return len(found.fetchall())


def test_sole_user_lost_lock_raises_database_unavailable(database_url: str) -> None:
    """Another job may have been queued for the object meanwhile: the block must not end without an error."""
    with make_pool(database_url) as pool, ExitStack() as block:
        repository = PostgresJobRepository(pool)
        assert block.enter_context(repository.sole_user(uuid4(), bucket="photos", key="pie.jpg"))
        assert terminate_idle(database_url) == 1
        assert queue(repository).status == "queued"
        with pytest.raises(DatabaseUnavailable) as caught:
            block.close()
    assert caught.value.retryable


def test_sole_user_transaction_timeout_is_unavailable(database_url: str) -> None:
    """The COMMIT fails with 25P04; Postgres has this limit since 17."""
    name = sql.Identifier(str(conninfo.conninfo_to_dict(database_url)["dbname"]))
    with psycopg.connect(database_url, autocommit=True) as owner:
        if owner.info.server_version < 170000:
            pytest.skip("this Postgres has no transaction_timeout")
        owner.execute(sql.SQL("ALTER DATABASE {} SET transaction_timeout = '300ms'").format(name))
    with make_pool(database_url) as pool, ExitStack() as block:
        repository = PostgresJobRepository(pool)
        assert block.enter_context(repository.sole_user(uuid4(), bucket="photos", key="pie.jpg"))
        with psycopg.connect(database_url, autocommit=True) as other:
            until = time.monotonic() + 20
            while backends_in_transaction(other):
                assert time.monotonic() < until
                time.sleep(0.05)
        with pytest.raises(DatabaseUnavailable, match="transaction timeout"):
            block.close()


def backends_in_transaction(connection: psycopg.Connection[Any]) -> int:
    found = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"
    ).fetchone()
    return int(found[0]) if found else 0


def test_sole_user_lock_ends_with_killed_process(database_url: str) -> None:
    """A process that is killed with the lock does not keep the photo locked."""
    holder = (
        "import os, sys, uuid\n"
        "from photo_worker.adapters.postgres.job_repository import PostgresJobRepository, make_pool\n"
        "repository = PostgresJobRepository(make_pool(sys.argv[1]))\n"
        "with repository.sole_user(uuid.uuid4(), bucket='photos', key='pie.jpg'):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holder, database_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert process.stdout.readline() == "held\n"
        with (
            make_pool(database_url, times=PostgresTimes(statement=0.3)) as pool,
            pytest.raises(DatabaseUnavailable, match="timeout"),
        ):
            queue(PostgresJobRepository(pool))
    finally:
        process.kill()
        process.wait(20)
        process.stdin.close()
        process.stdout.close()
    with make_pool(database_url) as pool:
        assert queue(PostgresJobRepository(pool)).status == "queued"


def test_sole_user_lock_survives_idle_transaction_limit(database_url: str) -> None:
    name = conninfo.conninfo_to_dict(database_url)["dbname"]
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET idle_in_transaction_session_timeout = '50ms'").format(
                sql.Identifier(str(name))
            )
        )
        shown = connection.execute("SELECT setconfig FROM pg_db_role_setting").fetchall()
        assert "50ms" in str(shown)
        with make_pool(database_url) as pool:
            repository = PostgresJobRepository(pool)
            with repository.sole_user(uuid4(), bucket="photos", key="pie.jpg"):
                # Four times the server's limit, by the server's own clock.
                connection.execute("SELECT pg_sleep(0.2)")
                with psycopg.connect(database_url) as other:
                    # Of this database: other tests hold locks on the same server.
                    held = other.execute(
                        "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database "
                        "WHERE locktype = 'advisory' AND datname = current_database()"
                    ).fetchone()
                assert held == (1,)


def wait_until_blocked(database_url: str, *, seconds: float = 10) -> None:
    """Wait until a statement of the pool waits for a lock."""
    deadline = time.monotonic() + seconds
    with psycopg.connect(database_url, autocommit=True) as connection:
        while time.monotonic() < deadline:
            found = connection.execute(
                "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'photo-worker' AND wait_event_type = 'Lock'"
            )
            if found.fetchone():
                return
    raise TimeoutError("no statement waits for a lock")
