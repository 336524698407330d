"""PgBouncer as an optional service of a Compose stack, on a real engine."""

from __future__ import annotations

import psycopg
import pytest

from photo_worker.devkit.environment import direct_environment_of
from photo_worker.devkit.state import StackRecord
from tests.compose.support import MakeStack, elsewhere, make_stack, require_engine

__all__ = ["make_stack"]

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]


def test_compose_stack_with_pgbouncer_keeps_data(make_stack: MakeStack, stack_env: dict[str, str]) -> None:
    require_engine("postgres", "pgbouncer")
    external = elsewhere(stack_env, "postgres", "pgbouncer")
    stack = make_stack(external=external, extras=["pgbouncer"])
    report = stack.up()
    own = [service.name for service in report.status.services if service.version != "external"]
    assert (report.status.running, own) == (True, ["postgres", "pgbouncer"])
    record = StackRecord.load(stack.paths)
    assert record is not None
    url, direct = stack.env()["DATABASE_URL"], direct_environment_of(record)["DATABASE_URL"]
    assert f":{record.ports['pgbouncer']}/" in url
    with psycopg.connect(url, prepare_threshold=None) as connection:
        connection.execute("CREATE TABLE kept (line text)")
    with psycopg.connect(direct) as connection:
        assert connection.execute("SELECT to_regclass('kept')").fetchone() == ("kept",)
    assert stack.down()
    assert stack.up().status.running, "the option is remembered"
    with psycopg.connect(stack.env()["DATABASE_URL"], prepare_threshold=None) as connection:
        assert connection.execute("SELECT to_regclass('kept')").fetchone() == ("kept",)
    with pytest.raises(psycopg.OperationalError, match=r"password|SASL"):
        psycopg.connect(url.replace(record.password, "wrong"))
