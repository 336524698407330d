"""A fake engine's socket with prepared responses; it records the requests."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit


class FakeEngine:
    """``responses`` are status and JSON value, or raw bytes to send, by method and path without the API's version."""

    def __init__(self, path: Path, responses: Mapping[str, tuple[int, object] | bytes]) -> None:
        self.path = path
        self.asked: list[str] = []
        self.versions: set[str] = set()
        self._responses = {"GET /version": (200, {"ApiVersion": "1.47", "MinAPIVersion": "1.24"}), **responses}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(16)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> FakeEngine:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Closing a socket does not wake a thread in accept; shutting it down does.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as reader:
                method, target, _ = reader.readline().decode().split()
                while reader.readline() not in {b"\r\n", b""}:
                    pass
                url = urlsplit(target)
                # The request for the API's version has no version prefix; all others have one.
                path = url.path if url.path == "/version" else "/" + url.path.split("/", 2)[2]
                if path != url.path:
                    self.versions.add(url.path.split("/")[1])
                self.asked.append(f"{method} {path} {sorted(parse_qs(url.query).items())}")
                connection.sendall(self._response(f"{method} {path}"))

    def _response(self, key: str) -> bytes:
        found = self._responses.get(key, (404, {"message": f"the test knows nothing of {key}"}))
        if isinstance(found, bytes):
            return found
        status, value = found
        body = json.dumps(value).encode()
        return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
