"""Checks before containers start: ports in use, and data of another version of Postgres."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from photo_worker.devkit import ports
from photo_worker.devkit.container_engine import ContainerEngine
from photo_worker.devkit.containers import publisher_of
from photo_worker.devkit.errors import DataMismatch, PortTaken
from photo_worker.devkit.service import Service
from photo_worker.devkit.state import StackRecord


def require_free(engine: ContainerEngine, record: StackRecord, own: Sequence[Service]) -> None:
    """Raise ``PortTaken`` for the first port in use; name the container if one publishes it."""
    uses = {use: service.name for service in own for use in service.published}
    try:
        ports.require_free(record.ports, uses)
    except PortTaken as error:
        publisher = publisher_of(engine, int(str(error.context["port"])))
        if publisher is None:
            raise
        raise PortTaken(**{**error.context, "owner": publisher}) from error


def require_same_postgres(before: Mapping[str, str], now: Mapping[str, str], where: str) -> None:
    """Raise ``DataMismatch`` if the data was written by another major version of Postgres."""
    known, wanted = (re.search(r":v?(\d+)", versions.get("postgres", "")) for versions in (before, now))
    if known is not None and wanted is not None and known[1] != wanted[1]:
        raise DataMismatch(path=where, reason=f"{before['postgres']} wrote it, and this is {now['postgres']}")
