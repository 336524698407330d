"""Fixtures: an emulator per test process that uses the stack's S3, and clients of it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from botocore.config import Config

from tests.integration.textract.emulator import Running, running
from tests.support.resources import session_of

if TYPE_CHECKING:
    from mypy_boto3_textract import TextractClient

    from tests.integration.textract.jobs_world import Channel

JSON_11 = "application/x-amz-json-1.1"
SIGNED = (
    "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/textract/aws4_request,"
    " SignedHeaders=host;x-amz-date, Signature=0123456789abcdef"
)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def send(
    port: int, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, response.read())
    finally:
        connection.close()


def call(port: int, target: str, body: bytes, **headers: str) -> Answer:
    """Post to the service as a client does; a header with an empty value is omitted."""
    given = {"X-Amz-Target": target, "Content-Type": JSON_11, "Authorization": SIGNED, **headers}
    return send(port, "POST", "/", body, {name: value for name, value in given.items() if value})


def client_of(variables: Mapping[str, str], url: str, *, connections: int = 16) -> TextractClient:
    # One attempt: a retry would hide the errors that these tests check.
    config = Config(retries={"total_max_attempts": 1}, max_pool_connections=connections, read_timeout=60)
    return session_of(dict(variables)).client("textract", endpoint_url=url, config=config)


@pytest.fixture(scope="session")
def emulator(stack_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    variables = {name: value for name, value in stack_env.items() if name.startswith("AWS_")}
    with running(tmp_path_factory.mktemp("textract"), variables) as started:
        yield started


@pytest.fixture(scope="session")
def textract(emulator: Running, stack_env: dict[str, str]) -> Iterator[TextractClient]:
    client = client_of(stack_env, emulator.url)
    yield client
    client.close()


@pytest.fixture
def tallies(emulator: Running) -> Callable[[str], dict[str, int]]:
    """Return the emulator's counts for a document."""

    def of(sha256: str) -> dict[str, int]:
        counted: dict[str, dict[str, int]] = send(emulator.port, "GET", "/_emulator/counters").json["documents"]
        return counted[sha256]

    return of


@pytest.fixture
def channel(stack_env: dict[str, str]) -> Iterator[Channel]:
    """A topic, and a queue that receives its messages."""
    from tests.integration.textract.jobs_world import channel_of

    with channel_of(stack_env) as made:
        yield made
