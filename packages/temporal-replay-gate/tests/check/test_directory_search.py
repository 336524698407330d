"""The search reads or reports each path that could hold a history: hidden files, broken links, closed directories."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gate_support.histories import GOOD, copy
from temporal_replay_gate.main import program

TARGET = ("--workflows", "gate_support.kitchen:Kitchen", "--no-static", "--no-coverage", "--no-provenance")


def checked(directory: Path) -> tuple[int, dict[str, Any]]:
    """Run ``replay check`` on a directory as a child process; return the exit code and the report."""
    done = subprocess.run(
        [sys.executable, "-m", "temporal_replay_gate.main", "check", str(directory), *TARGET, "--format", "json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)["data"]


def told(data: dict[str, Any]) -> list[tuple[str, str]]:
    return [(finding["code"], finding["file"]) for finding in data["findings"]]


def test_search_reads_hidden_history_skips_hidden_clutter(tmp_path: Path) -> None:
    hidden = copy(tmp_path, ".a")
    copy(tmp_path / ".nested", "b")
    for name in (".DS_Store", ".gitkeep", ".gitignore", "notes.md"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    code, data = checked(tmp_path)
    assert (code, data["findings"]) == (0, [])
    assert {each["file"] for each in data["histories"]} == {str(hidden), str(tmp_path / ".nested" / "b.json")}


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [(".x.json", "{}", "history_without_events"), (".x.json.gz", "x", "file_not_read"), (".x", "x", "file_not_read")],
)
def test_search_hidden_file_without_history_is_red(tmp_path: Path, name: str, text: str, kind: str) -> None:
    copy(tmp_path, "a")
    (tmp_path / name).write_text(text, encoding="utf-8")
    code, data = checked(tmp_path)
    assert (code, told(data)) == (1, [(kind, str(tmp_path / name))])


@pytest.mark.parametrize("name", ["2026", "old.txt"])
@pytest.mark.parametrize("leads", ["nowhere", "itself"])
def test_search_dangling_or_circular_link_is_red(tmp_path: Path, name: str, leads: str) -> None:
    copy(tmp_path, "a")
    (tmp_path / name).symlink_to(tmp_path / (name if leads == "itself" else "nowhere"))
    code, data = checked(tmp_path)
    assert (code, told(data)) == (1, [("folder_not_read", str(tmp_path / name))])


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """Return a corpus with nested directories whose path is too long for the system, with a history in the last."""
    corpus = tmp_path / "corpus"
    copy(corpus, "a")
    at = os.open(corpus, os.O_RDONLY)
    try:
        for _ in range(20):
            os.mkdir("d" * 240, dir_fd=at)
            inner = os.open("d" * 240, os.O_RDONLY, dir_fd=at)
            os.close(at)
            at = inner
        with os.fdopen(os.open("lost.json", os.O_CREAT | os.O_WRONLY, dir_fd=at), "wb") as file:
            file.write(GOOD.read_bytes())
    finally:
        os.close(at)
    return corpus


def test_search_directory_with_too_long_path_is_red(deep: Path) -> None:
    code, data = checked(deep)
    assert (code, [kind for kind, _ in told(data)]) == (1, ["folder_not_read"])
    assert os.strerror(errno.ENAMETOOLONG) in data["findings"][0]["what"]


def refusing(directory: Path) -> Callable[..., Any]:
    scandir = os.scandir

    def listed(path: Any = ".") -> Any:
        if Path(os.fsdecode(path)) == directory:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(directory))
        return scandir(path)

    return listed


@pytest.mark.parametrize("inner", [".", "inner"])
def test_search_directory_without_permission_is_red(
    tmp_path: Path, inner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(tmp_path, "a")
    closed = tmp_path / inner
    closed.mkdir(exist_ok=True)
    monkeypatch.setattr(os, "scandir", refusing(closed))
    done = CliRunner().invoke(program, ["check", str(tmp_path), *TARGET, "--format", "json"])
    assert done.exit_code == 1
    assert told(json.loads(done.stdout)["data"]) == [("folder_not_read", str(closed))]
    done = CliRunner().invoke(program, ["list", str(tmp_path)])
    assert done.exit_code == 0
    assert "[folder_not_read] It cannot be searched: Permission denied." in done.stderr


def test_search_pipe_is_red_and_does_not_block(tmp_path: Path) -> None:
    copy(tmp_path, "a")
    os.mkfifo(tmp_path / "b.json")
    code, data = checked(tmp_path)
    assert (code, told(data)) == (1, [("history_not_a_file", str(tmp_path / "b.json"))])
