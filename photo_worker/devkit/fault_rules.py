"""A client of the Textract emulator's fault script, ``/_emulator/faults``."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from photo_worker.devkit.http_client import HttpFailed, request

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


def send_request(endpoint: str, method: str, script: object = None, *, seconds: float = _TIMEOUT_SECONDS) -> Any:
    """Send a request about the script and return the JSON response: seed and rules. Raises ``NoResponse``, ``Refused``.

    It ends after ``seconds``, however the response drips.
    """
    url = urlsplit(endpoint)
    address = (url.hostname or "127.0.0.1", url.port or 80)
    content = b"" if script is None else json.dumps(script).encode()
    headers = {"Content-Type": "application/json"}
    try:
        response = request(address, method, _PATH, content, seconds=seconds, headers=headers)
    except HttpFailed as error:
        raise NoResponse(f"the emulator at {endpoint} does not respond: {error}") from error
    try:
        said = json.loads(response.body)
        if response.status == 200:
            return said
        reason = str(said["message"])
    except (ValueError, KeyError, TypeError) as error:
        raise NoResponse(f"what responds at {endpoint} is not this version's emulator") from error
    raise Refused(reason) if response.status == 400 else NoResponse(reason)
