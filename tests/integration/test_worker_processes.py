"""``worker --processes``: several workers as one program, however they end."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.integration.test_commands import PHOTO, clean, photo_worker
from tests.support.harness import Harness, eventually

pytestmark = pytest.mark.stack


@contextmanager
def two_workers(variables: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        parent = subprocess.Popen(
            [sys.executable, "-m", "photo_worker.cli", "worker", "--processes", "2"],
            env=clean(variables),
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    children: list[psutil.Process] = []
    try:
        yield parent
    finally:
        with suppress(psutil.NoSuchProcess):
            children = workers_of(parent)
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        parent.kill()
        parent.wait()


def workers_of(parent: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return [one for one in psutil.Process(parent.pid).children() if "worker" in one.cmdline()]


def count(log: Path, text: str) -> int:
    return log.read_text(encoding="utf-8").count(text)


async def two_poll(log: Path, polls: int = 2) -> bool:
    """Wait until the log has so many starts of a worker."""

    async def probe() -> bool | None:
        return count(log, "worker polls") >= polls or None

    return await eventually(probe, seconds=60)


async def gone(processes: list[psutil.Process]) -> bool:
    async def probe() -> bool | None:
        return not [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] or None

    return await eventually(probe, seconds=60)


async def test_worker_processes_both_work_and_end_by_one_signal(harness: Harness, tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    with two_workers(harness.variables, log) as parent:
        await two_poll(log)
        children = workers_of(parent)
        assert len(children) == 2
        await asyncio.to_thread(submit_one, harness.variables, tmp_path)
        parent.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(parent.wait, 60) == 0
        await gone(children)
    assert count(log, "worker stopped") == 2


async def test_worker_processes_a_killed_one_is_replaced(stack_variables: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    with two_workers(stack_variables, log) as parent:
        await two_poll(log)
        killed, other = workers_of(parent)
        killed.kill()
        await two_poll(log, 3)
        assert other.is_running()


async def test_worker_processes_end_if_their_parent_is_killed(stack_variables: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    with two_workers(stack_variables, log) as parent:
        await two_poll(log)
        children = workers_of(parent)
        parent.kill()
        await gone(children)


def test_worker_processes_wrong_settings_end_all(stack_variables: dict[str, str], tmp_path: Path) -> None:
    variables = stack_variables | {"TEMPORAL_NAMESPACE": "no-such-one"}
    done = photo_worker("worker", "--processes", "2", variables=variables, cwd=tmp_path)
    assert done.returncode == 1
    assert "temporal_namespace_missing" in done.stderr
    assert "all are stopped" in done.stderr


def submit_one(variables: dict[str, str], folder: Path) -> None:
    done = photo_worker("submit", PHOTO, "--engine", "recorded", "--wait", variables=variables, cwd=folder)
    assert done.returncode == 0, done.stderr
