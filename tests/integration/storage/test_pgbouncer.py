"""The repository behind PgBouncer in transaction mode, in which clients share server connections."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from threading import Barrier, Event
from typing import Any, LiteralString, TypeVar
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import conninfo, sql

from photo_worker.adapters.postgres import migrate
from photo_worker.adapters.postgres.errors import translate
from photo_worker.adapters.postgres.job_repository import PostgresJobRepository, make_pool
from photo_worker.adapters.times import PostgresTimes
from photo_worker.errors import DatabaseMissing, DatabaseReadOnly, DatabaseUnavailable, PhotoWorkerError, ServiceRefused
from photo_worker.ports.job_repository import JobRecord, JobRepository
from tests.contracts.job_repository import JobRepositoryContract
from tests.support.pgbouncer import PgBouncer, pgbouncer
from tests.support.proxy import Proxy, proxy_to

pytestmark = pytest.mark.stack

_T = TypeVar("_T")

# Connections for a lock's transaction, for one that waits for the lock, and for one that does not.
SEVERAL = 3
# Tests that make other calls while they hold the lock of an object.
LOCKING = {
    "test_sole_user_sees_other_jobs_of_the_object",
    "test_sole_user_ignores_other_erased_jobs",
    "test_queue_for_locked_object_waits",
    "test_write_existing_row_of_locked_object_does_not_wait",
    "test_sole_user_releases_the_lock_after_an_error",
    "test_sole_user_concurrently_waits_for_the_other",
}


@pytest.fixture(scope="module")
def one_connection(stack_env: dict[str, str]) -> Iterator[PgBouncer]:
    """A pooler with a single server connection to each database."""
    with pgbouncer(stack_env["DATABASE_URL"], default_pool_size=1) as made:
        yield made


@pytest.fixture(scope="module")
def several_connections(stack_env: dict[str, str]) -> Iterator[PgBouncer]:
    with pgbouncer(stack_env["DATABASE_URL"], default_pool_size=SEVERAL) as made:
        yield made


class Alternating:
    """The repositories of two processes as one: each call goes to the other one, over the same server connection."""

    def __init__(self, *repositories: JobRepository) -> None:
        self._repositories = repositories
        self._calls = count()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._repositories[next(self._calls) % len(self._repositories)], name)


class TestBehindPgBouncer(JobRepositoryContract):
    """The whole contract, with two clients that share one server connection of the pooler.

    Only the six tests of ``LOCKING`` have three server connections: ``sole_user`` keeps its transaction open while the
    test makes other calls, and a transaction occupies its server connection.
    """

    @pytest.fixture
    def repository(
        self,
        request: pytest.FixtureRequest,
        database_url: str,
        one_connection: PgBouncer,
        several_connections: PgBouncer,
    ) -> Iterator[Any]:
        assert all(hasattr(self, name) for name in LOCKING)
        pooler = several_connections if request.function.__name__ in LOCKING else one_connection
        with ExitStack() as pools:
            made = [pools.enter_context(make_pool(pooler.url(database_url))) for _ in range(2)]
            yield Alternating(*map(PostgresJobRepository, made))


def test_pgbouncer_concurrent_reads_delete_no_row(database_url: str, one_connection: PgBouncer) -> None:
    """If the prepared statements of readers and deleters had the same name, a server would run one for the other."""
    url = one_connection.url(database_url)
    live = [uuid4() for _ in range(20)]
    with make_pool(database_url) as pool:
        for job_id in live:
            queue(PostgresJobRepository(pool), job_id)
    failed: list[Exception] = []
    ended = Event()

    def until_ended(call: Callable[[], object], calls: int | None = None) -> None:
        for number in count():
            if ended.is_set() or number == calls:
                return
            try:
                call()
            except Exception as error:
                # Errors are asserted last: the loss of rows matters more.
                failed.append(error)

    with ExitStack() as pools:
        reading, erasing = (PostgresJobRepository(pools.enter_context(make_pool(url, max_size=3))) for _ in range(2))
        with ThreadPoolExecutor(7) as threads:
            others = [threads.submit(until_ended, lambda: erasing.delete(uuid4())) for _ in range(2)]
            others += [threads.submit(until_ended, lambda: erasing.mark_erased(uuid4())) for _ in range(2)]
            gets = threads.submit(until_ended, lambda: [reading.get(job_id) for job_id in live], 15)
            looks = threads.submit(until_ended, lambda: [reading.is_erased(job_id) for job_id in live], 15)
            try:
                for reader in (gets, looks):
                    reader.result(timeout=90)
            finally:
                ended.set()
            for other in others:
                other.result(timeout=60)
    with psycopg.connect(database_url) as connection:
        left = connection.execute("SELECT count(*) FROM recipes WHERE id = ANY(%s)", [live]).fetchone()
        marked = connection.execute(
            "SELECT count(*) FROM recipes JOIN erasures ON job_digest = recipes_job_digest(recipes.id)"
        ).fetchone()
    assert (left, marked) == ((len(live),), (0,))
    assert failed == []


def test_pgbouncer_statement_timeout_does_not_leak(database_url: str, one_connection: PgBouncer) -> None:
    """The worker's timeout does not apply to other clients' statements on the same server connection."""
    url = one_connection.url(database_url)
    with make_pool(url, times=PostgresTimes(statement=0.3)) as pool, psycopg.connect(url, autocommit=True) as other:
        repository = PostgresJobRepository(pool)
        row = queue(repository)
        shown = [other.execute("SELECT pg_backend_pid(), current_setting('statement_timeout')").fetchone()]
        with psycopg.connect(database_url) as holder:
            holder.execute("SELECT 1 FROM recipes WHERE id = %s FOR UPDATE", [row.id])
            with pytest.raises(DatabaseUnavailable, match="statement timeout"):
                repository.start(row.id, bucket="photos", key="pie.jpg", sha256="")
        shown.append(other.execute("SELECT pg_backend_pid(), current_setting('statement_timeout')").fetchone())
        [pid] = {pid for pid, _ in filter(None, shown)}
        assert shown == [(pid, "0"), (pid, "0")]
        assert repository.start(row.id, bucket="photos", key="pie.jpg", sha256="").status == "running"


def test_pgbouncer_concurrent_migrations_succeed(empty_database_url: str, one_connection: PgBouncer) -> None:
    url = one_connection.url(empty_database_url)
    barrier = Barrier(3)

    def run(_: int) -> None:
        barrier.wait(timeout=10)
        migrate.upgrade(url)

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(run, range(3)))
    migrate.require_usable(url)
    assert migrate.current(empty_database_url) == migrate.head()
    with make_pool(url) as pool:
        assert queue(PostgresJobRepository(pool)).status == "queued"


def test_pgbouncer_require_usable_detects_read_only(database_url: str, one_connection: PgBouncer) -> None:
    url = one_connection.url(database_url)
    name = sql.Identifier(str(conninfo.conninfo_to_dict(database_url)["dbname"]))

    def set_and_cut(owner: psycopg.Connection[Any], change: LiteralString) -> None:
        owner.execute("SET default_transaction_read_only = off")
        owner.execute(sql.SQL("ALTER DATABASE {} {}").format(name, sql.SQL(change)))
        owner.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    with psycopg.connect(database_url, autocommit=True) as owner:
        migrate.require_usable(url)
        set_and_cut(owner, "SET default_transaction_read_only = on")
        with pytest.raises(DatabaseReadOnly, match="takes no writes"):
            eventually(lambda: migrate.require_usable(url), unless=DatabaseReadOnly)
        set_and_cut(owner, "RESET default_transaction_read_only")
        eventually(lambda: migrate.require_usable(url), unless=DatabaseReadOnly)
        with psycopg.connect(url, autocommit=True) as another:
            left = another.execute("SELECT name FROM pg_settings WHERE source = 'session'").fetchall()
    assert [name for (name,) in left if "read_only" in name or "timeout" in name] == []


def queue(repository: JobRepository, job_id: UUID | None = None) -> JobRecord:
    return repository.queue(job_id or uuid4(), bucket="photos", key="pie.jpg")


def eventually(call: Callable[[], _T], *, seconds: float = 40, unless: type[Exception] | tuple[()] = ()) -> _T:
    """Repeat a call, as a workflow's retry policy does; ``unless`` is raised at once."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return call()
        except unless:
            raise
        except DatabaseUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def only_client(url: str, *, seconds: float = 40) -> psycopg.Connection[Any]:
    """Connect as soon as PgBouncer has released the connection of its readiness probe."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return psycopg.connect(url)
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    """The proxy between PgBouncer and Postgres."""
    parts: dict[str, Any] = conninfo.conninfo_to_dict(database_url)
    with proxy_to(str(parts["host"]), int(parts["port"])) as made:
        yield made


def test_pgbouncer_postgres_unavailable_is_retryable(database_url: str, proxy: Proxy) -> None:
    """PgBouncer remembers a failed login for a while, and reports it to each client as a protocol violation."""
    with (
        pgbouncer(database_url, server_port=proxy.port, server_login_retry=1) as pooler,
        make_pool(pooler.url(database_url), times=PostgresTimes(pool=1)) as pool,
    ):
        repository = PostgresJobRepository(pool)
        row = queue(repository)
        proxy.down()
        for _ in range(3):
            with pytest.raises(DatabaseUnavailable) as caught:
                repository.get(row.id)
            assert caught.value.retryable
        proxy.up()
        assert eventually(lambda: repository.get(row.id) or pytest.fail("the row is lost")) == row


def test_pgbouncer_client_limit_is_retryable(database_url: str) -> None:
    with pgbouncer(database_url, max_client_conn=1) as pooler:
        url = pooler.url(database_url)
        # The pool is made second: it would take the only client connection, and keep it.
        with only_client(url) as other, make_pool(url, times=PostgresTimes(pool=0.5)) as pool:
            with pytest.raises(DatabaseUnavailable, match="no more connections allowed"):
                queue(PostgresJobRepository(pool))
            other.close()
            assert eventually(lambda: queue(PostgresJobRepository(pool))).status == "queued"


def test_pgbouncer_query_wait_timeout_is_retryable(database_url: str) -> None:
    with pgbouncer(database_url, default_pool_size=1, query_wait_timeout=1) as pooler:
        url = pooler.url(database_url)
        with make_pool(url) as pool, psycopg.connect(url) as other:
            other.execute("SELECT 1")
            with pytest.raises(DatabaseUnavailable, match="query_wait_timeout"):
                queue(PostgresJobRepository(pool))
            other.rollback()
            assert queue(PostgresJobRepository(pool)).status == "queued"


def test_pgbouncer_idle_client_timeout_goes_unnoticed(database_url: str) -> None:
    with pgbouncer(database_url, client_idle_timeout=1) as pooler, make_pool(pooler.url(database_url)) as pool:
        repository = PostgresJobRepository(pool)
        row = queue(repository)
        deadline = time.monotonic() + 30
        while "client_idle_timeout" not in pooler.log.read_text(encoding="utf-8"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert repository.get(row.id) == row


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"password": "wrong"}, ServiceRefused),
        ({"user": "nobody_of_that_name"}, ServiceRefused),
        ({"options": "-c statement_timeout=1"}, ServiceRefused),
    ],
)
def test_pgbouncer_wrong_setting_is_not_retryable(
    database_url: str, one_connection: PgBouncer, change: dict[str, str], kind: type[PhotoWorkerError]
) -> None:
    url = conninfo.make_conninfo(one_connection.url(database_url), **change)
    with make_pool(url, times=PostgresTimes(pool=1)) as pool, pytest.raises(kind) as caught:
        queue(PostgresJobRepository(pool))
    assert caught.value.retryable is False


def test_pgbouncer_unknown_database_is_named(database_url: str) -> None:
    name = str(conninfo.conninfo_to_dict(database_url)["dbname"])
    with pgbouncer(database_url, databases=name) as pooler:
        url = pooler.url(database_url)
        with (
            make_pool(conninfo.make_conninfo(url, dbname="other"), times=PostgresTimes(pool=1)) as pool,
            pytest.raises(DatabaseMissing, match="other"),
        ):
            queue(PostgresJobRepository(pool))
        with make_pool(url) as pool:
            assert queue(PostgresJobRepository(pool)).status == "queued"


@pytest.mark.parametrize("statement", ["EXECUTE _pg3_0", "PREPARE _pg3_0 AS SELECT 1"])
def test_pgbouncer_prepared_statement_clash_is_unavailable(
    database_url: str, one_connection: PgBouncer, statement: str
) -> None:
    with psycopg.connect(one_connection.url(database_url), autocommit=True) as connection:
        if statement.startswith("PREPARE"):
            connection.execute(statement)
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(statement)
    found = translate(caught.value, "db")
    assert isinstance(found, DatabaseUnavailable), caught.value.sqlstate
