"""Reading a file that a user names: a regular one only, and no more of it than was agreed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


class NotRegular(OSError):
    """A folder, a pipe, a socket or a device: it may have no end, or none before something writes to it."""


class TooLong(OSError):
    """More bytes than the caller takes; ``size_bytes`` is how many there are at least."""

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(errno.EFBIG, f"it has more than {limit_bytes} bytes")
        self.size_bytes = size_bytes


def read_regular(path: Path, limit_bytes: int) -> bytes:
    """Return a regular file's bytes. Raises ``NotRegular``, ``TooLong`` and any other ``OSError``.

    Neither trusts the size that the file system tells, which a growing file outruns and which is 0 for some.
    """
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit_bytes:
            raise TooLong(size, limit_bytes)
        content = file.read(size + 1)
        if len(content) > size:
            content += file.read(limit_bytes + 1 - len(content))
        if len(content) > limit_bytes:
            raise TooLong(len(content), limit_bytes)
        return content


def read_head(path: Path, length: int) -> bytes:
    """Return a regular file's first bytes. Raises ``NotRegular`` and any other ``OSError``."""
    with _opened(path) as file:
        return file.read(length)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    # Opening a device may do something, so that it is looked at first.
    _require_regular(path.stat())
    # Without it, opening a pipe that has taken the file's place waits for a writer.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123
        _require_regular(os.fstat(file.fileno()))
        yield file


def _require_regular(about: os.stat_result) -> None:
    if stat.S_ISDIR(about.st_mode):
        raise NotRegular(errno.EISDIR, "it is a folder, not a file")
    if not stat.S_ISREG(about.st_mode):
        raise NotRegular(errno.EINVAL, "it is a pipe, a socket or a device, not a file")
