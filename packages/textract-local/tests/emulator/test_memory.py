"""The memory that requests may use in the server, and its release."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import psutil
import pytest
from starlette.requests import Request
from starlette.types import Message

from textract_local.server import wire
from textract_local.server.admission import MOST_BODY_BYTES
from textract_local.server.failures import ServiceError
from textract_local.server.spawning import MIB
from textract_support.clients import DETECT, JSON_11, SIGNED, call, sent
from textract_support.emulator import RunningEmulator, document, running, until

LARGE = 9_000_000


def held(started: RunningEmulator) -> int:
    return int(psutil.Process(started.process.pid).memory_info().rss)


def half_sent(started: RunningEmulator, body: bytes) -> socket.socket:
    """Send a request without its last byte."""
    connection = socket.create_connection(("127.0.0.1", started.port), timeout=30)
    connection.sendall(
        f"POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: {DETECT}\r\nContent-Type: {JSON_11}\r\n"
        f"Authorization: {SIGNED}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body[:-1]
    )
    return connection


def test_refused_documents_are_not_kept_in_memory(tmp_path: Path) -> None:
    with running(tmp_path, {}) as started:
        assert call(started.port, DETECT, sent(document())).status == 200
        before = held(started)
        for number in range(30):
            response = call(started.port, DETECT, sent(b"no image %d" % number + bytes(LARGE)))
            assert response.json["__type"] == "UnsupportedDocumentException"
        # Each has 12 MB encoded, and 9 decoded.
        assert held(started) - before < 150 * MIB


def test_unfinished_bodies_are_bounded_in_memory(tmp_path: Path) -> None:
    body = sent(document() + b" " * LARGE)
    with running(tmp_path, {}) as started, contextlib.ExitStack() as stack:
        assert call(started.port, DETECT, sent(document())).status == 200
        before = held(started)
        for _ in range(2 * MOST_BODY_BYTES // len(body)):
            stack.enter_context(half_sent(started, body))
        assert held(started) - before < MOST_BODY_BYTES + 64 * MIB
        # Small requests still work, and large ones are throttled.
        assert call(started.port, DETECT, sent(document())).status == 200
        assert call(started.port, DETECT, body).json["__type"] == "ProvisionedThroughputExceededException"
        stack.close()
        until(lambda: call(started.port, DETECT, body).status == 200)


async def test_read_body_that_does_not_arrive_times_out() -> None:
    given = [b'{"Document":']

    async def receive() -> Message:
        if not given:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": given.pop(), "more_body": True}

    request = Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)
    with pytest.raises(ServiceError) as caught:
        async with asyncio.timeout(20):
            await wire.read_body(request, seconds=0.05)
    assert (caught.value.failure.code, caught.value.failure.status) == ("RequestTimeout", 400)
