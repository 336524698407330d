"""Free disk space: required before a start, and named as the cause if the lack of it explains a failure."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from photo_worker.devkit.errors import DataUnwritable, DiskFull, StackError

MEGABYTE = 1024 * 1024
# A start without data writes some 80 MB, mostly Postgres' files; one with data needs only working space.
NEEDED_WITHOUT_DATA = 120 * MEGABYTE
NEEDED_WITH_DATA = 24 * MEGABYTE
# With less than this free, a disk counts as full: file systems reserve some space and fragment the rest.
_NOTHING = 1 * MEGABYTE


def require_space(directory: Path, needed: int) -> None:
    """Raise ``DiskFull`` if a directory's disk has fewer than ``needed`` bytes free for this user."""
    free = free_bytes(directory)
    if free < needed:
        reason = f"{free // MEGABYTE} MB are free, and a start needs {needed // MEGABYTE}"
        raise DiskFull(path=str(directory), reason=reason)


def free_bytes(directory: Path) -> int:
    """Return the bytes that are free for this user on the disk of a directory or of its nearest existing parent."""
    while not directory.exists():
        directory = directory.parent
    return shutil.disk_usage(directory).free


def explain(error: StackError | OSError, directory: Path) -> StackError | OSError:
    """Return the error to report: ``DiskFull`` if that is the cause, ``DataUnwritable`` for other file errors."""
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
