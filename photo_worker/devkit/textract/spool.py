"""Files that the emulator keeps: documents for as long as they are read, and what was read of their pages."""

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


def private_folder(path: Path) -> Path:
    """Make a folder that nobody else can look into, or make one so. Returns it.

    Raises ``OSError`` where there is something else, such as a link, or another user's folder.
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
    """A folder of this process's own for documents that are being read.

    Those of processes that are gone, also of killed ones, are removed when another starts.
    """

    def __init__(self, folder: Path) -> None:
        """Raises ``OSError`` where the folder cannot be made or used."""
        private_folder(folder)
        # One at a time: a folder that another process has made and not yet locked looks abandoned.
        turn = _locked(folder / _LOCK)
        try:
            _remove_abandoned(folder)
            self._folder = private_folder(folder / secrets.token_hex(8))
            self._lock = _locked(self._folder / _LOCK)
        finally:
            os.close(turn)

    @property
    def folder(self) -> Path:
        """Where the documents are."""
        return self._folder

    def new(self) -> tuple[Path, BinaryIO]:
        """Return a new file of a name that nobody can foresee, and its writer."""
        path = self._folder / secrets.token_hex(16)
        opened = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        return path, os.fdopen(opened, "wb")

    def write(self, content: bytes) -> Path:
        """Return a new file with this content."""
        path, file = self.new()
        try:
            with file:
                file.write(content)
        except BaseException:
            # Half a document would keep the space that it lacks.
            path.unlink(missing_ok=True)
            raise
        return path

    def close(self) -> None:
        """Remove what is left."""
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _locked(path: Path) -> int:
    """Return a descriptor that holds a file's lock until it is closed, also by the end of the process."""
    opened = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    fcntl.flock(opened, fcntl.LOCK_EX)
    return opened


def _remove_abandoned(folder: Path) -> None:
    for other in folder.iterdir():
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
    """What was read of pages, on disk up to a total size, the least used leaving first. Survives a restart."""

    def __init__(self, folder: Path, limit_bytes: int = READINGS_BYTES) -> None:
        """Raises ``OSError`` where the folder cannot be made or read."""
        self._folder = private_folder(folder)
        self._limit = limit_bytes
        self._size = 0
        self._sizes: OrderedDict[str, int] = OrderedDict()
        found = [(path, path.lstat()) for path in self._folder.iterdir()]
        for path, status in sorted(found, key=lambda pair: pair[1].st_mtime):
            if stat.S_ISREG(status.st_mode) and path.suffix != _PARTIAL:
                self._sizes[path.name] = status.st_size
                self._size += status.st_size
            elif not stat.S_ISDIR(status.st_mode):
                path.unlink(missing_ok=True)

    def get(self, *key: object) -> Path | None:
        """Return the file of a reading, where there is one."""
        name = _name(key)
        if name not in self._sizes:
            return None
        self._sizes.move_to_end(name)
        path = self._folder / name
        try:
            os.utime(path)
        except FileNotFoundError:
            self._size -= self._sizes.pop(name)
            return None
        except OSError as error:
            # On a disk that takes nothing any more, what is there can still be read.
            logger.warning("a reading's last use cannot be noted: %s", error)
        return path

    def put(self, reading: bytes, *key: object) -> None:
        """Keep a reading. Raises ``OSError`` where the disk does not take it."""
        if len(reading) > self._limit:
            return
        name = _name(key)
        partial = self._folder / f"{secrets.token_hex(8)}{_PARTIAL}"
        opened = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(opened, "wb") as file:
                file.write(reading)
            partial.replace(self._folder / name)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        self._size += len(reading) - self._sizes.pop(name, 0)
        self._sizes[name] = len(reading)
        while self._size > self._limit:
            self._remove(next(iter(self._sizes)))

    def clear(self) -> None:
        """Forget all of them."""
        while self._sizes:
            self._remove(next(iter(self._sizes)))

    def _remove(self, name: str) -> None:
        self._size -= self._sizes.pop(name)
        (self._folder / name).unlink(missing_ok=True)


def _name(key: tuple[object, ...]) -> str:
    return hashlib.sha256(repr(key).encode(errors="backslashreplace")).hexdigest()
