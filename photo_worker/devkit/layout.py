"""A stack's files and directories on disk: paths, creation, deletion and locks.

A stack is one directory, ``<home>/<name>``. The home is ``.photo-worker`` in the worktree, so that
two worktrees of the same project never share a stack.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pwd
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from photo_worker.devkit.errors import DataUnwritable, InvalidStackName, StackBusy, StackNotOwned, UnsafeStackPath
from photo_worker.printable import cut

DEFAULT_NAME = "dev"
HOME_VARIABLE = "PHOTO_WORKER_HOME"

# Short enough that every name derived from it (bucket: 63 characters) stays legal.
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?")
_ROOT_SIGNS = (".git", "pyproject.toml")
_MARKER = ".photo-worker-stack"


def worktree_root(start: Path) -> Path:
    """Return the nearest ancestor of ``start`` that is a project's root, or ``start`` itself."""
    start = start.resolve()
    for directory in (start, *start.parents):
        if any((directory / sign).exists() for sign in _ROOT_SIGNS):
            return directory
    return start


def default_home() -> Path:
    """Return the directory that holds this worktree's stacks; PHOTO_WORKER_HOME overrides it."""
    override = os.environ.get(HOME_VARIABLE, "")
    if override:
        return Path(override).expanduser().absolute()
    return worktree_root(Path.cwd()) / ".photo-worker"


def check_name(name: str) -> str:
    """Return the name; raises ``InvalidStackName`` unless it has 1 to 30 of a-z, 0-9 and inner hyphens."""
    if not _NAME.fullmatch(name):
        raise InvalidStackName(name=cut(name), reason="it needs 1 to 30 of a-z, 0-9 and inner hyphens")
    return name


def stack_names(home: Path) -> list[str]:
    """Return the sorted names of the stacks in a home; an empty list if it cannot be read."""
    try:
        return sorted(path.name for path in home.iterdir() if (path / _MARKER).is_file())
    except OSError:
        return []


@dataclass(frozen=True)
class StackPaths:
    """The files and directories of one stack."""

    home: Path
    name: str

    @property
    def root(self) -> Path:
        """The stack's own directory; nothing outside it belongs to the stack."""
        return self.home / self.name

    @property
    def record(self) -> Path:
        """The file with the stack's ports, options and password (mode 0600)."""
        return self.root / "stack.json"

    @property
    def processes(self) -> Path:
        """The list of processes that the supervisor last wrote."""
        return self.root / "processes.json"

    @property
    def command_lock(self) -> Path:
        """The lock file that a command holds while it changes the stack."""
        return self.root / "command.lock"

    @property
    def supervisor_lock(self) -> Path:
        """The lock file that the supervisor holds for as long as it lives."""
        return self.root / "supervisor.lock"

    @property
    def data(self) -> Path:
        """The directory of the services' data."""
        return self.root / "data"

    @property
    def logs(self) -> Path:
        """One log file per service."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Short-lived files; emptied at every start."""
        return self.root / "run"

    def log(self, service: str) -> Path:
        """Return a service's log file."""
        return self.logs / f"{service}.log"

    @property
    def key(self) -> str:
        """A short name for this directory, the same in every run."""
        return hashlib.sha256(os.fsencode(self.root.absolute())).hexdigest()[:16]

    def create(self) -> None:
        """Make the directories; raises ``DataUnwritable`` and ``UnsafeStackPath``.

        The directory is private, except that root lets other users pass through it, because root's
        Postgres runs as another user.
        """
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            # Keeps the data out of `git status` without an entry in the project's own .gitignore.
            with contextlib.suppress(FileExistsError), (self.home / ".gitignore").open("x") as ignore:
                ignore.write("*\n")
            self.refuse_symlink()
            self._refuse_others()
            passable = 0o711 if os.geteuid() == 0 else 0o700
            self.root.mkdir(exist_ok=True)
            self.root.chmod(passable)
            (self.root / _MARKER).touch()
            for directory in (self.data, self.run):
                directory.mkdir(exist_ok=True)
                directory.chmod(passable)
            self.logs.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise DataUnwritable(path=error.filename or str(self.root), reason=error.strerror or str(error)) from error

    def _refuse_others(self) -> None:
        """Raise ``StackNotOwned`` if another user owns the stack: the owner could not read what root writes there."""
        with contextlib.suppress(FileNotFoundError):
            if self.root.stat().st_uid != os.geteuid():
                raise StackNotOwned(path=str(self.root), owner=owner_name(self.root))

    def refuse_symlink(self) -> None:
        """Raise ``UnsafeStackPath`` if the stack's root, data, logs or run directory is a symbolic link."""
        for path in (self.root, self.data, self.logs, self.run):
            if path.is_symlink():
                raise UnsafeStackPath(path=str(path), reason="it is a symbolic link")

    def delete_contents(self) -> None:
        """Delete the stack's data, logs and records, but not its locks; raises ``UnsafeStackPath``.

        Links are removed, never followed. A directory that lacks the marker was not made by
        ``create`` and is left alone.
        """
        if not self.root.exists() and not self.root.is_symlink():
            return
        self.refuse_symlink()
        if not (self.root / _MARKER).is_file():
            raise UnsafeStackPath(path=str(self.root), reason="it was not made by photo-worker")
        discard_tree(self.data)
        for directory in (self.logs, self.run):
            delete_tree(directory)
        # The record goes last: it holds the password for the data.
        for file in (self.processes, self.record):
            file.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Return the path that a directory has while it is being deleted."""
    return path.with_name(f".{path.name}.deleted")


def discard_tree(path: Path) -> None:
    """Rename a directory and delete it, so that an interruption leaves all of it or nothing under its name."""
    if not path.is_dir() or path.is_symlink():
        delete_tree(path)
        return
    aside = set_aside(path)
    delete_tree(aside)
    try:
        path.rename(aside)
    except OSError as error:
        raise DataUnwritable(path=str(path), reason=error.strerror or str(error)) from error
    delete_tree(aside)


def delete_tree(path: Path) -> None:
    """Delete a directory without following links in it; a missing one is no error."""
    if path.is_symlink() or path.is_file():
        raise UnsafeStackPath(path=str(path), reason="it is not a directory")
    if not shutil.rmtree.avoids_symlink_attacks:
        raise UnsafeStackPath(path=str(path), reason="this platform cannot delete it safely")
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataUnwritable(path=error.filename or str(path), reason=error.strerror or str(error)) from error


@contextlib.contextmanager
def exclusive(path: Path, *, timeout: float, doing: str, prepare: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock file; raises ``StackBusy`` if another process still holds it after ``timeout`` seconds.

    The kernel releases the lock when its holder dies, however it dies. ``prepare`` makes the file's directory, and
    makes it again if it was deleted during the wait: a lock on a deleted file excludes no other process.
    """
    deadline = time.monotonic() + timeout
    while True:
        if prepare is not None:
            prepare()
        try:
            handle = path.open("a")
        except OSError as error:
            raise DataUnwritable(path=str(path), reason=error.strerror or str(error)) from error
        with handle:
            while not _try_lock(handle):
                if time.monotonic() > deadline:
                    raise StackBusy(path=str(path.parent), doing=doing, seconds=int(timeout))
                time.sleep(0.05)
            if os.fstat(handle.fileno()).st_nlink > 0:
                yield
                return


def _try_lock(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def block_signals() -> Iterator[None]:
    """Block SIGINT, SIGTERM and SIGHUP, for a few renames that belong together."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def owner_name(path: Path) -> str:
    """Return the name of a file's owner, or the user id if it has no name."""
    number = path.stat().st_uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def is_locked(path: Path) -> bool:
    """Return whether a live process holds this lock file exclusively."""
    try:
        handle = path.open("r")
    except FileNotFoundError:
        return False
    except OSError as error:
        raise DataUnwritable(path=str(path), reason=error.strerror or str(error)) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
