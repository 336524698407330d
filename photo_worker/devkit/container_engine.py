"""A client of the local Docker engine, over its Unix socket.

The engine's HTTP API (Docker documentation, "Docker Engine API") responds within milliseconds, while
the ``docker`` command takes a tenth of a second to start.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlencode

from photo_worker.devkit.errors import DockerDenied, DockerElsewhere, DockerFailed, DockerMissing
from photo_worker.devkit.http_client import Exchange, HttpFailed, HttpResponse, exchange, request

# The API version of Docker 25, the oldest that Docker 29 supports; 20.10 supports 1.41. All have what is used here.
_VERSION = (1, 44)
_RESPONSE_SECONDS = 60.0
_PROXIED = "/var/run/docker.sock"


def socket_path(environ: Mapping[str, str] | None = None) -> Path:
    """Return the engine's socket, found in the same order as by the ``docker`` command; raises ``DockerElsewhere``.

    DOCKER_HOST comes first, then DOCKER_CONTEXT or the context that ``docker context use`` chose, then
    the sockets of a system-wide, a desktop and a rootless engine.
    """
    environ = os.environ if environ is None else environ
    address = environ.get("DOCKER_HOST", "").strip() or _address_of_context(environ)
    if address:
        if not address.startswith("unix://"):
            raise DockerElsewhere(address=address)
        return Path(address.removeprefix("unix://"))
    candidates = [Path(_PROXIED)]
    if environ.get("HOME"):
        candidates.append(Path(environ["HOME"]) / ".docker" / "run" / "docker.sock")
    if environ.get("XDG_RUNTIME_DIR"):
        candidates.append(Path(environ["XDG_RUNTIME_DIR"]) / "docker.sock")
    return next((path for path in candidates if path.exists()), candidates[0])


def container_proxy_exceptions(environ: Mapping[str, str]) -> str:
    """Return the NO_PROXY that the caller's Docker configuration (``proxies``) gives to containers, or nothing."""
    with suppress(OSError, ValueError, AttributeError, TypeError):
        proxies = json.loads((_configuration(environ) / "config.json").read_text()).get("proxies") or {}
        chosen = proxies.get("default")
        with suppress(DockerElsewhere):
            chosen = proxies.get(f"unix://{socket_path(environ)}", chosen)
        return str((chosen or {}).get("noProxy") or "")
    return ""


def _configuration(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("DOCKER_CONFIG", "") or Path(environ.get("HOME", "")) / ".docker")


def _address_of_context(environ: Mapping[str, str]) -> str:
    directory = _configuration(environ)
    name = environ.get("DOCKER_CONTEXT", "").strip()
    with suppress(OSError, ValueError, AttributeError):
        name = name or json.loads((directory / "config.json").read_text()).get("currentContext", "")
    if not name or name == "default":
        return ""
    meta = directory / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(meta.read_text())["Endpoints"]["docker"]["Host"])
    return ""


class ContainerEngine:
    """A client of the engine at one socket. Every method raises ``DockerMissing`` and ``DockerDenied``."""

    def __init__(self, path: Path | None = None, *, seconds: float = _RESPONSE_SECONDS) -> None:
        self.path = path or socket_path()
        self._seconds = seconds
        self._prefix: str | None = None

    @property
    def address(self) -> str:
        """The engine's address in the form of DOCKER_HOST."""
        return f"unix://{self.path}"

    def ask(
        self, method: str, path: str, query: Mapping[str, object] | None = None, body: object = None
    ) -> HttpResponse:
        """Send a request, with ``body`` as JSON, and return the response, whatever its status."""
        content = b"" if body is None else json.dumps(body).encode()
        target, headers = self._target(path, query), {"Content-Type": "application/json"}
        with self._failures():
            return request(self.path, method, target, content, seconds=self._seconds, headers=headers)

    def get(self, path: str, query: Mapping[str, object] | None = None) -> Any:
        """Return the JSON value of a GET; raises ``DockerFailed`` if the status is not 2xx."""
        return self.do("GET", path, query, doing=f"respond to {path}").json()

    def do(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        body: object = None,
        *,
        doing: str,
        fine: tuple[int, ...] = (),
    ) -> HttpResponse:
        """Send a request; raises ``DockerFailed`` if the status is not 2xx, 304 or one of ``fine``."""
        response = self.ask(method, path, query, body)
        # 304: nothing to do, for example stopping a container that is stopped already.
        if not (200 <= response.status < 300 or response.status == 304 or response.status in fine):
            raise DockerFailed(doing=doing, reason=response.message)
        return response

    def download(self, path: str, query: Mapping[str, object], target: IO[bytes], *, doing: str) -> None:
        """Write the body of a GET response to a file, block by block."""
        with self._requested("GET", path, query) as open_exchange:
            status = open_exchange.receive_head()
            if status != 200:
                raise DockerFailed(doing=doing, reason=HttpResponse(status, b"".join(open_exchange.blocks())).message)
            for block in open_exchange.blocks():
                target.write(block)

    def upload(self, path: str, query: Mapping[str, object], source: IO[bytes], *, doing: str) -> None:
        """PUT a file, a tar archive, block by block."""
        size = source.seek(0, os.SEEK_END)
        source.seek(0)
        with self._requested("PUT", path, query, size, {"Content-Type": "application/x-tar"}) as open_exchange:
            # An engine that refuses the upload responds before it has read all: report that, not the broken pipe.
            with suppress(BrokenPipeError, ConnectionResetError):
                open_exchange.connection.sendfile(source)
            response = HttpResponse(open_exchange.receive_head(), b"".join(open_exchange.blocks()))
        if not 200 <= response.status < 300:
            raise DockerFailed(doing=doing, reason=response.message)

    @contextmanager
    def stream(self, path: str, query: Mapping[str, object]) -> Iterator[tuple[socket.socket, Iterator[bytes]]]:
        """Open a streaming response; yield the connection and the body's blocks, none if it is an error."""
        with self._requested("GET", path, query) as open_exchange:
            status = open_exchange.receive_head()
            open_exchange.connection.settimeout(None)
            yield open_exchange.connection, open_exchange.blocks() if status == 200 else iter(())

    @contextmanager
    def _requested(
        self,
        method: str,
        path: str,
        query: Mapping[str, object],
        length: int = 0,
        headers: dict[str, str] | None = None,
    ) -> Iterator[Exchange]:
        target = self._target(path, query)
        with self._failures(), exchange(self.path, self._seconds) as open_exchange:
            open_exchange.send(method, target, headers or {}, length)
            yield open_exchange

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except HttpFailed as error:
            if isinstance(error.__cause__, PermissionError):
                raise DockerDenied(address=self.address) from error
            reason = "what responds there is no Docker engine" if error.malformed else str(error)
            raise DockerMissing(address=self.address, reason=reason) from error

    def _target(self, path: str, query: Mapping[str, object] | None) -> str:
        target = f"{self._speaks(path)}{quote(path, safe='/:@')}"
        if query:
            target += "?" + urlencode({name: _parameter(value) for name, value in query.items()})
        return target

    def _speaks(self, path: str) -> str:
        """Return the prefix of request paths: the API version to use with this engine."""
        if path == "/version":
            return ""
        if self._prefix is None:
            said = self.get("/version")
            newest, oldest = (_numbers(said.get(key, "")) for key in ("ApiVersion", "MinAPIVersion"))
            major, minor = max(min(_VERSION, newest), oldest)
            self._prefix = f"/v{major}.{minor}"
        return self._prefix


def _numbers(version: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else _VERSION


def _parameter(value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return value if isinstance(value, str) else json.dumps(value)
