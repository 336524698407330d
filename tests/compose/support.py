"""Helpers of tests on a real engine: temporary stacks, and a check that nothing of them is left."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from photo_worker.devkit.compose import images, program
from photo_worker.devkit.compose.project import KIND, compose_file, variables
from photo_worker.devkit.container_engine import ContainerEngine
from photo_worker.devkit.containers import PROJECT_LABEL, containers, project_name, project_volumes
from photo_worker.devkit.errors import StackError
from photo_worker.devkit.stack import Stack
from photo_worker.devkit.state import StackRecord

MakeStack = Callable[..., Stack]

# The services whose images the caller has obtained, as .ci/e2e_compose.py does: their tests must not be skipped.
REQUIRED_VARIABLE = "PHOTO_WORKER_TEST_CONTAINERS"


def why_not(*own: str) -> str | None:
    """Return why no stack with these services can run here; None if one can."""
    record = StackRecord.new("probe", 15_000, durable=False).with_(kind=KIND)
    try:
        engine = ContainerEngine()
        engine.get("/version")
        compose = program.Compose(program.find(), compose_file(), "probe", variables(record), engine=engine.address)
        missing = [one.name for one in images.images(compose, engine, own) if one.how == "missing"]
    except StackError as error:
        return error.message
    return f"these images are not here: {', '.join(missing)}" if missing else None


def require_engine(*own: str) -> None:
    """Skip the test if these services cannot run in containers; fail it if the variable names all of them."""
    reason = why_not(*own)
    if reason is None:
        return
    if set(own) <= set(os.environ.get(REQUIRED_VARIABLE, "").split()):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def make_stack(tmp_path: Path) -> Iterator[MakeStack]:
    """A factory of stacks that are removed afterwards; fails if anything is left."""
    made: list[Stack] = []

    def make(*, name: str | None = None, **options: Any) -> Stack:
        # No test pulls images: `--offline` prevents it.
        given = {"kind": "compose", "base_port": 0, "durable": False, "offline": True, **options}
        stack = Stack(tmp_path / "home", name or f"t-{secrets.token_hex(4)}", **given)
        made.append(stack)
        return stack

    yield make
    for stack in made:
        stack.delete()
        assert left_of(stack) == [], "all of it is gone"
        assert not stack.paths.root.exists()


def left_of(stack: Stack) -> list[str]:
    """Return the names of a stack's containers, networks and volumes."""
    engine = ContainerEngine()
    label = {"label": [f"{PROJECT_LABEL}={project_name(stack.paths)}"]}
    networks = engine.get("/networks", {"filters": label})
    return [
        *(entry.name for entry in containers(engine, project_name(stack.paths)).values()),
        *(network["Name"] for network in networks),
        *project_volumes(engine, project_name(stack.paths)),
    ]


def kill(stack: Stack, service: str) -> None:
    """Kill a service's container and wait until the engine reports it."""
    engine = ContainerEngine()
    entry = containers(engine, project_name(stack.paths))[service]
    engine.do("POST", f"/containers/{entry.id}/kill", {"signal": "SIGKILL"}, doing="kill it")
    engine.do("POST", f"/containers/{entry.id}/wait", doing="wait for its end")


def client(env: dict[str, str], service: str) -> Any:
    """Return a client of an AWS service for a stack's variables."""
    session = boto3.session.Session(
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        region_name=env["AWS_REGION"],
    )
    return session.client(service, endpoint_url=env[f"AWS_ENDPOINT_URL_{service.upper()}"])  # type: ignore[call-overload]


def elsewhere(env: dict[str, str], *own: str) -> dict[str, str]:
    """Return the services of the stack with these variables, except ``own``, as external services.

    A stack with few services of its own starts within seconds.
    """
    endpoints = {
        "temporal": env["TEMPORAL_TARGET"],
        "postgres": env["DATABASE_URL"],
        "s3": env["AWS_ENDPOINT_URL_S3"],
        "sns": env["AWS_ENDPOINT_URL_SNS"],
        "sqs": env["AWS_ENDPOINT_URL_SQS"],
        "textract": env["AWS_ENDPOINT_URL_TEXTRACT"],
    }
    return {name: endpoint for name, endpoint in endpoints.items() if name not in own}


def command_variables(stack: Stack) -> dict[str, str]:
    """Return the environment that makes commands use this stack."""
    return {
        **os.environ,
        "PHOTO_WORKER_HOME": str(stack.paths.home),
        "PHOTO_WORKER_STACK": stack.name,
        "PHOTO_WORKER_STACK_KIND": KIND,
    }
