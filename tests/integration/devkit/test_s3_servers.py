"""SeaweedFS and MinIO instead of ministack's S3: what they keep, where they listen, and what they refuse."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest
from botocore.exceptions import ClientError

from photo_worker.adapters.s3.object_store import make_client
from photo_worker.aws import aws_session
from photo_worker.devkit.errors import S3ServerMissing
from photo_worker.devkit.ports import BLOCK
from photo_worker.devkit.service_registry import select_services
from photo_worker.devkit.services.minio import minio_program
from photo_worker.devkit.services.seaweedfs import seaweedfs_program
from photo_worker.devkit.stack import Stack
from photo_worker.devkit.state import StackRecord

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.timeout(180)
PROGRAMS: dict[str, Callable[[], Path]] = {
    "seaweedfs": seaweedfs_program,
    "minio": minio_program,
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
    """A stack of S3, SNS and SQS only: the other services do not depend on the S3 server."""
    services = select_services("native", server, {"temporal", "postgres", "textract"})
    stack = Stack(
        tmp_path / "home", f"t-{secrets.token_hex(4)}", base_port=0, s3=server, durable=False, services=services
    )
    yield stack
    stack.delete()


def client(stack: Stack, **changes: str) -> S3Client:
    return make_client(session=aws_session(stack.env() | changes))


def listeners(stack: Stack) -> dict[str, set[tuple[str, int]]]:
    """Return the addresses on which each service and its children listen."""
    found = {}
    for service in stack.status().services:
        assert service.pid is not None
        family = [psutil.Process(service.pid), *psutil.Process(service.pid).children(recursive=True)]
        connections = [connection for process in family for connection in process.net_connections("inet")]
        found[service.name] = {(c.laddr.ip, c.laddr.port) for c in connections if c.status == psutil.CONN_LISTEN}
    return found


def test_s3_server_keeps_objects_until_reset(stack: Stack, server: str) -> None:
    stack.up()
    bucket = stack.env()["S3_BUCKET"]
    record = StackRecord.load(stack.paths)
    assert record is not None
    assert record.s3 == server
    assert stack.services == ("s3", "aws")

    # They listen only on loopback, within the stack's own block of ports.
    for name, places in listeners(stack).items():
        assert places, name
        for host, port in places:
            assert host in {"127.0.0.1", "::1"}, (name, host, port)
            assert record.base_port <= port < record.base_port + BLOCK, (name, host, port)

    s3 = client(stack)
    s3.put_object(Bucket=bucket, Key="kept", Body=b"what is kept")
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        client(stack, AWS_SECRET_ACCESS_KEY="another-secret").list_objects_v2(Bucket=bucket)
    # ministack must not serve S3 as well: objects stored there would be lost to the stack.
    with pytest.raises(ClientError):
        client(stack, AWS_ENDPOINT_URL_S3=stack.env()["AWS_ENDPOINT_URL_SNS"]).list_buckets()

    # Saving a snapshot stops the stack and starts it again with the recorded server.
    saved = stack.save_snapshot("full")
    assert saved.s3 == server
    assert s3.get_object(Bucket=bucket, Key="kept")["Body"].read() == b"what is kept"

    # A reset restarts S3, which cannot be emptied, and keeps the process of aws.
    before = {service.name: service.pid for service in stack.status().services}
    stack.reset()
    after = {service.name: service.pid for service in stack.status().services}
    assert before["aws"] == after["aws"], "started anew as a whole, because it could not be emptied"
    assert before["s3"] != after["s3"]
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    assert [entry["Name"] for entry in s3.list_buckets()["Buckets"]] == [bucket]

    stack.load_snapshot("full")
    assert s3.get_object(Bucket=bucket, Key="kept")["Body"].read() == b"what is kept"


def test_s3_server_refuses_web_pages(stack: Stack, server: str) -> None:
    """Pages may send requests, and even sign them with well-known default credentials."""
    stack.up()
    env, s3 = stack.env(), client(stack)
    bucket, url = env["S3_BUCKET"], env["AWS_ENDPOINT_URL_S3"]
    s3.put_object(Bucket=bucket, Key="photo", Body=b"a photo")
    form = b'--x\r\nContent-Disposition: form-data; name="key"\r\n\r\nform\r\n'
    form += b'--x\r\nContent-Disposition: form-data; name="file"; filename="form"\r\n\r\nevil\r\n--x--\r\n'
    as_form = {"Content-Type": "multipart/form-data; boundary=x"}
    own = {f"http://{host}:{port}" for host, port in listeners(stack)["s3"] if host != "::1"}
    assert url in own

    known = {secret: client(stack, AWS_SECRET_ACCESS_KEY=secret) for secret in ("local", "local-secret")}
    # To a page, a presigned URL is a plain GET or PUT.
    place = {"Bucket": bucket, "Key": "photo"}
    asked = [(each.generate_presigned_url("get_object", Params=place), "GET", b"") for each in known.values()]
    asked += [(each.generate_presigned_url("put_object", Params=place), "PUT", b"evil") for each in known.values()]
    asked += [(each.generate_presigned_url("delete_object", Params=place), "DELETE", b"") for each in known.values()]
    for at in own:
        asked += [(f"{at}/{bucket}", "POST", form), (f"{at}/buckets/{bucket}/form", "POST", form)]
        asked += [(f"{at}/{bucket}/photo", "GET", b""), (f"{at}/buckets/{bucket}/photo", "GET", b"")]
        asked += [(f"{at}/{bucket}/photo", "DELETE", b""), (f"{at}/buckets/{bucket}?recursive=true", "DELETE", b"")]
        # SeaweedFS' master and volume servers.
        asked += [(f"{at}/dir/assign", "GET", b""), (f"{at}/vol/grow?count=1", "POST", b"")]
        asked += [(f"{at}/submit", "POST", form), (f"{at}/col/delete?collection={bucket}", "POST", b"")]
    for origin in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        for target, method, body in asked:
            request = Request(target, body or None, {**as_form, **origin}, method=method)  # noqa: S310
            try:
                with urlopen(request, timeout=10) as response:  # noqa: S310
                    status, headers, said = response.status, response.headers, response.read()
            except HTTPError as error:
                with error:
                    status, headers, said = error.code, error.headers, error.read()
            except OSError:
                # gRPC speaks no HTTP/1.1.
                continue
            assert status in {400, 401, 403, 404, 405}, (target, method, status, said[:200])
            if target.startswith(url):
                assert headers.get("Access-Control-Allow-Origin") in {None, "http://none.invalid"}, target
            assert b"a photo" not in said

    assert s3.get_object(Bucket=bucket, Key="photo")["Body"].read() == b"a photo"
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["photo"]
