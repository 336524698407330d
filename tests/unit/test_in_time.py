"""A test that times out unwinds its blocks, and a worker whose shutdown hangs is abandoned."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
from temporalio.worker import Worker

from tests.support.workers import running

HANGS = """
import asyncio
import pytest

class TestOne:
    @pytest.mark.timeout(0.2)
    async def test_hangs(self):
        try:
            await asyncio.Event().wait()
        finally:
            # What a worker's end takes, at least.
            await asyncio.sleep(0.01)
            print("left in order")

async def test_has_the_limit_of_the_run():
    await asyncio.Event().wait()

@pytest.mark.timeout(0)
async def test_has_no_limit():
    await asyncio.sleep(0.4)
"""
SETTINGS = """
[pytest]
asyncio_mode = auto
timeout = 0.3
"""


@pytest.mark.single_python
def test_in_time_timeout_runs_finally_blocks(tmp_path: Path) -> None:
    (tmp_path / "test_hangs.py").write_text(HANGS, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text(SETTINGS, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        str(tmp_path / "pytest.ini"),
        "-p",
        "tests.support.async_timeout",
        "-ra",
    ]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", str(tmp_path)],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "left in order" in done.stdout
    assert "2 failed, 1 passed" in done.stdout
    assert done.stdout.count("TimeoutError") >= 2, done.stdout
    # The message of pytest-timeout.
    assert "Failed: Timeout" not in done.stdout


class Endless:
    """A stand-in for a worker whose shutdown never ends, as an async context manager."""

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *error: object) -> None:
        await asyncio.Event().wait()


async def test_running_worker_without_end_is_abandoned(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with asyncio.timeout(60), running(cast(Worker, Endless()), seconds=0.05):
        pass
    assert "left behind" in caplog.text
    assert asyncio.all_tasks() == {asyncio.current_task()}
