"""A stack belongs to one user: commands of another user are refused with the owner's name, and change nothing."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from photo_worker.devkit.errors import StackNotOwned
from photo_worker.devkit.layout import delete_tree
from tests.integration.devkit.fake_services import processes_of
from tests.integration.devkit.test_stack import NOBODY, cli_as_nobody
from tests.stack.support import LedgerStack, pids_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")


@pytest.fixture
def stack() -> Iterator[LedgerStack]:
    """A stack in a directory that other users can traverse, like most worktrees."""
    place = Path(tempfile.mkdtemp(prefix="pw-")).resolve()
    place.chmod(0o755)
    stack = LedgerStack(place, f"t-{secrets.token_hex(4)}", base_port=0)
    stack.up()
    yield stack
    stack.delete()
    delete_tree(place)
    assert processes_of(place) == []


def test_stack_of_root_is_refused_to_other_user(stack: LedgerStack) -> None:
    before = pids_of(stack)
    for arguments in (["status"], ["up"], ["down"], ["env"], ["reset", "--yes"], ["snapshot", "list"]):
        response = cli_as_nobody(*arguments, "--name", stack.name, home=stack.paths.home)
        assert response.returncode == 1, arguments
        message, hint = response.stderr.splitlines()
        assert message.startswith("error [stack_not_owned]: The stack's"), arguments
        assert message.endswith("belongs to the user root."), arguments
        assert "--name" in hint
        assert response.stdout == ""
    assert pids_of(stack) == before
    assert stack.status().running


def everything_of(stack: LedgerStack) -> list[Path]:
    return [stack.paths.root, *stack.paths.root.rglob("*")]


def seen(stack: LedgerStack) -> dict[Path, tuple[int, ...]]:
    """Return the metadata that changes if a file is written, replaced or gets another owner; not its access time."""
    found = {path: path.stat() for path in everything_of(stack)}
    return {
        path: (it.st_ino, it.st_mode, it.st_uid, it.st_gid, it.st_size, it.st_mtime_ns, it.st_ctime_ns)
        for path, it in found.items()
    }


def test_stack_of_other_user_is_refused_to_root_and_unchanged(stack: LedgerStack) -> None:
    stack.down()
    for path in everything_of(stack):
        os.chown(path, NOBODY, NOBODY)
    before = seen(stack)
    for act in (stack.up, stack.reset, stack.down, lambda: stack.save_snapshot("mine")):
        with pytest.raises(StackNotOwned, match="belongs to the user nobody"):
            act()
    assert seen(stack) == before
    for path in everything_of(stack):
        os.chown(path, 0, 0)
