"""Selects the services of a stack by its kind, its S3 server, and its external and optional services."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache

from photo_worker.devkit.errors import S3ServerUnfit
from photo_worker.devkit.service import Endpoint, Service
from photo_worker.devkit.service_modules import service_modules
from photo_worker.devkit.state import StackRecord


@cache
def all_services(kind: str) -> tuple[Service, ...]:
    """Return every service that a stack of this kind can have, in the order in which they are listed."""
    found = [service for module in service_modules() for service in module.SERVICES if kind in service.kinds]
    return tuple(sorted(found, key=lambda service: service.position))


@cache
def default_services() -> tuple[Service, ...]:
    """Return the services of a native stack without options."""
    return select_services("native", s3_servers("native")[0])


@cache
def s3_servers(kind: str) -> tuple[str, ...]:
    """Return the S3 servers that a stack of this kind supports; the default, which needs no other server, first."""
    known = [service for service in all_services(kind) if service.s3_server is not None]
    known.sort(key=lambda service: (service.name != "aws", service.position))
    return tuple(service.s3_server or "" for service in known)


def optional_services() -> tuple[str, ...]:
    """Return the names of the services that run only if they are asked for."""
    return tuple(service.name for service in all_services("native") if service.optional)


def select_services(
    kind: str, s3: str, external: Collection[str] = (), extras: Collection[str] = ()
) -> tuple[Service, ...]:
    """Return the services of a stack with this S3 server, without those that are ``external``.

    Raises ``S3ServerUnfit`` for a server that a stack of this kind does not support.
    """
    require_known(kind, s3)
    chosen = (service.chosen(s3, external, extras) for service in all_services(kind))
    return tuple(service for service in chosen if service is not None)


def services_of(record: StackRecord) -> tuple[Service, ...]:
    """Return the services that a recorded stack runs itself."""
    return select_services(record.kind, record.s3, record.external, record.extras)


def replaceable_services(record: StackRecord) -> tuple[Service, ...]:
    """Return the services of a stack as if none were external; one that replaces another's address comes after it."""
    chosen = (service.chosen(record.s3, (), record.extras) for service in all_services(record.kind))
    return tuple(sorted((one for one in chosen if one is not None), key=lambda service: service.name == "s3"))


def endpoints() -> dict[str, Endpoint]:
    """Return every address that ``--external`` may replace, by name, in the order in which they are listed."""
    return {one.name: one for service in all_services("native") for one in service.endpoints}


def require_known(kind: str, s3: str) -> None:
    """Raise ``S3ServerUnfit`` if a stack of this kind does not support this S3 server."""
    known = s3_servers(kind)
    if s3 not in known:
        raise S3ServerUnfit(kind=kind, s3=s3, known=(" and " if len(known) == 2 else ", ").join(known))


def require_programs(kind: str, s3: str, external: Collection[str] = (), extras: Collection[str] = ()) -> None:
    """Raise ``ServiceMissing`` if a program is missing that the development kit does not bring along.

    Raises ``S3ServerUnfit`` for a server that a stack of this kind does not support.
    """
    for service in select_services(kind, s3, external, extras):
        service.require()
