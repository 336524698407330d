"""The containers of a stack as the engine sees them, by the labels that Docker Compose gives them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from photo_worker.devkit.container_engine import ContainerEngine
from photo_worker.devkit.errors import StackError
from photo_worker.devkit.layout import StackPaths

PROJECT_LABEL = "com.docker.compose.project"
_SERVICE_LABEL = "com.docker.compose.service"
_ONE_OFF_LABEL = "com.docker.compose.oneoff"
STAND_IN_LABEL = "photo-worker.stand-in"
_LIVING = ("running", "paused", "restarting")
_QUICK_SECONDS = 1.0


@dataclass(frozen=True)
class Container:
    """One container of a stack."""

    id: str
    name: str
    service: str
    state: str
    """The engine's word: created, running, paused, restarting, removing, exited or dead."""
    health: str | None
    """starting, healthy or unhealthy; None if the image has no health check, or the container does not run."""
    exit_code: int | None
    image: str
    stand_in: bool
    """Whether its image was built on this machine as a substitute for one that could not be pulled."""

    @property
    def is_running(self) -> bool:
        """Whether the container has a live process, paused ones included."""
        return self.state in _LIVING


def project_name(paths: StackPaths) -> str:
    """Return the name of a stack's Compose project; it differs by directory, so that worktrees never share one."""
    return f"photo-worker-{paths.name}-{paths.key[:8]}"


def containers(engine: ContainerEngine, project: str) -> dict[str, Container]:
    """Return the containers of a project by service, without those of ``docker compose run``."""
    found = engine.get("/containers/json", {"all": True, "filters": {"label": [f"{PROJECT_LABEL}={project}"]}})
    known = [_container(entry) for entry in found if entry["Labels"].get(_ONE_OFF_LABEL, "False") != "True"]
    # While Compose replaces a container, the service has two: prefer the one that runs.
    return {entry.service: entry for entry in sorted(known, key=lambda entry: entry.is_running)}


def is_up(paths: StackPaths) -> bool:
    """Return whether any container of the stack runs, by one request; False if the engine is unreachable."""
    with suppress(StackError):
        found = containers(ContainerEngine(seconds=_QUICK_SECONDS), project_name(paths))
        return any(entry.is_running for entry in found.values())
    return False


def is_there(paths: StackPaths) -> bool:
    """Return whether the stack has containers, stopped ones included, or volumes; as quick as ``is_up``."""
    with suppress(StackError):
        engine, project = ContainerEngine(seconds=_QUICK_SECONDS), project_name(paths)
        return bool(containers(engine, project) or project_volumes(engine, project))
    return False


@dataclass(frozen=True)
class Details:
    """What inspecting a container adds to its entry in the list."""

    pid: int | None
    """The pid of its first process on the engine's machine."""
    started: datetime | None
    health_said: str | None
    """The output of its last health check."""
    volumes: dict[str, str]
    """Its named volumes, by the directory at which each is mounted."""


def details(engine: ContainerEngine, entries: Iterable[Container]) -> dict[str, Details]:
    """Inspect several containers at once; those removed in the meantime are left out."""
    known = list(entries)
    if not known:
        return {}
    with ThreadPoolExecutor(len(known)) as pool:
        found = pool.map(lambda entry: engine.ask("GET", f"/containers/{entry.id}/json"), known)
        responses = list(zip(known, found, strict=True))
    return {entry.service: _details(response.json()) for entry, response in responses if response.status == 200}


def remove(engine: ContainerEngine, project: str, *, grace: float, volumes: bool) -> bool:
    """Stop and remove a project's containers and networks, and its volumes if ``volumes`` is set.

    Each container has ``grace`` seconds to end by itself, all at the same time; 0 kills. Returns False if
    none ran. Anything removed already is no error.
    """
    label = {"label": [f"{PROJECT_LABEL}={project}"]}
    found = engine.get("/containers/json", {"all": True, "filters": label})
    lived = any(entry["State"] in _LIVING for entry in found)

    def end(entry: dict[str, Any]) -> None:
        name = entry["Names"][0].lstrip("/") if entry["Names"] else entry["Id"]
        path = f"/containers/{entry['Id']}"
        if entry["State"] == "paused":
            # A paused process handles no signal, and the engine cannot stop a paused container.
            engine.do("POST", f"{path}/unpause", doing=f"let {name} go on", fine=(404, 409, 500))
        if grace > 0 and entry["State"] in _LIVING:
            engine.do("POST", f"{path}/stop", {"t": int(grace)}, doing=f"stop {name}", fine=(404,))
        engine.do("DELETE", path, {"force": True, "v": True}, doing=f"remove {name}", fine=(404, 409))

    if found:
        with ThreadPoolExecutor(len(found)) as pool:
            list(pool.map(end, found))
    for network in engine.get("/networks", {"filters": label}):
        engine.do("DELETE", f"/networks/{network['Id']}", doing=f"remove the network {network['Name']}", fine=(404,))
    if volumes:
        for volume in project_volumes(engine, project):
            engine.do("DELETE", f"/volumes/{volume}", doing=f"remove the volume {volume}", fine=(404,))
    return lived


def project_volumes(engine: ContainerEngine, project: str) -> dict[str, dict[str, str]]:
    """Return the labels of a project's volumes by the volumes' names."""
    found = engine.get("/volumes", {"filters": {"label": [f"{PROJECT_LABEL}={project}"]}})
    return {volume["Name"]: volume["Labels"] or {} for volume in found["Volumes"] or []}


def publisher_of(engine: ContainerEngine, port: int) -> str | None:
    """Return the name of the container that publishes a port of this machine, or None."""
    for entry in engine.get("/containers/json"):
        if any(published.get("PublicPort") == port for published in entry["Ports"]):
            return f"container {entry['Names'][0].lstrip('/')}"
    return None


def _container(entry: dict[str, Any]) -> Container:
    # The list has these only as text, such as "Exited (137) 5 seconds ago" and "Up 3 minutes (healthy)".
    status = entry["Status"]
    ended = re.match(r"Exited \((\d+)\)", status)
    health = re.search(r"\((?:health: )?(starting|healthy|unhealthy)\)", status)
    labels = entry["Labels"]
    return Container(
        id=entry["Id"],
        name=entry["Names"][0].lstrip("/") if entry["Names"] else entry["Id"][:12],
        service=labels.get(_SERVICE_LABEL, ""),
        state=entry["State"],
        health=health[1] if health else None,
        exit_code=int(ended[1]) if ended else None,
        image=entry["Image"],
        stand_in=STAND_IN_LABEL in labels,
    )


def _details(found: dict[str, Any]) -> Details:
    state = found["State"]
    checks = (state.get("Health") or {}).get("Log") or []
    return Details(
        pid=state.get("Pid") or None,
        started=_time(state.get("StartedAt", "")),
        health_said=str(checks[-1].get("Output", "")).strip() or None if checks else None,
        volumes={mount["Destination"]: mount["Name"] for mount in found["Mounts"] if mount.get("Type") == "volume"},
    )


def _time(text: str) -> datetime | None:
    """Parse the engine's times, which have nanoseconds; None for its year 1, which means never."""
    found = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)", text)
    if found is None or text.startswith("0001"):
        return None
    return datetime.fromisoformat(found[1]).replace(tzinfo=UTC)
