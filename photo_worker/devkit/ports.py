"""The stack's TCP ports: one block per stack, always on loopback.

Blocks lie below the ephemeral port ranges of Linux (from 32768) and macOS (from 49152), so that no
outgoing connection takes a stack's port while the stack is down.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from photo_worker.devkit.errors import NoFreePorts, PortTaken
from photo_worker.devkit.service_modules import service_modules

if TYPE_CHECKING:
    import psutil

LOOPBACK = "127.0.0.1"
BLOCK = 20
_LOWEST = 15_000
_BLOCKS = 850
_UNKNOWN_OWNER = "a process of another user"


class _Connection(Protocol):
    """The attributes that psutil's two kinds of connection share."""

    @property
    def status(self) -> str: ...

    @property
    def laddr(self) -> tuple[Any, ...]: ...


@dataclass(frozen=True)
class StackPorts:
    """The ports of a stack, each at a fixed distance from the block's base."""

    base: int

    def __getitem__(self, use: str) -> int:
        return self.base + _offsets()[use]


@cache
def _offsets() -> dict[str, int]:
    """Return the distance of each port from the block's base, by use."""
    return {use: offset for module in service_modules() for use, offset in module.PORTS.items()}


def derived_base(worktree: Path, name: str) -> int:
    """Return the first port of the block for a worktree and a stack name; the same in every run."""
    digest = hashlib.sha256(os.fsencode(worktree) + b"\0" + name.encode()).digest()
    return _LOWEST + BLOCK * (int.from_bytes(digest[:8], "big") % _BLOCKS)


def free_base() -> int:
    """Return the first port of a random block whose ports are all free now; raises ``NoFreePorts``."""
    generator = random.SystemRandom()
    for _ in range(200):
        base = _LOWEST + BLOCK * generator.randrange(_BLOCKS)
        if not any(is_taken(base + offset) for offset in set(_offsets().values())):
            return base
    raise NoFreePorts()


def is_taken(port: int) -> bool:
    """Return whether a socket is bound to this loopback port.

    Connecting and binding are both needed: if a listener holds the wildcard address, macOS still lets another
    socket bind loopback; if a socket is bound and does not listen yet, connecting fails.
    """
    with socket.socket() as client:
        client.settimeout(0.5)
        if client.connect_ex((LOOPBACK, port)) == 0:
            return True
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((LOOPBACK, port))
        except OSError:
            return True
    return False


def require_free(ports: StackPorts, uses: dict[str, str]) -> None:
    """Raise ``PortTaken`` for the first port that is in use; ``uses`` maps a port's use to its service."""
    for use, service in uses.items():
        port = ports[use]
        if is_taken(port):
            raise PortTaken(port=port, service=service, owner=owner_of(port))


def owner_of(port: int) -> str:
    """Return a description of the process that listens on a port, as far as this user may see it."""
    import psutil

    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.pid and _listens_on(connection, port):
                return _describe(connection.pid)
        return _UNKNOWN_OWNER
    # macOS lists all connections for root only; a user's own processes can still be read one by one.
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(_listens_on(connection, port) for connection in process.net_connections("tcp")):
                return _describe(process.pid)
    return _UNKNOWN_OWNER


def has_port(process: psutil.Process, port: int) -> bool:
    """Return whether a process listens on a port, true if access is denied; raises ``psutil.NoSuchProcess``."""
    import psutil

    try:
        return any(_listens_on(connection, port) for connection in process.net_connections("tcp"))
    except psutil.AccessDenied:
        return True


def _listens_on(connection: _Connection, port: int) -> bool:
    return connection.status == "LISTEN" and connection.laddr[1:2] == (port,)


def _describe(pid: int) -> str:
    import psutil

    try:
        command = " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        command = ""
    return f"process {pid} ({command[:120]})" if command else f"process {pid}"
