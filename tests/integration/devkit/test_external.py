"""Stacks of external services: here those of the test run's shared stack, which must not lose anything."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from photo_worker.adapters.s3.object_store import make_client
from photo_worker.adapters.temporal.connection import connect
from photo_worker.aws import aws_session
from photo_worker.cli import cli
from photo_worker.devkit.errors import ServiceFailed, StackDiffers
from photo_worker.devkit.stack import Stack
from photo_worker.devkit.state import Processes, StackRecord
from photo_worker.errors import DatabaseMissing
from tests.integration.devkit.fake_services import FakeService
from tests.support.resources import create_database, database_named, drop_database

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]


@pytest.fixture
def database(stack_env: dict[str, str]) -> Iterator[str]:
    """The URL of an empty, separate database on the shared server."""
    server = stack_env["DATABASE_URL"]
    name = create_database(server)
    yield f"{server.rpartition('/')[0]}/{name}"
    drop_database(server, name)


@pytest.fixture
def endpoints(stack_env: dict[str, str], database: str) -> dict[str, str]:
    aws = {name: stack_env[f"AWS_ENDPOINT_URL_{name.upper()}"] for name in ("s3", "sns", "sqs", "textract")}
    return {"temporal": stack_env["TEMPORAL_TARGET"], "postgres": database, **aws}


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setenv("PHOTO_WORKER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PHOTO_WORKER_STACK", f"t-{secrets.token_hex(4)}")
    stack = Stack(tmp_path / "home", _name(), base_port=0)
    yield stack
    stack.delete()


def _name() -> str:
    import os

    return os.environ["PHOTO_WORKER_STACK"]


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, list(arguments))
    assert result.exit_code == code, result.output
    return result


def response(*arguments: str, code: int = 0) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(run(*arguments, "-o", "json", code=code).stdout)
    return value


async def test_external_services_all_work_and_keep_their_data(
    stack: Stack, endpoints: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [part for name, endpoint in endpoints.items() for part in ("--external", f"{name}={endpoint}")]
    made = response("up", "--base-port", str(Stack(stack.paths.home, "other", base_port=0)._fresh_base()), *given)
    shown = {service["name"]: service for service in made["data"]["services"]}
    assert list(shown) == ["temporal", "postgres", "s3", "sns", "sqs", "textract"]
    for service in shown.values():
        assert (service["state"], service["version"], service["pid"]) == ("running", "external", None)
    password = endpoints["postgres"].partition("@")[0].rpartition(":")[2]
    assert password not in json.dumps(list(shown.values()))
    assert password not in run("status").output
    assert stack.paths.record.stat().st_mode & 0o777 == 0o600

    # The application finds all that it needs at the endpoints in the variables.
    env = response("env")["data"]
    assert env == made["data"]["env"]
    assert env["TEMPORAL_TARGET"] == endpoints["temporal"]
    assert "TEMPORAL_UI_URL" not in env
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    s3, bucket = make_client(session=aws_session(env)), env["S3_BUCKET"]
    s3.put_object(Bucket=bucket, Key="theirs", Body=b"kept")
    with psycopg.connect(env["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("CREATE TABLE theirs AS SELECT 1 AS kept")
        assert connection.execute("SELECT count(*) FROM recipes").fetchone() == (0,)
    from photo_worker.config import load_settings, read_environment

    client = await connect(load_settings(read_environment(env, None)), env)
    assert client.namespace == env["TEMPORAL_NAMESPACE"]
    for name in env:
        monkeypatch.delenv(name)

    warned = {command: response(*command.split()) for command in ("reset --yes", "snapshot save full", "down")}
    for command, envelope in warned.items():
        (warning,) = envelope["warnings"]
        assert warning.startswith("temporal, postgres, s3, sns, sqs and textract are external: "), command
    assert not stack.status().running
    assert [service.state for service in stack.status().services] == ["running"] * 6
    # The endpoints were recorded, and the external data is intact.
    assert response("up")["data"]["env"] == env
    assert s3.get_object(Bucket=bucket, Key="theirs")["Body"].read() == b"kept"
    with psycopg.connect(env["DATABASE_URL"]) as connection:
        assert connection.execute("SELECT kept FROM theirs").fetchone() == (1,)
        comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
        assert connection.execute(comment).fetchone() == (None,)
        pristine = "SELECT count(*) FROM pg_database WHERE datname = current_database() || '_pristine'"
        assert connection.execute(pristine).fetchone() == (0,)

    with pytest.raises(StackDiffers, match="temporal, postgres, s3, sns, sqs and textract external, not with"):
        Stack(stack.paths.home, stack.name, external={}).up()


def test_reset_does_not_rebind_external_bucket(stack: Stack, endpoints: dict[str, str]) -> None:
    """A reset empties the stack's own database, and keeps the external bucket, its photos included."""
    given = [f"--external={name}={endpoints[name]}" for name in ("temporal", "s3", "sns", "sqs", "textract")]
    base = str(Stack(stack.paths.home, "other", base_port=0)._fresh_base())
    run("up", "--base-port", base, *given)
    assert response("migrate")["data"]["bucket"]["bound"]
    failed = response("reset", "--yes", code=1)
    assert failed["error"]["code"] == "bucket_bound_elsewhere"
    assert "migrate --rebind" in failed["error"]["hint"]
    assert stack.status().running, "the services stay up, to be used by the command that the hint names"
    assert response("up", code=1)["error"]["code"] == "bucket_bound_elsewhere"
    assert response("migrate", "--rebind", "--yes")["data"]["bucket"]["changed"]
    run("up")


def test_up_missing_external_database_is_not_created(stack: Stack, database: str, stack_env: dict[str, str]) -> None:
    missing = f"{database}_typo"
    with pytest.raises(DatabaseMissing):
        Stack(stack.paths.home, stack.name, base_port=0, external={"postgres": missing}, services=[]).up()
    with psycopg.connect(database_named(stack_env["DATABASE_URL"], "postgres")) as connection:
        query = "SELECT count(*) FROM pg_database WHERE datname = %s"
        assert connection.execute(query, [missing.rpartition("/")[2]]).fetchone() == (0,)


def test_up_unreachable_external_is_named_without_password(stack: Stack) -> None:
    broken = Stack(
        stack.paths.home,
        stack.name,
        base_port=0,
        external={"postgres": "postgresql://me:secret@127.0.0.1:1/recipes"},
        services=[],
        external_seconds=0.1,
    )
    with pytest.raises(ServiceFailed, match=r"postgres is not ready: postgresql://me@127.0.0.1:1/recipes") as caught:
        broken.up()
    assert "secret" not in caught.value.message
    (line,) = broken.status().services
    assert (line.name, line.state) == ("postgres", "silent")
    record = StackRecord.load(stack.paths)
    assert record is not None
    assert record.external.keys() == {"postgres"}


def test_up_unreachable_external_keeps_running_services(stack: Stack) -> None:
    """A restart could lose data: a service of the stack may keep it in memory only."""
    missing = {"postgres": "postgresql://me:secret@127.0.0.1:1/recipes"}
    used = Stack(
        stack.paths.home,
        stack.name,
        base_port=0,
        external=missing,
        services=[FakeService()],
        external_seconds=0.1,
    )
    running: list[Processes] = []
    for _ in range(2):
        with pytest.raises(ServiceFailed, match="postgres is not ready"):
            used.up()
        running.append(Processes.load(used.paths))
    before, after = running
    assert before.alive
    assert after.services["toy"].state == "running"
    assert (after.pid, after.services["toy"].pid) == (before.pid, before.services["toy"].pid)
