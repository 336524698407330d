"""Worker and command processes for tests: forked by the fork server, and ended in any case."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from photo_worker.devkit.plan import ServicePlan
from tests.crash.real.forkserver import EDITS_VARIABLE
from tests.support.mutation import Mutation

ROOT = Path(__file__).resolve().parents[3]

# Variables that a child inherits from this process; all others are passed explicitly.
_PASSED = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "PYTHONPATH", "VIRTUAL_ENV")
# Imports take a second, and longer on a busy machine.
_START_SECONDS = 60.0


@dataclass
class Child:
    """One process of the fork server; ``status`` is its exit code, negative for a signal."""

    forkserver: Forkserver = field(repr=False)
    pid: int
    log: Path
    ended: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    status: int | None = None

    @property
    def alive(self) -> bool:
        """Whether its end has not been reported; a stopped process is alive."""
        return self.status is None

    def signal(self, number: int) -> None:
        """Send a signal unless the process has ended."""
        self.forkserver.send({"signal": number, "pid": self.pid})

    async def end(self, seconds: float = 30.0) -> int:
        """Wait until the process has ended; return its status."""
        async with asyncio.timeout(seconds):
            await self.ended.wait()
        assert self.status is not None
        return self.status

    async def kill(self) -> None:
        """Kill the process and wait until it has ended."""
        self.signal(signal.SIGKILL)
        await self.end()

    async def drain(self, seconds: float = 30.0) -> int:
        """Send SIGTERM, so that the process finishes its work and ends; return its status."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        return await self.end(seconds)

    def is_stopped(self) -> bool:
        """Whether SIGSTOP holds it."""
        with contextlib.suppress(psutil.Error):
            return psutil.Process(self.pid).status() == psutil.STATUS_STOPPED
        return False

    def output(self) -> str:
        """Return everything in its log."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""


class Forkserver:
    """The test's end of the fork server's pipes. Use it in the event loop that opened it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = itertools.count()
        self._spawning: dict[int, tuple[asyncio.Future[Child], Path]] = {}
        self._children: dict[int, Child] = {}
        self._task: asyncio.Task[None] | None = None

    async def spawn(self, main: str, variables: Mapping[str, str], log: Path, *arguments: str) -> Child:
        """Start a ``worker`` or a ``command`` whose output goes to ``log``."""
        kept = {name: os.environ[name] for name in _PASSED if name in os.environ}
        return await self._spawn({"main": main, "arguments": arguments, "variables": {**kept, **variables}}, log)

    async def program(self, plan: ServicePlan) -> Child:
        """Start a service of the stack like its supervisor."""
        request = {"main": "program", "arguments": plan.argv, "variables": plan.env, "cwd": plan.cwd, "user": plan.user}
        return await self._spawn(request, Path(plan.log))

    async def _spawn(self, request: dict[str, Any], log: Path) -> Child:
        number = next(self._numbers)
        future: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        self._spawning[number] = (future, log)
        self.send(request | {"spawn": number, "log": str(log)})
        async with asyncio.timeout(_START_SECONDS):
            return await future

    def send(self, request: dict[str, Any]) -> None:
        """Write a request; the pipe's buffer is large enough for the few requests."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")

    async def ready(self) -> None:
        """Wait until the server has imported everything, then start reading its responses."""
        async with asyncio.timeout(_START_SECONDS):
            line = await self._line()
        if "ready" not in line:
            raise RuntimeError(f"the fork server did not start: {line}")
        self._task = asyncio.create_task(self._listen())

    async def close(self) -> None:
        """End every child and the fork server."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(20):
                await self._process.wait()
        finally:
            if self._process.returncode is None:
                self._process.kill()
            if self._task is not None:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)

    async def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        text = await self._process.stdout.readline()
        value: dict[str, Any] = json.loads(text) if text else {}
        return value

    async def _listen(self) -> None:
        while line := await self._line():
            if "spawned" in line:
                future, log = self._spawning.pop(line["spawned"])
                child = Child(self, line["pid"], log)
                self._children[child.pid] = child
                if not future.done():
                    future.set_result(child)
            elif "ended" in line:
                child = self._children.pop(line["ended"])
                child.status = line["status"]
                child.ended.set()


@asynccontextmanager
async def open_forkserver(edits: Sequence[Mutation] = ()) -> AsyncIterator[Forkserver]:
    """Yield a fork server that ends with its children after the block; ``edits`` change its product."""
    changed = {EDITS_VARIABLE: json.dumps([asdict(edit) for edit in edits])} if edits else {}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.crash.real.forkserver",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, **changed},
        # A Ctrl-C at the terminal is for the test, which ends the fork server.
        start_new_session=True,
    )
    forkserver = Forkserver(process)
    try:
        await forkserver.ready()
        yield forkserver
    finally:
        await forkserver.close()


def variables_for(stack: Mapping[str, str], **own: str) -> dict[str, str]:
    """Return a child's environment: the stack's variables, its own, and no profile of the user."""
    return {
        **stack,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "TEMPORAL_CONFIG_FILE": os.devnull,
        **own,
    }
