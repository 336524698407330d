"""Drop the packets of one connection, as if a firewall had lost its state or a machine were gone.

A proxy cannot simulate that: its kernel acknowledges every byte. This needs Linux, root and iptables.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_WAIT_SECONDS = 10


class CannotDrop(Exception):
    """Packets cannot be dropped on this machine; the text says why."""


class Dropping:
    """Drops every packet on loopback from and to one port; ``begin`` may be called once."""

    def __init__(self, port: int) -> None:
        self._rules = [("-i", "lo", "-p", "tcp", side, str(port), "-j", "DROP") for side in ("--sport", "--dport")]
        self._added: list[tuple[str, ...]] = []

    def begin(self) -> None:
        """Drop packets from now on. Raises ``CannotDrop``."""
        for rule in self._rules:
            _iptables("-I", "INPUT", *rule)
            self._added.append(rule)

    def end(self) -> None:
        """Remove the rules that ``begin`` has added, and no others."""
        while self._added:
            _iptables("-D", "INPUT", *self._added.pop())


@contextmanager
def dropping(port: int) -> Iterator[Dropping]:
    """Yield a ``Dropping`` for a port on loopback while the block runs."""
    made = Dropping(port)
    try:
        yield made
    finally:
        made.end()


def why_not() -> str | None:
    """Return why packets cannot be dropped here, None if they can; the rules of the attempt are removed."""
    if sys.platform != "linux":
        return "packets are dropped on Linux alone"
    if os.geteuid() != 0:
        return "only root drops packets"
    if shutil.which("iptables") is None:
        return "there is no iptables"
    try:
        # No connection uses port 0.
        with dropping(0) as tried:
            tried.begin()
    except CannotDrop as error:
        return str(error)
    return None


def _iptables(*arguments: str) -> None:
    # -w: wait for other tests and programs that change rules.
    ended = subprocess.run(
        ["iptables", "-w", str(_WAIT_SECONDS), *arguments], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise CannotDrop(f"iptables refuses: {ended.stderr.strip()}")
