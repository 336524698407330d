"""A TCP forwarder on loopback whose network a test can spoil: a real service, out of reach, silent or slow.

``down`` cuts, which both sides notice. ``swallow`` is what a firewall does that forgets a connection, or a failover
that moves an address: bytes are taken, none arrive, nothing is closed, and the kernel here acknowledges every one.
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
# Where a client's piece begins a request, and its method.
_REQUEST = re.compile(rb"([A-Z]+) \S+ HTTP/1\.1\r\n")
# How often a slow link lets bytes through.
_TICK_SECONDS = 0.02


@dataclass(eq=False)
class _Link:
    """One connection, both ways; ``swallowed`` ones stay so."""

    here: socket.socket
    swallowed: bool = False
    # Never set: what is swallowed is not closed either, until the proxy cuts it.
    silence: asyncio.Event = field(default_factory=asyncio.Event)


class Proxy:
    """Forwards a port of its own to ``target``. Connections to a proxy that is down are refused."""

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
        self._answer: Callable[[str], bytes | None] = _passes
        self._naming = b""
        self.port = 0
        self.accepted = 0
        """How many connections there have been."""

    def start(self) -> None:
        """Begin to forward, at first on a free port."""
        self._thread.start()
        self.up()

    def up(self) -> None:
        """Accept connections, on the port of the first time."""
        self._call(self._listen)

    def down(self) -> None:
        """Refuse connections and cut those that are open."""
        self._call(self._shut)

    def swallow(self, *, new: bool = False) -> None:
        """Let nothing through any more on the connections that are open, and on ``new`` ones too where told."""

        async def swallow() -> None:
            self._swallows_new = new
            for link in self._links.values():
                link.swallowed = True

        self._call(swallow)

    def swallow_at(self, marker: bytes) -> None:
        """Swallow each connection from the piece on in which a client sends ``marker``."""

        async def swallow_at() -> None:
            self._marker = marker

        self._call(swallow_at)

    def delay(self, seconds: float) -> None:
        """Hold each piece back for so long, each way."""

        async def delay() -> None:
            self._delay = seconds

        self._call(delay)

    def slow(self, bytes_per_second: int | None) -> None:
        """Let so much through, each way on each connection; None lets everything through."""

        async def slow() -> None:
            self._rate = bytes_per_second

        self._call(slow)

    def answer(self, answer: Callable[[str], bytes | None], *, naming: bytes = b"") -> None:
        """Give the answer to HTTP requests in the service's place; those for whose method it is None get through.

        So do those whose head does not have the bytes of ``naming``. It ends the connection, so that it says
        ``Connection: close``.
        """

        async def take() -> None:
            self._answer, self._naming = answer, naming

        self._call(take)

    def heal(self) -> None:
        """Forward as in the beginning; connections that were swallowed stay so, for bytes of theirs are lost."""

        async def heal() -> None:
            self._swallows_new, self._marker, self._delay, self._rate = False, None, 0.0, None
            self._answer = _passes

        self._call(heal)

    def swallowed(self) -> int:
        """Return how many open connections are swallowed."""
        found: list[int] = []

        async def count() -> None:
            found.append(sum(link.swallowed for link in self._links.values()))

        self._call(count)
        return found[0]

    def close(self) -> None:
        """Stop for good."""
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
        # The loop closes an aborted transport in its next round.
        await asyncio.sleep(0)

    def _accept(self, listener: socket.socket) -> None:
        # asyncio.start_server loses a connection that it has accepted while it is closed: nothing ever closes that.
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
        # Also where the task was cancelled before it began.
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
            # A cut connection is what this is for.
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
        """Pass on what one side says; the client's, to which ``back`` leads, is listened to."""
        while piece := await reader.read(_PIECE):
            if back is not None and self._marker is not None and self._marker in piece:
                link.swallowed = True
            request = _REQUEST.match(piece) if back is not None else None
            said = self._answer(request[1].decode("ascii")) if request and self._naming in piece else None
            if back is not None and said is not None:
                back.write(said)
                # The rest of the request is read: where it is not, the answer may be lost with the connection.
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
    """Answer nothing."""


def _parts(piece: bytes, rate: int | None) -> Iterator[bytes]:
    size = len(piece) if rate is None else max(1, int(rate * _TICK_SECONDS))
    for start in range(0, len(piece), size):
        yield piece[start : start + size]


@contextmanager
def proxy_to(host: str, port: int) -> Iterator[Proxy]:
    """Forward to a service while the block runs."""
    proxy = Proxy((host, port))
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.close()
