from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.support.xdist_scheduler import group_of

ROOT = Path(__file__).resolve().parents[2]

_FILE = """
import os

import pytest


@pytest.mark.parametrize("server", ["minio", "localstack"])
@pytest.mark.parametrize("number", range(3))
def test_of_servers(server, number):
    note(server)


@pytest.mark.parametrize("number", range(3))
def test_of_file(number):
    note(__name__)


def note(what):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(f"{what} {os.environ['PYTEST_XDIST_WORKER']}\\n")
"""


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        ("tests/e2e/test_demo.py::test_a_worker", "tests/e2e/test_demo.py"),
        ("tests/s3/test_table.py::TestKeys::test_a_key[minio]", "minio"),
        ("tests/s3/test_table.py::TestKeys::test_a_key[a-localstack]", "localstack"),
        ("tests/s3/test_table.py::TestKeys::test_a_key[minio/a]", "tests/s3/test_table.py"),
        ("tests/s3/test_table.py::test_a_key[a::b]", "tests/s3/test_table.py"),
    ],
)
def test_group_of_server_or_file(nodeid: str, group: str) -> None:
    assert group_of(nodeid) == group


def test_scheduler_keeps_group_in_one_process(tmp_path: Path) -> None:
    for name in ("test_one.py", "test_other.py"):
        (tmp_path / name).write_text(_FILE, encoding="utf-8")
    notes = tmp_path / "notes"
    options = [
        "--numprocesses",
        "3",
        "--dist",
        "loadgroup",
        "-p",
        "tests.support.xdist_scheduler",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *options, "--rootdir", str(tmp_path), str(tmp_path)],
        env={**os.environ, "NOTES": str(notes), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    workers = defaultdict(set)
    lines = notes.read_text(encoding="utf-8").splitlines()
    for what, worker in map(str.split, lines):
        workers[what].add(worker)
    assert len(lines) == 18
    assert {what: len(found) for what, found in workers.items()} == dict.fromkeys(
        ["minio", "localstack", "test_one", "test_other"], 1
    )
