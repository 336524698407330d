"""Questions that tell in milliseconds whether a service answers; ``up`` asks harder ones."""

from __future__ import annotations

import socket
import struct

from photo_worker.devkit.ports import LOOPBACK

TIMEOUT_SECONDS = 0.2
_LONGEST_ANSWER = 4096


def http_ok(port: int, path: str, *, method: str = "GET", timeout: float = TIMEOUT_SECONDS) -> bool:
    """Say whether a request without a body is answered with status 200.

    By hand: importing an HTTP client takes longer than the whole of `photo-worker status` may.
    """
    request = f"{method} {path} HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection((LOOPBACK, port), timeout=timeout) as connection:
            connection.sendall(request.encode("ascii"))
            answer = connection.recv(_LONGEST_ANSWER)
    except OSError:
        return False
    return answer.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200"))


def postgres_asks_for_password(port: int, user: str, database: str) -> bool:
    """Say whether Postgres starts a session up to its question for the password.

    Protocol 3.0 (PostgreSQL documentation, "Message Formats"): a server that is still starting
    answers ``E`` instead of ``R``.
    """
    parameters = b"".join(part.encode() + b"\0" for part in ("user", user, "database", database)) + b"\0"
    message = struct.pack(">ii", 8 + len(parameters), 196_608) + parameters
    try:
        with socket.create_connection((LOOPBACK, port), timeout=TIMEOUT_SECONDS) as connection:
            connection.sendall(message)
            answer = connection.recv(_LONGEST_ANSWER)
    except OSError:
        return False
    return answer.startswith(b"R")


def listens(port: int) -> bool:
    """Say whether something accepts connections on a loopback port."""
    with socket.socket() as client:
        client.settimeout(TIMEOUT_SECONDS)
        return client.connect_ex((LOOPBACK, port)) == 0
