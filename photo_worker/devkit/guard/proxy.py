"""The rules in front of a service that is no Python program: a forwarder of HTTP/1.1 that looks at each request's head.

    python -m photo_worker.devkit.guard.proxy --listen 0.0.0.0:8233 --to temporal:6667

Bodies and responses pass as they come, in pieces. A service that cannot be reached is not answered for: the connection
is closed without a word, as if nothing listened.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from photo_worker.devkit.guard.rules import Rules, allowed_hosts

_PIECE = 64 * 1024
_LONGEST_HEAD = 256 * 1024
_LONGEST_LINE = 8 * 1024
# From a request's first byte to its head's last: a page of the UI sends it at once.
HEAD_SECONDS = 10.0
# Of a connection before its first request. Behind one, the answer may take its time: when to end it is the service's.
FIRST_BYTE_SECONDS = 60.0
# A browser opens six to an origin. Each connection holds two sockets here, and 1,024 may be all that a process has.
MOST_CONNECTIONS = 256
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")


class Malformed(Exception):
    """A request that two readers may understand in two ways, or none."""


class Head(NamedTuple):
    """A request's head: its bytes, its headers with names in lower case, and how its body is framed."""

    raw: bytes
    headers: list[tuple[bytes, bytes]]
    length: int
    chunked: bool


@dataclass(frozen=True)
class Limits:
    """How long a client may be silent, in seconds, and how many may be connected; one more is closed unheard."""

    head_seconds: float = HEAD_SECONDS
    first_byte_seconds: float = FIRST_BYTE_SECONDS
    connections: int = MOST_CONNECTIONS


class Silent(Exception):
    """A client that has sent no request in its time."""


async def serve(
    listening: socket.socket,
    target: tuple[str, int],
    rules: Rules,
    limits: Limits = Limits(),
) -> None:
    """Forward what comes in on a listening socket, until cancelled; what is under way then is cut off."""
    open_now: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(open_now) >= limits.connections:
            writer.close()
            return
        open_now.add(task)
        task.add_done_callback(open_now.discard)
        try:
            with suppress(OSError, EOFError, asyncio.LimitOverrunError):
                await _forward(reader, writer, target, rules, limits)
        finally:
            writer.close()

    server = await asyncio.start_server(connected, sock=listening, limit=_LONGEST_HEAD)
    try:
        # Not serve_forever: from Python 3.12 on its end waits for every connection, which a silent client would hold.
        await asyncio.Event().wait()
    finally:
        server.close()
        for task in open_now:
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)


async def _forward(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    target: tuple[str, int],
    rules: Rules,
    limits: Limits,
) -> None:
    # First of all: while the service is away, nothing is said in its name, not even a refusal.
    answers, requests = await asyncio.open_connection(*target)
    back = asyncio.create_task(_copy(answers, writer))
    forth = asyncio.create_task(_requests(reader, requests, rules, limits))
    try:
        await asyncio.wait({back, forth}, return_when=asyncio.FIRST_COMPLETED)
        if not forth.done():
            return
        try:
            refusal = forth.result()
        except Silent:
            return
        if refusal is not None:
            await _say(writer, *refusal)
            return
        # The client has sent its last; the answer may still be on its way.
        if requests.can_write_eof():
            requests.write_eof()
        await back
    finally:
        for task in (back, forth):
            task.cancel()
        await asyncio.gather(back, forth, return_exceptions=True)
        requests.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_PIECE):
        writer.write(piece)
        await writer.drain()


async def _requests(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rules: Rules, limits: Limits
) -> tuple[str, str] | None:
    """Pass requests on up to the first that is refused: return its status and the reason, None at the end of all.

    Raises ``Silent``.
    """
    patience: float | None = limits.first_byte_seconds
    while True:
        try:
            head = await _head(reader, patience, limits.head_seconds)
            patience = None
            if head is None:
                return None
            reason = rules.refusal(head.headers)
            if reason is not None:
                return "403 Forbidden", reason
            writer.write(head.raw)
            await writer.drain()
            if head.chunked:
                await _chunks(reader, writer)
            else:
                await _exactly(reader, writer, head.length)
        except Malformed as error:
            return "400 Bad Request", f"photo-worker refuses this request: {error}. Send HTTP/1.1."


async def _head(reader: asyncio.StreamReader, patience: float | None, head_seconds: float) -> Head | None:
    try:
        async with asyncio.timeout(patience):
            first = await reader.read(1)
    except TimeoutError as error:
        raise Silent from error
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
    """Read a request's head, blank line included; raises ``Malformed`` for all that leaves a choice (RFC 9112)."""
    request, *lines = raw[:-4].split(b"\r\n")
    if not request.endswith((b" HTTP/1.1", b" HTTP/1.0")):
        raise Malformed("it is no HTTP/1.1")
    headers = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip() or b"\n" in line or b"\r" in line or b"\0" in line:
            raise Malformed("a line of its head is no header")
        headers.append((name.lower(), value.strip(b" \t")))
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if len(lengths) > 1 or (lengths and codings) or codings not in ([], [b"chunked"]):
        raise Malformed("it does not say clearly how long its body is")
    if lengths and not (lengths[0].isdigit() and len(lengths[0]) < 19):
        raise Malformed("its Content-Length is no number")
    if any(name == b"upgrade" for name, _ in headers):
        raise Malformed("it asks for another protocol")
    return Head(raw, headers, int(lengths[0]) if lengths else 0, bool(codings))


async def _exactly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, length: int) -> None:
    while length:
        piece = await reader.read(min(length, _PIECE))
        if not piece:
            raise EOFError
        length -= len(piece)
        writer.write(piece)
        await writer.drain()


async def _chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on a chunked body with its trailers (RFC 9112, 7.1)."""
    while True:
        line = await _line(reader)
        digits = line[:-2].partition(b";")[0]
        # int() alone takes signs, underscores and spaces as well.
        if not _CHUNK_SIZE.fullmatch(digits):
            raise Malformed("a chunk of its body has no length")
        size = int(digits, 16)
        writer.write(line)
        if size == 0:
            break
        await _exactly(reader, writer, size)
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


def main() -> None:
    """Forward until a signal ends the process."""
    parser = argparse.ArgumentParser(prog="python -m photo_worker.devkit.guard.proxy")
    parser.add_argument("--listen", required=True, metavar="HOST:PORT", help="address to listen on")
    parser.add_argument("--to", required=True, metavar="HOST:PORT", help="the service")
    given = parser.parse_args()
    listening = socket.create_server(_address(given.listen))
    rules = Rules(allowed_hosts(os.environ), same_origin=True)
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(listening, _address(given.to), rules))


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


if __name__ == "__main__":
    main()
