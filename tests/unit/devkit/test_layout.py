from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from photo_worker.devkit.errors import DataUnwritable, InvalidStackName, StackBusy, UnsafeStackPath
from photo_worker.devkit.layout import StackPaths, check_name, default_home, exclusive, is_locked, worktree_root


@pytest.mark.parametrize("name", ["dev", "a", "my-branch-2", "a" * 30])
def test_check_name_valid_is_returned(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "-a", "a-", "a" * 31, "a.b", "a b", "a\n", "é"])
def test_check_name_invalid_is_refused(name: str) -> None:
    with pytest.raises(InvalidStackName):
        check_name(name)


@pytest.mark.parametrize("sign", [".git", "pyproject.toml"])
def test_worktree_root_is_nearest_ancestor_with_marker(tmp_path: Path, sign: str) -> None:
    (tmp_path / sign).touch()
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert worktree_root(deep) == tmp_path.resolve()
    (tmp_path / "a" / sign).touch()
    assert worktree_root(deep) == (tmp_path / "a").resolve()


def test_default_home_is_variable_or_worktree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTO_WORKER_HOME", str(tmp_path / "elsewhere"))
    assert default_home() == tmp_path / "elsewhere"
    monkeypatch.delenv("PHOTO_WORKER_HOME")
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    assert default_home() == tmp_path.resolve() / ".photo-worker"


def test_create_sets_private_modes_and_gitignore(tmp_path: Path) -> None:
    paths = StackPaths(tmp_path / "home", "dev")
    paths.create()
    paths.create()
    mode = stat.S_IMODE(paths.root.stat().st_mode)
    # Root's Postgres runs as another user, which may pass through the directory but not list it.
    assert mode == (0o711 if os.geteuid() == 0 else 0o700)
    assert stat.S_IMODE(paths.logs.stat().st_mode) == 0o700
    assert (tmp_path / "home" / ".gitignore").read_text() == "*\n"


def test_create_unwritable_home_names_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataUnwritable, match="file"):
        StackPaths(tmp_path / "file" / "home", "dev").create()


@pytest.mark.parametrize("inner", [None, "data", "logs", "run"])
def test_delete_contents_symlinked_stack_is_refused(tmp_path: Path, inner: str | None) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    paths = StackPaths(tmp_path / "home", "dev")
    paths.home.mkdir()
    if inner is None:
        paths.root.symlink_to(outside)
    else:
        paths.root.mkdir()
        (paths.root / ".photo-worker-stack").touch()
        (paths.root / inner).symlink_to(outside)
        with pytest.raises(UnsafeStackPath):
            paths.create()
    with pytest.raises(UnsafeStackPath):
        paths.delete_contents()
    assert (outside / "precious").exists()


def test_delete_contents_removes_links_not_targets(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    paths = StackPaths(tmp_path / "home", "dev")
    paths.create()
    (paths.data / "link").symlink_to(outside)
    (paths.logs / "file.log").symlink_to(outside / "precious")
    paths.record.write_text("{}")
    paths.delete_contents()
    assert (outside / "precious").read_text() == "x"
    assert not paths.data.exists()
    assert not paths.record.exists()
    paths.delete_contents()


def test_delete_contents_without_marker_is_refused(tmp_path: Path) -> None:
    paths = StackPaths(tmp_path, "dev")
    paths.data.mkdir(parents=True)
    (paths.data / "precious").write_text("x")
    with pytest.raises(UnsafeStackPath, match="not made by photo-worker"):
        paths.delete_contents()
    assert (paths.data / "precious").exists()


def _hold(path: Path, held: object, release: object) -> None:
    with exclusive(path, timeout=5, doing="holding"):
        held.set()  # type: ignore[attr-defined]
        release.wait(30)  # type: ignore[attr-defined]


def test_exclusive_lock_is_released_when_holder_dies(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(path, held, release))
    holder.start()
    assert held.wait(30)
    assert is_locked(path)
    with pytest.raises(StackBusy, match="up gave up"), exclusive(path, timeout=0.1, doing="up"):
        pass
    holder.kill()
    holder.join()
    assert not is_locked(path)
    with exclusive(path, timeout=1, doing="up"):
        assert is_locked(path)
