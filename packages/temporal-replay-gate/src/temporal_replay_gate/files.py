"""Reading files that a user names: only regular files, and at most a given number of bytes."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


class NotRegularFile(OSError):
    """The path is a directory, pipe, socket or device: reading it may block, or never end."""


class FileTooLarge(OSError):
    """The file exceeds the caller's limit; it has at least ``size_bytes``."""

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(errno.EFBIG, f"it has more than {limit_bytes} bytes")
        self.size_bytes = size_bytes


def read_regular(path: Path, limit_bytes: int) -> bytes:
    """Return a regular file's bytes. Raises ``NotRegularFile``, ``FileTooLarge`` or another ``OSError``.

    The limit holds whatever size the file system reports: a file may grow, and some report 0.
    """
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit_bytes:
            raise FileTooLarge(size, limit_bytes)
        content = file.read(size + 1)
        if len(content) > size:
            content += file.read(limit_bytes + 1 - len(content))
        if len(content) > limit_bytes:
            raise FileTooLarge(len(content), limit_bytes)
        return content


def read_head(path: Path, length: int) -> bytes:
    """Return a regular file's first bytes. Raises ``NotRegularFile`` or another ``OSError``."""
    with _opened(path) as file:
        return file.read(length)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    # Opening a device may have an effect, so the type is checked before.
    _require_regular(path.stat())
    # O_NONBLOCK: if a pipe has replaced the file meanwhile, opening it must not wait for a writer.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123
        _require_regular(os.fstat(file.fileno()))
        yield file


def _require_regular(about: os.stat_result) -> None:
    if stat.S_ISDIR(about.st_mode):
        raise NotRegularFile(errno.EISDIR, "it is a folder, not a file")
    if not stat.S_ISREG(about.st_mode):
        raise NotRegularFile(errno.EINVAL, "it is a pipe, a socket or a device, not a file")
