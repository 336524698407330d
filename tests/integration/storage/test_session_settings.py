"""Rows are read alike whatever a database, a role or the process says about how a session shows values."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest
from psycopg import conninfo, sql

from photo_worker.adapters.postgres.job_repository import PostgresJobRepository, make_pool

pytestmark = pytest.mark.stack

SETTINGS = {
    "datestyle": ["German, DMY", "SQL, DMY", "Postgres, MDY", "ISO, DMY"],
    "timezone": ["Asia/Kathmandu", "America/St_Johns", "UTC"],
    "bytea_output": ["escape"],
    "intervalstyle": ["sql_standard"],
    "extra_float_digits": ["-5"],
}
CASES = [(name, value) for name, values in SETTINGS.items() for value in values]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}={case[1]}")
def repository(request: pytest.FixtureRequest, database_url: str) -> Iterator[PostgresJobRepository]:
    """The repository on a database whose sessions begin with the setting."""
    name, value = request.param
    database = str(conninfo.conninfo_to_dict(database_url)["dbname"])
    change = sql.SQL("ALTER DATABASE {} SET {} = {}").format(
        sql.Identifier(database), sql.Identifier(name), sql.Literal(value)
    )
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(change)
    with make_pool(database_url, max_size=1) as pool:
        yield PostgresJobRepository(pool)


def test_repository_reads_rows_in_any_session(repository: PostgresJobRepository) -> None:
    job_id, before = uuid4(), datetime.now(UTC)
    repository.queue(job_id, bucket="photos", key="pie.jpg")
    row = repository.get(job_id)
    assert row is not None
    for time in (row.created_at, row.updated_at):
        assert abs(time - before) < timedelta(minutes=5)
    assert repository.delete(job_id)


@pytest.mark.parametrize(("name", "value"), [("PGDATESTYLE", "SQL, DMY"), ("PGTZ", "Asia/Kathmandu")])
def test_repository_reads_rows_with_variables_of_the_process(
    database_url: str, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    before = datetime.now(UTC)
    with make_pool(database_url, max_size=1) as pool:
        row = PostgresJobRepository(pool).queue(uuid4(), bucket="photos", key="pie.jpg")
    assert abs(row.created_at - before) < timedelta(minutes=5)
