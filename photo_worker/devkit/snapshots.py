"""Snapshots: copies of a stack's data, saved and loaded while the stack is stopped.

A snapshot is a directory ``<stack>/snapshots/<name>``: a file that describes it, and a copy of each
directory in which the stack keeps data. One rename makes it visible when it is complete. A reset keeps
snapshots; deleting the stack deletes them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from photo_worker.devkit import postgres
from photo_worker.devkit.errors import (
    DataMismatch,
    DataUnwritable,
    InvalidSnapshotName,
    InvalidStackName,
    SnapshotExists,
    SnapshotMissing,
    SnapshotOfOtherKind,
)
from photo_worker.devkit.layout import StackPaths, check_name, delete_tree, set_aside
from photo_worker.devkit.state import StackRecord, read_json, write_private
from photo_worker.printable import cut

FORMAT = 1
_FACTS = "snapshot.json"
_PARTIAL = ".partial"


@dataclass(frozen=True)
class Snapshot:
    """A snapshot's description; ``created`` is ISO 8601 in UTC, ``bytes`` the sum of its files' sizes."""

    name: str
    created: str
    bytes: int
    versions: dict[str, str]
    password: str = field(repr=False)
    kind: str = "native"
    """The kind of the stack that it was made from; stacks of another kind cannot load it."""
    s3: str = "ministack"
    format: int = FORMAT


def list_snapshots(paths: StackPaths) -> list[Snapshot]:
    """Return the stack's snapshots, oldest first."""
    if not _home(paths).is_dir():
        return []
    # A name that begins with a dot is an incomplete copy.
    whole = [path for path in _home(paths).iterdir() if path.name[0] != "." and (path / _FACTS).is_file()]
    found = [_read(directory) for directory in whole]
    return sorted(found, key=lambda snapshot: (snapshot.created, snapshot.name))


def require_new(paths: StackPaths, name: str) -> None:
    """Raise ``InvalidSnapshotName`` or ``SnapshotExists`` if a new snapshot cannot have this name."""
    if directory_of(paths, name).exists():
        raise SnapshotExists(name=name, path=str(directory_of(paths, name)))


def require(paths: StackPaths, name: str, *, kind: str | None = None) -> Snapshot:
    """Return a snapshot; raises ``SnapshotMissing``, and ``DataMismatch`` if this version cannot read it.

    If ``kind`` is given, raises ``SnapshotOfOtherKind`` for a snapshot of another kind of stack.
    """
    directory = directory_of(paths, name)
    if not (directory / _FACTS).is_file():
        known = ", ".join(snapshot.name for snapshot in list_snapshots(paths)) or "none"
        raise SnapshotMissing(name=name, known=known)
    snapshot = _read(directory)
    if kind is not None and snapshot.kind != kind:
        raise SnapshotOfOtherKind(name=name, kind=snapshot.kind, wanted=kind)
    if snapshot.kind != "native":
        return snapshot
    wanted = f"postgres-{postgres.find_postgres().major}"
    data = sorted(path.name for path in directory.glob("*/postgres-*"))
    if data and data != [wanted]:
        raise DataMismatch(path=str(directory), reason=f"it holds {', '.join(data)} and needs {wanted}")
    return snapshot


def copy_data(paths: StackPaths, directory: Path) -> None:
    """Copy a stopped native stack's data into the directory of a snapshot; raises ``DataUnwritable``."""
    for number, place in enumerate(_places(paths)):
        if place.is_dir():
            _copy(place, directory / str(number))


def write(paths: StackPaths, record: StackRecord, name: str, copy: Callable[[Path], None]) -> Snapshot:
    """Make a snapshot of the files that ``copy`` writes into the directory it is given; if it fails, make none."""
    directory = directory_of(paths, name)
    partial = directory.with_name(f".{name}{_PARTIAL}")
    try:
        directory.parent.mkdir(mode=0o700, exist_ok=True)
        if partial.exists():
            delete_tree(partial)
        partial.mkdir(mode=0o700)
        copy(partial)
        size = sum(path.lstat().st_size for path in partial.rglob("*") if not path.is_dir())
        created = datetime.now(UTC).isoformat(timespec="seconds")
        snapshot = Snapshot(name, created, size, record.versions, record.password, record.kind, record.s3)
        write_private(partial / _FACTS, asdict(snapshot))
        partial.rename(directory)
    except OSError as error:
        raise DataUnwritable(path=error.filename or str(partial), reason=error.strerror or str(error)) from error
    finally:
        if partial.exists():
            delete_tree(partial)
    return snapshot


def stage(paths: StackPaths, name: str) -> None:
    """Copy a snapshot next to the stack's data, which may be in use meanwhile; raises ``DataUnwritable``."""
    for number, place in enumerate(_places(paths)):
        staged, source = _staged(place), directory_of(paths, name) / str(number)
        if staged.exists():
            delete_tree(staged)
        if source.is_dir():
            _copy(source, staged)


def swap_in(paths: StackPaths) -> None:
    """Replace a stopped stack's data by the staged copies; the old data is set aside, not deleted."""
    for place in _places(paths):
        delete_tree(set_aside(place))
        if place.exists():
            place.rename(set_aside(place))
        if _staged(place).exists():
            _staged(place).rename(place)


def unstage(paths: StackPaths) -> None:
    """Delete staged copies that were not swapped in, and data that was set aside."""
    for place in _places(paths):
        delete_tree(_staged(place))
        delete_tree(set_aside(place))


def _home(paths: StackPaths) -> Path:
    return paths.root / "snapshots"


def directory_of(paths: StackPaths, name: str) -> Path:
    """Return a snapshot's directory; raises ``InvalidSnapshotName``."""
    try:
        return _home(paths) / check_name(name)
    except InvalidStackName as error:
        raise InvalidSnapshotName(name=cut(name)) from error


def _places(paths: StackPaths) -> list[Path]:
    """Return the directories in which a stack may keep data, in a fixed order that numbers a snapshot's copies."""
    return [paths.data, *postgres.shared_data(paths)]


def _staged(place: Path) -> Path:
    return place.with_name(f"{place.name}.loading")


def _read(directory: Path) -> Snapshot:
    values = read_json(directory / _FACTS)
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise DataMismatch(path=str(directory), reason="another version of photo-worker wrote it")
    try:
        return Snapshot(**values)
    except TypeError as error:
        raise DataMismatch(path=str(directory), reason="it is not a snapshot") from error


def _copy(source: Path, target: Path) -> None:
    """Copy a directory with owners, modes and times, as clones if the file system can; ``target`` must not exist."""
    # cp keeps owners, which shutil does not, and the files of root's Postgres belong to another user.
    options = ["-pPR", *(["-c"] if sys.platform == "darwin" else [])]
    program = shutil.which("cp") or "/bin/cp"
    completed = subprocess.run(
        [program, *options, str(source), str(target)], capture_output=True, text=True, check=False
    )
    if completed.returncode != 0:
        if target.exists():
            delete_tree(target)
        reason = (completed.stderr.strip().splitlines() or [f"cp ended with code {completed.returncode}"])[0]
        raise DataUnwritable(path=str(target), reason=reason)
