"""Commands write the files, read the variables and print the keys that their pages list, and no others."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from photo_worker.devkit import stack as stack_module
from photo_worker.devkit.layout import default_home
from photo_worker.devkit.stack import Stack
from tests.integration.devkit.fake_services import FakeService, processes_of
from tests.support.command_pages import Watched, differences
from tests.support.harness import FIXTURES, Harness

TOYS = (FakeService(mode="empties", discards=True), FakeService(name="second", uses=("postgres",), mode="empties"))


class ToyStack(Stack):
    """The stack of fake services that the commands use as a native stack."""

    def __init__(self, home: Path, name: str = "dev", **given: Any) -> None:
        super().__init__(home, name, **{**given, "base_port": given.get("base_port") or 0, "services": TOYS})


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Commands on a stack of fake services, with every directory that they could write to being watched."""
    roots = {"<home>": "stacks", "<stack>": "stacks/dev", "~": "home", "<tmp>": "tmp", "<cwd>": "here"}
    paths = {name: tmp_path / directory for name, directory in roots.items()}
    for name in ("~", "<tmp>", "<cwd>"):
        paths[name].mkdir()
    (paths["<cwd>"] / "pyproject.toml").touch()
    monkeypatch.chdir(paths["<cwd>"])
    monkeypatch.setenv("PHOTO_WORKER_HOME", str(paths["<home>"]))
    monkeypatch.delenv("TEMPORAL_CONFIG_FILE")
    monkeypatch.setenv("HOME", str(paths["~"]))
    monkeypatch.setenv("TMPDIR", str(paths["<tmp>"]))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(stack_module, "Stack", ToyStack)
    return Watched(paths, monkeypatch)


def test_stack_commands_match_their_pages(watched: Watched) -> None:
    try:
        _use_every_command(watched)
    finally:
        ToyStack(watched.roots["<home>"]).delete()
    assert sorted(set(watched.complaints)) == []
    # Files that commands are known to write: otherwise a watcher that sees nothing would pass.
    assert "<stack>/stack.json" in watched.changed["up"]
    assert "<stack>/processes.json" in watched.changed["down"]
    assert "<stack>/snapshots/seeded/snapshot.json" in watched.changed["snapshot-save"]
    assert "<stack>/run/paused.json" in watched.changed["faults-set"] & watched.changed["faults-clear"]
    for looks in ("status", "wait", "env", "logs", "doctor", "config-show", "snapshot-list", "faults-list"):
        assert watched.changed[looks] == set(), looks


def _use_every_command(watched: Watched) -> None:
    root = watched.roots["<stack>"]
    # Its findings depend on the machine.
    watched.run("doctor", codes=(0, 1))
    watched.run("status", codes=(1,))
    watched.run("up", "--timings")
    watched.run("up")
    for looks in ("status", "wait", "env"):
        watched.run(looks)
    watched.run("config", "show")
    watched.run("logs")
    watched.run("faults", "set", "second", "--pause")
    watched.run("faults", "list")
    watched.run("status", codes=(1,))
    watched.run("faults", "clear")
    watched.run("snapshot", "save", "seeded")
    watched.run("snapshot", "list")
    watched.run("snapshot", "load", "seeded", "--yes")
    watched.run("reset", "--yes", "--timings")
    watched.run("down")
    assert processes_of(root) == []
    watched.run("down")


@pytest.mark.stack
async def test_job_commands_match_their_pages(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in harness.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OCR_ENGINE", "recorded")
    watched = Watched({"<cwd>": tmp_path}, monkeypatch)
    photo = str(FIXTURES / "photos" / "clean-print.png")

    def use() -> None:
        watched.run("migrate")
        watched.run("config", "show")
        submitted = watched.run("submit", photo, "--wait")
        job_id = json.loads(submitted.stdout)["data"]["jobs"][0]["job_id"]
        watched.run("show", job_id)
        watched.run("check", codes=(0, 1))
        watched.run("erase", job_id, "--yes")
        watched.run("replay", "record", "--list", "--photo", photo)
        histories = str(FIXTURES.parent / "tests" / "replay" / "histories")
        listed = watched.run("replay", "list", histories)
        watched.run("replay", "show", json.loads(listed.stdout)["data"]["histories"][0]["file"])

    async with harness.worker():
        await asyncio.to_thread(use)
    assert watched.complaints == []
    assert set().union(*watched.changed.values()) == set()


def test_watched_detects_unlisted_keys_files_and_variables(watched: Watched) -> None:
    """The check of this module itself: which differences it reports."""
    shown = {"jobs": [{"id": 1, "error": None}], "rule": {"a": 1}, "at": {}}
    assert (
        list(differences(shown, {"jobs": [{"id": 2, "error": {"code": 3}}], "rule": {"b": 1}, "at": {}}, ("rule",)))
        == []
    )
    assert list(differences(shown, {"jobs": [], "rule": {"a": 2}})) == [".at is shown and not printed"]
    assert list(differences(shown, shown | {"jobs": [{"id": 1, "error": None, "more": 1}]})) == [
        ".jobs.more is printed and not shown"
    ]
    assert list(differences(shown, shown | {"rule": []})) == []
    assert list(differences(shown, shown | {"rule": ["a"]})) == [".rule: {'a': 1} is no list"]
    before = watched._files()
    (watched.roots["~"] / ".cache").write_text("surprise")
    assert set(watched._files()) - set(before) == {"~/.cache"}
    with watched._reading() as names:
        default_home()
    assert names == {"PHOTO_WORKER_HOME"}
