"""The dev kit's HTTP client: framing of bodies, limits of time and size, and its one error."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from photo_worker.devkit.http_client import Address, HttpFailed, request, request_status


@contextmanager
def served(respond: Callable[[socket.socket, threading.Event], None], path: Path | None = None) -> Iterator[Address]:
    """A server that reads one request's head and then leaves the connection to ``respond``."""
    ended = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0)) if path is None else socket.socket(socket.AF_UNIX)
    if path is not None:
        listener.bind(str(path))
        listener.listen()

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as reader:
                while reader.readline() not in {b"\r\n", b""}:
                    pass
                respond(connection, ended)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield path or listener.getsockname()
    finally:
        ended.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)
        assert not thread.is_alive()


def sending(content: bytes) -> Callable[[socket.socket, threading.Event], None]:
    return lambda connection, _: connection.sendall(content)


@pytest.mark.parametrize(
    ("content", "body"),
    [
        (b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nabcd", b"abc"),
        (b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\n\r\n", b"abc"),
        (b"HTTP/1.0 201 Created\r\n\r\nabc", b"abc"),
    ],
    ids=["length", "chunks", "end"],
)
def test_request_body_of_each_framing_is_returned(content: bytes, body: bytes) -> None:
    with served(sending(content)) as address:
        response = request(address, "GET", "/", seconds=10)
    assert (response.status, response.body) == (201, body)


def test_request_status_no_content_needs_no_body(tmp_path: Path) -> None:
    def hold(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        ended.wait(10)

    with served(hold, tmp_path / "s") as address:
        assert request(address, "DELETE", "/x", seconds=10).body == b""
    with served(hold) as address:
        assert request_status(address, "POST", "/x", seconds=10) == 204


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_request_when_response_drips_ends_at_deadline(start: bytes) -> None:
    def drip(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(start)
        while not ended.wait(0.05):
            connection.sendall(b"x")

    with served(drip) as address:
        began = time.monotonic()
        with pytest.raises(HttpFailed, match=r"no response within 0\.5 s"):
            request(address, "GET", "/", seconds=0.5)
        assert time.monotonic() - began < 5


def test_request_above_limit_is_refused() -> None:
    with (
        served(sending(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2000)) as address,
        pytest.raises(HttpFailed, match="longer than 1000 bytes"),
    ):
        request(address, "GET", "/", seconds=10, limit_bytes=1000)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"220 mail ready\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 300 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 400_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
    ids=["nothing", "mail", "http2", "cut", "headers", "long", "length", "negative", "chunk"],
)
def test_request_response_that_is_not_http_is_malformed(content: bytes) -> None:
    with served(sending(content)) as address, pytest.raises(HttpFailed, match="no HTTP server") as caught:
        request(address, "GET", "/", seconds=10)
    assert caught.value.malformed


def test_request_truncated_response_is_refused() -> None:
    with (
        served(sending(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nabc")) as address,
        pytest.raises(HttpFailed, match="ended 17 bytes early"),
    ):
        request(address, "GET", "/", seconds=10)


def test_request_without_server_fails(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(HttpFailed, match="refused"):
        request(("127.0.0.1", port), "GET", "/", seconds=1)
    with pytest.raises(HttpFailed, match="No such file"):
        request(tmp_path / "none", "GET", "/", seconds=1)
