"""Checks of whether this machine can run the stack, each with a hint; they change nothing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

from photo_worker.devkit import external, postgres
from photo_worker.devkit.disk import MEGABYTE
from photo_worker.devkit.doctor_finding import DoctorFinding, State
from photo_worker.devkit.errors import StackError
from photo_worker.devkit.layout import HOME_VARIABLE, StackPaths
from photo_worker.devkit.ports import LOOPBACK, derived_base, is_taken, owner_of
from photo_worker.devkit.service import Service, package_version
from photo_worker.devkit.service_registry import require_known, s3_servers, services_of
from photo_worker.devkit.stack_options import StackOptions
from photo_worker.devkit.state import Processes, StackRecord

# The newest version that CI tests; newer ones may work.
_NEWEST_PYTHON = (3, 14)
_MACHINES = ("x86_64", "amd64", "arm64", "aarch64")
_PROGRAM_SECONDS = 10
# An empty stack takes 80 MB; Postgres keeps up to 256 MB of write-ahead log.
_DISK_NEEDED = 500 * MEGABYTE
_DISK_ADVISED = 2048 * MEGABYTE
# The packages with which a worker opens documents, by module.
_DECODERS = {"pi_heif": "pi-heif", "PIL": "pillow", "pypdfium2": "pypdfium2"}


def examine(paths: StackPaths, options: StackOptions | None = None) -> list[DoctorFinding]:
    """Check everything that a start of this stack needs, in the order in which the start would need it.

    ``options`` are those that the start would be given; without them, the stack is checked as it last ran. Raises
    ``S3ServerUnfit``.
    """
    options = options or StackOptions()
    record = _record_as_it_would_start(paths, options)
    native: tuple[Callable[[], Iterator[DoctorFinding]], ...] = (
        _python,
        _platform,
        _decoders,
        lambda: programs(record),
        lambda: _externals(record),
        lambda: _directory(paths),
        lambda: _user(paths),
        lambda: _disk(paths),
        lambda: _state(paths),
        lambda: _ports(paths, record),
        _proxies,
    )
    compose: tuple[Callable[[], Iterator[DoctorFinding]], ...] = (
        _python,
        _decoders,
        lambda: _directory(paths),
        lambda: _disk(paths),
        lambda: _externals(record),
        lambda: _containers(paths, record),
        _proxies,
    )
    return [finding for check in (native if record.kind == "native" else compose) for finding in check()]


def _record_as_it_would_start(paths: StackPaths, options: StackOptions) -> StackRecord:
    try:
        known = StackRecord.load(paths)
    except StackError:
        # Reported by the check of the state.
        known = None
    record = known or StackRecord.new(paths.name, derived_base(paths.home, paths.name), durable=True)
    kind = options.kind or record.kind
    if options.s3 is not None:
        require_known(kind, options.s3)
    s3, fitting = options.s3 or record.s3, s3_servers(kind)
    extras = record.extras if options.extras is None else list(options.extras)
    return record.with_(kind=kind, s3=s3 if s3 in fitting else fitting[0], extras=extras)


def _externals(record: StackRecord) -> Iterator[DoctorFinding]:
    """Probe the external services."""
    for entry in external.external_services(record):
        if entry.is_alive():
            yield DoctorFinding(entry.name, "ok", f"external, at {entry.url}")
        else:
            hint = "Start what should be there, or have the stack's own again: photo-worker up --external none."
            yield DoctorFinding(entry.name, "problem", f"external, and nothing responds at {entry.url}", hint)


def _containers(paths: StackPaths, record: StackRecord) -> Iterator[DoctorFinding]:
    from photo_worker.devkit.compose.doctor import examine as examine_containers

    yield from examine_containers(paths, record)


def _python() -> Iterator[DoctorFinding]:
    version = platform.python_version()
    if sys.version_info[:2] > _NEWEST_PYTHON:
        newest = ".".join(map(str, _NEWEST_PYTHON))
        yield DoctorFinding(
            "python", "warning", f"{version} is newer than what is tested", f"Use Python 3.11 to {newest}."
        )
    else:
        yield DoctorFinding("python", "ok", f"{version} in {sys.prefix}")


def _platform() -> Iterator[DoctorFinding]:
    system, machine = platform.system(), platform.machine()
    what = f"{system} on {machine}"
    if system not in {"Linux", "Darwin"} or machine.lower() not in _MACHINES:
        hint = "Use Linux or macOS on x86-64 or ARM64; on Windows, WSL 2."
        yield DoctorFinding("platform", "problem", f"{what} has no wheels of the services", hint)
    elif system == "Linux" and platform.libc_ver()[0] != "glibc":
        hint = "Use a distribution with glibc, such as Debian, or a container of one."
        yield DoctorFinding("platform", "problem", f"{what} without glibc has no wheels of the services", hint)
    else:
        yield DoctorFinding("platform", "ok", what)


def _decoders() -> Iterator[DoctorFinding]:
    """Check the packages that open documents: without pi-heif, a job with a HEIC waits for another worker."""
    missing = sorted(package for module, package in _DECODERS.items() if find_spec(module) is None)
    if missing:
        hint = f"Install what the worker needs: pip install {' '.join(missing)}."
        yield DoctorFinding("documents", "problem", f"not installed: {', '.join(missing)}", hint)
    else:
        said = ", ".join(package_version(package, package) for package in sorted(_DECODERS.values()))
        yield DoctorFinding("documents", "ok", f"HEIC, WebP, PDF and TIFF are opened with {said}")


def programs(record: StackRecord) -> Iterator[DoctorFinding]:
    """Find the program of each service of a native stack, and run it for its version."""
    for service in services_of(record):
        if not service.modules:
            yield _runs(service)
            continue
        missing = sorted(package for module, package in service.modules.items() if find_spec(module) is None)
        if missing:
            yield DoctorFinding(service.name, "problem", f"not installed: {', '.join(missing)}", service.install_hint)
        else:
            yield DoctorFinding(service.name, "ok", service.version())


def _runs(service: Service) -> DoctorFinding:
    """Run a program: one that exists may be built for another machine, or lack a library."""
    try:
        argv = [str(service.program()), service.version_argument]
        completed = subprocess.run(argv, capture_output=True, text=True, timeout=_PROGRAM_SECONDS, check=False)
    except StackError as error:
        return DoctorFinding(service.name, "problem", error.message, error.hint)
    except (OSError, subprocess.TimeoutExpired) as error:
        return DoctorFinding(service.name, "problem", f"its program does not run: {error}", service.install_hint)
    if completed.returncode != 0:
        said = (completed.stderr or completed.stdout).strip().splitlines()[-1:] or ["nothing"]
        what = f"{argv[0]} ended with {completed.returncode} and said: {said[0]}"
        return DoctorFinding(service.name, "problem", what, service.install_hint)
    return DoctorFinding(service.name, "ok", service.version())


def _directory(paths: StackPaths) -> Iterator[DoctorFinding]:
    try:
        paths.refuse_symlink()
    except StackError as error:
        yield DoctorFinding("directory", "problem", error.message, error.hint)
        return
    nearest = _nearest(paths.root)
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        what = f"{nearest} is not a directory that you can write to; the stack belongs in {paths.root}"
        yield DoctorFinding(
            "directory", "problem", what, f"Change its owner, or put stacks elsewhere with {HOME_VARIABLE}."
        )
        return
    strangers = [path for path in (paths.record, paths.command_lock) if path.exists() and not os.access(path, os.W_OK)]
    if strangers:
        hint = "Run the command as the user who started the stack, or choose another --name."
        yield DoctorFinding("directory", "problem", f"{strangers[0]} belongs to another user", hint)
        return
    yield DoctorFinding("directory", "ok", str(paths.root))


def _user(paths: StackPaths) -> Iterator[DoctorFinding]:
    if os.geteuid() != 0:
        yield DoctorFinding("user", "ok", "an ordinary user")
        return
    try:
        user = postgres.User.for_postgres()
    except KeyError:
        hint = "Run as an ordinary user, or add the user nobody."
        yield DoctorFinding("user", "problem", "root, and there is no user nobody to run Postgres as", hint)
        return
    if user is not None and not postgres.reachable(paths.data / "postgres", user):
        kept = postgres.shared_data(paths)[0]
        yield DoctorFinding("user", "ok", f"root; nobody cannot reach the stack, so Postgres keeps its data in {kept}")
    else:
        yield DoctorFinding("user", "ok", "root; Postgres runs as nobody")


def _disk(paths: StackPaths) -> Iterator[DoctorFinding]:
    nearest = _nearest(paths.root)
    free = shutil.disk_usage(nearest).free
    what = f"{free // MEGABYTE} MB free on the disk of {nearest}"
    hint = f"Delete something, or put stacks on another disk with {HOME_VARIABLE}."
    state: State = "problem" if free < _DISK_NEEDED else "warning" if free < _DISK_ADVISED else "ok"
    yield DoctorFinding("disk", state, what, None if state == "ok" else hint)


def _state(paths: StackPaths) -> Iterator[DoctorFinding]:
    try:
        StackRecord.load(paths)
        processes = Processes.load(paths)
    except StackError as error:
        yield DoctorFinding("state", "problem", error.message, error.hint)
        return
    left = [] if processes.alive else sorted(_left_by(processes))
    if left:
        what = f"no supervisor, but processes of an earlier run: {', '.join(left)}"
        yield DoctorFinding("state", "warning", what, "`photo-worker down` ends them, and so does the next `up`.")
    unreadable = list(_data_of_other_postgres(paths))
    if unreadable:
        hint = "Go back to the version that wrote it, or delete the data with `photo-worker reset`."
        yield DoctorFinding("state", "problem", f"{unreadable[0]} is of another Postgres than the one installed", hint)
    if not left and not unreadable:
        yield DoctorFinding("state", "ok", f"the stack {paths.name} {'runs' if processes.alive else 'does not run'}")


def _left_by(processes: Processes) -> Iterator[str]:
    """Yield the names of services of an earlier run whose processes are still alive."""
    if find_spec("psutil") is None:
        return
    from photo_worker.devkit.processes import ProcessId

    for entry in processes.services.values():
        if entry.pid is None or entry.started is None:
            continue
        if ProcessId(entry.pid, entry.started).process() is not None:
            yield entry.name


def _data_of_other_postgres(paths: StackPaths) -> Iterator[Path]:
    try:
        wanted = f"postgres-{postgres.find_postgres().major}"
        user = postgres.User.for_postgres()
    except (StackError, KeyError):
        # Reported by the checks of the programs and of the user.
        return
    closed = user is not None and not postgres.reachable(paths.data / "postgres", user)
    for parent in postgres.shared_data(paths) if closed else [paths.data]:
        found = [path for path in parent.glob("postgres-*") if path.name.removeprefix("postgres-").isdigit()]
        if wanted not in {path.name for path in found}:
            yield from sorted(found)


def _ports(paths: StackPaths, record: StackRecord) -> Iterator[DoctorFinding]:
    try:
        running = Processes.load(paths).alive
    except StackError:
        # Reported by the check of the state.
        running = False
    numbers = {record.ports[use]: service.name for service in services_of(record) for use in service.uses}
    if not numbers:
        return
    if running:
        yield DoctorFinding("ports", "ok", f"{min(numbers)} to {max(numbers)} are the running stack's")
        return
    taken = {port: service for port, service in numbers.items() if is_taken(port)}
    for port, service in taken.items():
        what = f"{port}, which {service} needs, is taken by {owner_of(port) if find_spec('psutil') else 'a process'}"
        hint = "End that process, or start the stack on other ports with --base-port."
        yield DoctorFinding("ports", "problem", what, hint)
    if not taken:
        yield DoctorFinding("ports", "ok", f"{min(numbers)} to {max(numbers)} are free")


def _proxies() -> Iterator[DoctorFinding]:
    """Check whether an SDK would use a proxy for loopback; SDKs decide by these two functions of ``urllib``.

    The project's own clients never use a proxy for loopback.
    """
    from urllib.request import getproxies, proxy_bypass

    if not getproxies().get("http"):
        yield DoctorFinding("proxies", "ok", "none for HTTP")
    elif proxy_bypass(LOOPBACK):
        yield DoctorFinding("proxies", "ok", "the one for HTTP leaves loopback alone")
    else:
        what = f"http_proxy is set and NO_PROXY does not name {LOOPBACK}: other programs would ask the proxy for it"
        yield DoctorFinding("proxies", "warning", what, 'set -a; eval "$(photo-worker env)"; set +a')


def _nearest(path: Path) -> Path:
    """Return the path, or its nearest ancestor that exists."""
    return next(candidate for candidate in (path, *path.parents) if candidate.exists())
