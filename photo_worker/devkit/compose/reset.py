"""Delete what a stack stores while it runs: restarting services would take half of a reset's time.

Postgres, LocalStack and the Textract emulator are emptied. The containers of the others are removed with
their volumes: Temporal cannot delete its data, and MinIO starts at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from photo_worker.devkit.container_engine import ContainerEngine
from photo_worker.devkit.containers import Container, details
from photo_worker.devkit.layout import StackPaths
from photo_worker.devkit.service_registry import services_of
from photo_worker.devkit.state import StackRecord


def reset_services(
    engine: ContainerEngine, found: Mapping[str, Container], record: StackRecord, paths: StackPaths
) -> None:
    """Empty the services that support it; remove the containers of the others with their volumes.

    Raises ``ResetFailed`` and ``DockerFailed``; part of the data may be deleted then.
    """
    services = services_of(record)
    with ThreadPoolExecutor(len(services) or 1) as pool:
        begun = [
            pool.submit(_remove, engine, found[service.name])
            if service.restarts_to_reset
            else pool.submit(service.wipe, record, paths)
            for service in services
        ]
        for one in begun:
            one.result()


def _remove(engine: ContainerEngine, entry: Container) -> None:
    closer = details(engine, [entry])
    engine.do("DELETE", f"/containers/{entry.id}", {"force": True, "v": True}, doing=f"remove {entry.name}")
    for volume in closer[entry.service].volumes.values() if closer else ():
        engine.do("DELETE", f"/volumes/{volume}", doing=f"remove the volume {volume}", fine=(404,))
