"""The origin rules as ASGI middleware: requests that pass are neither copied nor buffered."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from xml.sax.saxutils import escape

from photo_worker.devkit.guard.rules import DRAIN_BYTES
from textract_local.origins import OriginRules

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# RFC 6455, 7.4.1, policy violation: the endpoint received a message that breaks its rules.
_POLICY_VIOLATION = 1008


def guarded(app: App, rules: OriginRules) -> App:
    """Return ``app`` behind ``rules``: a request that they refuse gets status 403."""

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await app(scope, receive, send)
            return
        reason = rules.refusal(scope["headers"], scope["query_string"])
        if reason is None:
            await app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": reason[:120]})
        else:
            await _refuse(scope, receive, send, reason)

    return guard


async def _refuse(scope: Scope, receive: Receive, send: Send, reason: str) -> None:
    headers = dict(scope["headers"])
    if b"expect" not in headers:
        await _drain(receive)
    media_type, body = _error(headers.get(b"content-type", b""), reason)
    sent = [(b"content-type", media_type), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 403, "headers": sent})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def _drain(receive: Receive) -> None:
    size = 0
    while size <= DRAIN_BYTES:
        message = await receive()
        size += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return


def _error(asked_as: bytes, reason: str) -> tuple[bytes, bytes]:
    """Return media type and body of an error in the protocol of the request (JSON, query, S3), for SDKs to show."""
    if b"json" in asked_as:
        told = {"__type": "AccessDeniedException", "message": reason}
        return asked_as.partition(b";")[0], json.dumps(told).encode()
    error = f"<Error><Code>AccessDenied</Code><Message>{escape(reason)}</Message></Error>"
    if b"x-www-form-urlencoded" in asked_as:
        error = f"<ErrorResponse>{error}</ErrorResponse>"
    return b"application/xml", f'<?xml version="1.0" encoding="UTF-8"?>\n{error}'.encode()
