"""Questions that tell in milliseconds whether a service answers; ``up`` asks harder ones."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

from photo_worker.devkit.ports import LOOPBACK

# A service that is well answers in a few milliseconds; on a machine that has no time for it, not within 200.
TIMEOUT_SECONDS = 1.0
_LONGEST_ANSWER = 4096
# The preface of HTTP/2 and an empty frame of settings (RFC 9113, 3.4): a gRPC server answers with its own settings.
HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"


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


def grpc_answers(port: int) -> bool:
    """Say whether a gRPC server answers on a loopback port."""
    return says_anything(LOOPBACK, port, HTTP2_GREETING, timeout=TIMEOUT_SECONDS)


def postgres_asks_for_password(port: int, user: str, database: str) -> bool:
    """Say whether Postgres starts a session up to its question for the password.

    A server that is still starting answers ``E`` instead of ``R``.
    """
    message = startup_message(user, database)
    try:
        with socket.create_connection((LOOPBACK, port), timeout=TIMEOUT_SECONDS) as connection:
            connection.sendall(message)
            answer = connection.recv(_LONGEST_ANSWER)
    except OSError:
        return False
    return answer.startswith(b"R")


def says_anything(host: str, port: int, greeting: bytes, *, timeout: float, tls: bool = False) -> bool:
    """Say whether something that listens answers a greeting, with whatever it may be.

    A process that was stopped still has its connections accepted by the kernel, and says nothing.
    """
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            if tls:
                import ssl

                context = ssl.create_default_context()
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                # Whether to trust it is for those who send it something.
                with suppress(ssl.SSLError):
                    context.wrap_socket(connection, server_hostname=host).close()
                return True
            connection.sendall(greeting)
            return connection.recv(1) != b""
    except OSError:
        return False


def startup_message(user: str, database: str) -> bytes:
    """Return how a client of Postgres begins (PostgreSQL documentation, "Message Formats", protocol 3.0)."""
    parameters = b"".join(part.encode() + b"\0" for part in ("user", user, "database", database)) + b"\0"
    return struct.pack(">ii", 8 + len(parameters), 196_608) + parameters


def listens(port: int) -> bool:
    """Say whether something accepts connections on a loopback port."""
    with socket.socket() as client:
        client.settimeout(TIMEOUT_SECONDS)
        return client.connect_ex((LOOPBACK, port)) == 0
