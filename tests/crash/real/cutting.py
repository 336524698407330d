"""A TCP forwarder in front of Postgres that closes a connection at one statement: within it, or after COMMIT."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_PIECE = 64 * 1024

INSIDE, REPLY_LOST = "inside", "reply lost"


class Cutter:
    """Forwards to ``target`` and closes the connection that writes the status ``value`` for the ``nth`` time.

    With ``REPLY_LOST`` the statement reaches the server, and its reply is awaited and discarded: in autocommit mode it
    comes after the commit. With ``INSIDE`` the statement is held back until ``go_on`` is set, and the connection is
    closed when ``cut`` is: the caller ensures that the server executes the statement then.
    """

    def __init__(self, target: tuple[str, int], value: str, nth: int, how: str) -> None:
        # The statement's text contains the values; only a status is between the hash and the code.
        self._needle = f", '{value}', ".encode()
        self._target = target
        self._left = nth
        self._how = how
        self._tasks: set[asyncio.Task[None]] = set()
        self.held = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cut = asyncio.Event()
        self.done = asyncio.Event()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            there, to_there = await asyncio.open_connection(*self._target)
            try:
                await self._forward(reader, writer, there, to_there)
            finally:
                to_there.transport.abort()
        except (OSError, asyncio.CancelledError):
            # Closed connections are expected here.
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def close(self) -> None:
        """End every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        to_there: asyncio.StreamWriter,
    ) -> None:
        back = asyncio.create_task(_copy(there, writer))
        try:
            while piece := await reader.read(_PIECE):
                if not self._is_it(piece):
                    to_there.write(piece)
                    continue
                back.cancel()
                await asyncio.gather(back, return_exceptions=True)
                await self._cut(piece, there, to_there)
                return
        finally:
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)

    def _is_it(self, piece: bytes) -> bool:
        if not self._left or self._needle not in piece:
            return False
        self._left -= 1
        return not self._left

    async def _cut(self, piece: bytes, there: asyncio.StreamReader, to_there: asyncio.StreamWriter) -> None:
        if self._how == INSIDE:
            self.held.set()
            await self.go_on.wait()
            to_there.write(piece)
            await self.cut.wait()
        else:
            to_there.write(piece)
            await there.read(1)
        self.done.set()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
        writer.write_eof()


@asynccontextmanager
async def cutter_to(target: tuple[str, int], value: str, nth: int, how: str) -> AsyncIterator[tuple[Cutter, int]]:
    """Forward while the block runs; yield the cutter and its port."""
    cutter = Cutter(target, value, nth, how)
    server = await asyncio.start_server(cutter.connected, "127.0.0.1", 0)
    try:
        yield cutter, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await cutter.close()
