"""Probes that tell within milliseconds whether a service responds; ``readiness`` has thorough ones."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

from photo_worker.devkit.http_client import HttpFailed, request_status
from photo_worker.devkit.ports import LOOPBACK

# A healthy service responds in a few milliseconds; on a busy machine it may take more than 200.
TIMEOUT_SECONDS = 1.0
_LONGEST_RESPONSE = 4096
# The HTTP/2 preface and an empty SETTINGS frame (RFC 9113, 3.4): a gRPC server responds with its own settings.
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"


def http_ok(port: int, path: str, *, method: str = "GET", timeout: float = TIMEOUT_SECONDS) -> bool:
    """Return whether a request without a body gets a response of status 200."""
    try:
        return request_status((LOOPBACK, port), method, path, seconds=timeout) == 200
    except HttpFailed:
        return False


def grpc_responds(port: int) -> bool:
    """Return whether a gRPC server responds on a loopback port."""
    return responds(LOOPBACK, port, HTTP2_PREFACE, timeout=TIMEOUT_SECONDS)


def postgres_asks_for_password(port: int, user: str, database: str) -> bool:
    """Return whether Postgres begins a session and asks for the password.

    A server that is still starting responds with ``E`` instead of ``R``.
    """
    message = startup_message(user, database)
    try:
        with socket.create_connection((LOOPBACK, port), timeout=TIMEOUT_SECONDS) as connection:
            connection.sendall(message)
            response = connection.recv(_LONGEST_RESPONSE)
    except OSError:
        return False
    return response.startswith(b"R")


def responds(host: str, port: int, greeting: bytes, *, timeout: float, tls: bool = False) -> bool:
    """Return whether a listener sends anything in response to a greeting.

    Connecting is not enough: the kernel accepts connections for a stopped process, which then sends nothing.
    """
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            if tls:
                import ssl

                context = ssl.create_default_context()
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                # The certificate is not verified: the probe sends nothing that has to be protected.
                with suppress(ssl.SSLError):
                    context.wrap_socket(connection, server_hostname=host).close()
                return True
            connection.sendall(greeting)
            return connection.recv(1) != b""
    except OSError:
        return False


def startup_message(user: str, database: str) -> bytes:
    """Return a Postgres client's StartupMessage (PostgreSQL documentation, "Message Formats", protocol 3.0)."""
    parameters = b"".join(part.encode() + b"\0" for part in ("user", user, "database", database)) + b"\0"
    return struct.pack(">ii", 8 + len(parameters), 196_608) + parameters


def listens(port: int) -> bool:
    """Return whether a loopback port accepts connections."""
    with socket.socket() as client:
        client.settimeout(TIMEOUT_SECONDS)
        return client.connect_ex((LOOPBACK, port)) == 0
