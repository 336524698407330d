"""The container's health check against a real task queue: with a worker, without one, without Temporal."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from photo_worker.health import check
from tests.support.harness import Harness, eventually

pytestmark = pytest.mark.stack


async def test_a_worker_that_polls_is_healthy(harness: Harness) -> None:
    async def healthy() -> bool:
        return not await check(harness.variables, None, socket.gethostname())

    assert not await healthy()
    async with harness.worker():
        await eventually(healthy)
        reason = await check(harness.variables, None, "another-host")
    assert reason == f"no worker of another-host polls {harness.settings.temporal_task_queue}"


def test_no_temporal_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    with socket.socket() as taken:
        # Bound and not listening: nothing answers there, and nobody else can take it.
        taken.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{taken.getsockname()[1]}"
        environment = {"PATH": os.environ["PATH"], "TEMPORAL_TARGET": target}
        command = [sys.executable, "-m", "photo_worker.health"]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
    assert done.returncode == 1
    assert done.stderr.startswith(f"Temporal does not answer at {target}")
    assert len(done.stderr.splitlines()) == 1
