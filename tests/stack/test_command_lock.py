"""Commands on one stack run one after the other, and the last one determines the result."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from photo_worker.devkit import snapshots
from photo_worker.devkit.errors import StackBusy
from photo_worker.devkit.layout import exclusive, is_locked
from tests.integration.devkit.fake_services import processes_of, wait_until
from tests.stack.support import LedgerStack, begun, command, lines, put

UP, DOWN, RESET, SAVE = ["up"], ["down"], ["reset", "--yes"], ["snapshot", "save", "made"]
NEW = [["new"], ["new"]]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LedgerStack]:
    stack = LedgerStack(tmp_path / "home", f"t-{secrets.token_hex(4)}", base_port=0)
    stack.up()
    try:
        put(stack, "new")
        yield stack
    finally:
        stack.delete()
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize(
    ("ran", "first", "second", "runs"),
    [
        pytest.param(True, DOWN, UP, True, id="up during down"),
        pytest.param(False, UP, DOWN, False, id="down during up"),
        pytest.param(False, UP, RESET, True, id="reset during up"),
        pytest.param(True, RESET, UP, True, id="up during reset"),
        pytest.param(False, UP, UP, True, id="two ups"),
        pytest.param(False, UP, SAVE, True, id="snapshot save during up"),
        pytest.param(True, SAVE, DOWN, False, id="down during snapshot save"),
    ],
)
def test_second_command_waits_for_first(
    stack: LedgerStack, ran: bool, first: list[str], second: list[str], runs: bool
) -> None:
    if not ran:
        stack.down()
    with ExitStack() as running:
        processes = []
        for arguments in (first, second):
            started = command(*arguments, "--name", stack.name, home=stack.paths.home)
            processes.append(running.enter_context(begun(started)))
            if arguments is first:
                wait_until(lambda: is_locked(stack.paths.command_lock), "the first is at work", seconds=10)
        for process in processes:
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 0, errors
    assert stack.status().running is runs
    if not runs:
        assert processes_of(stack.paths.root) == []
    if SAVE in (first, second):
        assert [snapshot.name for snapshot in snapshots.list_snapshots(stack.paths)] == ["made"]
    stack.up()
    assert lines(stack) == ([[], []] if RESET in (first, second) else NEW)


def test_up_when_stack_is_deleted_while_waiting_recreates_it(stack: LedgerStack) -> None:
    with ExitStack() as running:
        deleting = running.enter_context(begun(command("down", "--name", stack.name, home=stack.paths.home)))
        wait_until(lambda: is_locked(stack.paths.command_lock), "one is at work", seconds=10)
        waiting = running.enter_context(begun(command("up", "--name", stack.name, home=stack.paths.home)))
        stack.delete()
        for process in (deleting, waiting):
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 0, errors
    wait_until(lambda: stack.up().status.running, "whatever came last, it can be started")
    assert is_locked(stack.paths.supervisor_lock)
    assert [process for process in processes_of(stack.paths.root) if "supervisor" in " ".join(process.cmdline())]


def test_exclusive_with_deleted_lock_file_locks_anew(tmp_path: Path) -> None:
    lock = tmp_path / "stack" / "command.lock"
    got, release = threading.Event(), threading.Event()

    def wait_for_it() -> None:
        with exclusive(lock, timeout=30, doing="up", prepare=lambda: lock.parent.mkdir(exist_ok=True)):
            got.set()
            release.wait(timeout=30)

    lock.parent.mkdir()
    waiting = threading.Thread(target=wait_for_it, daemon=True)
    with exclusive(lock, timeout=5, doing="delete"):
        waiting.start()
        wait_until(lambda: sum(Path(file.path) == lock for file in psutil.Process().open_files()) == 2, "it waits")
        lock.unlink()
        lock.parent.rmdir()
    assert got.wait(timeout=30)
    try:
        with pytest.raises(StackBusy), exclusive(lock, timeout=0, doing="another up"):
            pass
    finally:
        release.set()
        waiting.join(timeout=30)
