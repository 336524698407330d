"""Connections that die silently, trickle or stall: every call ends within its limit, with an error that says why."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import conninfo

from photo_worker import policies
from photo_worker.adapters.ocr import textract
from photo_worker.adapters.postgres import migrate
from photo_worker.adapters.postgres.connection import connect
from photo_worker.adapters.postgres.explain import Explainer
from photo_worker.adapters.postgres.job_repository import PostgresJobRepository, make_pool
from photo_worker.adapters.s3 import object_store as s3_boto
from photo_worker.adapters.times import KEEPALIVE_OPTIONS, PostgresTimes, S3Times, TextractTimes
from photo_worker.errors import (
    DatabaseReadOnly,
    DatabaseUnavailable,
    DependencyError,
    OcrUnavailable,
    StorageUnavailable,
)
from photo_worker.ports.job_repository import JobRecord, JobRepository
from photo_worker.ports.object_store import DocumentRef
from tests.support.proxy import Proxy, proxy_to
from tests.support.resources import session_of

pytestmark = pytest.mark.stack

RESPONSE_SECONDS = 1.0
POOL_SECONDS = 1.0
# The time that a busy machine may add.
PATIENCE_SECONDS = 15.0


def queue(repository: JobRepository) -> JobRecord:
    return repository.queue(uuid4(), bucket="photos", key="pie.jpg")


@pytest.fixture
def behind(database_url: str, proxy: Proxy) -> str:
    return conninfo.make_conninfo(database_url, host="127.0.0.1", port=proxy.port)


@pytest.fixture
def repository(behind: str, proxy: Proxy) -> Iterator[PostgresJobRepository]:
    """A repository whose four connections are open."""
    with make_pool(
        behind,
        min_size=4,
        max_size=4,
        times=PostgresTimes(pool=POOL_SECONDS, connect=2, statement=0.5, response=RESPONSE_SECONDS),
    ) as pool:
        pool.wait(timeout=30)
        yield PostgresJobRepository(pool)


@contextmanager
def bounded(proxy: Proxy) -> Iterator[ThreadPoolExecutor]:
    """Yield threads, and cut their connections at the end: a call that hangs fails the test and does not hang it."""
    with ThreadPoolExecutor(8) as threads:
        try:
            yield threads
        finally:
            proxy.down()


def test_pool_dead_connections_cost_one_call(
    repository: PostgresJobRepository, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    row = queue(repository)
    proxy.swallow()
    with bounded(proxy) as threads:
        first = threads.submit(repository.get, row.id)
        error = first.exception(timeout=PATIENCE_SECONDS)
        assert isinstance(error, DatabaseUnavailable)
        assert "has not responded within 1 s" in error.message
        # The pool has replaced the other three connections: they were as old.
        again = [threads.submit(repository.get, row.id) for _ in range(8)]
        assert [call.result(timeout=PATIENCE_SECONDS) for call in again] == [row] * 8
    assert "connections to Postgres are replaced" in caplog.text


def test_pool_call_ends_when_new_connections_hang(repository: PostgresJobRepository, proxy: Proxy) -> None:
    proxy.swallow(new=True)
    with bounded(proxy) as threads:
        calls = [threads.submit(queue, repository) for _ in range(8)]
        for call in calls:
            assert isinstance(call.exception(timeout=PATIENCE_SECONDS), DatabaseUnavailable)
        proxy.heal()
        deadline = time.monotonic() + 60
        while True:
            try:
                assert threads.submit(queue, repository).result(timeout=PATIENCE_SECONDS).status == "queued"
                break
            except DatabaseUnavailable:
                assert time.monotonic() < deadline


def test_pool_call_ends_when_response_trickles(repository: PostgresJobRepository, proxy: Proxy) -> None:
    """Bytes keep arriving, so that a limit on the wait for the next byte would not end the call."""
    row = queue(repository)
    proxy.slow(20)
    with bounded(proxy) as threads:
        error = threads.submit(repository.get, row.id).exception(timeout=PATIENCE_SECONDS)
        assert isinstance(error, DatabaseUnavailable)


def test_pool_call_is_one_round_trip(behind: str, proxy: Proxy) -> None:
    with make_pool(behind) as pool:
        repository = PostgresJobRepository(pool)
        row = queue(repository)
        proxy.delay(0.5)
        began = time.monotonic()
        assert repository.get(row.id) == row
        # Two round trips would take two seconds.
        assert 1.0 <= time.monotonic() - began < 1.9


def test_sole_user_dead_connection_raises_unavailable(repository: PostgresJobRepository, proxy: Proxy) -> None:
    def hold() -> None:
        with repository.sole_user(uuid4(), bucket="photos", key="pie.jpg"):
            proxy.swallow()

    with bounded(proxy) as threads:
        error = threads.submit(hold).exception(timeout=PATIENCE_SECONDS)
        assert isinstance(error, DatabaseUnavailable)
        assert error.retryable


def test_pool_replaces_connections_to_read_only_server(database_url: str) -> None:
    """After a failover old connections may lead to a read-only server, and the address to the new primary."""
    name = conninfo.conninfo_to_dict(database_url)["dbname"]
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'.encode())
        with make_pool(database_url, min_size=4, max_size=4) as pool:
            pool.wait(timeout=30)
            owner.execute("SET default_transaction_read_only = off")
            owner.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only'.encode())
            repository = PostgresJobRepository(pool)
            assert {queue(repository).status for _ in range(8)} == {"queued"}


def test_pool_read_only_server_is_logged_once(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    name = conninfo.conninfo_to_dict(database_url)["dbname"]
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'.encode())
    with make_pool(database_url) as pool:
        repository = PostgresJobRepository(pool)
        for _ in range(8):
            with pytest.raises(DatabaseReadOnly, match=r"Postgres takes no writes .* read-only transaction"):
                queue(repository)
    said = [
        record.getMessage()
        for record in caplog.records
        if record.name == "photo_worker.adapters.postgres.job_repository"
    ]
    assert len(said) == 1
    assert "leads to a server that takes no writes" in said[0]


def test_target_session_attrs_read_only_server_is_reported(database_url: str) -> None:
    """With several hosts in the string, libpq looks for the one that takes writes."""
    name = conninfo.conninfo_to_dict(database_url)["dbname"]
    url = conninfo.make_conninfo(database_url, target_session_attrs="read-write")
    migrate.require_usable(url)
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'.encode())
    with pytest.raises(DatabaseReadOnly, match="takes no writes"):
        migrate.require_usable(url)
    with make_pool(url, times=PostgresTimes(pool=1)) as pool, pytest.raises(DatabaseReadOnly, match="takes no writes"):
        queue(PostgresJobRepository(pool))


def test_pool_not_reconnected_is_not_called_busy(behind: str, proxy: Proxy, database_url: str) -> None:
    """Postgres accepts new connections again, while the pool's earlier attempt still waits for its response."""
    with make_pool(behind, max_size=7, times=PostgresTimes(pool=1, connect=5)) as pool:
        proxy.swallow(new=True)
        repository = PostgresJobRepository(pool, Explainer(database_url))
        with bounded(proxy) as threads:
            error = threads.submit(queue, repository).exception(timeout=60)
    assert isinstance(error, DatabaseUnavailable)
    assert "has not reconnected yet" in error.message
    assert "busy" not in error.message


def test_connect_sets_keepalive_socket_options(database_url: str) -> None:
    """The kernel notices a dead peer without a call; options in the connection string take precedence."""
    with connect(database_url) as connection:
        assert kernel(connection, socket.SO_KEEPALIVE, socket.SOL_SOCKET) == 1
        assert kernel(connection, socket.TCP_KEEPINTVL) == KEEPALIVE_OPTIONS["keepalives_interval"]
        assert kernel(connection, socket.TCP_KEEPCNT) == KEEPALIVE_OPTIONS["keepalives_count"]
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert kernel(connection, socket.TCP_USER_TIMEOUT) == KEEPALIVE_OPTIONS["tcp_user_timeout"]
    with connect(conninfo.make_conninfo(database_url, keepalives_count=7)) as connection:
        assert kernel(connection, socket.TCP_KEEPCNT) == 7
    with make_pool(database_url) as pool, pool.connection() as pooled:
        assert kernel(pooled, socket.TCP_KEEPCNT) == KEEPALIVE_OPTIONS["keepalives_count"]


def kernel(connection: psycopg.Connection[Any], option: int, level: int = socket.IPPROTO_TCP) -> int:
    with closing(socket.fromfd(connection.pgconn.socket, socket.AF_INET, socket.SOCK_STREAM)) as copy:
        return copy.getsockopt(level, option)


def test_pool_stall_opens_no_extra_connections(database_url: str, behind: str, proxy: Proxy) -> None:
    """120 threads wait for 20 connections, all of which wait for one row."""
    threads_count, size = 120, 20
    most = [0]
    ended = Event()

    def count() -> None:
        with psycopg.connect(database_url, autocommit=True) as watcher:
            while not ended.is_set():
                found = watcher.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    # Postgres' autovacuum has a process there now and then.
                    " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
                ).fetchone()
                assert found is not None
                most[0] = max(most[0], found[0])
                ended.wait(0.01)

    with make_pool(behind, min_size=size, max_size=size, times=PostgresTimes(pool=2, statement=10)) as pool:
        pool.wait(timeout=60)
        repository = PostgresJobRepository(pool)
        row = queue(repository)
        opened = proxy.accepted

        def write(_: int) -> str:
            try:
                return repository.start(row.id, bucket="photos", key="pie.jpg", sha256="").status
            except DatabaseUnavailable as error:
                return error.message

        watching = Thread(target=count)
        watching.start()
        try:
            with psycopg.connect(database_url) as holder, ThreadPoolExecutor(threads_count) as threads:
                holder.execute("SELECT 1 FROM recipes WHERE id = %s FOR UPDATE", [row.id])
                calls = [threads.submit(write, number) for number in range(threads_count)]
                refused = [threads_count - size]
                deadline = time.monotonic() + 60
                while sum(call.done() for call in calls) < refused[0] and time.monotonic() < deadline:
                    time.sleep(0.05)
                holder.rollback()
                said = [call.result(timeout=60) for call in calls]
        finally:
            ended.set()
            watching.join()
    busy = [words for words in said if words != "running"]
    assert len(busy) >= threads_count - size
    assert all("all 20 connections are busy" in words for words in busy), set(busy)
    assert proxy.accepted == opened
    assert most[0] <= size + 1


def test_pool_many_waiters_make_few_attempts(behind: str, proxy: Proxy) -> None:
    with make_pool(behind, max_size=20, times=PostgresTimes(pool=1)) as pool:
        repository = PostgresJobRepository(pool)
        queue(repository)
        proxy.swallow(new=True)
        pool.drain()
        before = proxy.accepted
        with bounded(proxy) as _, ThreadPoolExecutor(100) as threads:
            calls = [threads.submit(queue, repository) for _ in range(100)]
            for call in calls:
                assert isinstance(call.exception(timeout=60), DatabaseUnavailable)
            # The pool's own attempts, and one or two that ask for the reason.
            assert proxy.accepted - before < 20


def ends(call: Callable[[], object], proxy: Proxy) -> tuple[BaseException | None, float]:
    """Return the error that a call raises, and its duration in seconds."""
    with bounded(proxy) as threads:
        began = time.monotonic()
        error = threads.submit(call).exception(timeout=PATIENCE_SECONDS)
        return error, time.monotonic() - began


@pytest.mark.parametrize("new", [False, True])
def test_s3_call_ends_when_service_hangs(stack_env: dict[str, str], bucket: str, new: bool) -> None:
    parts = urlsplit(stack_env["AWS_ENDPOINT_URL_S3"])
    with proxy_to(str(parts.hostname), int(parts.port or 80)) as proxy:
        client = s3_boto.make_client(
            session=session_of(stack_env),
            endpoint_url=f"http://127.0.0.1:{proxy.port}",
            connect_timeout=1,
            read_timeout=1,
        )
        store = s3_boto.BotoObjectStore(client)
        store.put(bucket, "k", b"x", content_type="image/png")
        proxy.swallow(new=new)
        error, seconds = ends(lambda: store.put(bucket, "k", b"y", content_type="image/png"), proxy)
        client.close()
    assert isinstance(error, StorageUnavailable)
    assert 1 <= seconds < PATIENCE_SECONDS


@pytest.mark.parametrize("new", [False, True])
def test_textract_call_ends_when_service_hangs(stack_env: dict[str, str], bucket: str, new: bool) -> None:
    parts = urlsplit(stack_env["AWS_ENDPOINT_URL_TEXTRACT"])
    with proxy_to(str(parts.hostname), int(parts.port or 80)) as proxy:
        client = textract.make_client(
            session=session_of(stack_env),
            endpoint_url=f"http://127.0.0.1:{proxy.port}",
            times=TextractTimes(job_read=1),
        )
        backend = textract.TextractBackend(client)
        document = DocumentRef(bucket=bucket, key="k", content_type="image/png", size_bytes=1, sha256=uuid4().hex * 2)
        with pytest.raises(Exception, match=r"k|bucket"):
            backend.detect_text(document)
        proxy.swallow(new=new)
        error, seconds = ends(lambda: backend.detect_text(document), proxy)
        client.close()
    assert isinstance(error, OcrUnavailable)
    assert 1 <= seconds < PATIENCE_SECONDS


@pytest.mark.parametrize("seconds", [PostgresTimes().call, S3Times.connect + S3Times.read])
def test_call_limits_are_below_attempt_timeouts(seconds: float) -> None:
    """Otherwise the thread would outlive its attempt, and block its slot."""
    limits = [
        limit
        for policy in (policies.VERIFY, policies.OCR, policies.PERSIST, policies.RECORD_FAILURE)
        for limit in (policy.start_to_close_timeout, policy.heartbeat_timeout)
        if limit is not None
    ]
    assert timedelta(seconds=seconds) < min(limits)
    assert issubclass(DatabaseUnavailable, DependencyError)
