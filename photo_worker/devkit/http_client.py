"""The HTTP/1.1 client of the dev kit, for services of the stack and for the Docker engine's Unix socket.

Own code, because importing ``http.client`` takes 40 to 60 of the 200 ms that ``photo-worker status`` may take, and
urllib3 more. One connection per request; no TLS, redirects or trailers, which nothing here needs.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

Address: TypeAlias = tuple[str, int] | Path
"""Host and port, or the path of a Unix socket."""

_CONNECT_SECONDS = 2.0
_BLOCK_BYTES = 256 * 1024
_LONGEST_LINE = 65_536
_MOST_HEADERS = 256
# The longest response in memory; what the engine says of hundreds of containers has some 1 MB.
LIMIT_BYTES = 64 * 1024 * 1024


class HttpFailed(Exception):
    """There was no complete response; the text says why. ``malformed``: what responded is no HTTP server."""

    def __init__(self, reason: str, *, malformed: bool = False) -> None:
        super().__init__(reason)
        self.malformed = malformed


@dataclass(frozen=True)
class HttpResponse:
    """A response: HTTP status and raw body."""

    status: int
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """Return the body's JSON value, None if the body is empty; raises ``ValueError``."""
        return json.loads(self.body) if self.body.strip() else None

    @property
    def message(self) -> str:
        """The error message in a JSON body, or the whole body."""
        try:
            return str(json.loads(self.body)["message"]).strip()
        except (ValueError, KeyError, TypeError):
            return self.body.decode("utf-8", errors="replace").strip() or f"status {self.status}"


def request(
    address: Address,
    method: str,
    target: str,
    body: bytes = b"",
    *,
    seconds: float,
    headers: dict[str, str] | None = None,
    limit_bytes: int = LIMIT_BYTES,
) -> HttpResponse:
    """Return the complete response, whatever its status.

    Raises:
        HttpFailed: after ``seconds`` in all, however the response drips; above ``limit_bytes``; or without a server.
    """
    with exchange(address, seconds, total=True) as open_exchange:
        open_exchange.send(method, target, headers or {}, len(body))
        if body:
            open_exchange.connection.sendall(body)
        status = open_exchange.receive_head()
        received = bytearray()
        for block in open_exchange.blocks():
            received += block
            if len(received) > limit_bytes:
                raise HttpFailed(f"the response is longer than {limit_bytes} bytes")
        return HttpResponse(status, bytes(received))


def request_status(address: Address, method: str, target: str, *, seconds: float) -> int:
    """Return the status of the response to a request without a body; does not read the response's body.

    Raises:
        HttpFailed: as ``request`` does.
    """
    with exchange(address, seconds, total=True) as open_exchange:
        open_exchange.send(method, target, {}, 0)
        return open_exchange.receive_head()


@contextmanager
def exchange(address: Address, seconds: float, *, total: bool = False) -> Iterator[Exchange]:
    """Connect for one request; raises ``HttpFailed`` for whatever the connection raises until the block ends.

    ``seconds`` is the limit of each wait for the server; with ``total``, of all of them together.
    """
    deadline = time.monotonic() + seconds if total else None
    connection = _connected(address, min(seconds, _CONNECT_SECONDS))
    try:
        with connection:
            connection.settimeout(seconds)
            yield Exchange(connection, address, deadline)
    except TimeoutError as error:
        raise HttpFailed(f"no response within {seconds:g} s") from error
    except ConnectionError as error:
        raise HttpFailed(error.strerror or str(error)) from error


class Exchange:
    """One request and its response, in this order: ``send``, the body on ``connection``, ``receive_head``, ``blocks``.

    All methods raise ``HttpFailed``, and inside ``exchange`` also ``ConnectionError`` and ``TimeoutError``.
    """

    def __init__(self, connection: socket.socket, address: Address, deadline: float | None) -> None:
        self.connection = connection
        self._host = "localhost" if isinstance(address, Path) else f"{address[0]}:{address[1]}"
        self._deadline = deadline
        self._buffer = bytearray()
        self._status = 0
        self._headers: dict[str, str] = {}

    def send(self, method: str, target: str, headers: dict[str, str], length: int) -> None:
        """Send the head of a request whose body has ``length`` bytes."""
        given = {"Host": self._host, "Connection": "close", "Content-Length": str(length), **headers}
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
        self.connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))

    def receive_head(self) -> int:
        """Receive status and headers, and return the status."""
        words = self._line().split(None, 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            raise _malformed()
        self._status = int(words[1])
        for _ in range(_MOST_HEADERS):
            line = self._line().strip()
            if not line:
                return self._status
            name, _, value = line.decode("latin-1").partition(":")
            self._headers[name.strip().lower()] = value.strip()
        raise _malformed()

    def blocks(self) -> Iterator[bytes]:
        """Yield the response's body (RFC 9112, sections 6.3 and 7.1)."""
        if self._status in {204, 304}:
            return
        if self._headers.get("transfer-encoding", "").lower() == "chunked":
            while size := _number(self._line().split(b";")[0], 16):
                yield from self._exactly(size)
                self._line()
        elif "content-length" in self._headers:
            yield from self._exactly(_number(self._headers["content-length"].encode(), 10))
        else:
            while block := self._some(_BLOCK_BYTES):
                yield block

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size > 0:
            block = self._some(min(size, _BLOCK_BYTES))
            if not block:
                raise HttpFailed(f"the response ended {size} bytes early")
            size -= len(block)
            yield block

    def _some(self, most: int) -> bytes:
        if not self._buffer:
            self._receive()
        block = bytes(self._buffer[:most])
        del self._buffer[:most]
        return block

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _LONGEST_LINE or not self._receive():
                raise _malformed()
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        return line

    def _receive(self) -> bool:
        """Add what has arrived to the buffer; return False at the connection's end."""
        if self._deadline is not None:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.connection.settimeout(left)
        piece = self.connection.recv(_BLOCK_BYTES)
        self._buffer += piece
        return bool(piece)


def _connected(address: Address, seconds: float) -> socket.socket:
    try:
        if not isinstance(address, Path):
            return socket.create_connection(address, timeout=seconds)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(seconds)
            connection.connect(str(address))
        except OSError:
            connection.close()
            raise
        return connection
    except OSError as error:
        raise HttpFailed(error.strerror or str(error)) from error


def _malformed() -> HttpFailed:
    return HttpFailed("what responds there is no HTTP server", malformed=True)


def _number(digits: bytes, base: int) -> int:
    try:
        number = int(digits, base)
    except ValueError as error:
        raise _malformed() from error
    if number < 0:
        raise _malformed()
    return number
