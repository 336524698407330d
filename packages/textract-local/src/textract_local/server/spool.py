"""Files of the emulator: documents while they are read, and the readings of their pages."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import secrets
import shutil
import stat
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO

logger = logging.getLogger(__name__)

# A full page's reading has some 100 kB; this is a few thousand pages.
READINGS_BYTES = 512 * 1024**2

_LOCK = ".lock"
_PARTIAL = ".partial"


def private_directory(path: Path) -> Path:
    """Create a directory with mode 0700, or set the mode of an existing one, and return it.

    Raises ``OSError`` if the path is something else, such as a symlink, or another user's directory.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(f"{path} is not a folder of its own")
    if found.st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to another user")
    if stat.S_IMODE(found.st_mode) != 0o700:
        path.chmod(0o700)
    return path


class Spool:
    """A directory of this process for documents that are being read.

    Directories of processes that have ended or were killed are removed at the next start.
    """

    def __init__(self, directory: Path) -> None:
        """Raises ``OSError`` if the directory cannot be created or used."""
        private_directory(directory)
        # One process at a time: a directory that another has created but not yet locked looks abandoned.
        turn = _locked(directory / _LOCK)
        try:
            _remove_abandoned(directory)
            self._directory = private_directory(directory / secrets.token_hex(8))
            self._lock = _locked(self._directory / _LOCK)
        finally:
            os.close(turn)

    @property
    def directory(self) -> Path:
        """The directory with the documents."""
        return self._directory

    def new(self) -> tuple[Path, BinaryIO]:
        """Create a file with an unpredictable name; return its path and the open file."""
        path = self._directory / secrets.token_hex(16)
        opened = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        return path, os.fdopen(opened, "wb")

    def write(self, content: bytes) -> Path:
        """Return a new file with this content."""
        path, file = self.new()
        try:
            with file:
                file.write(content)
        except BaseException:
            # A partial document would keep occupying the full disk.
            path.unlink(missing_ok=True)
            raise
        return path

    def close(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self._directory, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _locked(path: Path) -> int:
    """Lock a file and return its descriptor; closing it, or the end of the process, releases the lock."""
    opened = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    fcntl.flock(opened, fcntl.LOCK_EX)
    return opened


def _remove_abandoned(directory: Path) -> None:
    for other in directory.iterdir():
        if other.is_symlink() or not other.is_dir():
            if other.name != _LOCK:
                other.unlink(missing_ok=True)
            continue
        lock = os.open(other / _LOCK, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(other, ignore_errors=True)
        finally:
            os.close(lock)


class Readings:
    """An LRU cache on disk of page readings, limited by their total size. It survives restarts."""

    def __init__(self, directory: Path, limit_bytes: int = READINGS_BYTES) -> None:
        """Raises ``OSError`` if the directory cannot be created or read."""
        self._directory = private_directory(directory)
        self._limit = limit_bytes
        self._size = 0
        self._sizes: OrderedDict[str, int] = OrderedDict()
        found = [(path, path.lstat()) for path in self._directory.iterdir()]
        for path, status in sorted(found, key=lambda pair: pair[1].st_mtime):
            if stat.S_ISREG(status.st_mode) and path.suffix != _PARTIAL:
                self._sizes[path.name] = status.st_size
                self._size += status.st_size
            elif not stat.S_ISDIR(status.st_mode):
                path.unlink(missing_ok=True)

    def get(self, *key: object) -> Path | None:
        """Return the file of a reading, or None."""
        name = _name(key)
        if name not in self._sizes:
            return None
        self._sizes.move_to_end(name)
        path = self._directory / name
        try:
            os.utime(path)
        except FileNotFoundError:
            self._size -= self._sizes.pop(name)
            return None
        except OSError as error:
            # Existing readings can still be used on a disk that is full or read-only.
            logger.warning("a reading's last use cannot be noted: %s", error)
        return path

    def put(self, reading: bytes, *key: object) -> None:
        """Save a reading. Raises ``OSError`` if the disk fails; readings above the limit are not saved."""
        if len(reading) > self._limit:
            return
        name = _name(key)
        partial = self._directory / f"{secrets.token_hex(8)}{_PARTIAL}"
        opened = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(opened, "wb") as file:
                file.write(reading)
            partial.replace(self._directory / name)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        self._size += len(reading) - self._sizes.pop(name, 0)
        self._sizes[name] = len(reading)
        while self._size > self._limit:
            self._remove(next(iter(self._sizes)))

    def clear(self) -> None:
        """Delete all readings."""
        while self._sizes:
            self._remove(next(iter(self._sizes)))

    def _remove(self, name: str) -> None:
        self._size -= self._sizes.pop(name)
        (self._directory / name).unlink(missing_ok=True)


def _name(key: tuple[object, ...]) -> str:
    return hashlib.sha256(repr(key).encode(errors="backslashreplace")).hexdigest()
