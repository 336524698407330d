"""Ctrl-C, SIGTERM and SIGHUP at any moment of any command that changes a stack.

A moment is drawn from the measured duration of the command. By default each command gets one signal at one moment;
with ``PHOTO_WORKER_STACK_SWEEP=N`` it gets each signal at N moments. ``PHOTO_WORKER_STACK_SEED`` repeats a run; a
failure shows the seed.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from photo_worker.devkit import snapshots
from photo_worker.devkit.layout import StackPaths, delete_tree, exclusive
from tests.integration.devkit.fake_services import processes_of, wait_until
from tests.stack.support import LedgerStack, begun, command, lines, put, record_of

ROUNDS = int(os.environ.get("PHOTO_WORKER_STACK_SWEEP", "0"))
SEED = os.environ.get("PHOTO_WORKER_STACK_SEED") or secrets.token_hex(4)
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
OLD, NEW = [["old"], ["old"]], [["old", "new"], ["old", "new"]]
_END_SECONDS = 30.0


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LedgerStack]:
    """A stopped stack that holds two lines, and one, "old", in a snapshot."""
    stack = LedgerStack(tmp_path / "home", f"t-{secrets.token_hex(4)}", base_port=0)
    stack.up()
    try:
        put(stack, "old")
        stack.save_snapshot("old")
        put(stack, "new")
        stack.down()
        yield stack
    finally:
        stack.delete()
    assert processes_of(stack.paths.root) == []


def interrupted(stack: LedgerStack, arguments: list[str], number: signal.Signals, moment: float) -> tuple[int, str]:
    """Run a command, signal its process group ``moment`` seconds after it begins; return exit code and errors."""
    with begun(command(*arguments, "--name", stack.name, home=stack.paths.home)) as process:
        began = time.monotonic()
        try:
            process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, number)
        _, errors = process.communicate(timeout=_END_SECONDS)
        assert time.monotonic() - began < _END_SECONDS
        return process.returncode, errors


def settle(stack: LedgerStack) -> bool:
    """Wait until all of the stack runs or no process is left; return whether it runs."""
    wait_until(lambda: stack.status().running or processes_of(stack.paths.root) == [], "it runs or has ended")
    return stack.status().running


def duration(stack: LedgerStack, arguments: list[str]) -> float:
    """Return the seconds that an uninterrupted command takes once its own code runs."""
    with begun(command(*arguments, "--name", stack.name, home=stack.paths.home)) as process:
        began = time.monotonic()
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        return time.monotonic() - began


def snapshot_names(stack: LedgerStack) -> set[str]:
    return {snapshot.name for snapshot in snapshots.list_snapshots(stack.paths)}


def nothing(_stack: LedgerStack) -> None:
    return


def forget_snapshot(stack: LedgerStack) -> None:
    """Delete the snapshot that the command creates."""
    for copy in (stack.paths.root / "snapshots").glob("*made*"):
        delete_tree(copy)


def restore(stack: LedgerStack) -> None:
    """Write the two lines again if a reset or a load has removed them."""
    if lines(stack) != NEW:
        stack.reset()
        put(stack, "old")
        put(stack, "new")


Step = Callable[[LedgerStack], object]


@pytest.mark.parametrize(
    ("arguments", "before", "kept"),
    [
        pytest.param(["up"], LedgerStack.down, [NEW], id="up"),
        pytest.param(["down"], LedgerStack.up, [NEW], id="down"),
        # Each ledger may have been emptied or not, but not in part.
        pytest.param(["reset", "--yes"], restore, None, id="reset"),
        pytest.param(["snapshot", "save", "made"], forget_snapshot, [NEW], id="save"),
        pytest.param(["snapshot", "load", "old", "--yes"], restore, [NEW, OLD], id="load"),
    ],
)
@pytest.mark.timeout(max(120, 60 * ROUNDS))
def test_command_interrupted_at_any_moment_leaves_usable_stack(
    stack: LedgerStack, arguments: list[str], before: Step, kept: list[list[list[str]]] | None
) -> None:
    stack.up()
    before(stack)
    seconds = duration(stack, arguments)
    # One signal of the three by default, all of them in a sweep.
    numbers = list(CODES) if ROUNDS else [random.Random(f"{SEED} {arguments}").choice(list(CODES))]  # noqa: S311
    for number in numbers:
        expected = CODES[number]
        for turn in range(max(1, ROUNDS)):
            seed = f"{SEED} {arguments} {number.name} {turn}"
            # Includes the first moments, in which a command has only just begun.
            moment = random.Random(seed).uniform(0.005, seconds)  # noqa: S311
            stack.up()
            before(stack)
            secret = record_of(stack).password
            ran = stack.status().running
            code, errors = interrupted(stack, arguments, number, moment)
            seen = f"seed {seed}: {moment:.3f} of {seconds:.3f} s, exit code {code}, {errors}"
            # Before its first line and after its last one, a command has no handler for a signal.
            assert code in {0, expected, -number}, seen
            assert "Traceback" not in errors, seen
            runs = settle(stack)
            if arguments == ["up"] and code == 0:
                assert runs, seen
            if arguments[-1] == "made":
                names = snapshot_names(stack)
                assert names in ({"old"}, {"old", "made"}), seen
                assert {path.name for path in (stack.paths.root / "snapshots").iterdir()} == names, seen
                assert code != 0 or (ran and runs), seen
            assert stack.up().status.running, seen
            found = lines(stack)
            if kept is None:
                assert all(ledger in (["old", "new"], []) for ledger in found), seen
                assert code != 0 or found == [[], []], seen
            else:
                assert found in kept, seen
            assert record_of(stack).password == secret, seen
            left = {path.name for path in stack.paths.root.iterdir() if path.name.endswith((".deleted", ".loading"))}
            assert left == set(), seen


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "SIGTERM"),
        (signal.SIGHUP, 129, "SIGHUP"),
    ],
)
def test_command_on_signal_exits_with_its_code_and_message(
    stack: LedgerStack, number: signal.Signals, code: int, words: str
) -> None:
    with (
        exclusive(stack.paths.command_lock, timeout=5, doing="holding"),
        begun(command("up", "--name", stack.name, home=stack.paths.home)) as process,
    ):
        # It waits for the lock; a signal could arrive before it does.
        wait_until(lambda: waits_for_the_lock(process.pid, stack), "the command waits")
        os.killpg(process.pid, number)
        _, errors = process.communicate(timeout=_END_SECONDS)
    assert process.returncode == code
    assert words in errors
    assert "Traceback" not in errors


def waits_for_the_lock(pid: int, stack: LedgerStack) -> bool:
    return any(Path(file.path) == stack.paths.command_lock for file in psutil.Process(pid).open_files())


def test_up_with_sighup_ignored_continues(stack: LedgerStack) -> None:
    with begun(command("up", "--name", stack.name, home=stack.paths.home, hangup=signal.SIG_IGN)) as process:
        os.killpg(process.pid, signal.SIGHUP)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert stack.status().running


def test_reset_interrupted_in_deletion_leaves_no_partial_data(
    stack: LedgerStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = record_of(stack).password
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", delete_one_file)
        patch.setattr(shutil.rmtree, "avoids_symlink_attacks", True, raising=False)
        with pytest.raises(KeyboardInterrupt):
            stack.reset()
    stack.up()
    assert lines(stack) == [[], []], "all of it is gone, not only what was deleted in time"
    assert record_of(stack).password == secret
    assert not [path for path in stack.paths.root.iterdir() if path.name.endswith(".deleted")]


def delete_one_file(directory: Path) -> None:
    """Delete one file, then raise ``KeyboardInterrupt``."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    if files:
        files[0].unlink()
        raise KeyboardInterrupt
    directory.rmdir()


def test_load_snapshot_interrupted_restores_data_and_password(
    stack: LedgerStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = snapshots.swap_in

    def interrupted_swap(paths: StackPaths) -> None:
        # Sent to this thread: pytest has others, a command has none.
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        real(paths)

    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "swap_in", interrupted_swap)
        with pytest.raises(KeyboardInterrupt):
            stack.load_snapshot("old")
    stack.up()
    assert lines(stack) == OLD
