"""Files of the emulator: their permissions and owners, and when they are deleted."""

from __future__ import annotations

import errno
import gc
import hashlib
import os
import resource
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from textract_local.server.documents import Document, DocumentSource
from textract_local.server.failures import DiskFails
from textract_local.server.spool import Readings, Spool, private_directory


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def documents(spool: Spool) -> list[Path]:
    return [path for path in spool.directory.iterdir() if path.name != ".lock"]


@contextmanager
def no_file_over(size: int) -> Iterator[None]:
    """Limit the size of files in this process, like a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores it by default, but a test run may change that.
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_spool_is_private_to_its_user(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "data" / "spool")
    path = spool.write(b"of a document")
    assert [mode(directory) for directory in (tmp_path / "data" / "spool", spool.directory)] == [0o700, 0o700]
    assert mode(path) == 0o600
    spool.close()
    assert not spool.directory.exists()


def test_spool_directory_open_to_others_is_made_private(tmp_path: Path) -> None:
    directory = tmp_path / "spool"
    directory.mkdir(mode=0o777)
    directory.chmod(0o777)
    Spool(directory).close()
    assert mode(directory) == 0o700


def test_spool_directory_that_is_symlink_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "spool").symlink_to(elsewhere)
    with pytest.raises(OSError, match="spool"):
        Spool(tmp_path / "spool")
    assert list(elsewhere.iterdir()) == []


def test_private_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spool").mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(PermissionError, match="belongs to another user"):
        private_directory(tmp_path / "spool")


def test_spool_removes_files_of_dead_processes_only(tmp_path: Path) -> None:
    living, dead = Spool(tmp_path), Spool(tmp_path)
    kept, left = living.write(b"kept"), dead.write(b"left")
    # Like the end of a process: the lock is released, and the files remain.
    os.close(dead._lock)
    dead._lock = -1
    secret = tmp_path.parent / f"{tmp_path.name}-secret"
    secret.write_bytes(b"not the spool's")
    (tmp_path / "link").symlink_to(secret)
    (tmp_path / "stray").write_bytes(b"")
    after = Spool(tmp_path)
    assert (kept.exists(), left.exists()) == (True, False)
    assert not (tmp_path / "stray").exists()
    assert not (tmp_path / "link").is_symlink()
    assert secret.read_bytes() == b"not the spool's"
    for spool in (living, after):
        spool.close()


def test_spool_write_does_not_follow_symlink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path / "spool")
    monkeypatch.setattr("secrets.token_hex", lambda _: "foreseen")
    victim = tmp_path / "victim"
    victim.write_bytes(b"whole")
    (spool.directory / "foreseen").symlink_to(victim)
    with pytest.raises(FileExistsError):
        spool.write(b"overwritten")
    assert victim.read_bytes() == b"whole"
    spool.close()


def test_document_file_in_memory_exists_only_during_use(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    document = Document.of(b"flour", "a")
    with document.file(spool) as path:
        assert path.read_bytes() == b"flour"
    assert documents(spool) == []
    spool.close()


@pytest.mark.parametrize("explicitly", [True, False])
def test_document_close_or_gc_deletes_its_file(tmp_path: Path, explicitly: bool) -> None:
    spool = Spool(tmp_path)
    document = Document("a", hashlib.sha256(b"flour").hexdigest(), 5, spool.write(b"flour"))
    with document.file(spool) as path:
        assert path.read_bytes() == b"flour"
    assert documents(spool) == [path]
    if explicitly:
        document.close()
    else:
        del document
        gc.collect()
    assert documents(spool) == []
    spool.close()


def test_readings_get_after_restart_finds_reading(tmp_path: Path) -> None:
    Readings(tmp_path).put(b"read", "document", 1)
    found = Readings(tmp_path).get("document", 1)
    assert found is not None
    assert (found.read_bytes(), mode(found)) == (b"read", 0o600)
    assert Readings(tmp_path).get("document", 2) is None


def test_readings_put_over_limit_evicts_least_used(tmp_path: Path) -> None:
    readings = Readings(tmp_path, limit_bytes=25)
    readings.put(b"0" * 10, "a")
    readings.put(b"0" * 10, "b")
    assert readings.get("a")
    readings.put(b"0" * 10, "c")
    assert [readings.get(name) is not None for name in "abc"] == [True, False, True]
    readings.put(b"0" * 26, "too large")
    assert readings.get("too large") is None
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 20


def test_readings_limit_includes_earlier_files(tmp_path: Path) -> None:
    for name in "abc":
        Readings(tmp_path).put(b"0" * 10, name)
    readings = Readings(tmp_path, limit_bytes=25)
    readings.put(b"0" * 10, "d")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 20
    readings.clear()
    assert list(tmp_path.iterdir()) == []


def test_readings_get_removed_file_is_none(tmp_path: Path) -> None:
    readings = Readings(tmp_path)
    readings.put(b"read", "a")
    for path in tmp_path.iterdir():
        path.unlink()
    assert readings.get("a") is None
    readings.put(b"again", "a")
    assert readings.get("a")


def test_spool_write_disk_full_leaves_no_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    with pytest.raises(OSError, match="too large"), no_file_over(1000):
        spool.write(b"x" * 100_000)
    assert documents(spool) == []
    spool.close()


def test_document_source_disk_full_raises_disk_fails(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    source = DocumentSource(spool)
    with pytest.raises(DiskFails, match="The emulator cannot write its files: File too large"), no_file_over(1000):
        source._spooled(iter([b"x" * 500, b"x" * 100_000]), "s3://scans/scan.pdf")
    assert documents(spool) == []
    source.close()
    spool.close()


def test_readings_get_read_only_file_system_returns_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = Readings(tmp_path / "readings")
    readings.put(b"what was read", "key")

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "utime", refuse)
    kept = readings.get("key")
    assert kept is not None
    assert kept.read_bytes() == b"what was read"
