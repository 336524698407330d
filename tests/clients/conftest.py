"""Runs real clients as separate programs against the stack's emulator.

They are installed in a separate environment, which `nox -s clients` creates and names in PHOTO_WORKER_CLIENTS.
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients import documents
from tests.support.resources import session_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PROGRAMS = Path(__file__).parent / "programs"
CLIENTS = "PHOTO_WORKER_CLIENTS"
# Jobs wait for each other if many tests run at once.
PATIENCE_SECONDS = 200


@dataclass(frozen=True)
class Clients:
    """The environment of the clients, and the variables that point them to the stack."""

    directory: Path
    variables: Mapping[str, str]

    def run(self, *command: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program of the environment and return its status and output."""
        return subprocess.run(
            [str(self.directory / "bin" / command[0]), *map(str, command[1:])],
            input=given,
            env=dict(self.variables),
            cwd=PROGRAMS,
            text=True,
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def ask(self, program: str, task: str, **given: Any) -> Any:
        """Run a task of one of tests/clients/programs, and return its JSON output."""
        runner = "node" if program.endswith(".cjs") else "python"
        done = self.run(runner, PROGRAMS / program, task, given=json.dumps(given))
        assert done.returncode == 0, f"{program} {task}: {done.stderr}\n{done.stdout}"
        return json.loads(done.stdout)


def variables_for(directory: Path, stack: Mapping[str, str]) -> dict[str, str]:
    """Return a complete environment: the stack's address and keys, without the caller's variables."""
    return {
        "PATH": os.pathsep.join([str(directory / "bin"), os.environ.get("PATH", os.defpath)]),
        "HOME": os.devnull,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_PAGER": "",
        # One attempt, so that no client hides an error by a retry.
        "AWS_MAX_ATTEMPTS": "1",
        "NODE_PATH": str(directory / "node" / "node_modules"),
        "PYTHONDONTWRITEBYTECODE": "1",
        **{name: value for name, value in stack.items() if name.startswith("AWS_")},
        "AWS_DEFAULT_REGION": stack["AWS_REGION"],
    }


@pytest.fixture(scope="session")
def client_programs() -> Path:
    """The directory of the clients' environment."""
    if CLIENTS not in os.environ:
        pytest.skip("the clients are not installed; run: python3 dev.py nox -s clients")
    directory = Path(os.environ[CLIENTS])
    assert (directory / "bin" / "node").exists(), f"{directory} is not whole; run: python3 dev.py nox -s clients"
    return directory


@pytest.fixture(scope="session")
def clients(client_programs: Path, stack_env: dict[str, str]) -> Clients:
    return Clients(client_programs, variables_for(client_programs, stack_env))


@pytest.fixture(scope="session")
def long_document() -> bytes:
    return documents.long_pdf()


@pytest.fixture
def stored(s3_client: S3Client, bucket: str) -> Callable[[str, bytes], dict[str, str]]:
    """Return a function that stores a document in the test's bucket and returns its bucket and key."""

    def store(key: str, content: bytes) -> dict[str, str]:
        s3_client.put_object(Bucket=bucket, Key=key, Body=content)
        return {"bucket": bucket, "key": key}

    return store


@pytest.fixture
def channel(stack_env: dict[str, str]) -> Iterator[dict[str, str]]:
    """A topic with a subscribed queue."""
    session = session_of(stack_env)
    sns = session.client("sns", endpoint_url=stack_env["AWS_ENDPOINT_URL_SNS"])
    sqs = session.client("sqs", endpoint_url=stack_env["AWS_ENDPOINT_URL_SQS"])
    name = f"pw-test-{uuid.uuid4().hex}"
    topic = sns.create_topic(Name=name)["TopicArn"]
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    yield {"topic": topic, "role": "arn:aws:iam::000000000000:role/textract", "queue": queue}
    sns.delete_topic(TopicArn=topic)
    sqs.delete_queue(QueueUrl=queue)
    sns.close()
    sqs.close()
