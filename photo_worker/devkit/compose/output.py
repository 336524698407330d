"""The log lines of a stack's containers, prepared for display."""

from __future__ import annotations

import contextlib
import queue
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime

from photo_worker.devkit.container_engine import ContainerEngine
from photo_worker.devkit.containers import Container, containers
from photo_worker.devkit.errors import StackError
from photo_worker.devkit.logs import SHOWN_LINES, LogReader, printable

# A frame's header: the stream it belongs to, three unused bytes, and the payload's length (Docker documentation,
# "Attach to a container", "Stream format").
_FRAME = struct.Struct(">BxxxL")
_POLL_SECONDS = 0.2


def tail(engine: ContainerEngine, container: Container, lines: int) -> list[str]:
    """Return the last complete lines of a container's log without control characters; empty if it has none."""
    if lines <= 0:
        return []
    with engine.stream(*_request(container, {"tail": str(lines)})) as (_, blocks):
        content = b"".join(_payloads(blocks))
    return [printable(line) for line in content.splitlines()[-lines:]]


def shown(engine: ContainerEngine, container: Container) -> str:
    """Return a container's last lines as error messages show them; empty if the engine no longer has them."""
    lines: list[str] = []
    with contextlib.suppress(StackError):
        lines = tail(engine, container, SHOWN_LINES)
    return "".join(f"\n  {container.service} | {line}" for line in lines)


class Follower:
    """Yields new log lines of services, also after their containers were restarted or recreated.

    ``files`` are log files of processes outside of the containers, followed as well.
    """

    def __init__(
        self, engine: ContainerEngine, project: str, services: Collection[str], files: Sequence[LogReader] = ()
    ) -> None:
        self._engine = engine
        self._project = project
        self._services = frozenset(services)
        self._files = files
        self._new: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._readers: dict[str, threading.Thread] = {}
        self._connections: set[socket.socket] = set()
        self._guard = threading.Lock()
        self._closed = False
        # The time of the last line seen of each container; every line of a container that is not listed is new.
        self._last = {entry.id: self._last_stamp(entry) for entry in self._found()}

    def lines(self, stop: Callable[[], bool]) -> Iterator[tuple[str, str]]:
        """Yield (service, line) until ``stop`` returns true."""
        looked = float("-inf")
        try:
            while not stop():
                if time.monotonic() - looked > _POLL_SECONDS:
                    self._read_new()
                    looked = time.monotonic()
                for file in self._files:
                    for line in file.new_lines():
                        yield file.service, line
                with contextlib.suppress(queue.Empty):
                    yield self._new.get(timeout=_POLL_SECONDS)
        finally:
            self._close()

    def _found(self) -> list[Container]:
        try:
            found = containers(self._engine, self._project)
        except StackError:
            # The engine does not respond, perhaps because it restarts; the next attempt may succeed.
            return []
        return [entry for entry in found.values() if entry.service in self._services]

    def _last_stamp(self, entry: Container) -> str:
        with self._engine.stream(*_request(entry, {"tail": "1", "timestamps": True})) as (_, blocks):
            return b"".join(_payloads(blocks)).partition(b" ")[0].decode("ascii", errors="replace")

    def _read_new(self) -> None:
        """Start a reader for each live container that has none, or whose reader has ended."""
        for entry in self._found():
            reader = self._readers.get(entry.id)
            if entry.is_running and (reader is None or not reader.is_alive()):
                self._readers[entry.id] = threading.Thread(target=self._read, args=(entry,), daemon=True)
                self._readers[entry.id].start()

    def _read(self, entry: Container) -> None:
        last = self._last.get(entry.id, "")
        options: dict[str, object] = {"timestamps": True, "follow": True}
        if last:
            # In whole seconds: lines of that second that were seen already are skipped below.
            options["since"] = str(int(datetime.fromisoformat(re.sub(r"\.\d+", "", last)).timestamp()))
        # Closed because the reader has stopped or the engine is gone; the next attempt shows which.
        with (
            contextlib.suppress(StackError, OSError, ValueError),
            self._engine.stream(*_request(entry, options)) as (connection, blocks),
            self._kept(connection),
        ):
            for line in _lines(_payloads(blocks)):
                stamp, _, text = line.partition(b" ")
                if (now := stamp.decode("ascii", errors="replace")) > last:
                    last = self._last[entry.id] = now
                    self._new.put((entry.service, printable(text)))

    @contextlib.contextmanager
    def _kept(self, connection: socket.socket) -> Iterator[None]:
        with self._guard:
            self._connections.add(connection)
            if self._closed:
                connection.shutdown(socket.SHUT_RDWR)
        try:
            yield
        finally:
            with self._guard:
                self._connections.discard(connection)

    def _close(self) -> None:
        with self._guard:
            self._closed = True
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


def _request(container: Container, options: dict[str, object]) -> tuple[str, dict[str, object]]:
    return f"/containers/{container.id}/logs", {"stdout": True, "stderr": True, **options}


def _payloads(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the payloads of the frames in which the engine wraps a container's two output streams."""
    buffer = b""
    for block in blocks:
        buffer += block
        while len(buffer) >= _FRAME.size:
            _, size = _FRAME.unpack_from(buffer)
            end = _FRAME.size + size
            if len(buffer) < end:
                break
            yield buffer[_FRAME.size : end]
            buffer = buffer[end:]


def _lines(payloads: Iterable[bytes]) -> Iterator[bytes]:
    """Yield complete lines; a last line without its newline is dropped."""
    rest = b""
    for payload in payloads:
        *whole, rest = (rest + payload).split(b"\n")
        yield from whole
