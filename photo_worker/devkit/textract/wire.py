"""AWS JSON 1.1: what a request must carry, and the form of answers and errors.

Signatures are asked for and not checked: every caller is let in, whatever its keys.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from photo_worker.devkit.textract.failures import (
    INCOMPLETE_SIGNATURE,
    MALFORMED,
    MISSING_AUTHENTICATION,
    UNKNOWN_OPERATION,
    Refusal,
)
from photo_worker.devkit.textract.model import TextractModel

CONTENT_TYPE = "application/x-amz-json-1.1"
REASON_HEADER = "x-emulator-reason"

# 10 MB in base64 are 14 million letters; the rest of the largest request is a few thousand.
BODY_LIMIT_BYTES = 16 * 1024 * 1024

# A client that still sends does not see an answer, only a broken connection. So what is too large
# is taken in and thrown away, up to here.
DRAIN_LIMIT_BYTES = 256 * 1024 * 1024

_LONGEST_REASON = 500
_SIGNATURE_PARTS = ("Credential", "SignedHeaders", "Signature")


async def read_body(request: Request) -> bytes | None:
    """Return a request's body, or None where it is larger than any valid one.

    Raises ``Refusal`` where the client goes away in the middle, which nobody will read.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > BODY_LIMIT_BYTES:
        waits = request.headers.get("expect", "").lower() == "100-continue"
        if waits or int(declared) > DRAIN_LIMIT_BYTES:
            return None
    kept = bytearray()
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size <= BODY_LIMIT_BYTES:
                kept += chunk
            else:
                kept.clear()
                if size > DRAIN_LIMIT_BYTES:
                    break
    except ClientDisconnect as error:
        raise Refusal(MALFORMED, problem="the request is cut off") from error
    return bytes(kept) if size <= BODY_LIMIT_BYTES else None


def operation_of(request: Request, model: TextractModel) -> str:
    """Return the operation that X-Amz-Target names; raises UnknownOperationException."""
    target = request.headers.get("x-amz-target", "")
    prefix, _, operation = target.partition(".")
    if prefix != model.target_prefix or operation not in model.operations:
        raise Refusal(UNKNOWN_OPERATION, target=_ascii(repr(target)) if target else "without X-Amz-Target")
    return operation


def require_signature(request: Request) -> None:
    """Raise where a request is not signed at all, or its signature lacks a part."""
    authorization = request.headers.get("authorization", "").strip()
    if not authorization:
        raise Refusal(MISSING_AUTHENTICATION)
    given = {
        name.strip() for name, _, value in map(_assignment, authorization.partition(" ")[2].split(",")) if value.strip()
    }
    lacking = [part for part in _SIGNATURE_PARTS if part not in given]
    if lacking:
        problem = " ".join(f"Authorization header requires '{part}' parameter." for part in lacking)
        raise Refusal(INCOMPLETE_SIGNATURE, problem=problem)


def parse_json(body: bytes) -> object:
    """Return a body's JSON; no body at all stands for no members. Raises SerializationException."""
    if not body:
        return {}
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_not_json)
    except UnicodeDecodeError as error:
        raise Refusal(MALFORMED, problem="The body is not UTF-8") from error
    except RecursionError as error:
        raise Refusal(MALFORMED, problem="The body is nested too deeply") from error
    except ValueError as error:
        raise Refusal(MALFORMED, problem=f"The body is not JSON: {error}") from error


def answer(content: bytes) -> Response:
    """Return an operation's answer."""
    return Response(content, media_type=CONTENT_TYPE, headers=_request_id())


def error(refusal: Refusal, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error in the form that was seen of the real service: a bare type and a capital M.

    What it does not say, and what a developer wants to know, is in a header of the emulator's own.
    """
    body = {"__type": refusal.failure.code, "Message": refusal.message}
    return Response(
        json.dumps(body).encode(),
        status_code=refusal.failure.status,
        media_type=CONTENT_TYPE,
        headers={
            **_request_id(),
            **({REASON_HEADER: _ascii(refusal.reason)} if refusal.reason else {}),
            **(headers or {}),
        },
    )


def _request_id() -> dict[str, str]:
    return {"x-amzn-requestid": str(uuid4())}


def _assignment(text: str) -> tuple[str, str, str]:
    return text.partition("=")


def _ascii(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")[:_LONGEST_REASON]


def _not_json(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON value")
