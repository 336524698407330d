"""An HTTP/1.1 forwarder that applies the origin rules to a service that is no Python program.

    python -m photo_worker.devkit.guard.proxy --listen 0.0.0.0:8233 --to temporal:6667

It checks the head of each request; bodies and responses are streamed. If the service cannot be reached, the forwarder
closes the connection without a response, as if nothing listened.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import resource
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from photo_worker.devkit.guard.rules import DRAIN_BYTES, ServiceRules, allowed_hosts
from textract_local.origins import OriginRules

logger = logging.getLogger(__name__)

_PIECE = 64 * 1024
_LONGEST_HEAD = 256 * 1024
_LONGEST_LINE = 8 * 1024
# From the first byte of a request to the last byte of its head: a page of the UI sends it at once.
HEAD_SECONDS = 10.0
# Before a connection's first request. After it, a response may take long: the service decides when to end it.
FIRST_BYTE_SECONDS = 60.0
# A browser opens six to an origin. Each connection holds two sockets here, and a process may be limited to 1,024.
MOST_CONNECTIONS = 256
# Other files that the process has open, with a reserve.
_OTHER_FILES = 32
# After this idle time, a page waits for nothing on a connection that it cannot request again.
IDLE_SECONDS = 5.0
_DRAIN_SECONDS = 5.0
# RFC 9110, 5.6.2: a method, and the name of a header.
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# RFC 9112, 3: single spaces, and no space or control character in the target as any program reads it. A target that
# names a host, as in requests to a proxy, would take precedence over the Host header.
_REQUEST_LINE = re.compile(_TOKEN + rb" (?:/[^\x00-\x20\x7f]*|\*) HTTP/1\.[01]")
_NAME = re.compile(_TOKEN)
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")


class Malformed(Exception):
    """A request that is invalid, or that two parsers may understand in two ways."""


class Head(NamedTuple):
    """A request's head: its bytes, its headers with names in lower case, and how its body is framed."""

    raw: bytes
    headers: list[tuple[bytes, bytes]]
    length: int
    chunked: bool


@dataclass(frozen=True)
class ProxyLimits:
    """How long a client may be silent, in seconds, and how many connections may be open.

    At the limit a new connection closes the idlest one; if none is idle for ``idle_seconds``, the new one is closed.
    """

    head_seconds: float = HEAD_SECONDS
    first_byte_seconds: float = FIRST_BYTE_SECONDS
    connections: int = MOST_CONNECTIONS
    idle_seconds: float = IDLE_SECONDS


def limits_here(limits: ProxyLimits = ProxyLimits()) -> ProxyLimits:
    """Raise this process's limit of open files as needed; return limits that fit the result."""
    needed = 2 * limits.connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        # On macOS the default is 256, and the hard limit is not the kernel's.
        with suppress(ValueError, OSError):
            resource.setrlimit(
                resource.RLIMIT_NOFILE, (needed if hard == resource.RLIM_INFINITY else min(needed, hard), hard)
            )
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return replace(limits, connections=max(1, min(limits.connections, (soft - _OTHER_FILES) // 2)))
    return limits


class FirstByteTimeout(Exception):
    """A client that has sent no request within ``first_byte_seconds``."""


class _Clients:
    """The open connections, each a task, with the time of the last traffic on it."""

    def __init__(self, limits: ProxyLimits) -> None:
        self._limits = limits
        self._passed: dict[asyncio.Task[None], float] = {}
        self._said = False

    def admit(self, task: asyncio.Task[None]) -> bool:
        """Add a connection; at the limit, cancel the idlest one for it. Return False if none is idle enough."""
        if len(self._passed) >= self._limits.connections:
            if not self._said:
                # Logged once: each later connection would repeat it.
                self._said = True
                logger.warning(
                    "%d connections are open, the most there may be: from now on each new one ends the idlest",
                    self._limits.connections,
                )
            idlest = min(self._passed, key=self._passed.__getitem__)
            if time.monotonic() - self._passed[idlest] < self._limits.idle_seconds:
                return False
            self.forget(idlest)
            idlest.cancel()
        self._passed[task] = time.monotonic()
        task.add_done_callback(self.forget)
        return True

    def passed(self, task: asyncio.Task[None]) -> None:
        """Record traffic on a connection now."""
        if task in self._passed:
            self._passed[task] = time.monotonic()

    def forget(self, task: asyncio.Task[None]) -> None:
        """Remove a connection."""
        self._passed.pop(task, None)

    async def end(self) -> None:
        """Cancel all connections and wait until they have ended."""
        tasks = list(self._passed)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def serve(
    listening: socket.socket,
    target: tuple[str, int],
    rules: OriginRules,
    limits: ProxyLimits = ProxyLimits(),
) -> None:
    """Forward connections of a listening socket until cancelled, which cuts off those that are open."""
    clients = _Clients(limits)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or not clients.admit(task):
            writer.close()
            return
        try:
            with suppress(OSError, EOFError, asyncio.LimitOverrunError):
                await _forward(reader, writer, target, rules, limits, partial(clients.passed, task))
        finally:
            writer.close()

    server = await asyncio.start_server(connected, sock=listening, limit=_LONGEST_HEAD)
    try:
        # Not serve_forever: since Python 3.12 its end waits for every connection, which a silent client could delay.
        await asyncio.Event().wait()
    finally:
        server.close()
        await clients.end()


async def _forward(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    target: tuple[str, int],
    rules: OriginRules,
    limits: ProxyLimits,
    passed: Callable[[], None],
) -> None:
    # Connect first: while the service is down, the forwarder sends nothing in its name, not even a refusal.
    responses, requests = await asyncio.open_connection(*target)
    back = asyncio.create_task(_copy(responses, writer, passed))
    forth = asyncio.create_task(_requests(reader, requests, rules, limits, passed))
    try:
        await asyncio.wait({back, forth}, return_when=asyncio.FIRST_COMPLETED)
        if not forth.done():
            return
        try:
            refusal = forth.result()
        except FirstByteTimeout:
            return
        if refusal is not None:
            back.cancel()
            requests.close()
            await _say(writer, *refusal)
            await _drain(reader, writer)
            return
        # The client has sent its last request; the response may still be on its way.
        if requests.can_write_eof():
            requests.write_eof()
        await back
    finally:
        for task in (back, forth):
            task.cancel()
        await asyncio.gather(back, forth, return_exceptions=True)
        requests.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passed: Callable[[], None]) -> None:
    while piece := await reader.read(_PIECE):
        passed()
        writer.write(piece)
        await writer.drain()


async def _requests(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    rules: OriginRules,
    limits: ProxyLimits,
    passed: Callable[[], None],
) -> tuple[str, str] | None:
    """Forward requests up to the first refused one; return its status and reason, None at the end of the connection.

    Raises ``FirstByteTimeout``.
    """
    patience: float | None = limits.first_byte_seconds
    while True:
        try:
            head = await _head(reader, patience, limits.head_seconds)
            patience = None
            if head is None:
                return None
            passed()
            reason = rules.refusal(head.headers)
            if reason is not None:
                return "403 Forbidden", reason
            writer.write(head.raw)
            await writer.drain()
            if head.chunked:
                await _chunks(reader, writer, passed)
            else:
                await _exactly(reader, writer, head.length, passed)
        except Malformed as error:
            return "400 Bad Request", f"photo-worker refuses this request: {error}. Send HTTP/1.1."


async def _head(reader: asyncio.StreamReader, patience: float | None, head_seconds: float) -> Head | None:
    try:
        async with asyncio.timeout(patience):
            first = await reader.read(1)
    except TimeoutError as error:
        raise FirstByteTimeout from error
    if not first:
        return None
    try:
        async with asyncio.timeout(head_seconds):
            raw = first + await reader.readuntil(b"\r\n\r\n")
    except TimeoutError as error:
        raise Malformed(f"its head did not come within {head_seconds:g} s") from error
    except asyncio.IncompleteReadError as error:
        raise Malformed("its head is cut off") from error
    except asyncio.LimitOverrunError as error:
        raise Malformed(f"its head has more than {_LONGEST_HEAD} bytes") from error
    return parse_head(raw)


def parse_head(raw: bytes) -> Head:
    """Parse a request's head, blank line included; raises ``Malformed`` if it is ambiguous (RFC 9112)."""
    request, *lines = raw[:-4].split(b"\r\n")
    if not _REQUEST_LINE.fullmatch(request):
        raise Malformed("its first line is no request of HTTP/1.1")
    headers = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name) or b"\n" in line or b"\r" in line or b"\0" in line:
            raise Malformed("a line of its head is no header")
        headers.append((name.lower(), value.strip(b" \t")))
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    # Programs disagree on what a transfer coding means in HTTP/1.0 (RFC 9112, 6.1).
    old = request.endswith(b"1.0")
    if len(lengths) > 1 or (codings and (lengths or old)) or codings not in ([], [b"chunked"]):
        raise Malformed("it does not say clearly how long its body is")
    if lengths and not (lengths[0].isdigit() and len(lengths[0]) < 19):
        raise Malformed("its Content-Length is no number")
    if any(name == b"upgrade" for name, _ in headers):
        raise Malformed("it asks for another protocol")
    return Head(raw, headers, int(lengths[0]) if lengths else 0, bool(codings))


async def _exactly(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, length: int, passed: Callable[[], None]
) -> None:
    while length:
        piece = await reader.read(min(length, _PIECE))
        if not piece:
            raise EOFError
        passed()
        length -= len(piece)
        writer.write(piece)
        await writer.drain()


async def _chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passed: Callable[[], None]) -> None:
    """Forward a chunked body with its trailers (RFC 9112, 7.1)."""
    while True:
        line = await _line(reader)
        digits = line[:-2].partition(b";")[0]
        # int() alone would accept signs, underscores and spaces as well.
        if not _CHUNK_SIZE.fullmatch(digits):
            raise Malformed("a chunk of its body has no length")
        size = int(digits, 16)
        writer.write(line)
        if size == 0:
            break
        await _exactly(reader, writer, size, passed)
        if (end := await _line(reader)) != b"\r\n":
            raise Malformed("a chunk of its body is longer than it says")
        writer.write(end)
    while (line := await _line(reader)) != b"\r\n":
        writer.write(line)
    writer.write(line)
    await writer.drain()


async def _line(reader: asyncio.StreamReader) -> bytes:
    line = await reader.readuntil(b"\r\n")
    if len(line) > _LONGEST_LINE or b"\n" in line[:-2] or b"\r" in line[:-2]:
        raise Malformed("a line of its body cannot be read")
    return line


async def _say(writer: asyncio.StreamWriter, status: str, reason: str) -> None:
    body = f"{reason}\n".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
    await writer.drain()


async def _drain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read and discard what a refused client still sends, so that it gets to read the response."""
    writer.write_eof()
    left = DRAIN_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while left > 0 and (piece := await reader.read(_PIECE)):
                left -= len(piece)


def main() -> None:
    """Parse the options and forward until a signal ends the process."""
    parser = argparse.ArgumentParser(prog="python -m photo_worker.devkit.guard.proxy")
    parser.add_argument("--listen", required=True, metavar="HOST:PORT", help="address to listen on")
    parser.add_argument("--to", required=True, metavar="HOST:PORT", help="the service")
    given = parser.parse_args()
    listening = socket.create_server(_address(given.listen))
    rules = ServiceRules(allowed_hosts(os.environ), same_origin=True)
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(listening, _address(given.to), rules, limits_here()))


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


if __name__ == "__main__":
    main()
