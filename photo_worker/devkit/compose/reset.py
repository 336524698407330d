"""Delete what a stack stores while it runs: restarting services would take half of a reset's time.

Postgres, LocalStack and the Textract emulator are emptied. The containers of the others are removed with
their volumes: Temporal cannot delete its data, and MinIO starts at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from photo_worker.devkit import database, probes
from photo_worker.devkit.compose import localstack
from photo_worker.devkit.container_engine import ContainerEngine
from photo_worker.devkit.containers import Container, details
from photo_worker.devkit.environment import environment_of
from photo_worker.devkit.readiness import ResetFailed
from photo_worker.devkit.state import StackRecord

_SECONDS = 10.0


def reset_services(engine: ContainerEngine, found: Mapping[str, Container], record: StackRecord) -> None:
    """Empty the containers that support it; remove the others with their volumes.

    Raises ``ResetFailed`` and ``DockerFailed``; part of the data may be deleted then.
    """
    with ThreadPoolExecutor(len(found)) as pool:
        begun = [pool.submit(_empty_one, engine, entry, record) for entry in found.values()]
        for one in begun:
            one.result()


def _empty_one(engine: ContainerEngine, entry: Container, record: StackRecord) -> None:
    if entry.service == "postgres":
        database.empty(environment_of(record))
    elif entry.service == "textract":
        if not probes.http_ok(record.ports["textract"], "/_emulator/reset", method="POST", timeout=_SECONDS):
            raise ResetFailed("textract does not answer /_emulator/reset")
    elif entry.service == "aws":
        localstack.empty(record)
    else:
        closer = details(engine, [entry])
        engine.do("DELETE", f"/containers/{entry.id}", {"force": True, "v": True}, doing=f"remove {entry.name}")
        for volume in closer[entry.service].volumes.values() if closer else ():
            engine.do("DELETE", f"/volumes/{volume}", doing=f"remove the volume {volume}", fine=(404,))
