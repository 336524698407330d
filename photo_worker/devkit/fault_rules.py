"""Talks to the Textract emulator about its fault script: ``/_emulator/faults``."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit

_PATH = "/_emulator/faults"
_TIMEOUT_SECONDS = 3.0


class NoAnswer(Exception):
    """The emulator does not do what it was asked; the text says why, in its own words where it has any."""


class Refused(NoAnswer):
    """The emulator takes no such rule, and says why."""


def end_rules(endpoint: str) -> None:
    """Have an emulator forget its rules; nothing happens where none answers, which using it will tell."""
    try:
        ask(endpoint, "DELETE")
    except NoAnswer:
        return


def ask(endpoint: str, method: str, script: object = None) -> Any:
    """Send a request about the script and return the JSON answer: seed and rules. Raises ``NoAnswer``, ``Refused``.

    By hand: `photo-worker status` asks too, and importing an HTTP client takes a good part of its time.
    """
    url = urlsplit(endpoint)
    content = b"" if script is None else json.dumps(script).encode()
    head = f"{method} {_PATH} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    received = bytearray()
    try:
        address = (url.hostname or "127.0.0.1", url.port or 80)
        with socket.create_connection(address, timeout=_TIMEOUT_SECONDS) as connection:
            connection.sendall(head.encode("ascii") + content)
            while piece := connection.recv(65_536):
                received += piece
    except OSError as error:
        raise NoAnswer(f"the emulator at {endpoint} does not answer: {error}") from error
    status, _, rest = bytes(received).partition(b"\r\n")
    try:
        code = int(status.split()[1])
        answer = json.loads(rest.partition(b"\r\n\r\n")[2])
        if code == 200:
            return answer
        reason = str(answer["message"])
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise NoAnswer(f"what answers at {endpoint} is not this version's emulator") from error
    raise Refused(reason) if code == 400 else NoAnswer(reason)
