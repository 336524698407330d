"""SeaweedFS and MinIO in the place of ministack's S3: what they keep and forget, and where they listen."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from botocore.exceptions import ClientError

from photo_worker.devkit import s3_servers
from photo_worker.devkit.lineup import services_of
from photo_worker.devkit.ports import BLOCK
from photo_worker.devkit.stack import Stack
from photo_worker.devkit.state import StackRecord
from photo_worker.stack_errors import S3ServerMissing
from photo_worker.storage.s3_boto import make_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.timeout(180)
PROGRAMS: dict[str, Callable[[], Path]] = {
    "seaweedfs": s3_servers.seaweedfs_program,
    "minio": s3_servers.minio_program,
}


@pytest.fixture(params=PROGRAMS)
def server(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    try:
        PROGRAMS[name]()
    except S3ServerMissing as error:
        pytest.skip(error.message)
    return name


@pytest.fixture
def stack(tmp_path: Path, server: str) -> Iterator[Stack]:
    """A stack of S3, SNS and SQS alone: the other services have nothing to do with which S3 there is."""
    services = services_of(server, {"temporal", "postgres", "textract"})
    stack = Stack(
        tmp_path / "home", f"t-{secrets.token_hex(4)}", base_port=0, s3=server, durable=False, services=services
    )
    yield stack
    stack.delete()


def client(stack: Stack, monkeypatch: pytest.MonkeyPatch, **changes: str) -> S3Client:
    for name, value in (stack.env() | changes).items():
        monkeypatch.setenv(name, value)
    return make_client()


def listeners(stack: Stack) -> dict[str, set[tuple[str, int]]]:
    """Return where each service listens, its children included."""
    found = {}
    for service in stack.status().services:
        assert service.pid is not None
        family = [psutil.Process(service.pid), *psutil.Process(service.pid).children(recursive=True)]
        connections = [connection for process in family for connection in process.net_connections("inet")]
        found[service.name] = {(c.laddr.ip, c.laddr.port) for c in connections if c.status == psutil.CONN_LISTEN}
    return found


def test_it_keeps_what_it_stored_until_a_reset(stack: Stack, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.up()
    bucket = stack.env()["S3_BUCKET"]
    record = StackRecord.load(stack.paths)
    assert record is not None
    assert record.s3 == server
    assert stack.services == ("s3", "aws")

    # On loopback alone, and nowhere outside the stack's own block of ports.
    for name, places in listeners(stack).items():
        assert places, name
        for host, port in places:
            assert host in {"127.0.0.1", "::1"}, (name, host, port)
            assert record.base_port <= port < record.base_port + BLOCK, (name, host, port)

    s3 = client(stack, monkeypatch)
    s3.put_object(Bucket=bucket, Key="kept", Body=b"what is kept")
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        client(stack, monkeypatch, AWS_SECRET_ACCESS_KEY="another-secret").list_objects_v2(Bucket=bucket)
    # S3 is that server's alone: ministack would keep objects that nobody finds again.
    with pytest.raises(ClientError):
        client(stack, monkeypatch, AWS_ENDPOINT_URL_S3=stack.env()["AWS_ENDPOINT_URL_SNS"]).list_buckets()

    # Down and up again, as it is remembered to be.
    saved = stack.save_snapshot("full")
    assert saved.s3 == server
    assert s3.get_object(Bucket=bucket, Key="kept")["Body"].read() == b"what is kept"

    # Processes of before that still run have not been stopped.
    before = {service.name: service.pid for service in stack.status().services}
    stack.reset()
    after = {service.name: service.pid for service in stack.status().services}
    assert before["aws"] == after["aws"], "started anew as a whole, because it could not be emptied"
    assert before["s3"] != after["s3"]
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    assert [entry["Name"] for entry in s3.list_buckets()["Buckets"]] == [bucket]

    stack.load_snapshot("full")
    assert s3.get_object(Bucket=bucket, Key="kept")["Body"].read() == b"what is kept"
