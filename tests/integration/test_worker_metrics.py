"""The metrics of a worker process, fetched as Prometheus does."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.integration.test_commands import PHOTO, photo_worker, worker_process
from tests.support.harness import eventually

pytestmark = pytest.mark.stack


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield int(taken.getsockname()[1])


def free_port() -> int:
    with taken_port() as port:
        return port


def fetch(url: str) -> str:
    with urlopen(url, timeout=10) as response:  # noqa: S310 - it is a port of this machine
        return str(response.read().decode())


async def metric(port: int, pattern: str) -> float:
    """Return the value of the first metric whose line begins so, as soon as the worker serves it."""

    async def found() -> float | None:
        try:
            text = await asyncio.to_thread(fetch, f"http://127.0.0.1:{port}/metrics")
        except URLError:
            return None
        match = re.search(rf"^{pattern}\{{.*\}} (\S+)$", text, re.MULTILINE)
        return float(match[1]) if match else None

    return await eventually(found, seconds=60)


async def test_worker_metrics_count_its_activities(stack_variables: dict[str, str], tmp_path: Path) -> None:
    port = free_port()
    variables = stack_variables | {"METRICS_ADDRESS": f"127.0.0.1:{port}"}
    with worker_process(variables, tmp_path / "worker.log"):
        done = photo_worker("submit", PHOTO, "--engine", "recorded", "--wait", variables=stack_variables, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert await metric(port, "temporal_workflow_completed_total") == 1


async def test_worker_metrics_say_what_it_waits_for(stack_variables: dict[str, str], tmp_path: Path) -> None:
    port = free_port()
    variables = stack_variables | {"METRICS_ADDRESS": f"127.0.0.1:{port}", "OCR_ENGINE": "no-such-engine"}
    with worker_process(variables, tmp_path / "worker.log"):
        assert await metric(port, "photo_worker_waits") == 1


def test_worker_metrics_address_in_use_exits_1(stack_variables: dict[str, str], tmp_path: Path) -> None:
    with taken_port() as port:
        variables = stack_variables | {"METRICS_ADDRESS": f"127.0.0.1:{port}"}
        done = photo_worker("worker", variables=variables, cwd=tmp_path)
    assert done.returncode == 1
    assert "config_invalid" in done.stderr
    assert f"127.0.0.1:{port}" in done.stderr
    assert "in use" in done.stderr
