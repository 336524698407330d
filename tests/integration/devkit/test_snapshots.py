"""Snapshots are saved and loaded completely or not at all, and a stack that ran runs afterwards."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from photo_worker.cli import cli
from photo_worker.devkit import snapshots
from photo_worker.devkit.errors import (
    DataMismatch,
    DataUnwritable,
    InvalidSnapshotName,
    SnapshotExists,
    SnapshotMissing,
    StackError,
)
from photo_worker.devkit.stack import Stack
from photo_worker.devkit.state import Processes, StackRecord
from tests.integration.devkit.fake_services import FakeService


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path / "home", f"t-{secrets.token_hex(4)}", base_port=0, services=[FakeService()])
    yield stack
    stack.delete()


def supervisor(stack: Stack) -> int | None:
    known = Processes.load(stack.paths)
    return known.pid if known.alive else None


def password(stack: Stack) -> str:
    record = StackRecord.load(stack.paths)
    assert record is not None
    return record.password


def full_disk(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """Make every copy fail halfway, as on a full disk."""
    directory.mkdir()
    program = directory / "cp"
    program.write_text(
        '#!/bin/sh\nfor last; do :; done\nmkdir "$last"\necho "cp: No space left on device" >&2\nexit 1\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")


def test_load_snapshot_restores_data_and_password(stack: Stack) -> None:
    stack.up()
    first, kept = password(stack), stack.paths.data / "toy" / "kept"
    kept.parent.mkdir()
    kept.write_text("saved")
    kept.chmod(0o640)
    kept.with_name("link").symlink_to("/nowhere")
    before = supervisor(stack)
    saved = stack.save_snapshot("seeded")
    assert supervisor(stack) not in {before, None}, "it was stopped for the copy and runs again"
    assert saved.bytes >= len("saved")
    kept.write_text("changed")
    (stack.paths.data / "toy" / "later").write_text("x")
    stack.down()
    stack.paths.record.write_text("{}")
    report = stack.load_snapshot("seeded")
    assert report.status.running
    assert kept.read_text() == "saved"
    assert kept.stat().st_mode & 0o777 == 0o640
    assert kept.with_name("link").is_symlink()
    assert not (stack.paths.data / "toy" / "later").exists()
    assert password(stack) == first
    stack.reset()
    assert not kept.exists()
    assert [entry.name for entry in snapshots.list_snapshots(stack.paths)] == ["seeded"], "a reset leaves it alone"
    stack.load_snapshot("seeded")
    assert kept.read_text() == "saved"


def test_save_snapshot_of_stopped_stack_does_not_start_it(stack: Stack) -> None:
    with pytest.raises(StackError, match="nothing to save"):
        stack.save_snapshot("early")
    stack.up()
    stack.down()
    stack.save_snapshot("quiet")
    assert supervisor(stack) is None


def test_snapshot_failed_copy_changes_nothing(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.up()
    kept = stack.paths.data / "kept"
    kept.write_text("first")
    stack.save_snapshot("good")
    kept.write_text("second")
    with monkeypatch.context() as patch:
        full_disk(patch, tmp_path / "bin")
        before = supervisor(stack)
        with pytest.raises(DataUnwritable, match="No space left"):
            stack.load_snapshot("good")
        assert supervisor(stack) == before, "the stack was not even stopped"
        with pytest.raises(DataUnwritable, match="No space left"):
            stack.save_snapshot("bad")
    assert stack.status().running
    assert kept.read_text() == "second"
    assert [entry.name for entry in snapshots.list_snapshots(stack.paths)] == ["good"]
    assert sorted(path.name for path in (stack.paths.root / "snapshots").iterdir()) == ["good"]
    assert not stack.paths.data.with_name("data.loading").exists()


def test_snapshot_unusable_is_refused_before_stopping_stack(stack: Stack) -> None:
    stack.up()
    stack.save_snapshot("seeded")
    before = supervisor(stack)
    with pytest.raises(SnapshotExists):
        stack.save_snapshot("seeded")
    with pytest.raises(SnapshotMissing, match="seeded"):
        stack.load_snapshot("sown")
    with pytest.raises(InvalidSnapshotName):
        stack.load_snapshot("../seeded")
    (stack.paths.root / "snapshots" / "seeded" / "0" / "postgres-9").mkdir()
    with pytest.raises(DataMismatch, match="postgres-9"):
        stack.load_snapshot("seeded")
    assert supervisor(stack) == before


def test_snapshot_commands_list_and_error_codes(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.up()
    stack.save_snapshot("seeded")
    secret = password(stack)
    monkeypatch.setenv("PHOTO_WORKER_HOME", str(stack.paths.home))

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["snapshot", *arguments, "--name", stack.name])

    listing = run("list", "-o", "json")
    (entry,) = json.loads(listing.stdout)["data"]["snapshots"]
    assert entry.keys() == {"name", "created", "bytes", "versions", "kind", "s3"}
    assert run("list").stdout.splitlines()[0].split() == ["SNAPSHOT", "CREATED", "MB"]
    assert secret not in listing.output
    for arguments, code in (
        (("load", "seeded"), "confirmation_required"),
        (("load", "sown"), "snapshot_missing"),
        (("save", "seeded"), "snapshot_exists"),
        (("save", "UP/.."), "snapshot_name_invalid"),
    ):
        refused = run(*arguments, "-o", "json")
        assert refused.stdout, (arguments, refused.output, refused.exception)
        assert refused.exit_code == (2 if code == "snapshot_name_invalid" else 1), (
            arguments,
            refused.output,
            refused.exception,
        )
        assert json.loads(refused.stdout)["error"]["code"] == code


def test_load_snapshot_restores_s3_server(stack: Stack) -> None:
    def served_by() -> str:
        record = StackRecord.load(stack.paths)
        assert record is not None
        return record.s3

    home, name = stack.paths.home, stack.name
    Stack(home, name, base_port=0, s3="seaweedfs", services=[FakeService()]).up()
    stack.save_snapshot("of-seaweedfs")
    stack.down()
    Stack(home, name, s3="ministack", services=[FakeService()]).up()
    assert served_by() == "ministack"
    stack.load_snapshot("of-seaweedfs")
    assert served_by() == "seaweedfs"
