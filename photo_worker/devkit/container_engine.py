"""A client of the local Docker engine, over its Unix socket.

The engine's HTTP API (Docker documentation, "Docker Engine API") responds within milliseconds, while
the ``docker`` command takes a tenth of a second to start. HTTP is written by hand, because importing an
HTTP client takes a good part of the time that ``photo-worker status`` may take.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlencode

from photo_worker.devkit.errors import DockerDenied, DockerElsewhere, DockerFailed, DockerMissing

# The API version of Docker 25, the oldest that Docker 29 supports; 20.10 supports 1.41. All have what is used here.
_VERSION = (1, 44)
_CONNECT_SECONDS = 2.0
_ANSWER_SECONDS = 60.0
_LONGEST_LINE = 65_536
_BLOCK_BYTES = 1024 * 1024
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


@dataclass(frozen=True)
class EngineResponse:
    """A response of the engine: HTTP status and raw body."""

    status: int
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """Return the body's JSON value; None if the body is empty."""
        return json.loads(self.body) if self.body.strip() else None

    @property
    def message(self) -> str:
        """The engine's error message."""
        try:
            return str(json.loads(self.body)["message"]).strip()
        except (ValueError, KeyError, TypeError):
            return self.body.decode("utf-8", errors="replace").strip() or f"status {self.status}"


class ContainerEngine:
    """A client of the engine at one socket. Every method raises ``DockerMissing`` and ``DockerDenied``."""

    def __init__(self, path: Path | None = None, *, seconds: float = _ANSWER_SECONDS) -> None:
        self.path = path or socket_path()
        self._seconds = seconds
        self._prefix: str | None = None

    @property
    def address(self) -> str:
        """The engine's address in the form of DOCKER_HOST."""
        return f"unix://{self.path}"

    def ask(
        self, method: str, path: str, query: Mapping[str, object] | None = None, body: object = None
    ) -> EngineResponse:
        """Send a request, with ``body`` as JSON, and return the response, whatever its status."""
        content = b"" if body is None else json.dumps(body).encode()
        with self._requested(method, path, query, len(content), "application/json") as (connection, reader):
            if content:
                connection.sendall(content)
            status, headers = self._head(reader)
            return EngineResponse(status, b"".join(_body(reader, headers, status)))

    def get(self, path: str, query: Mapping[str, object] | None = None) -> Any:
        """Return the JSON value of a GET; raises ``DockerFailed`` if the status is not 2xx."""
        return self.do("GET", path, query, doing=f"answer {path}").json()

    def do(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        body: object = None,
        *,
        doing: str,
        fine: tuple[int, ...] = (),
    ) -> EngineResponse:
        """Send a request; raises ``DockerFailed`` if the status is not 2xx, 304 or one of ``fine``."""
        answer = self.ask(method, path, query, body)
        # 304: nothing to do, for example stopping a container that is stopped already.
        if not (200 <= answer.status < 300 or answer.status == 304 or answer.status in fine):
            raise DockerFailed(doing=doing, reason=answer.message)
        return answer

    def download(self, path: str, query: Mapping[str, object], target: IO[bytes], *, doing: str) -> None:
        """Write the body of a GET response to a file, block by block."""
        with self._requested("GET", path, query, 0, None) as (_, reader):
            status, headers = self._head(reader)
            blocks = _body(reader, headers, status)
            if status != 200:
                raise DockerFailed(doing=doing, reason=EngineResponse(status, b"".join(blocks)).message)
            for block in blocks:
                target.write(block)

    def upload(self, path: str, query: Mapping[str, object], source: IO[bytes], *, doing: str) -> None:
        """PUT a file, a tar archive, block by block."""
        size = source.seek(0, os.SEEK_END)
        source.seek(0)
        with self._requested("PUT", path, query, size, "application/x-tar") as (connection, reader):
            # An engine that refuses the upload responds before it has read all: report that, not the broken pipe.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendfile(source)
            status, headers = self._head(reader)
            answer = EngineResponse(status, b"".join(_body(reader, headers, status)))
        if not 200 <= answer.status < 300:
            raise DockerFailed(doing=doing, reason=answer.message)

    @contextmanager
    def stream(self, path: str, query: Mapping[str, object]) -> Iterator[tuple[socket.socket, Iterator[bytes]]]:
        """Open a streaming response; yield the connection and the body's blocks, none if it is an error."""
        with self._requested("GET", path, query, 0, None) as (connection, reader):
            status, headers = self._head(reader)
            connection.settimeout(None)
            yield connection, _body(reader, headers, status) if status == 200 else iter(())

    @contextmanager
    def _requested(
        self, method: str, path: str, query: Mapping[str, object] | None, length: int, kind: str | None
    ) -> Iterator[tuple[socket.socket, BufferedReader]]:
        target = f"{self._speaks(path)}{quote(path, safe='/:@')}"
        if query:
            target += "?" + urlencode({name: _parameter(value) for name, value in query.items()})
        head = [f"{method} {target} HTTP/1.1", "Host: docker", "Connection: close", f"Content-Length: {length}"]
        if kind:
            head.append(f"Content-Type: {kind}")
        connection = self._connect()
        try:
            with connection, connection.makefile("rb") as reader:
                connection.sendall(("\r\n".join(head) + "\r\n\r\n").encode("ascii"))
                yield connection, reader
        except TimeoutError as error:
            raise DockerMissing(address=self.address, reason=f"no answer within {self._seconds:g} s") from error
        except ConnectionError as error:
            raise DockerMissing(address=self.address, reason=error.strerror or str(error)) from error

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

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(_CONNECT_SECONDS)
            connection.connect(str(self.path))
            connection.settimeout(self._seconds)
        except PermissionError as error:
            connection.close()
            raise DockerDenied(address=self.address) from error
        except OSError as error:
            connection.close()
            raise DockerMissing(address=self.address, reason=error.strerror or str(error)) from error
        return connection

    def _head(self, reader: BufferedReader) -> tuple[int, dict[str, str]]:
        words = reader.readline(_LONGEST_LINE).split(None, 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
            raise DockerMissing(address=self.address, reason="what answers there is no Docker engine")
        headers: dict[str, str] = {}
        while (line := reader.readline(_LONGEST_LINE)) not in {b"\r\n", b"\n", b""}:
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return int(words[1]), headers


def _numbers(version: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else _VERSION


def _parameter(value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return value if isinstance(value, str) else json.dumps(value)


def _body(reader: BufferedReader, headers: Mapping[str, str], status: int) -> Iterator[bytes]:
    """Yield the body's blocks (RFC 9112, sections 6.3 and 7.1)."""
    if status in {204, 304}:
        return
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int(reader.readline(_LONGEST_LINE).split(b";")[0].strip() or b"0", 16):
            yield from _exactly(reader, size)
            reader.readline(_LONGEST_LINE)
    elif "content-length" in headers:
        yield from _exactly(reader, int(headers["content-length"]))
    else:
        while block := reader.read1(_BLOCK_BYTES):
            yield block


def _exactly(reader: BufferedReader, size: int) -> Iterator[bytes]:
    while size > 0:
        block = reader.read1(min(size, _BLOCK_BYTES))
        if not block:
            raise ConnectionResetError(f"the engine's answer ended {size} bytes early")
        size -= len(block)
        yield block
