"""The README's first command on a separate stack, also with the worker killed midway."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from photo_worker.devkit.local_stack import local_stack
from tests.support.harness import FIXTURES

pytestmark = [pytest.mark.stack, pytest.mark.io_bound, pytest.mark.timeout(300)]

ROOT = FIXTURES.parent
INDEX = {Path(entry["file"]).name: entry for entry in json.loads((FIXTURES / "index.json").read_text())["fixtures"]}


@dataclass
class Checkout:
    """Runs commands as a user in this worktree would, with the stacks in another directory."""

    home: Path
    stack: str
    choice: dict[str, str]
    """The options of the stack, as variables that the commands read."""

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        return subprocess.Popen(
            [sys.executable, "-m", "photo_worker.cli", *arguments, "--name", self.stack],
            cwd=ROOT,
            env=kept | self.choice | {"PHOTO_WORKER_HOME": str(self.home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        stdout, stderr = process.communicate(timeout=240)
        return process.returncode, stdout, stderr


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, stack_choice: dict[str, str]) -> Iterator[Checkout]:
    made = Checkout(tmp_path_factory.mktemp("stacks"), f"e2e-{secrets.token_hex(3)}", stack_choice)
    yield made
    code, _, stderr = made.run("down")
    # Containers leave volumes behind, which are outside the directory.
    local_stack(made.stack, home=made.home).delete()
    assert code == 0, stderr
    here = str(made.home)
    left = [process.info for process in psutil.process_iter(["pid", "cmdline"]) if here in str(process.info["cmdline"])]
    assert left == []


def jobs_of(stdout: str) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = json.loads(stdout)["data"]["jobs"]
    return jobs


def comparable(jobs: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Return the fields that must be equal in two runs of the demo: all but ids and times."""
    return [
        (job["source"], job["report"]["status"], job["report"]["words"], job["report"]["mean_confidence"])
        for job in jobs
    ]


@pytest.fixture(scope="module")
def first(checkout: Checkout) -> list[dict[str, Any]]:
    code, stdout, stderr = checkout.run("demo", "-o", "json")
    assert code == 0, stderr
    return jobs_of(stdout)


def words(lines: list[str]) -> Counter[str]:
    return Counter(word for line in lines for word in line.casefold().split())


def test_demo_processes_and_reads_every_fixture(first: list[dict[str, Any]]) -> None:
    assert {job["source"] for job in first} == set(INDEX)
    assert {job["report"]["status"] for job in first} == {"succeeded"}
    assert {job["report"]["ocr_engine"] for job in first} == {"textract"}
    found = total = 0
    for job in first:
        expected = words(INDEX[job["source"]]["lines"])
        found += (expected & words(job["report"]["lines"])).total()
        total += expected.total()
    assert found / total >= 0.85


def test_demo_second_run_reports_same_jobs(checkout: Checkout, first: list[dict[str, Any]]) -> None:
    code, stdout, stderr = checkout.run("demo", "-o", "json")
    assert code == 0, stderr
    assert [job["job_id"] for job in jobs_of(stdout)] == [job["job_id"] for job in first]
    assert [job["report"] for job in jobs_of(stdout)] == [job["report"] for job in first]


def test_demo_text_output_has_table_and_links(checkout: Checkout, first: list[dict[str, Any]]) -> None:
    code, stdout, _ = checkout.run("demo")
    assert code == 0
    assert stdout.count("succeeded") == len(first)
    for job in first:
        assert job["links"]["text"] in stdout
        assert job["links"]["workflow"] in stdout


def test_demo_worker_killed_midway_gives_same_results(checkout: Checkout, first: list[dict[str, Any]]) -> None:
    process = checkout.start("demo", "--fresh", "-o", "json")
    try:
        worker = wait_for_worker(process)
        wait_for_work(worker)
        worker.kill()
        stdout, stderr = process.communicate(timeout=240)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, stderr
    assert "starting it again" in stderr
    assert comparable(jobs_of(stdout)) == comparable(first)


def wait_for_worker(demo: subprocess.Popen[str]) -> psutil.Process:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for child in psutil.Process(demo.pid).children():
            # A child may exit after it was listed.
            with contextlib.suppress(psutil.Error):
                if "worker" in child.cmdline():
                    return child
        time.sleep(0.02)
    raise AssertionError("the demo started no worker")


def wait_for_work(worker: psutil.Process) -> None:
    """Wait until the worker has connections to its services, so that it is at work."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if len(worker.net_connections()) >= 4:
            return
        time.sleep(0.02)
    raise AssertionError("the worker opened no connections to its services")
