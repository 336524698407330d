"""Copy the volumes of a stack's containers to files and back.

The engine exports a directory of a container as a tar archive, even if it does not run, and imports one
in the same way: owners, modes and times are kept, and no helper image is needed. A snapshot is a
directory, as for a native stack, with one archive for each volume.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from photo_worker.devkit.container_engine import ContainerEngine
from photo_worker.devkit.containers import Container, details
from photo_worker.devkit.errors import DataMismatch, DataUnwritable


def save(engine: ContainerEngine, found: Mapping[str, Container], directory: Path) -> None:
    """Write an archive of each volume of these stopped containers.

    Raises ``DataUnwritable`` and ``DockerFailed``.
    """
    for service, where in _volumes(engine, found):
        path = _archive(directory, service, where)
        try:
            with path.open("xb") as target:
                doing = f"copy {where} of {service}"
                engine.download(f"/containers/{found[service].id}/archive", {"path": f"{where}/."}, target, doing=doing)
        except OSError as error:
            raise DataUnwritable(path=str(path), reason=error.strerror or str(error)) from error


def load(engine: ContainerEngine, found: Mapping[str, Container], directory: Path) -> None:
    """Fill the volumes of these newly created containers from a snapshot's archives.

    Raises ``DataMismatch`` if the snapshot has no archive of one, and ``DockerFailed``.
    """
    for service, where in _volumes(engine, found):
        if not _archive(directory, service, where).is_file():
            raise DataMismatch(path=str(directory), reason=f"it holds nothing of {where} in {service}")
        with _archive(directory, service, where).open("rb") as source:
            doing = f"fill {where} of {service}"
            engine.upload(f"/containers/{found[service].id}/archive", {"path": where}, source, doing=doing)


def _volumes(engine: ContainerEngine, found: Mapping[str, Container]) -> list[tuple[str, str]]:
    """Return each service with each directory on which a volume of its container is mounted."""
    known = details(engine, found.values())
    return sorted((service, where) for service, entry in known.items() for where in entry.volumes)


def _archive(directory: Path, service: str, where: str) -> Path:
    return directory / f"{service}@{where.strip('/').replace('/', '-')}.tar"
