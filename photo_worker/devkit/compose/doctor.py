"""Find what prevents this machine from running a Compose stack, without changing anything."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from photo_worker.devkit.compose import images, program
from photo_worker.devkit.compose.project import compose_file, own_services, variables
from photo_worker.devkit.container_engine import ContainerEngine
from photo_worker.devkit.containers import containers, project_name, publisher_of
from photo_worker.devkit.doctor_finding import DoctorFinding, State
from photo_worker.devkit.errors import DockerFailed, StackError
from photo_worker.devkit.layout import StackPaths
from photo_worker.devkit.ports import is_taken, owner_of
from photo_worker.devkit.service_registry import services_of
from photo_worker.devkit.state import StackRecord

_GIGABYTE = 1024**3
# The size of the unpacked images; the stack's own data is small in comparison.
_DISK_NEEDED = 1 * _GIGABYTE
_DISK_ADVISED = 5 * _GIGABYTE
_HARD_LIMITS = {"MemoryLimit": "mem_limit", "PidsLimit": "pids_limit"}


def examine(paths: StackPaths, record: StackRecord) -> Iterator[DoctorFinding]:
    """Check the engine, its disk, Compose, the file, the images and the ports; each check after those it needs."""
    try:
        engine = ContainerEngine()
        said = engine.get("/version")
        info = engine.get("/info")
    except StackError as error:
        yield DoctorFinding("engine", "problem", error.message, error.hint)
        return
    yield DoctorFinding("engine", "ok", f"Docker engine {said['Version']} at {engine.address}")
    yield from _limits(info)
    yield from _disk(Path(str(info.get("DockerRootDir", ""))))
    yield from _images(engine, paths, record)
    yield from _ports(engine, paths, record)


def _limits(info: dict[str, object]) -> Iterator[DoctorFinding]:
    missing = [option for known, option in _HARD_LIMITS.items() if info.get(known) is False]
    if missing:
        hint = "It works; only a service that runs wild is not held back."
        yield DoctorFinding("engine", "warning", f"the kernel does not enforce {' and '.join(missing)}", hint)


def _disk(root: Path) -> Iterator[DoctorFinding]:
    try:
        free = shutil.disk_usage(root).free
    except OSError:
        # The engine's disk belongs to a virtual machine and is visible to the engine alone.
        return
    state: State = "problem" if free < _DISK_NEEDED else "warning" if free < _DISK_ADVISED else "ok"
    hint = None if state == "ok" else "Delete what is not used: docker image prune, docker builder prune."
    yield DoctorFinding("disk", state, f"{free / _GIGABYTE:.1f} GB free on the engine's disk, {root}", hint)


def _images(engine: ContainerEngine, paths: StackPaths, record: StackRecord) -> Iterator[DoctorFinding]:
    try:
        found = program.find()
        yield DoctorFinding("compose", "ok", f"Docker Compose {found.version} ({' '.join(found.argv)})")
        file = compose_file()
        compose = program.Compose(found, file, project_name(paths), variables(record), engine=engine.address)
        known = images.images(compose, engine, own_services(record))
    except StackError as error:
        yield DoctorFinding("compose", "problem", error.message, error.hint)
        return
    for image in known:
        if image.how == "missing":
            what = f"{image.name} of {image.service} is not here"
            hint = "`photo-worker up` gets it, or beforehand: photo-worker prefetch --stack compose"
            yield DoctorFinding("image", "warning", what, hint)
        else:
            note = " (built on this machine to stand in for it)" if image.how == "stand-in" else ""
            yield DoctorFinding("image", "ok", f"{image.name}{note}")


def _ports(engine: ContainerEngine, paths: StackPaths, record: StackRecord) -> Iterator[DoctorFinding]:
    numbers = {record.ports[use]: one.name for one in services_of(record) for use in one.published}
    if not numbers:
        return
    try:
        running = any(entry.is_running for entry in containers(engine, project_name(paths)).values())
    except DockerFailed as error:
        yield DoctorFinding("ports", "problem", error.message, error.hint)
        return
    if running:
        yield DoctorFinding("ports", "ok", f"{min(numbers)} to {max(numbers)} are the running stack's")
        return
    taken = {port: name for port, name in numbers.items() if is_taken(port)}
    for port, name in taken.items():
        what = f"{port}, which {name} needs, is taken by {publisher_of(engine, port) or owner_of(port)}"
        hint = "End that process, or start the stack on other ports with --base-port."
        yield DoctorFinding("ports", "problem", what, hint)
    if not taken:
        yield DoctorFinding("ports", "ok", f"{min(numbers)} to {max(numbers)} are free")
