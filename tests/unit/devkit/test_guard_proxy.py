"""The forwarder: it refuses ambiguous requests, and neither delays, changes nor replaces a service's responses."""

from __future__ import annotations

import asyncio
import http.client
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress

import pytest

from photo_worker.devkit.guard.proxy import Malformed, ProxyLimits, parse_head, serve
from tests.support.harness import eventually
from textract_local.origins import OriginRules

SECONDS = 20


LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[1])))
os.execv(sys.argv[2], sys.argv[2:])
"""


def recv_until(connection: socket.socket, done: Callable[[bytes], bool]) -> bytes:
    received = b""
    while not done(received):
        piece = connection.recv(65_536)
        if not piece:
            break
        received += piece
    return received


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@pytest.fixture
def service() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(SECONDS)
        yield server


@pytest.fixture
def forwarder(service: socket.socket) -> Iterator[int]:
    """The port of a forwarder to ``service``, run as a process, as in a container."""
    with forwarding(service) as port:
        yield port


@contextmanager
def forwarding(service: socket.socket, files: int | None = None) -> Iterator[int]:
    """Yield the port of a forwarder process to ``service`` that may open at most ``files`` files."""
    port = free_port()
    argv = [sys.executable, "-m", "photo_worker.devkit.guard.proxy", "--listen", f"127.0.0.1:{port}"]
    if files is not None:
        argv[1:1] = ["-c", LIMITED, str(files), sys.executable]
    target = f"127.0.0.1:{service.getsockname()[1]}"
    with subprocess.Popen([*argv, "--to", target], env={**os.environ}) as process:
        try:
            deadline = time.monotonic() + SECONDS
            # Connect and close; the forwarder connects to the service for that as well.
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    assert process.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
            service.accept()[0].close()
            yield port
        finally:
            process.kill()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=SECONDS)


@pytest.mark.parametrize(
    "head",
    [
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 2",
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: gzip, chunked",
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: +1",
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1",
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1_0",
        "POST / HTTP/1.1\r\nHost : evil.example",
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n evil.example",
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\nHost: evil.example",
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nno colon",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: h2c",
        "PRI * HTTP/2.0",
        "POST /evil HTTP/1.1\nHost: evil.example\nContent-Length: 0\n\nGET / HTTP/1.1\r\nHost: 127.0.0.1",
        "GET /\rHost: evil.example\rX: HTTP/1.1\r\nHost: 127.0.0.1",
        "GET /\0 HTTP/1.1\r\nHost: 127.0.0.1",
        "GET /\t HTTP/1.1\r\nHost: 127.0.0.1",
        "GET / / HTTP/1.1\r\nHost: 127.0.0.1",
        "GET  / HTTP/1.1\r\nHost: 127.0.0.1",
        " / HTTP/1.1\r\nHost: 127.0.0.1",
        "GET HTTP/1.1\r\nHost: 127.0.0.1",
        # The absolute form overrides the Host header (RFC 9112, 3.2.2).
        "GET http://evil.example/ HTTP/1.1\r\nHost: 127.0.0.1",
        "CONNECT evil.example:80 HTTP/1.1\r\nHost: 127.0.0.1",
        # One server reads a body here, another the next request (RFC 9112, 6.1).
        "POST / HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked",
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding\x01: chunked",
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent Length: 1",
        "GET /",
        "",
    ],
)
def test_parse_head_ambiguous_head_is_malformed(head: str) -> None:
    with pytest.raises(Malformed):
        parse_head(head.encode() + b"\r\n\r\n")


def test_proxy_streams_body_and_early_response(forwarder: int, service: socket.socket) -> None:
    with connect(forwarder) as client:
        client.sendall(
            b"PUT /k HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000000\r\nExpect: 100-continue\r\n\r\n"
        )
        inner, _ = service.accept()
        with inner:
            inner.settimeout(SECONDS)
            assert recv_until(inner, lambda got: got.endswith(b"\r\n\r\n")).startswith(b"PUT /k HTTP/1.1\r\n")
            inner.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            # A gigabyte is announced: the part received so far is passed on.
            client.sendall(b"first piece")
            assert recv_until(inner, lambda got: len(got) >= 11) == b"first piece"
            # A response passes before the request has ended.
            inner.sendall(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 413")


def test_proxy_keep_alive_checks_each_request(forwarder: int, service: socket.socket) -> None:
    bodies = [
        b"POST /1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
        b"POST /2 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5;name=value\r\nGET /\r\nA\r\n0123456789\r\n0\r\nX-Trailer: yes\r\n\r\n",
        b"GET /3 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ]
    with connect(forwarder) as client:
        inner: socket.socket | None = None
        for body in bodies:
            client.sendall(body)
            if inner is None:
                inner, _ = service.accept()
                inner.settimeout(SECONDS)
            assert recv_until(inner, lambda got, body=body: len(got) >= len(body)) == body  # type: ignore[misc]
            inner.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            assert recv_until(client, lambda got: got.endswith(b"ok")).endswith(b"\r\n\r\nok")
        # Later requests of a connection are checked like the first.
        client.sendall(
            b"POST /evil HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\nContent-Length: 0\r\n\r\n"
        )
        refused = recv_until(client, lambda _: False)
        assert refused.startswith(b"HTTP/1.1 403 Forbidden\r\n")
        assert b"web page sent it" in refused
        assert inner is not None
        with inner:
            assert inner.recv(100) == b""


@pytest.mark.parametrize(
    "chunked", [b"-1\r\n", b"0x5\r\n", b"5 5\r\n", b"\r\n", b"1_0\r\n", b"1\r\nab\r\n", b"1\r\na\n0\r\n\r\n"]
)
def test_proxy_ambiguous_chunk_closes_connection(forwarder: int, service: socket.socket, chunked: bytes) -> None:
    smuggled = b"GET /evil HTTP/1.1\r\nHost: evil.example\r\n\r\n"
    with connect(forwarder) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked + smuggled)
        inner, _ = service.accept()
        with inner:
            inner.settimeout(SECONDS)
            assert b"/evil" not in recv_until(inner, lambda _: False)
        assert recv_until(client, lambda _: False).startswith(b"HTTP/1.1 400 ")


def test_proxy_request_smuggled_in_request_line_is_400(forwarder: int, service: socket.socket) -> None:
    """A server that ends lines at a bare LF would read two requests, the first with another Host."""
    hidden = b"POST /evil HTTP/1.1\nHost: evil.example\nContent-Length: 0\n\n"
    with connect(forwarder) as client:
        client.sendall(hidden + b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        inner, _ = service.accept()
        with inner:
            inner.settimeout(SECONDS)
            assert recv_until(inner, lambda _: False) == b""
        assert recv_until(client, lambda _: False).startswith(b"HTTP/1.1 400 ")


def test_proxy_refusal_is_readable_after_large_body(forwarder: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", forwarder, timeout=SECONDS)
    with closing(connection):
        # http.client sends the whole body before it reads the response.
        connection.request("POST", "/", bytes(5_000_000), {"Origin": "https://evil.example"})
        response = connection.getresponse()
        assert response.status == 403
        assert b"web page sent it" in response.read()


def test_proxy_large_response_passes_whole(forwarder: int, service: socket.socket) -> None:
    size = 64 * 1024 * 1024
    piece = os.urandom(1024 * 1024)

    def serve() -> None:
        inner, _ = service.accept()
        with inner:
            inner.settimeout(SECONDS)
            recv_until(inner, lambda got: got.endswith(b"\r\n\r\n"))
            inner.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
            for _ in range(size // len(piece)):
                inner.sendall(piece)

    thread = threading.Thread(target=serve)
    thread.start()
    with connect(forwarder) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = recv_until(client, lambda got: b"\r\n\r\n" in got)
        left = size - len(head.partition(b"\r\n\r\n")[2])
        while left:
            left -= len(client.recv(min(left, 1 << 20)))
    thread.join(SECONDS)
    assert not thread.is_alive()


def test_proxy_unreachable_service_closes_without_response(forwarder: int, service: socket.socket) -> None:
    service.close()
    for request in (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"):
        with closing(connect(forwarder)) as client:
            client.sendall(request)
            try:
                said = client.recv(100)
            except ConnectionResetError:
                said = b""
            assert said == b""


def test_proxy_refusal_names_reason_and_remedy(forwarder: int, service: socket.socket) -> None:
    with connect(forwarder) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        said = recv_until(client, lambda _: False).decode()
    assert re.search(r"refuses this request: its Host 'evil.example' .*Use 127\.0\.0\.1 or localhost", said)
    inner, _ = service.accept()
    with inner:
        assert inner.recv(100) == b""


@asynccontextmanager
async def serving(limits: ProxyLimits) -> AsyncIterator[tuple[int, asyncio.Task[None]]]:
    """Yield the port and the task of a forwarder with these limits to a service that responds ``ok`` to each head."""

    async def response(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(EOFError, OSError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    service = await asyncio.start_server(response, "127.0.0.1", 0)
    listening = socket.create_server(("127.0.0.1", 0))
    port: int = listening.getsockname()[1]
    task = asyncio.create_task(serve(listening, service.sockets[0].getsockname()[:2], OriginRules(), limits))
    try:
        yield port, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        service.close()


async def asked(port: int) -> bytes:
    """Return the response to a complete request on a new connection; empty if it was closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    with suppress(OSError):
        async with asyncio.timeout(SECONDS):
            got = await reader.read(100)
            writer.close()
            return got
    return b""


async def test_proxy_slow_head_times_out_with_400() -> None:
    async with serving(ProxyLimits(head_seconds=0.3)) as (port, _), asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n")

        async def trickle() -> None:
            while True:
                writer.write(b"X-Slow: 1\r\n")
                await asyncio.sleep(0.02)

        trickling = asyncio.create_task(trickle())
        said = await reader.read()
        trickling.cancel()
        writer.close()
        assert said.startswith(b"HTTP/1.1 400 ")
        assert b"did not come within 0.3 s" in said
        assert b"200 OK" in await asked(port)


async def test_proxy_silent_client_is_disconnected() -> None:
    async with serving(ProxyLimits(first_byte_seconds=0.2)) as (port, _), asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()


async def test_proxy_idle_connection_after_request_stays_open() -> None:
    async with (
        serving(ProxyLimits(first_byte_seconds=0.1, head_seconds=SECONDS)) as (port, _),
        asyncio.timeout(SECONDS),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        silent, other = await asyncio.open_connection("127.0.0.1", port)
        request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
        writer.write(request)
        assert b"200 OK" in await reader.readuntil(b"ok")
        # By then, the connection without a request has timed out.
        assert await silent.read() == b""
        writer.write(request)
        assert b"200 OK" in await reader.readuntil(b"ok")
        writer.close()
        other.close()


async def test_proxy_connection_limit_closes_new_until_one_ends() -> None:
    async with serving(ProxyLimits(connections=2, idle_seconds=SECONDS)) as (port, _), asyncio.timeout(SECONDS):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        assert await asked(port) == b""
        for _, writer in held:
            writer.close()

        async def taken() -> bool:
            return b"200 OK" in await asked(port)

        # The forwarder may not have noticed yet that they ended.
        await eventually(taken)


async def test_proxy_connection_limit_closes_idlest_kept_connection(caplog: pytest.LogCaptureFixture) -> None:
    """An open page keeps its connections; the idlest is closed for a new one, and those in use stay."""
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    caplog.set_level(logging.WARNING)
    async with serving(ProxyLimits(connections=3, idle_seconds=0.0)) as (port, _), asyncio.timeout(SECONDS):
        kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        for used in (0, 1, 2, 0, 2):
            reader, writer = kept[used]
            writer.write(request)
            assert b"200 OK" in await reader.readuntil(b"ok")
        assert b"200 OK" in await asked(port)
        assert await kept[1][0].read() == b""
        for reader, writer in (kept[0], kept[2]):
            writer.write(request)
            assert b"200 OK" in await reader.readuntil(b"ok")
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        for _, writer in [*kept, *held]:
            writer.close()
    assert [record.message.partition(":")[0] for record in caplog.records if "connections" in record.message] == [
        "3 connections are open, the most there may be"
    ]


def test_proxy_low_file_limit_closes_idlest_kept_connection(service: socket.socket) -> None:
    """macOS allows 256 open files per process by default: fewer than the connection limit needs."""

    def serve_one(inner: socket.socket) -> None:
        with inner, suppress(OSError):
            while inner.recv(65_536):
                inner.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def serve_all() -> None:
        with suppress(OSError):
            while True:
                pool.submit(serve_one, service.accept()[0])

    def asked(client: socket.socket) -> bytes:
        with suppress(ConnectionResetError):
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return client.recv(100)
        return b""

    with ThreadPoolExecutor(100) as pool, forwarding(service, files=64) as port, ExitStack() as kept:
        kept.callback(service.shutdown, socket.SHUT_RDWR)
        pool.submit(serve_all)
        for _ in range(60):
            if b"200 OK" not in asked(kept.enter_context(connect(port))):
                break
        else:
            pytest.fail("there is no limit to connections")
        deadline = time.monotonic() + SECONDS
        said = b""
        while b"200 OK" not in said:
            assert time.monotonic() < deadline
            # The idlest of them is closed once it has been idle for the minimum time.
            with connect(port) as client:
                client.settimeout(1)
                with suppress(TimeoutError):
                    said = asked(client)


async def test_proxy_stop_closes_open_connections() -> None:
    async with serving(ProxyLimits()) as (port, task), asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in await reader.readuntil(b"ok")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await reader.read() == b""
        writer.close()
