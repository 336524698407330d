"""Fake services that start at once and misbehave as a test requests, and helpers that find their processes.

Run as a program, this module starts a stack of one fake service, so that a test can kill that `up`.
"""

from __future__ import annotations

import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from photo_worker.devkit.layout import StackPaths
from photo_worker.devkit.plan import ServicePlan
from photo_worker.devkit.readiness import NotReady, ResetFailed
from photo_worker.devkit.service import Service
from photo_worker.devkit.stack import Stack
from photo_worker.devkit.state import StackRecord

_SERVE = """
import signal, socket, subprocess, sys, time
mode, port = sys.argv[1], int(sys.argv[2])
print("toy starts", mode, flush=True)
if mode == "fails":
    print("the disk of the toy is on fire", flush=True)
    sys.exit(3)
if mode == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if mode == "parent":
    subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)", sys.argv[3]])
server = socket.create_server(("127.0.0.1", port))
while True:
    client, _ = server.accept()
    client.close()
"""


@dataclass(frozen=True)
class FakeService(Service):
    """A fake service. Modes: serves, fails, missing, deaf (to SIGTERM), parent, never (ready), empties (on a reset)."""

    name: str = "toy"
    mode: str = "serves"
    uses: tuple[str, ...] = ("temporal",)
    discards: bool = False

    def environment(self, record: StackRecord) -> dict[str, str]:
        return {}

    def version(self) -> str:
        return "toy 1"

    def url(self, record: StackRecord) -> str:
        return f"http://127.0.0.1:{record.ports[self.uses[0]]}"

    def plan(self, record: StackRecord, paths: StackPaths) -> ServicePlan:
        code = [sys.executable, "-I", "-S", "-c", _SERVE, self.mode, str(record.ports[self.uses[0]])]
        program = ["/nowhere/toy"] if self.mode == "missing" else code
        data = paths.data / self.name
        if self.discards:
            data.mkdir(exist_ok=True)
        return ServicePlan(
            name=self.name,
            argv=[*program, str(paths.root)],
            env={},
            cwd="/",
            log=str(paths.log(self.name)),
            stop_signal=signal.SIGTERM,
            stop_stage=0,
            discard=str(data) if self.discards else None,
        )

    def warm_imports(self) -> None:
        return

    def probe_ready(self, record: StackRecord) -> None:
        if self.mode == "never":
            raise NotReady("the toy does not want to")

    def wipe(self, record: StackRecord, paths: StackPaths) -> None:
        if self.mode != "empties":
            raise ResetFailed("the toy keeps what it has")

    def is_alive(self, record: StackRecord) -> bool:
        try:
            socket.create_connection(("127.0.0.1", record.ports[self.uses[0]]), timeout=1).close()
        except OSError:
            return False
        return True


def processes_of(root: Path) -> list[psutil.Process]:
    """Return the live processes that mention a directory in their command line or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            mentioned = " ".join([*process.cmdline(), *process.environ().values()])
            if str(root) in mentioned and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """Kill processes that a test has left, and fail it if there are any."""
    yield
    left = processes_of(tmp_path)
    for process in left:
        process.kill()
    assert left == []


def has_ended(pid: int) -> bool:
    """Return whether a process is gone or a zombie."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = 30.0) -> None:
    """Poll until a condition holds; raises ``AssertionError`` if it does not within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"still not so after {seconds:g} s: {what}")
        time.sleep(0.02)


def main() -> None:
    """Start a stack; the arguments are its home, its name and the fake service's mode."""
    home, name, mode = sys.argv[1:]
    try:
        Stack(Path(home), name, base_port=0, services=[FakeService(mode=mode)]).up()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
