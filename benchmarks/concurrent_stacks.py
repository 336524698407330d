"""The load of stacks on a shared machine: three at once against one, memory, and the time of a test's database.

Memory is the sum of the resident sizes of all processes of a stack, including the supervisor: pages that several of
them share count several times, so that the real sum is lower. It is measured after the stack was idle for a while.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import psycopg
from psycopg import conninfo, sql

from benchmarks.cleanup import ended_in_any_case
from photo_worker.adapters.postgres import migrate
from photo_worker.devkit.stack import Stack
from photo_worker.devkit.state import Processes

THREE_BAR = 2.5
MEMORY_BAR_MIB = 700.0
CLONE_BAR_MS = 50.0
CLONES = 40
_IDLE_SECONDS = 20.0
_TIMEOUT_SECONDS = 180.0


def run(rounds: int = 3, *, idle_seconds: float = _IDLE_SECONDS, clones: int = CLONES) -> dict[str, Any]:
    """Return seconds of one and of three `up` at once, and their ratio; MiB of one stack; ms of a database."""
    one: list[float] = []
    three: list[float] = []
    for _ in range(rounds):
        one.append(_up_at_once(1))
        three.append(_up_at_once(3))
    with _home() as home:
        # As the tests run it: without waiting for writes to reach the disk.
        stack = Stack(home, "bench", base_port=0, durable=False)
        try:
            stack.up()
            time.sleep(idle_seconds)
            memory = resident_mib(stack)
            clone = clone_ms(stack.env()["DATABASE_URL"], clones)
        finally:
            stack.delete()
    ratio = statistics.median(three) / statistics.median(one)
    return {
        "rounds": rounds,
        "one_seconds": statistics.median(one),
        "three_seconds": statistics.median(three),
        "ratio": ratio,
        "bar": THREE_BAR,
        "memory_mib": memory,
        "memory_bar_mib": MEMORY_BAR_MIB,
        "clone_ms": clone,
        "clone_bar_ms": CLONE_BAR_MS,
        "met": ratio <= THREE_BAR and sum(memory.values()) <= MEMORY_BAR_MIB and clone <= CLONE_BAR_MS,
    }


def resident_mib(stack: Stack) -> dict[str, float]:
    """Return the resident MiB of each service of a running stack, and of the supervisor with its reaper."""
    known = Processes.load(stack.paths)
    roots = {entry.name: entry.pid for entry in known.services.values()}
    found = {name: _resident(psutil.Process(pid)) for name, pid in roots.items() if pid is not None}
    supervision = [pid for pid in (known.pid, known.reaper) if pid is not None]
    return found | {"supervisor": sum(psutil.Process(pid).memory_info().rss for pid in supervision) / 2**20}


def _resident(process: psutil.Process) -> float:
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            # A short-lived process, such as a backend of Postgres.
            continue
    return total / 2**20


def clone_ms(server_url: str, clones: int = CLONES) -> float:
    """Return the median milliseconds to create a test's own migrated database, in the way the tests do it."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        template = f"bench_{uuid4().hex}"
        made = [template]
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(template)))
        try:
            migrate.upgrade(conninfo.make_conninfo(server_url, dbname=template))
            seconds = []
            for _ in range(clones):
                name = f"bench_{uuid4().hex}"
                made.append(name)
                began = time.perf_counter()
                # A new connection, as in each test.
                with psycopg.connect(server_url, autocommit=True) as another:
                    copy = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
                    another.execute(copy.format(sql.Identifier(name), sql.Identifier(template)))
                seconds.append(time.perf_counter() - began)
        finally:
            for name in made:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
    return statistics.median(seconds) * 1000


def _up_at_once(count: int) -> float:
    """Return the seconds until ``count`` new stacks, started together, are all usable."""
    with _home() as home:
        names = [f"bench-{number}" for number in range(count)]
        environment = {**os.environ, "PHOTO_WORKER_HOME": str(home)}
        command = [sys.executable, "-m", "photo_worker.cli", "up", "--name"]
        try:
            began = time.monotonic()
            started = [subprocess.Popen([*command, name], env=environment, **_QUIET) for name in names]
            codes = [process.wait(timeout=_TIMEOUT_SECONDS) for process in started]
            seconds = time.monotonic() - began
        finally:
            for name in names:
                Stack(home, name).delete()
    if any(codes):
        raise RuntimeError(f"of {count} stacks at once, `up` ended with {codes}")
    return seconds


_QUIET: dict[str, Any] = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.DEVNULL,
    "stderr": subprocess.DEVNULL,
}


@contextmanager
def _home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="photo-worker-bench-") as name, ended_in_any_case() as ending:
        # Postgres, which root starts as another user, must be able to traverse it, or its data would be elsewhere.
        Path(name).chmod(0o711)
        ending.register("stack", name)
        yield Path(name)


def table(result: dict[str, Any]) -> Sequence[tuple[str, str]]:
    """Return the lines to show."""
    memory = sorted(result["memory_mib"].items(), key=lambda item: item[1])
    return [
        ("one stack, s", f"{result['one_seconds']:.2f}"),
        ("three stacks at once, s", f"{result['three_seconds']:.2f}"),
        ("three / one", f"{result['ratio']:.2f} (bar {THREE_BAR:g} at most)"),
        *((f"{name} idle, MiB", f"{mib:.0f}") for name, mib in memory),
        ("the stack idle, MiB", f"{sum(result['memory_mib'].values()):.0f} (bar {MEMORY_BAR_MIB:g} at most)"),
        ("a test's database, ms", f"{result['clone_ms']:.1f} (bar {CLONE_BAR_MS:g} at most)"),
    ]
