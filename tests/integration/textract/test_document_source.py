"""``DocumentSource`` with the stack's S3, and with servers that violate the protocol."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from textract_local.limits import SYNC_OCR_LIMIT_BYTES
from textract_local.server.documents import ASYNC, SYNC, Document, DocumentSource
from textract_local.server.failures import ServiceError
from textract_local.server.spool import Spool
from textract_support.socket_server import serving

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LARGE = SYNC_OCR_LIMIT_BYTES + 1_000_000


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool")
    yield spool
    spool.close()


@pytest.fixture
async def source(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DocumentSource]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "local")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    source = DocumentSource(spool)
    yield source
    source.close()


@pytest.fixture
def stack_source(source: DocumentSource, stack_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> DocumentSource:
    for name, value in stack_env.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    return source


def stored(bucket: str, key: str) -> dict[str, Any]:
    return {"S3Object": {"Bucket": bucket, "Name": key}}


def files(spool: Spool) -> list[Path]:
    return [path for path in spool.directory.iterdir() if path.name != ".lock"]


async def code_of(call: Any) -> tuple[str, str]:
    with pytest.raises(ServiceError) as caught:
        await call
    return caught.value.failure.code, caught.value.message


def content_of(document: Document, spool: Spool) -> bytes:
    with document.file(spool) as path:
        return path.read_bytes()


@pytest.mark.stack
async def test_get_large_object_is_spooled_to_file(
    stack_source: DocumentSource, spool: Spool, s3_client: S3Client, bucket: str
) -> None:
    content = bytes(range(256)) * (LARGE // 256)
    s3_client.put_object(Bucket=bucket, Key="book.pdf", Body=content)
    document = await stack_source.get(stored(bucket, "book.pdf"), ASYNC)
    assert (document.name, document.size) == (f"s3://{bucket}/book.pdf", len(content))
    assert document.sha256 == hashlib.sha256(content).hexdigest()
    assert [path.stat().st_size for path in files(spool)] == [len(content)]
    assert content_of(document, spool) == content
    document.close()
    assert files(spool) == []
    assert (await code_of(stack_source.get(stored(bucket, "book.pdf"), SYNC)))[0] == "DocumentTooLargeException"


@pytest.mark.stack
async def test_check_validates_object_and_size(stack_source: DocumentSource, s3_client: S3Client, bucket: str) -> None:
    s3_client.put_object(Bucket=bucket, Key="a", Body=b"flour")
    s3_client.put_object(Bucket=bucket, Key="large", Body=bytes(LARGE))
    await stack_source.check(stored(bucket, "a"), ASYNC)
    await stack_source.check(stored(bucket, "large"), ASYNC)
    assert (await code_of(stack_source.check(stored(bucket, "large"), SYNC)))[0] == "DocumentTooLargeException"
    for location in (stored(bucket, "b"), stored(f"{bucket}-b", "a"), stored("---", "a")):
        assert (await code_of(stack_source.check(location, ASYNC)))[0] == "InvalidS3ObjectException"
    assert (await code_of(stack_source.check({}, ASYNC)))[0] == "InvalidParameterException"


@contextmanager
def responding(monkeypatch: pytest.MonkeyPatch, response: Callable[[socket.socket], None]) -> Iterator[None]:
    """Run a server in place of S3 that calls ``response`` for each connection, and then closes it."""
    with serving(lambda connection, _: response(connection)) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        yield


def cut_off(declared: int, sent: int) -> Callable[[socket.socket], None]:
    def response(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % declared + bytes(sent))

    return response


@pytest.mark.parametrize("declared", [1000, LARGE])
async def test_get_truncated_body_is_internal_server_error(
    source: DocumentSource, spool: Spool, monkeypatch: pytest.MonkeyPatch, declared: int
) -> None:
    with responding(monkeypatch, cut_off(declared, declared - 1)):
        error = await code_of(source.get(stored("photos", "a"), ASYNC))
    assert error == ("InternalServerError", "S3 does not respond")
    assert files(spool) == []


@pytest.mark.parametrize("headers", [b"", b"X-Amz-Meta-Note: ginger"], ids=["before", "within"])
async def test_get_truncated_headers_are_internal_server_error(
    source: DocumentSource, monkeypatch: pytest.MonkeyPatch, headers: bytes
) -> None:
    with responding(monkeypatch, lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\n" + headers)):
        error = await code_of(source.get(stored("photos", "a"), ASYNC))
    assert error == ("InternalServerError", "S3 does not respond")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (b"429 Too Many Requests", "InternalServerError"),
        (b"503 Slow Down", "InternalServerError"),
        (b"301 Moved Permanently", "InvalidS3ObjectException"),
        (b"307 Temporary Redirect", "InvalidS3ObjectException"),
        (b"403 Forbidden", "InvalidS3ObjectException"),
    ],
)
@pytest.mark.parametrize("look", ["get", "check"])
async def test_get_or_check_error_status_maps_to_code(
    source: DocumentSource, monkeypatch: pytest.MonkeyPatch, status: bytes, code: str, look: str
) -> None:
    response = b"HTTP/1.1 " + status + b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    with responding(monkeypatch, lambda connection: connection.sendall(response)):
        assert (await code_of(getattr(source, look)(stored("photos", "a"), ASYNC)))[0] == code


async def test_get_endless_object_stops_at_limit(
    source: DocumentSource, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    piece = bytes(1024 * 1024)

    def response(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))

    with responding(monkeypatch, response):
        error = await code_of(source.get(stored("photos", "a"), SYNC))
    assert error[0] == "DocumentTooLargeException"
    assert files(spool) == []


# One, and more than the concurrent downloads.
@pytest.mark.parametrize("count", [1, 20])
async def test_get_inline_does_not_wait_for_downloads(
    source: DocumentSource, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def response(connection: socket.socket) -> None:
        asked.set()
        go_on.wait(20)
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nflour")

    with responding(monkeypatch, response):
        downloads = [asyncio.create_task(source.get(stored("photos", f"{number}"))) for number in range(count)]
        assert await asyncio.to_thread(asked.wait, 20)
        try:
            async with asyncio.timeout(10):
                inline = await source.get({"Bytes": b"butter"})
            assert (inline.size, any(download.done() for download in downloads)) == (6, False)
        finally:
            go_on.set()
        assert {document.size for document in await asyncio.gather(*downloads)} == {5}


def dripping(hung_up: threading.Event, began: threading.Event, start: bytes) -> Callable[[socket.socket], None]:
    """Send the start, and then one byte at a time, so that no single read times out."""

    def drip(connection: socket.socket) -> None:
        connection.sendall(start)
        began.set()
        try:
            while not hung_up.wait(0.02):
                connection.sendall(b"x")
        except OSError:
            hung_up.set()

    return drip


IN_HEADERS = b"HTTP/1.1 200 OK\r\nX-Amz-Meta-Note: "
IN_BODY = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE


@pytest.mark.parametrize("start", [b"", IN_HEADERS, IN_BODY], ids=["status", "headers", "body"])
async def test_get_cancelled_frees_thread_and_file(
    source: DocumentSource, spool: Spool, monkeypatch: pytest.MonkeyPatch, start: bytes
) -> None:
    began, hung_up = threading.Event(), threading.Event()
    with responding(monkeypatch, dripping(hung_up, began, start)):
        download = asyncio.create_task(source.get(stored("photos", "a"), ASYNC))
        assert await asyncio.to_thread(began.wait, 20)
        download.cancel()
        await asyncio.wait({download})
        try:
            assert await asyncio.to_thread(hung_up.wait, 20)
        finally:
            hung_up.set()
    assert download.cancelled()
    await asyncio.to_thread(source._threads.shutdown)
    assert files(spool) == []


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("start", [b"", IN_HEADERS, IN_BODY], ids=["status", "headers", "body"])
@pytest.mark.parametrize("look", ["get", "check"])
async def test_get_or_check_dripping_s3_is_too_slow(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, start: bytes, look: str
) -> None:
    began, hung_up = threading.Event(), threading.Event()
    hasty = DocumentSource(spool, response_seconds=0.5, download_seconds=1.0)
    with responding(monkeypatch, dripping(hung_up, began, start)):
        try:
            if (look, start) == ("check", IN_BODY):
                # The response to HEAD has no body.
                await hasty.check(stored("photos", "a"), ASYNC)
                return
            async with asyncio.timeout(10):
                error = await code_of(getattr(hasty, look)(stored("photos", "a"), ASYNC))
            assert error == ("InternalServerError", "S3 is too slow")
            assert await asyncio.to_thread(hung_up.wait, 20)
        finally:
            hung_up.set()
            hasty.close()
        await asyncio.to_thread(hasty._threads.shutdown)
        assert files(spool) == []


@pytest.mark.usefixtures("source")
async def test_get_body_may_exceed_response_timeout(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    hasty = DocumentSource(spool, response_seconds=0.5)

    def response(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n")
        for _ in range(20):
            connection.sendall(b"xy")
            time.sleep(0.05)

    with responding(monkeypatch, response):
        # The client is created before the time limit starts, which is short here.
        await asyncio.to_thread(hasty.warm)
        assert (await hasty.get(stored("photos", "a"), ASYNC)).size == 40
    hasty.close()
