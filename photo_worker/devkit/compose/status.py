"""The status of a Compose stack, as ``photo-worker status`` shows it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from photo_worker.devkit import external
from photo_worker.devkit.container_engine import ContainerEngine
from photo_worker.devkit.containers import Container, Details, containers, details, project_name
from photo_worker.devkit.errors import StackError
from photo_worker.devkit.layout import StackPaths, is_locked
from photo_worker.devkit.service import Service
from photo_worker.devkit.service_registry import services_of
from photo_worker.devkit.state import StackRecord
from photo_worker.devkit.status import ServiceStatus, StackStatus


def look(paths: StackPaths, record: StackRecord) -> StackStatus:
    """Ask every service, and the engine for its container; an engine that is away is the stack's problem."""
    own, others = services_of(record), external.external_services(record)
    try:
        engine = ContainerEngine()
        found = containers(engine, project_name(paths))
    except StackError as error:
        lines = [_line(one, record, None, None, responds=False, busy=False) for one in own]
        return StackStatus(paths.name, paths.root, False, lines, error.message)
    busy = is_locked(paths.command_lock)
    with ThreadPoolExecutor(len(own) + len(others) + 1) as pool:
        looks = pool.submit(_closer, engine, [found[one.name] for one in own if one.name in found])
        foreign = [pool.submit(one.status) for one in others]
        asked = {one.name: pool.submit(one.is_alive, record) for one in own if one.name in found}
        responses = {name: response.result() for name, response in asked.items()}
        closer = looks.result()
        lines = [
            _line(
                one,
                record,
                found.get(one.name),
                closer.get(one.name),
                responds=responses.get(one.name, False),
                busy=busy,
            )
            for one in own
        ]
        lines += [line.result() for line in foreign]
    return StackStatus(paths.name, paths.root, all(line.state == "running" for line in lines), lines)


def _closer(engine: ContainerEngine, found: Iterable[Container]) -> dict[str, Details]:
    try:
        return details(engine, found)
    except StackError:
        # The engine stopped within milliseconds: report what is known without it.
        return {}


def _line(
    service: Service,
    record: StackRecord,
    found: Container | None,
    closer: Details | None,
    *,
    responds: bool,
    busy: bool,
) -> ServiceStatus:
    if found is None:
        state = "stopped"
    elif found.state == "running":
        state = "running" if responds else "starting" if busy or found.health == "starting" else "silent"
    else:
        state = {"created": "starting", "restarting": "starting", "dead": "exited"}.get(found.state, found.state)
    alive = found is not None and found.is_running
    started = closer.started if closer is not None and alive else None
    # The record has the name from the file; the engine reports an id if the tag has moved since.
    version = record.versions.get(service.name) or (None if found is None else found.image)
    if version is not None and found is not None and found.stand_in:
        version += " (stand-in)"
    return ServiceStatus(
        name=service.name,
        state=state,
        version=version,
        url=service.url(record),
        port=record.ports[service.uses[0]],
        # On other systems than Linux the engine runs in a virtual machine with its own process ids.
        pid=closer.pid if closer is not None and alive and sys.platform == "linux" else None,
        uptime_seconds=None if started is None else round((datetime.now(UTC) - started).total_seconds(), 1),
        exit_code=None if found is None else found.exit_code,
    )
