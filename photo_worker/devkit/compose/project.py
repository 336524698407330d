"""A stack as a project of Docker Compose: the file, its services, and the variables that the file reads."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from photo_worker.devkit.container_engine import container_proxy_exceptions
from photo_worker.devkit.environment import environment_of
from photo_worker.devkit.errors import ComposeFileMissing
from photo_worker.devkit.layout import worktree_root
from photo_worker.devkit.service_registry import all_services, endpoints, replaceable_services, services_of
from photo_worker.devkit.state import StackRecord
from photo_worker.loopback import EXCEPTIONS, joined

KIND = "compose"
WORKER = "worker"
_FILE = Path("compose", "docker-compose.yml")
_HOST = "host.docker.internal"
_LOOPBACKS = ("localhost", "127.0.0.1", "::1", "0.0.0.0")  # noqa: S104 - recognised, not listened on


def compose_file(start: Path | None = None, *, relative: Path = _FILE) -> Path:
    """Return the Compose file of the checkout around ``start``, by default the working directory.

    Otherwise that of the checkout that contains this code. Raises ``ComposeFileMissing``.
    """
    wanted = worktree_root(start or Path.cwd()) / relative
    beside = Path(__file__).resolve().parents[3] / relative
    for path in (wanted, beside):
        if path.is_file():
            return path
    raise ComposeFileMissing(path=str(wanted))


def own_services(record: StackRecord) -> tuple[str, ...]:
    """Return the services that the stack runs itself, in display order."""
    return tuple(service.name for service in services_of(record))


def started_services(record: StackRecord) -> tuple[str, ...]:
    """Return the services of the Compose file that a start creates: the stack's own and those that they need."""
    # Those that another one consists of come last: what is shown of it is its first.
    names = [service.containers for service in services_of(record)]
    return (*(first for first, *_ in names), *(one for _, *others in names for one in others))


def direct_hosts(extras: Collection[str] = ()) -> str:
    """Return the hosts that containers reach without a proxy, with those of optional services.

    The Compose file repeats them, without optional ones, for a start by hand.
    """
    services = (service for service in all_services(KIND) if not service.optional or service.name in extras)
    names = dict.fromkeys(service.name for service in services)
    return ",".join(("localhost", "127.0.0.1", "::1", *names, _HOST))


def variables(record: StackRecord) -> dict[str, str]:
    """Return the variables that the Compose file reads, by name."""
    env = environment_of(record)
    values = {
        "PW_PREFIX": record.prefix,
        "PW_POSTGRES_PASSWORD": record.password,
        "PW_DURABLE": "on" if record.durable else "off",
        "PW_ACCESS_KEY": env["AWS_ACCESS_KEY_ID"],
        "PW_SECRET_KEY": env["AWS_SECRET_ACCESS_KEY"],
        "PW_NO_PROXY": _exceptions(record.extras),
    }
    for service in replaceable_services(record):
        values |= service.container_variables(record)
    known = endpoints()
    for name, address in record.external.items():
        values[known[name].container_variable] = _seen_from_inside(address)
    for use in (use for service in all_services(KIND) for use in service.published):
        values[f"PW_PORT_{use.upper().replace('-', '_')}"] = str(record.ports[use])
    return values


def _exceptions(extras: Collection[str]) -> str:
    """Return NO_PROXY for containers; it replaces the value that Docker itself would set."""
    shell = (os.environ.get(name, "") for name in EXCEPTIONS)
    return joined([direct_hosts(extras), *shell, container_proxy_exceptions(os.environ)])


def _seen_from_inside(endpoint: str) -> str:
    """Return an endpoint as containers reach it: a container's loopback is not the machine's."""
    has_scheme = "://" in endpoint
    url = urlsplit(endpoint if has_scheme else f"//{endpoint}")
    if url.hostname not in _LOOPBACKS:
        return endpoint
    login, at, _ = url.netloc.rpartition("@")
    port = "" if url.port is None else f":{url.port}"
    moved = urlunsplit(url._replace(netloc=f"{login}{at}{_HOST}{port}"))
    return moved if has_scheme else moved.removeprefix("//")
