"""What the containers of a stack wrote, for people."""

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
from photo_worker.devkit.logs import LogReader, printable
from photo_worker.errors import StackError

# A frame's head: the stream it belongs to, three bytes of nothing, and the payload's length (Docker documentation,
# "Attach to a container", "Stream format").
_FRAME = struct.Struct(">BxxxL")
_POLL_SECONDS = 0.2
_SHOWN_LINES = 20


def tail(engine: ContainerEngine, container: Container, lines: int) -> list[str]:
    """Return the last lines of a container, whole and without control characters; none where it has none."""
    if lines <= 0:
        return []
    with engine.stream(*_request(container, {"tail": str(lines)})) as (_, blocks):
        content = b"".join(_payloads(blocks))
    return [printable(line) for line in content.splitlines()[-lines:]]


def shown(engine: ContainerEngine, container: Container) -> str:
    """Return a container's last lines as error messages show them; nothing where the engine has them no more."""
    lines: list[str] = []
    with contextlib.suppress(StackError):
        lines = tail(engine, container, _SHOWN_LINES)
    return "".join(f"\n  {container.service} | {line}" for line in lines)


class Follower:
    """The lines that services write from now on, also after their containers were started or made anew.

    ``files`` are logs beside the containers, followed with them.
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
        # The time of the last line seen of each container; all that a container writes that is not here is new.
        self._last = {entry.id: self._last_stamp(entry) for entry in self._found()}

    def lines(self, stop: Callable[[], bool]) -> Iterator[tuple[str, str]]:
        """Yield (service, line) until ``stop`` says so."""
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
            # The engine is away, perhaps because it starts anew; the next look may find it.
            return []
        return [entry for entry in found.values() if entry.service in self._services]

    def _last_stamp(self, entry: Container) -> str:
        with self._engine.stream(*_request(entry, {"tail": "1", "timestamps": True})) as (_, blocks):
            return b"".join(_payloads(blocks)).partition(b" ")[0].decode("ascii", errors="replace")

    def _read_new(self) -> None:
        """Read the containers that live and are not read yet, or no more."""
        for entry in self._found():
            reader = self._readers.get(entry.id)
            if entry.is_running and (reader is None or not reader.is_alive()):
                self._readers[entry.id] = threading.Thread(target=self._read, args=(entry,), daemon=True)
                self._readers[entry.id].start()

    def _read(self, entry: Container) -> None:
        last = self._last.get(entry.id, "")
        options: dict[str, object] = {"timestamps": True, "follow": True}
        if last:
            # Whole seconds: the lines of that second which were seen are left out below.
            options["since"] = str(int(datetime.fromisoformat(re.sub(r"\.\d+", "", last)).timestamp()))
        # Closed because nobody reads any more, or the engine went; the next look tells which.
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
    """Take the frames off, in which the engine wraps what a container writes to its two streams."""
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
    """Yield whole lines; a last one without its end is left out."""
    rest = b""
    for payload in payloads:
        *whole, rest = (rest + payload).split(b"\n")
        yield from whole
