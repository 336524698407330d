"""Old connections to Postgres die silently: the worker goes on and logs it, and no command hangs."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from tests.integration.test_commands import PHOTO, clean, photo_worker, worker_process
from tests.support.harness import FIXTURES
from tests.support.proxy import Proxy, proxy_to

pytestmark = pytest.mark.stack

# A statement times out after 18 s. `check` is left out: it retries three times, which takes minutes.
BOUND_SECONDS = 90


def through(variables: dict[str, str], proxy: Proxy) -> dict[str, str]:
    parts = urlsplit(variables["DATABASE_URL"])
    own = parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{proxy.port}")
    return variables | {"DATABASE_URL": own.geturl()}


def address(variables: dict[str, str]) -> tuple[str, int]:
    parts = urlsplit(variables["DATABASE_URL"])
    return str(parts.hostname), int(parts.port or 5432)


@pytest.mark.timeout(300)
def test_worker_with_dead_connections_goes_on(stack_variables: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    photos = sorted(file for file in (FIXTURES / "photos").iterdir() if file.suffix in {".jpg", ".jpeg", ".png"})[:4]
    with proxy_to(*address(stack_variables)) as proxy, worker_process(through(stack_variables, proxy), log):
        words = ("--engine", "recorded", "--wait")
        first = photo_worker("submit", PHOTO, *words, variables=stack_variables, cwd=tmp_path)
        assert first.returncode == 0, first.stderr
        proxy.swallow()
        assert proxy.swallowed() > 0
        done = photo_worker("submit", *photos, *words, variables=stack_variables, cwd=tmp_path, timeout=240)
    assert done.stdout.count("succeeded") == 4, done.stdout + done.stderr
    said = log.read_text(encoding="utf-8")
    assert "the connections to Postgres are replaced" in said
    assert "the server has not responded within" in said


@pytest.mark.timeout(300)
def test_commands_with_dead_connection_end_with_error(stack_variables: dict[str, str], tmp_path: Path) -> None:
    """The connection dies while the first statement is in flight."""
    commands = [("submit", str(PHOTO), "--engine", "recorded"), ("show", str(uuid4()))]
    with proxy_to(*address(stack_variables)) as proxy:
        proxy.swallow_at(b"recipe")

        def run(words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "photo_worker.cli", *words, "-o", "json"],
                env=clean(through(stack_variables, proxy)),
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=BOUND_SECONDS,
                check=False,
                stdin=subprocess.DEVNULL,
            )

        with ThreadPoolExecutor(2) as threads:
            ended = list(threads.map(run, commands))
    for command, process in zip(commands, ended, strict=True):
        assert process.returncode == 1, (command, process.stdout, process.stderr)
        assert json.loads(process.stdout)["error"]["code"] == "database_unavailable", (command, process.stdout)


@pytest.mark.timeout(300)
def test_commands_without_postgres_fail_once_and_soon(stack_variables: dict[str, str], tmp_path: Path) -> None:
    """No server listens at the address of Postgres; the command prints only the error and its hint."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        away = stack_variables | {"DATABASE_URL": f"postgresql://photo@127.0.0.1:{held.getsockname()[1]}/photo"}

        def run(words: tuple[str, ...]) -> tuple[subprocess.CompletedProcess[str], float]:
            begun = time.monotonic()
            ended = subprocess.run(
                [sys.executable, "-m", "photo_worker.cli", *words],
                env=clean(away),
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
                stdin=subprocess.DEVNULL,
            )
            return ended, time.monotonic() - begun

        commands = [("submit", str(PHOTO)), ("show", str(uuid4())), ("check",)]
        with ThreadPoolExecutor(3) as threads:
            ended = list(threads.map(run, commands))
    for command, (process, seconds) in zip(commands, ended, strict=True):
        assert process.returncode == 1, command
        first, hint = process.stderr.splitlines()
        assert first.startswith("error [database_unavailable]: "), (command, process.stderr)
        assert hint.startswith("hint: "), (command, process.stderr)
        # One try takes five seconds and the start of Python; three more tries take a minute.
        assert seconds < 45, command
