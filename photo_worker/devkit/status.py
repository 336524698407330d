"""The current state of a stack and its services, and the report of a start."""

from __future__ import annotations

import time
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path

from photo_worker.devkit.service import Service
from photo_worker.devkit.state import Processes, StackRecord
from photo_worker.devkit.timeline import Timeline


@dataclass(frozen=True)
class ServiceStatus:
    """One line of ``photo-worker status``."""

    name: str
    state: str
    """running, starting, paused, silent (the process is alive but does not respond), exited or stopped."""
    version: str | None
    url: str
    port: int
    pid: int | None
    uptime_seconds: float | None
    exit_code: int | None


@dataclass(frozen=True)
class StackStatus:
    """A stack as it is now."""

    name: str
    directory: Path
    running: bool
    """Whether every service responds."""
    services: list[ServiceStatus]
    problem: str | None = None
    """What is wrong with the stack itself, as a message: its supervisor was killed, its files are damaged."""


@dataclass(frozen=True)
class UpReport:
    """The result of ``up``."""

    status: StackStatus
    started: bool
    """False if the stack ran already."""
    seconds: float
    timeline: Timeline = field(repr=False)


def problem_of(processes: Processes) -> str | None:
    """Return a message about what is wrong with a native stack itself, or None."""
    if processes.alive and processes.pid is None:
        return "the list of its processes is missing or damaged; `photo-worker up` starts it anew, with its data"
    if not processes.alive and processes.phase != "ended":
        return (
            f"its supervisor (process {processes.pid}) was killed, or the machine restarted; "
            "`photo-worker up` starts it again, with its data"
        )
    return None


def not_ready_reason(status: StackStatus, *, busy: bool) -> str:
    """Return a message about why a stack is not ready; ``busy`` says whether a command is at work on it."""
    missing = [f"{service.name} is {service.state}" for service in status.services if service.state != "running"]
    if len(missing) == len(status.services) and not busy:
        return "nothing has started it"
    return ", ".join(missing) or "a command is still at work on it"


def status_of(service: Service, record: StackRecord, processes: Processes, held: Container[str]) -> ServiceStatus:
    """Probe one native service and return its state; ``held`` contains the names of paused services."""
    entry = processes.services.get(service.name) if processes.alive else None
    state = (
        "stopped"
        if entry is None
        else {"failed": "exited", "waiting": "starting", "preparing": "starting"}.get(entry.state, entry.state)
    )
    if processes.alive and processes.pid is None and service.is_alive(record):
        # Its process is unknown, but the service responds.
        state = "running"
    elif state == "running" and service.name in held:
        state = "paused"
    elif state == "running" and not service.is_alive(record):
        state = "silent" if processes.phase == "kept" else "starting"
    alive = entry is not None and state not in {"exited", "stopped"}
    return ServiceStatus(
        name=service.name,
        state=state,
        version=record.versions.get(service.name),
        url=service.url(record),
        port=record.ports[service.uses[0]],
        pid=entry.pid if entry is not None and alive else None,
        uptime_seconds=round(time.time() - entry.started, 1) if entry and entry.started and alive else None,
        exit_code=None if entry is None else entry.exit_code,
    )
