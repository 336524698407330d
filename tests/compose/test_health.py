"""Each health check fails if its service is broken in one place; `up --wait` ends when everything is usable."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import boto3
import psycopg
import pytest

from photo_worker.devkit.compose import program
from photo_worker.devkit.compose.project import compose_file
from photo_worker.devkit.container_engine import ContainerEngine
from photo_worker.devkit.containers import containers, project_name
from photo_worker.devkit.ports import StackPorts, free_base
from tests.compose.support import MakeStack, make_stack, require_engine

__all__ = ["make_stack"]

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]


def docker(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr


@dataclass
class Checks:
    """Runs the health checks of a stack's containers on request."""

    ids: dict[str, str]

    def run(self, service: str, **variables: str) -> tuple[int, str]:
        """Run a service's health check like the engine, with additional variables."""
        health = ContainerEngine().get(f"/containers/{self.ids[service]}/json")["Config"]["Healthcheck"]["Test"]
        command = ["sh", "-c", health[1]] if health[0] == "CMD-SHELL" else health[1:]
        # The file records an earlier success, after which the check sleeps first.
        docker("exec", self.ids[service], "rm", "-f", "/dev/shm/usable")  # noqa: S108 - within the container
        given = [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]
        return docker("exec", *given, self.ids[service], *command)


def test_health_checks_with_broken_service_fail(make_stack: MakeStack) -> None:
    require_engine("temporal", "postgres", "aws", "s3", "textract")
    stack = make_stack(s3="minio")
    stack.up()
    env = stack.env()
    checks = Checks(
        {name: entry.id for name, entry in containers(ContainerEngine(), project_name(stack.paths)).items()}
    )
    for service in stack.services:
        assert checks.run(service)[0] == 0, service

    # Temporal responds, and has no such namespace.
    code, said = checks.run("temporal", PW_PREFIX="another")
    assert (code != 0, "another" in said) == (True, True), said
    # MinIO responds, and rejects these credentials.
    code, said = checks.run("s3", MINIO_ROOT_PASSWORD="not-the-secret")
    assert code != 0, said
    # Postgres listens, and the application's password is wrong or its database is missing.
    assert checks.run("postgres", POSTGRES_PASSWORD="wrong")[0] != 0
    with closing(psycopg.connect(env["DATABASE_URL"], dbname="postgres", autocommit=True)) as connection:
        connection.execute("DROP DATABASE photo_worker WITH (FORCE)")
    code, said = checks.run("postgres")
    assert (code != 0, "does not exist" in said) == (True, True), said


@dataclass
class ByHand:
    """The Compose file as used without the dev kit, with other ports to avoid conflicts."""

    project: str
    ports: StackPorts

    def compose(self, *arguments: str, **variables: str) -> tuple[int, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PW_", "COMPOSE_"))}
        uses = ("temporal", "temporal-ui", "postgres", "aws", "s3", "textract")
        published = {f"PW_PORT_{use.upper().replace('-', '_')}": str(self.ports[use]) for use in uses}
        done = subprocess.run(
            [*program.find().argv, "--file", str(compose_file()), "--project-name", self.project, *arguments],
            env={**kept, **published, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def by_hand() -> Iterator[ByHand]:
    require_engine("temporal", "postgres", "aws", "textract", "worker")
    made = ByHand(f"pw-test-{secrets.token_hex(4)}", StackPorts(free_base()))
    yield made
    code, said = made.compose("down", "--volumes", "--timeout", "2")
    assert code == 0, said


def test_compose_up_wait_by_hand_fails_unless_all_is_usable(by_hand: ByHand) -> None:
    code, said = by_hand.compose("up", "--detach", "--wait")
    assert code == 0, said
    database = f"postgresql://photo_worker:photo-worker@127.0.0.1:{by_hand.ports['postgres']}/photo_worker"
    with closing(psycopg.connect(database)) as connection:
        assert connection.execute("SELECT count(*) FROM recipes").fetchone() == (0,)
    endpoint = f"http://127.0.0.1:{by_hand.ports['aws']}"
    session = boto3.session.Session("test", "test", region_name="us-east-1")
    names = [bucket["Name"] for bucket in session.client("s3", endpoint_url=endpoint).list_buckets()["Buckets"]]
    assert names == ["photo-worker-photos"]
    queue = session.client("sqs", endpoint_url=endpoint).get_queue_url(QueueName="photo-worker-artifacts")["QueueUrl"]
    # The URL has the address of the request, so that the client can use it.
    assert queue.startswith(endpoint)

    # A failed migration fails the command although every service is healthy.
    wrong = "postgresql://photo_worker:wrong@postgres:5432/photo_worker"
    code, said = by_hand.compose("up", "--detach", "--wait", PW_DATABASE_URL=wrong)
    assert code != 0, said
    assert "migrate" in said
