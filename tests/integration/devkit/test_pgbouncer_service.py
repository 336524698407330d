"""PgBouncer as an optional service of a native stack."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from photo_worker.devkit.environment import direct_environment_of
from photo_worker.devkit.errors import StackDiffers
from photo_worker.devkit.stack import Stack
from photo_worker.devkit.state import StackRecord
from tests.support.pgbouncer import program

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]


@pytest.fixture
def pooled(tmp_path: Path) -> Iterator[Stack]:
    program()
    stack = Stack(tmp_path, "pooled", base_port=0, durable=False, extras=["pgbouncer"])
    yield stack
    stack.delete()


def test_stack_with_pgbouncer_survives_reset_and_restart(pooled: Stack) -> None:
    report = pooled.up()
    assert report.status.running
    names = [service.name for service in report.status.services]
    assert names == ["temporal", "postgres", "pgbouncer", "aws", "textract"]
    record = StackRecord.load(pooled.paths)
    assert record is not None
    url, direct = pooled.env()["DATABASE_URL"], direct_environment_of(record)["DATABASE_URL"]
    assert f":{record.ports['pgbouncer']}/" in url
    assert f":{record.ports['postgres']}/" in direct
    # Unlike Postgres, PgBouncer refuses this option at the start of a connection.
    with psycopg.connect(direct, options="-c statement_timeout=1s"):
        pass
    with pytest.raises(psycopg.OperationalError, match="unsupported startup parameter"):
        psycopg.connect(url, options="-c statement_timeout=1s")
    with psycopg.connect(url, prepare_threshold=None) as connection:
        connection.execute("CREATE TABLE kept (line text)")
    # The server connections that PgBouncer holds do not keep a reset from dropping the database.
    pids = {service.name: service.pid for service in pooled.reset().status.services}
    with psycopg.connect(url, prepare_threshold=None) as connection:
        assert connection.execute("SELECT to_regclass('kept')").fetchone() == (None,)
        connection.execute("CREATE TABLE kept (line text)")
    assert pids["pgbouncer"] == next(one.pid for one in report.status.services if one.name == "pgbouncer")
    # The option is remembered; another choice needs a stop first.
    again = Stack(pooled.paths.home, "pooled", durable=False)
    assert again.up().started is False
    with pytest.raises(StackDiffers, match="with pgbouncer"):
        Stack(pooled.paths.home, "pooled", durable=False, extras=[]).up()
    assert again.down()
    without = Stack(pooled.paths.home, "pooled", durable=False, extras=[])
    assert [service.name for service in without.up().status.services] == ["temporal", "postgres", "aws", "textract"]
    assert without.env()["DATABASE_URL"] == direct
    with psycopg.connect(direct) as connection:
        assert connection.execute("SELECT to_regclass('kept')").fetchone() == ("kept",)
