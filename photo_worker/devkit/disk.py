"""Room on the disk: asked for before a start, and named as the cause where the lack of it explains a failure."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from photo_worker.errors import StackError
from photo_worker.stack_errors import DataUnwritable, DiskFull

MEGABYTE = 1024 * 1024
# A start on no data writes some 80 MB, Postgres' files above all; one on data needs room to work in.
NEEDED_WITHOUT_DATA = 120 * MEGABYTE
NEEDED_WITH_DATA = 24 * MEGABYTE
# What file systems keep back or cannot hand out in one piece.
_NOTHING = 1 * MEGABYTE


def require_space(directory: Path, needed: int) -> None:
    """Raise ``DiskFull`` where a directory's disk has fewer than ``needed`` bytes for this user."""
    free = free_bytes(directory)
    if free < needed:
        reason = f"{free // MEGABYTE} MB are free, and a start needs {needed // MEGABYTE}"
        raise DiskFull(path=str(directory), reason=reason)


def free_bytes(directory: Path) -> int:
    """Return what this user may still write on the disk of a directory, or of its nearest parent that exists."""
    while not directory.exists():
        directory = directory.parent
    return shutil.disk_usage(directory).free


def explain(error: StackError | OSError, directory: Path) -> StackError | OSError:
    """Return what to tell a user: ``DiskFull`` where that is the cause, ``DataUnwritable`` for another file's error."""
    if isinstance(error, DiskFull):
        return error
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFull(path=error.filename or str(directory), reason=os.strerror(error.errno))
    if free_bytes(directory) < _NOTHING:
        reason = error.message if isinstance(error, StackError) else str(error)
        return DiskFull(path=str(directory), reason=reason)
    if isinstance(error, OSError) and error.filename is not None:
        return DataUnwritable(path=os.fsdecode(error.filename), reason=error.strerror or str(error))
    return error
