"""What keeps this machine from running the stack, with what to do about each; nothing is changed by looking."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

from photo_worker.devkit import postgres, services
from photo_worker.devkit.findings import Finding, State
from photo_worker.devkit.layout import HOME_VARIABLE, StackPaths
from photo_worker.devkit.ports import LOOPBACK, derived_base, is_taken, owner_of
from photo_worker.devkit.state import Processes, StackRecord
from photo_worker.errors import StackError

# What CI runs; a newer one may well do.
_NEWEST_PYTHON = (3, 14)
_MACHINES = ("x86_64", "amd64", "arm64", "aarch64")
_PROGRAM_SECONDS = 10
_MEGABYTE = 1024 * 1024
# A stack that holds nothing takes 80 MB; Postgres keeps up to 256 MB of its log.
_DISK_NEEDED = 500 * _MEGABYTE
_DISK_ADVISED = 2048 * _MEGABYTE
# The emulator's own imports; the other services' programs are looked for where they are started from.
_EMULATOR_MODULES = {
    "starlette": "starlette",
    "uvicorn": "uvicorn",
    "httptools": "httptools",
    "cbor2": "cbor2",
    "numpy": "numpy",
    "PIL": "pillow",
    "pypdfium2": "pypdfium2",
    "onnxruntime": "onnxruntime",
    "ocrust": "ocrust",
    "psutil": "psutil",
}
_INSTALL = "Install the development kit: pip install 'photo-worker[devkit]'."


def examine(paths: StackPaths) -> list[Finding]:
    """Look at everything that a start of this stack needs, in the order in which it would meet them."""
    native: tuple[Callable[[StackPaths], Iterator[Finding]], ...] = (
        _python,
        _platform,
        _programs,
        _directory,
        _user,
        _disk,
        _state,
        _ports,
        _proxies,
    )
    checks = (_python, _directory, _disk, _containers, _proxies) if _is_compose(paths) else native
    return [finding for check in checks for finding in check(paths)]


def _is_compose(paths: StackPaths) -> bool:
    try:
        record = StackRecord.load(paths)
    except StackError:
        # Said by the look at the state.
        return False
    return record is not None and record.kind == "compose"


def _containers(paths: StackPaths) -> Iterator[Finding]:
    from photo_worker.devkit.compose.doctor import examine as examine_containers

    record = StackRecord.load(paths)
    if record is not None:
        yield from examine_containers(paths, record)


def _python(_: StackPaths) -> Iterator[Finding]:
    version = platform.python_version()
    if sys.version_info[:2] > _NEWEST_PYTHON:
        newest = ".".join(map(str, _NEWEST_PYTHON))
        yield Finding("python", "warning", f"{version} is newer than what is tested", f"Use Python 3.11 to {newest}.")
    else:
        yield Finding("python", "ok", f"{version} in {sys.prefix}")


def _platform(_: StackPaths) -> Iterator[Finding]:
    system, machine = platform.system(), platform.machine()
    what = f"{system} on {machine}"
    if system not in {"Linux", "Darwin"} or machine.lower() not in _MACHINES:
        hint = "Use Linux or macOS on x86-64 or ARM64; on Windows, WSL 2."
        yield Finding("platform", "problem", f"{what} has no wheels of the services", hint)
    elif system == "Linux" and platform.libc_ver()[0] != "glibc":
        hint = "Use a distribution with glibc, such as Debian, or a container of one."
        yield Finding("platform", "problem", f"{what} without glibc has no wheels of the services", hint)
    else:
        yield Finding("platform", "ok", what)


def _programs(_: StackPaths) -> Iterator[Finding]:
    yield _runs("temporal", services.temporal_program, "--version")
    yield _runs("postgres", lambda: postgres.find_postgres().bin / "initdb", "--version")
    for service, modules in (("aws", {"ministack": "ministack"}), ("textract", _EMULATOR_MODULES)):
        missing = sorted(package for module, package in modules.items() if find_spec(module) is None)
        if missing:
            yield Finding(service, "problem", f"not installed: {', '.join(missing)}", _INSTALL)
        else:
            yield Finding(service, "ok", _version_of(service))


def _runs(service: str, find: Callable[[], Path], argument: str) -> Finding:
    """Find a program and run it: one that is there may be of another machine, or lack a library."""
    try:
        program = find()
        answer = subprocess.run(
            [program, argument], capture_output=True, text=True, timeout=_PROGRAM_SECONDS, check=False
        )
    except StackError as error:
        return Finding(service, "problem", error.message, error.hint)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(service, "problem", f"its program does not run: {error}", _INSTALL)
    if answer.returncode != 0:
        said = (answer.stderr or answer.stdout).strip().splitlines()[-1:] or ["nothing"]
        return Finding(service, "problem", f"{program} ended with {answer.returncode} and said: {said[0]}", _INSTALL)
    return Finding(service, "ok", _version_of(service))


def _version_of(service: str) -> str:
    return next(entry.version() for entry in services.SERVICES if entry.name == service)


def _directory(paths: StackPaths) -> Iterator[Finding]:
    try:
        paths.refuse_symlink()
    except StackError as error:
        yield Finding("directory", "problem", error.message, error.hint)
        return
    nearest = _nearest(paths.root)
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        what = f"{nearest} is not a directory that you can write to; the stack belongs in {paths.root}"
        yield Finding("directory", "problem", what, f"Change its owner, or put stacks elsewhere with {HOME_VARIABLE}.")
        return
    strangers = [path for path in (paths.record, paths.command_lock) if path.exists() and not os.access(path, os.W_OK)]
    if strangers:
        hint = "Run the command as the user who started the stack, or choose another --name."
        yield Finding("directory", "problem", f"{strangers[0]} belongs to another user", hint)
        return
    yield Finding("directory", "ok", str(paths.root))


def _user(paths: StackPaths) -> Iterator[Finding]:
    if os.geteuid() != 0:
        yield Finding("user", "ok", "an ordinary user")
        return
    try:
        user = postgres.User.for_postgres()
    except KeyError:
        hint = "Run as an ordinary user, or add the user nobody."
        yield Finding("user", "problem", "root, and there is no user nobody to run Postgres as", hint)
        return
    if user is not None and not postgres.reachable(paths.data / "postgres", user):
        kept = postgres.shared_data(paths)[0]
        yield Finding("user", "ok", f"root; nobody cannot reach the stack, so Postgres keeps its data in {kept}")
    else:
        yield Finding("user", "ok", "root; Postgres runs as nobody")


def _disk(paths: StackPaths) -> Iterator[Finding]:
    nearest = _nearest(paths.root)
    free = shutil.disk_usage(nearest).free
    what = f"{free // _MEGABYTE} MB free on the disk of {nearest}"
    hint = f"Delete something, or put stacks on another disk with {HOME_VARIABLE}."
    state: State = "problem" if free < _DISK_NEEDED else "warning" if free < _DISK_ADVISED else "ok"
    yield Finding("disk", state, what, None if state == "ok" else hint)


def _state(paths: StackPaths) -> Iterator[Finding]:
    try:
        StackRecord.load(paths)
        processes = Processes.load(paths)
    except StackError as error:
        yield Finding("state", "problem", error.message, error.hint)
        return
    left = [] if processes.alive else sorted(_left_by(processes))
    if left:
        what = f"no supervisor, but processes of an earlier run: {', '.join(left)}"
        yield Finding("state", "warning", what, "`photo-worker down` ends them, and so does the next `up`.")
    unreadable = list(_data_of_other_postgres(paths))
    if unreadable:
        hint = "Go back to the version that wrote it, or delete the data with `photo-worker reset`."
        yield Finding("state", "problem", f"{unreadable[0]} is of another Postgres than the one installed", hint)
    if not left and not unreadable:
        yield Finding("state", "ok", f"the stack {paths.name} {'runs' if processes.alive else 'does not run'}")


def _left_by(processes: Processes) -> Iterator[str]:
    """Name the services of an earlier run whose processes still live."""
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
        # Said by the looks at the programs and at the user.
        return
    closed = user is not None and not postgres.reachable(paths.data / "postgres", user)
    for parent in postgres.shared_data(paths) if closed else [paths.data]:
        found = [path for path in parent.glob("postgres-*") if path.name.removeprefix("postgres-").isdigit()]
        if wanted not in {path.name for path in found}:
            yield from sorted(found)


def _ports(paths: StackPaths) -> Iterator[Finding]:
    try:
        record = StackRecord.load(paths)
        running = Processes.load(paths).alive
    except StackError:
        # Said by the look at the state.
        record, running = None, False
    known = record or StackRecord.new(paths.name, derived_base(paths.home, paths.name), durable=True)
    numbers = {known.ports[use]: service.name for service in services.SERVICES for use in service.uses}
    if running:
        yield Finding("ports", "ok", f"{min(numbers)} to {max(numbers)} are the running stack's")
        return
    taken = {port: service for port, service in numbers.items() if is_taken(port)}
    for port, service in taken.items():
        what = f"{port}, which {service} needs, is taken by {owner_of(port) if find_spec('psutil') else 'a process'}"
        hint = "End that process, or start the stack on other ports with --base-port."
        yield Finding("ports", "problem", what, hint)
    if not taken:
        yield Finding("ports", "ok", f"{min(numbers)} to {max(numbers)} are free")


def _proxies(_: StackPaths) -> Iterator[Finding]:
    """Say whether an SDK would ask a proxy for what is on this machine.

    Commands for the stack pass proxies by; a worker's botocore asks these two functions.
    """
    from urllib.request import getproxies, proxy_bypass

    if not getproxies().get("http"):
        yield Finding("proxies", "ok", "none for HTTP")
    elif proxy_bypass(LOOPBACK):
        yield Finding("proxies", "ok", "the one for HTTP leaves loopback alone")
    else:
        what = f"http_proxy is set and NO_PROXY does not name {LOOPBACK}: SDKs would ask the proxy for it"
        yield Finding("proxies", "problem", what, f"export NO_PROXY={LOOPBACK},localhost no_proxy={LOOPBACK},localhost")


def _nearest(path: Path) -> Path:
    """Return the path, or its nearest ancestor that exists."""
    return next(candidate for candidate in (path, *path.parents) if candidate.exists())
