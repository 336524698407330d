"""A stack of two small ledgers, and `photo-worker` run on it as a user runs it at a terminal.

A ledger acknowledges ``+line`` when the line is on disk, and responds to ``?`` with all lines: it must keep every
acknowledged line. Run as a program, this module is `photo-worker` with ledgers instead of the real services.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import photo_worker.devkit.stack
from photo_worker.devkit.layout import StackPaths
from photo_worker.devkit.plan import ServicePlan
from photo_worker.devkit.readiness import NotReady, ResetFailed
from photo_worker.devkit.stack import Stack
from photo_worker.devkit.state import Processes, StackRecord
from tests.integration.devkit.fake_services import FakeService

ROOT = Path(__file__).parents[2]
BEGUN = "begun"
_SERVE = """
import os, socket, sys
port, path = int(sys.argv[1]), sys.argv[2]
print("the ledger opens", flush=True)
server = socket.create_server(("127.0.0.1", port))
while True:
    client, _ = server.accept()
    with client:
        asked = client.makefile("rb").readline()
        with open(path, "a+b") as ledger:
            if asked.startswith(b"+"):
                ledger.write(asked[1:])
                ledger.flush()
                os.fsync(ledger.fileno())
                client.sendall(b"kept")
            elif asked.startswith(b"-"):
                ledger.truncate(0)
                client.sendall(b"emptied")
            else:
                ledger.seek(0)
                client.sendall(b"=" + ledger.read())
"""


@dataclass(frozen=True)
class Ledger(FakeService):
    """A service that keeps lines; a reset restarts one that ``discards``, like Temporal."""

    def plan(self, record: StackRecord, paths: StackPaths) -> ServicePlan:
        data = paths.data / self.name
        data.mkdir(exist_ok=True)
        argv = [sys.executable, "-I", "-S", "-c", _SERVE, str(record.ports[self.uses[0]]), str(data / "lines")]
        return replace(super().plan(record, paths), argv=[*argv, str(paths.root)])

    def probe_ready(self, record: StackRecord) -> None:
        try:
            self.lines(record)
        except OSError as error:
            raise NotReady(str(error)) from error

    def wipe(self, record: StackRecord, paths: StackPaths) -> None:
        if not self.discards and self._ask(record, b"-\n") != b"emptied":
            raise ResetFailed("the ledger does not respond")

    def put(self, record: StackRecord, line: str) -> None:
        """Write a line, and return when it is on disk."""
        assert self._ask(record, f"+{line}\n".encode()) == b"kept"

    def lines(self, record: StackRecord) -> list[str]:
        response = self._ask(record, b"?\n")
        if not response.startswith(b"="):
            raise OSError("the ledger hung up")
        return response[1:].decode().splitlines()

    def _ask(self, record: StackRecord, key: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", record.ports[self.uses[0]]), timeout=10) as connection:
            connection.sendall(key)
            with connection.makefile("rb") as response:
                return response.read()


BLUE = Ledger(name="blue")
RED = Ledger(name="red", uses=("postgres",), discards=True)
LEDGERS = (BLUE, RED)


class LedgerStack(Stack):
    """A stack of ledgers, with the arguments of ``Stack``."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **{**options, "services": LEDGERS})  # type: ignore[arg-type]


def record_of(stack: Stack) -> StackRecord:
    record = StackRecord.load(stack.paths)
    assert record is not None
    return record


def put(stack: Stack, line: str) -> None:
    """Write a line to every ledger of a running stack."""
    for ledger in LEDGERS:
        ledger.put(record_of(stack), line)


def lines(stack: Stack) -> list[list[str]]:
    """Return the lines of every ledger of a running stack."""
    return [ledger.lines(record_of(stack)) for ledger in LEDGERS]


def pids_of(stack: Stack) -> dict[str, int]:
    """Return the pids in the stack's record by name: supervisor, reaper and the services."""
    known = Processes.load(stack.paths)
    found = {"supervisor": known.pid, "reaper": known.reaper}
    found |= {name: entry.pid for name, entry in known.services.items()}
    return {name: pid for name, pid in found.items() if pid is not None}


def command(
    *arguments: str, home: Path, env: Mapping[str, str] | None = None, hangup: signal.Handlers = signal.SIG_DFL
) -> subprocess.Popen[str]:
    """Start `photo-worker` on ledgers in its own process group, like a shell; it prints ``BEGUN`` first.

    ``hangup`` is its handling of SIGHUP, independent of the tests', which may run under nohup.
    """
    before = signal.signal(signal.SIGHUP, hangup)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.stack.support", *arguments],
            cwd=ROOT,
            env={**os.environ, "PHOTO_WORKER_HOME": str(home), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
    finally:
        signal.signal(signal.SIGHUP, before)


@contextmanager
def begun(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Wait until a command's own code runs; end it if it still runs after the block."""
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == BEGUN
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def main() -> None:
    """Run one command."""
    from photo_worker import cli

    photo_worker.devkit.stack.Stack = LedgerStack  # type: ignore[misc]
    sys.stdout.write(f"{BEGUN}\n")
    sys.stdout.flush()
    cli.main()


if __name__ == "__main__":
    main()
