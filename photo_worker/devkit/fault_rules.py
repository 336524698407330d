"""A client of the Textract emulator's fault script, ``/_emulator/faults``."""

from __future__ import annotations

import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

_PATH = "/_emulator/faults"
_TIMEOUT_SECONDS = 3.0


class NoResponse(Exception):
    """The request failed; the text says why, with the emulator's own message if it sent one."""


class Refused(NoResponse):
    """The emulator refused the rule as invalid; the text is its message."""


def delete_rules(endpoint: str) -> None:
    """Delete an emulator's rules; does nothing if it does not respond, which its probe will report."""
    try:
        send_request(endpoint, "DELETE")
    except NoResponse:
        return


def send_request(endpoint: str, method: str, script: object = None) -> Any:
    """Send a request about the script and return the JSON response: seed and rules. Raises ``NoResponse``, ``Refused``.

    HTTP by hand, because `photo-worker status` calls this, and importing an HTTP client takes a good part of its time.
    """
    url = urlsplit(endpoint)
    content = b"" if script is None else json.dumps(script).encode()
    head = f"{method} {_PATH} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    try:
        address = (url.hostname or "127.0.0.1", url.port or 80)
        with socket.create_connection(address, timeout=_TIMEOUT_SECONDS) as connection:
            connection.sendall(head.encode("ascii") + content)
            received = _receive(connection, deadline)
    except OSError as error:
        raise NoResponse(f"the emulator at {endpoint} does not answer: {error}") from error
    status, _, rest = received.partition(b"\r\n")
    try:
        code = int(status.split()[1])
        answer = json.loads(rest.partition(b"\r\n\r\n")[2])
        if code == 200:
            return answer
        reason = str(answer["message"])
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise NoResponse(f"what answers at {endpoint} is not this version's emulator") from error
    raise Refused(reason) if code == 400 else NoResponse(reason)


def _receive(connection: socket.socket, deadline: float) -> bytes:
    """Return all that is sent until the connection ends; raises ``TimeoutError`` at the deadline, however it drips."""
    received = bytearray()
    while (left := deadline - time.monotonic()) > 0:
        connection.settimeout(left)
        piece = connection.recv(65_536)
        if not piece:
            return bytes(received)
        received += piece
    raise TimeoutError(f"no complete response within {_TIMEOUT_SECONDS:g} s")
