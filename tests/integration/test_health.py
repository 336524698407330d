"""The container's health check against a real task queue: with a worker, without one, without Temporal."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from photo_worker.adapters.temporal.pollers import announce_waiting, workers_of
from photo_worker.admission import Admission
from photo_worker.errors import DatabaseUnavailable
from photo_worker.health import check
from tests.support.harness import Harness, eventually

pytestmark = pytest.mark.stack


async def test_health_check_polling_worker_is_healthy(harness: Harness) -> None:
    async def healthy() -> bool:
        return not await check(harness.variables, None, socket.gethostname())

    assert not await healthy()
    async with harness.worker():
        await eventually(healthy)
        reason = await check(harness.variables, None, "another-host")
    assert reason == f"no worker of another-host polls {harness.settings.temporal_task_queue}"


async def test_health_check_waiting_worker_is_healthy(harness: Harness) -> None:
    away = True

    def database() -> None:
        if away:
            raise DatabaseUnavailable(database="recipes", reason="connection refused")

    said: list[str] = []

    async def healthy() -> bool:
        return not await check(harness.variables, None, socket.gethostname(), said.append)

    # The admission is closed from the start, like that of a worker that has not polled for activities for a while.
    admission = Admission([database])
    looking = asyncio.create_task(admission.wait_until_ready())
    queue = harness.settings.temporal_task_queue
    async with harness.worker(admission=admission):
        await eventually(healthy)
        telling = asyncio.create_task(announce_waiting(harness.client, queue, lambda: DatabaseUnavailable.code))
        await eventually(lambda: says(healthy, said))
        assert said[-1] == "the worker takes no work, it waits: database_unavailable\n"
        telling.cancel()
        away = False
        await looking

        async def takes_work() -> bool:
            return (await workers_of(harness.client, queue)).waits_for == ()

        await eventually(takes_work)
        said.clear()
        assert await healthy()
    assert said == []


async def says(healthy: Callable[[], Awaitable[bool]], said: list[str]) -> bool:
    assert await healthy()
    return bool(said)


def test_health_check_without_temporal_exits_1(tmp_path: Path) -> None:
    with socket.socket() as taken:
        # Bound but not listening: connections are refused, and no other program can take the port.
        taken.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{taken.getsockname()[1]}"
        environment = {"PATH": os.environ["PATH"], "TEMPORAL_TARGET": target}
        command = [sys.executable, "-m", "photo_worker.health"]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
    assert done.returncode == 1
    assert done.stderr.startswith(f"Temporal does not respond at {target}")
    assert len(done.stderr.splitlines()) == 1
