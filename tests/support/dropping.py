"""Packets of one connection that are lost on their way, as where a firewall forgets a flow or a machine is gone.

A proxy cannot stand for that: its own kernel goes on acknowledging every byte. Linux, root and iptables can.
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
    """This machine lets no packets be dropped, and why."""


class Dropping:
    """Loses every packet on loopback from and to one port; ``begin`` may be called once."""

    def __init__(self, port: int) -> None:
        self._rules = [("-i", "lo", "-p", "tcp", side, str(port), "-j", "DROP") for side in ("--sport", "--dport")]
        self._added: list[tuple[str, ...]] = []

    def begin(self) -> None:
        """Lose packets from now on. Raises ``CannotDrop``."""
        for rule in self._rules:
            _iptables("-I", "INPUT", *rule)
            self._added.append(rule)

    def end(self) -> None:
        """Take away what ``begin`` has added, and nothing else."""
        while self._added:
            _iptables("-D", "INPUT", *self._added.pop())


@contextmanager
def dropping(port: int) -> Iterator[Dropping]:
    """Give the means to lose the packets of a port on loopback while the block runs."""
    made = Dropping(port)
    try:
        yield made
    finally:
        made.end()


def why_not() -> str | None:
    """Say why no packets can be dropped here, None where they can; what it tries is taken away again."""
    if sys.platform != "linux":
        return "packets are dropped on Linux alone"
    if os.geteuid() != 0:
        return "only root drops packets"
    if shutil.which("iptables") is None:
        return "there is no iptables"
    try:
        # Port 0 is no connection's.
        with dropping(0) as tried:
            tried.begin()
    except CannotDrop as error:
        return str(error)
    return None


def _iptables(*arguments: str) -> None:
    # -w: other tests and programs change rules as well.
    ended = subprocess.run(
        ["iptables", "-w", str(_WAIT_SECONDS), *arguments], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise CannotDrop(f"iptables refuses: {ended.stderr.strip()}")
