"""Connections whose packets are dropped silently, as by a firewall that has lost a flow: every wait still ends.

Each limit has a test with it and one without, which shows that nothing else ends the wait.

The time of a migration's step grows with the tables, so that ``migrate`` waits for its response without a limit. There
only the kernel notices that no response will arrive. Calls to S3 and Textract have their own limits.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import TupleRow

from photo_worker.adapters.ocr import textract
from photo_worker.adapters.postgres import migrate
from photo_worker.adapters.postgres.connection import LimitedConnection, connect
from photo_worker.adapters.s3 import object_store as s3_boto
from photo_worker.adapters.times import KEEPALIVE_OPTIONS, PostgresTimes, TextractTimes
from photo_worker.errors import DatabaseUnavailable, OcrUnavailable, StorageUnavailable
from photo_worker.ports.object_store import DocumentRef
from tests.support.dropping import Dropping, dropping, why_not
from tests.support.proxy import proxy_to
from tests.support.resources import session_of

pytestmark = [pytest.mark.stack, pytest.mark.io_bound]

# The product's limits, shortened: 20 and 25 s are too long for a test.
SHORT = {
    "keepalives": 1,
    "keepalives_idle": 1,
    "keepalives_interval": 1,
    "keepalives_count": 2,
    "tcp_user_timeout": 2_000,
}
# The longest of the short limits is 3 s.
LIMIT_SECONDS = 8.0
# The time that a busy machine may add to a call that ends by itself.
PATIENCE_SECONDS = 30.0

# A step on a large table.
LONG_STEP = """
    CREATE FUNCTION takes_long() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(600); END';
    CREATE EVENT TRIGGER takes_long ON ddl_command_start EXECUTE FUNCTION takes_long()"""
RUNS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"

# The field of Linux's ``struct tcp_info`` with the number of unacknowledged segments.
_UNACKNOWLEDGED = struct.Struct("=24xI")


def shortened(without: str | None = None) -> PostgresTimes:
    """Return the product's limits with short values, without those whose names begin with ``without``."""
    kept = [name for name in KEEPALIVE_OPTIONS if without is None or not name.startswith(without)]
    return PostgresTimes(keepalives={name: SHORT[name] for name in kept})


@pytest.fixture(autouse=True)
def possible() -> None:
    if reason := why_not():
        pytest.skip(reason)


@contextmanager
def wire_of(connection: psycopg.Connection[Any]) -> Iterator[Dropping]:
    """Yield a switch that drops a connection's packets; at the end, shut the connection down so that waits end."""
    with (
        closing(socket.fromfd(connection.pgconn.socket, socket.AF_INET, socket.SOCK_STREAM)) as copy,
        dropping(copy.getsockname()[1]) as wire,
    ):
        try:
            yield wire
        finally:
            # The kernel may have closed it already.
            with suppress(OSError):
                copy.shutdown(socket.SHUT_RDWR)


@contextmanager
def long_migration(url: str, short: PostgresTimes) -> Iterator[tuple[Future[None], Dropping]]:
    """Run a migration whose step keeps running at the server."""
    opened: list[LimitedConnection[TupleRow]] = []

    def kept(conninfo: str, *, times: PostgresTimes) -> LimitedConnection[TupleRow]:
        opened.append(connect(conninfo, times=replace(times, keepalives=short.keepalives)))
        return opened[-1]

    with ThreadPoolExecutor(1) as threads, psycopg.connect(url, autocommit=True) as watching:
        watching.execute(LONG_STEP)
        call = threads.submit(migrate.upgrade, url, connect=kept)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while watching.execute(RUNS).fetchone() != (1,):
            assert not call.done(), call.exception()
            assert time.monotonic() < deadline
        with wire_of(opened[0]) as wire:
            all_acknowledged(opened[0], deadline)
            yield call, wire


def all_acknowledged(connection: psycopg.Connection[Any], deadline: float) -> None:
    """Wait until all sent bytes are acknowledged: the kernel delays acknowledgements by some 40 ms."""
    with closing(socket.fromfd(connection.pgconn.socket, socket.AF_INET, socket.SOCK_STREAM)) as copy:
        while _UNACKNOWLEDGED.unpack(copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _UNACKNOWLEDGED.size))[0]:
            assert time.monotonic() < deadline
            time.sleep(0.005)


def has_ended(call: Future[Any], seconds: float) -> bool:
    return bool(wait([call], timeout=seconds).done)


def test_upgrade_lost_response_ends_by_keepalives(empty_database_url: str) -> None:
    with long_migration(empty_database_url, shortened()) as (call, wire):
        wire.begin()
        assert has_ended(call, PATIENCE_SECONDS), "the migration hangs"
        assert isinstance(call.exception(), DatabaseUnavailable)


def test_upgrade_lost_response_without_keepalives_hangs(empty_database_url: str) -> None:
    """``tcp_user_timeout`` does not help, because no bytes are in transit."""
    with long_migration(empty_database_url, shortened(without="keepalives")) as (call, wire):
        wire.begin()
        assert not has_ended(call, LIMIT_SECONDS)


@pytest.mark.parametrize(("without", "ends"), [(None, True), ("tcp_user_timeout", False)])
def test_statement_lost_in_transit_ends_by_tcp_user_timeout(database_url: str, without: str | None, ends: bool) -> None:
    """As a migration's next step. While bytes are unacknowledged the kernel sends no keepalives."""
    times = shortened(without=without)
    with ThreadPoolExecutor(1) as threads, connect(database_url, autocommit=True, times=times) as connection:
        connection.patience = None
        connection.execute("SELECT 1")
        with wire_of(connection) as wire:
            wire.begin()
            call = threads.submit(connection.execute, "SELECT 1")
            assert has_ended(call, PATIENCE_SECONDS if ends else LIMIT_SECONDS) == ends
            if ends:
                assert isinstance(call.exception(), psycopg.OperationalError)


@pytest.mark.parametrize(("limit", "ends"), [(1.0, True), (60.0, False)], ids=["limit", "botocore's own"])
@pytest.mark.parametrize("place", ["on an open connection", "on a new one"])
def test_s3_call_with_lost_packets_ends_by_its_timeouts(
    stack_env: dict[str, str], bucket: str, limit: float, ends: bool, place: str
) -> None:
    with lost_behind(stack_env["AWS_ENDPOINT_URL_S3"]) as (url, wire):
        client = s3_boto.make_client(
            session=session_of(stack_env), endpoint_url=url, connect_timeout=limit, read_timeout=limit
        )
        store = s3_boto.BotoObjectStore(client)

        def put() -> None:
            store.put(bucket, "k", b"x", content_type="image/png")

        error = ended(put, wire, before=put if place == "on an open connection" else None, ends=ends)
        client.close()
    assert isinstance(error, StorageUnavailable) or not ends


@pytest.mark.parametrize(("limit", "ends"), [(1.0, True), (60.0, False)], ids=["limit", "botocore's own"])
def test_textract_call_with_lost_packets_ends_by_its_timeout(
    stack_env: dict[str, str], bucket: str, limit: float, ends: bool
) -> None:
    with lost_behind(stack_env["AWS_ENDPOINT_URL_TEXTRACT"]) as (url, wire):
        client = textract.make_client(
            session=session_of(stack_env), endpoint_url=url, times=TextractTimes(job_read=limit)
        )
        document = DocumentRef(bucket=bucket, key="k", content_type="image/png", size_bytes=1, sha256=uuid4().hex * 2)

        def detect() -> None:
            textract.TextractBackend(client).detect_text(document)

        def refused() -> None:
            with pytest.raises(Exception, match=r"k|bucket"):
                detect()

        error = ended(detect, wire, before=refused, ends=ends)
        client.close()
    assert isinstance(error, OcrUnavailable) or not ends


@contextmanager
def lost_behind(endpoint: str) -> Iterator[tuple[str, Dropping]]:
    """Yield the URL of a proxy to a service, and a switch that drops only the packets of this proxy."""
    parts = urlsplit(endpoint)
    with proxy_to(str(parts.hostname), int(parts.port or 80)) as proxy, dropping(proxy.port) as wire:
        yield f"http://127.0.0.1:{proxy.port}", wire


def ended(
    call: Callable[[], None], wire: Dropping, *, before: Callable[[], None] | None, ends: bool
) -> BaseException | None:
    """Return what ``call`` raises when its packets are dropped; without ``ends``, assert that it hangs, then end it.

    ``before`` runs before any packet is dropped.
    """
    with ThreadPoolExecutor(1) as threads:
        if before is not None:
            threads.submit(before).result(timeout=PATIENCE_SECONDS)
        wire.begin()
        waiting = threads.submit(call)
        try:
            assert has_ended(waiting, PATIENCE_SECONDS if ends else LIMIT_SECONDS) == ends
        finally:
            # The kernel sends its segments again, and they arrive.
            wire.end()
        return waiting.exception(timeout=PATIENCE_SECONDS)
