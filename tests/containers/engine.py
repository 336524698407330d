"""A Docker engine for tests through testcontainers: found, configured, and left unchanged.

Images are those of compose/docker-compose.yml. Ports are published on loopback. Containers carry the
creating process in a label, so that the next run removes those of a killed one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from socket import AF_UNIX, socket
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    import docker
    from testcontainers.core.container import DockerContainer

COMPOSE_FILE = Path(__file__).resolve().parents[2] / "compose" / "docker-compose.yml"
OWNER = "photo-worker.tests.owner"
LOOPBACK = "127.0.0.1"


class NoContainer(Exception):
    """Why a test cannot have a container on this machine."""


def image_of(service: str) -> str:
    """Return a service's image in docker-compose.yml, or from the environment variable that the file reads."""
    found = re.search(
        rf"^  {service}:\n(?:(?:    .*)?\n)*?    image: \$\{{(\w+):-([^}}\s]+)\}}$",
        COMPOSE_FILE.read_text("utf-8"),
        re.MULTILINE,
    )
    if found is None:
        raise LookupError(f"{COMPOSE_FILE} has no image for the service {service}")
    return os.environ.get(found[1]) or found[2]


@dataclass(frozen=True)
class Engine:
    """A responding engine, and whether its published ports are on this machine's loopback."""

    client: docker.DockerClient
    local: bool

    def require(self, image: str) -> None:
        """Pull an image if the engine lacks it; raises ``NoContainer``."""
        from docker.errors import APIError, ImageNotFound
        from requests.exceptions import RequestException

        try:
            self.client.images.get(image)
        except ImageNotFound:
            try:
                self.client.images.pull(image)
            except (APIError, RequestException) as error:
                raise NoContainer(
                    f"the image {image} is not in the engine and cannot be pulled ({_one_line(error)}); build it with "
                    "`docker compose build`, or a stand-in with .ci/make_standin_images.py"
                ) from error

    @contextmanager
    def running(self, container: DockerContainer, *ports: int) -> Iterator[DockerContainer]:
        """Run a container with these ports while the block runs, and delete it with its volumes."""
        self.require(container.image)
        published: Any = {str(port): (LOOPBACK,) if self.local else None for port in ports}
        container.ports = published
        container.with_kwargs(labels={OWNER: _owner()}, mem_limit="1g", pids_limit=1024)
        with container:
            yield container


@contextmanager
def open_engine() -> Iterator[Engine]:
    """Yield the engine that Docker's own environment variables select; raises ``NoContainer``."""
    try:
        import docker
        from docker.errors import DockerException
        from requests.exceptions import RequestException
        from testcontainers.core.config import testcontainers_config as settings
    except ImportError as error:
        raise NoContainer(f"testcontainers is not installed ({error.name})") from error

    _require_listener()
    try:
        client = docker.from_env(timeout=60)
    except (DockerException, RequestException) as error:
        raise NoContainer(f"no Docker engine responds: {_one_line(error)}") from error
    before = (settings.ryuk_disabled, settings.connection_mode_override, settings.tc_host_override)
    try:
        local = _set_up(client, settings)
        sweep(client)
        yield Engine(client, local)
    finally:
        settings.ryuk_disabled, settings.connection_mode_override, settings.tc_host_override = before
        client.close()


def _require_listener() -> None:
    """Raise ``NoContainer`` if no process listens on the engine's socket: Docker's SDK would leak its own end."""
    host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    if host.startswith("unix://"):
        with closing(socket(AF_UNIX)) as probe:
            try:
                probe.connect(host.removeprefix("unix://"))
            except OSError as error:
                raise NoContainer(f"no Docker engine responds at {host}: {error.strerror}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _set_up(client: docker.DockerClient, settings: Any) -> bool:
    """Correct wrong guesses of testcontainers; return whether published ports are on loopback."""
    from docker.errors import ImageNotFound
    from testcontainers.core.config import ConnectionMode

    if not settings.ryuk_disabled:
        try:
            client.images.get(settings.ryuk_image)
        except ImageNotFound:
            # The block that started a container deletes it, or ``sweep`` if that was killed.
            settings.ryuk_disabled = True
    if settings.connection_mode_override is not None or settings.tc_host_override:
        return settings.tc_host_override in {LOOPBACK, "localhost"}
    if not Path("/.dockerenv").exists():
        return str(client.api.base_url).startswith("http+docker://local")
    if _bridge_address(client) not in _own_addresses():
        return False
    # This is a container, but the engine runs in it too; testcontainers assumes one outside.
    settings.connection_mode_override = ConnectionMode.docker_host
    settings.tc_host_override = LOOPBACK
    return True


def _bridge_address(client: docker.DockerClient) -> str | None:
    """Return the address of the engine's machine on the engine's own bridge; None if there is none."""
    from docker.errors import NotFound

    with suppress(NotFound, KeyError, IndexError, ValueError):
        config = client.networks.get("bridge").attrs["IPAM"]["Config"][0]
        # Older engines do not report it, and use the network's first address.
        return str(config.get("Gateway") or ip_network(config["Subnet"])[1])
    return None


def _own_addresses() -> set[str]:
    return {one.address for addresses in psutil.net_if_addrs().values() for one in addresses}


def _owner() -> str:
    process = psutil.Process()
    return f"{os.uname().nodename}/{process.pid}/{process.create_time():.2f}"


def sweep(client: docker.DockerClient) -> list[str]:
    """Delete containers of ended test processes of this machine; return their ids."""
    from docker.errors import NotFound

    gone = []
    for container in client.containers.list(all=True, filters={"label": OWNER}, ignore_removed=True):
        if _is_orphan(str(container.labels[OWNER])):
            with suppress(NotFound):
                container.remove(force=True, v=True)
            gone.append(str(container.id))
    return gone


def _is_orphan(owner: str) -> bool:
    node, pid, created = owner.split("/")
    if node != os.uname().nodename:
        return False
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" != created
    except psutil.NoSuchProcess:
        return True
