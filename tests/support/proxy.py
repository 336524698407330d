"""A TCP forwarder on loopback that injects network faults: a real service becomes unreachable, silent or slow.

``down`` closes connections, which both sides notice. ``swallow`` acts like a firewall that forgets a connection, or a
failover that moves an address: bytes are accepted and discarded, nothing is closed, and the kernel acknowledges them.
"""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_PIECE = 64 * 1024
_BACKLOG = 100
# Matches the start of a request in a chunk of the client, with its method.
_REQUEST = re.compile(rb"([A-Z]+) \S+ HTTP/1\.1\r\n")
# The interval at which a slow link forwards bytes.
_TICK_SECONDS = 0.02


@dataclass(eq=False)
class _Link:
    """One connection in both directions; once ``swallowed``, it stays so."""

    here: socket.socket
    swallowed: bool = False
    # Never set: a swallowed connection is not closed either, until the proxy closes it.
    silence: asyncio.Event = field(default_factory=asyncio.Event)


class Proxy:
    """Forwards its port to ``target``. A proxy that is down refuses connections."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._listener: socket.socket | None = None
        self._links: dict[asyncio.Task[None], _Link] = {}
        self._swallows_new = False
        self._marker: bytes | None = None
        self._delay = 0.0
        self._rate: int | None = None
        self._response: Callable[[str], bytes | None] = _passes
        self._naming = b""
        self.port = 0
        self.accepted = 0
        """The number of connections accepted so far."""

    def start(self) -> None:
        """Start forwarding on a free port."""
        self._thread.start()
        self.up()

    def up(self) -> None:
        """Accept connections, on the same port as before."""
        self._call(self._listen)

    def down(self) -> None:
        """Refuse new connections and close the open ones."""
        self._call(self._shut)

    def swallow(self, *, new: bool = False) -> None:
        """Swallow all bytes of the open connections from now on, and of later ones as well if ``new``."""

        async def swallow() -> None:
            self._swallows_new = new
            for link in self._links.values():
                link.swallowed = True

        self._call(swallow)

    def swallow_at(self, marker: bytes) -> None:
        """Swallow a connection from the chunk on in which its client sends ``marker``."""

        async def swallow_at() -> None:
            self._marker = marker

        self._call(swallow_at)

    def delay(self, seconds: float) -> None:
        """Delay each chunk by ``seconds`` in both directions."""

        async def delay() -> None:
            self._delay = seconds

        self._call(delay)

    def slow(self, bytes_per_second: int | None) -> None:
        """Limit the rate in each direction of each connection; None removes the limit."""

        async def slow() -> None:
            self._rate = bytes_per_second

        self._call(slow)

    def respond(self, response: Callable[[str], bytes | None], *, naming: bytes = b"") -> None:
        """Respond to HTTP requests in the service's place; requests for whose method ``response`` returns None pass.

        So do requests whose head does not contain ``naming``. The connection is closed after a response, which
        therefore has ``Connection: close``.
        """

        async def take() -> None:
            self._response, self._naming = response, naming

        self._call(take)

    def heal(self) -> None:
        """End all faults; swallowed connections stay so, because bytes of theirs are lost."""

        async def heal() -> None:
            self._swallows_new, self._marker, self._delay, self._rate = False, None, 0.0, None
            self._response = _passes

        self._call(heal)

    def swallowed(self) -> int:
        """The number of open connections that are swallowed."""
        found: list[int] = []

        async def count() -> None:
            found.append(sum(link.swallowed for link in self._links.values()))

        self._call(count)
        return found[0]

    def close(self) -> None:
        """Close all connections and stop the forwarder finally."""
        self.down()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _call(self, work: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            await work()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    async def _listen(self) -> None:
        if self._listener is not None:
            return
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=_BACKLOG)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._loop.add_reader(self._listener, self._accept, self._listener)

    async def _shut(self) -> None:
        if self._listener is None:
            return
        self._loop.remove_reader(self._listener)
        self._listener.close()
        self._listener = None
        for task in self._links:
            task.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)
        # The loop closes an aborted transport in its next iteration.
        await asyncio.sleep(0)

    def _accept(self, listener: socket.socket) -> None:
        # asyncio.start_server leaks a connection that it accepts while it is being closed.
        try:
            here, _ = listener.accept()
        except OSError:
            return
        here.setblocking(False)
        self.accepted += 1
        link = _Link(here, swallowed=self._swallows_new)
        task = self._loop.create_task(self._forward(link))
        self._links[task] = link
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        # Also if the task was cancelled before it began.
        self._links.pop(task).here.close()

    async def _forward(self, link: _Link) -> None:
        reader, writer = await asyncio.open_connection(sock=link.here)
        try:
            if link.swallowed:
                await self._copy(link, reader, None)
                return
            there_reader, there_writer = await asyncio.open_connection(*self._target)
            try:
                await asyncio.gather(
                    self._copy(link, reader, there_writer, back=writer), self._copy(link, there_reader, writer)
                )
            finally:
                there_writer.transport.abort()
        except (OSError, asyncio.CancelledError):
            # Closed connections are expected here.
            pass
        finally:
            writer.transport.abort()

    async def _copy(
        self,
        link: _Link,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter | None,
        *,
        back: asyncio.StreamWriter | None = None,
    ) -> None:
        """Forward one direction; if ``back`` is given, which leads to the client, inspect the chunks for rules."""
        while piece := await reader.read(_PIECE):
            if back is not None and self._marker is not None and self._marker in piece:
                link.swallowed = True
            request = _REQUEST.match(piece) if back is not None else None
            said = self._response(request[1].decode("ascii")) if request and self._naming in piece else None
            if back is not None and said is not None:
                back.write(said)
                # Read the rest of the request: otherwise the response may be lost with the connection.
                while await reader.read(_PIECE):
                    pass
                break
            if self._delay:
                await asyncio.sleep(self._delay)
            for part in _parts(piece, self._rate):
                if writer is None or link.swallowed:
                    break
                writer.write(part)
                await writer.drain()
                if self._rate is not None:
                    await asyncio.sleep(len(part) / self._rate)
        if link.swallowed:
            await link.silence.wait()
        if writer is not None:
            with suppress(OSError):
                writer.write_eof()


def _passes(method: str) -> None:
    """Return None: every request passes."""


def _parts(piece: bytes, rate: int | None) -> Iterator[bytes]:
    size = len(piece) if rate is None else max(1, int(rate * _TICK_SECONDS))
    for start in range(0, len(piece), size):
        yield piece[start : start + size]


@contextmanager
def proxy_to(host: str, port: int) -> Iterator[Proxy]:
    """Yield a proxy that forwards to a service while the block runs."""
    proxy = Proxy((host, port))
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.close()
