"""HTTP: reads the parts of requests, and builds responses and errors.

A signature is required but not verified: any keys are accepted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar
from uuid import uuid4

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from textract_local.server.admission import BodySlot
from textract_local.server.codecs import CBOR, JSON, Codec
from textract_local.server.failures import (
    INCOMPLETE_SIGNATURE,
    MALFORMED,
    MISSING_AUTHENTICATION,
    NO_SUCH_PAGE,
    PROVISIONED_THROUGHPUT_EXCEEDED,
    REQUEST_TIMEOUT,
    UNKNOWN_OPERATION,
    ServiceError,
)
from textract_local.server.model import TextractModel

REASON_HEADER = "x-emulator-reason"
RPC_V2_PREFIX = "/service/"

# 10 MB in base64 are 14 million characters; the rest of the largest request is a few thousand.
BODY_LIMIT_BYTES = 16 * 1024 * 1024

# A client that is still sending does not see a response, only a broken connection. So a body that is too large
# is received and discarded, up to this limit.
DRAIN_LIMIT_BYTES = 256 * 1024 * 1024

# How long a client may take to send a body. SDKs do not wait longer for a response.
BODY_SECONDS = 60

_LONGEST_REASON = 500

_T = TypeVar("_T")


class ClientGone(Exception):
    """The client closed its connection before the response."""


async def while_connected(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """Return what ``work`` returns. If the client disconnects, cancel ``work`` and raise ``ClientGone``.

    The request's body must have been read.
    """
    responding, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({responding, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not responding.done():
            raise ClientGone
        return responding.result()
    finally:
        responding.cancel()
        leaving.cancel()
        await asyncio.wait({responding, leaving})


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


_SIGNATURE_PARTS = ("Credential", "SignedHeaders", "Signature")


async def read_body(request: Request, room: BodySlot | None = None, *, seconds: float = BODY_SECONDS) -> bytes | None:
    """Return a request's body, or None if it is larger than any valid one.

    Raises ``ServiceError`` if the client disconnects before the end, if it takes too long, and if there is no ``room``
    in memory. Without a ``room`` the body is discarded, and the result is empty.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > BODY_LIMIT_BYTES:
        waits = request.headers.get("expect", "").lower() == "100-continue"
        if waits or int(declared) > DRAIN_LIMIT_BYTES:
            return None
    kept, size, crowded = bytearray(), 0, False
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                size += len(chunk)
                crowded = crowded or (room is not None and size <= BODY_LIMIT_BYTES and not room.take(len(chunk)))
                if room is not None and size <= BODY_LIMIT_BYTES and not crowded:
                    kept += chunk
                else:
                    kept.clear()
                    if size > DRAIN_LIMIT_BYTES:
                        break
    except ClientDisconnect as error:
        raise ServiceError(MALFORMED, problem="the request is cut off") from error
    except TimeoutError as error:
        raise ServiceError(REQUEST_TIMEOUT, seconds=seconds) from error
    if size > BODY_LIMIT_BYTES:
        return None
    if crowded:
        raise ServiceError(PROVISIONED_THROUGHPUT_EXCEEDED, "other requests of many bytes arrive")
    return bytes(kept)


def codec_of(request: Request) -> Codec:
    """Return the encoding of a request, which is also that of its response or error."""
    by_path = request.url.path.startswith(RPC_V2_PREFIX)
    return CBOR if by_path and request.headers.get("smithy-protocol") == CBOR.name else JSON


def operation_of(request: Request, model: TextractModel) -> str:
    """Return the operation of a request. Raises UnknownOperationException.

    RPC v2 CBOR has it in the path, JSON, which has one path, in the header X-Amz-Target.
    """
    if request.url.path.startswith(RPC_V2_PREFIX):
        return _operation_of_path(request, model)
    target = request.headers.get("x-amz-target", "")
    prefix, _, operation = target.partition(".")
    if prefix != model.target_prefix or operation not in model.operations:
        raise ServiceError(UNKNOWN_OPERATION, target=_ascii(repr(target)) if target else "without X-Amz-Target")
    return operation


def require_content_type(request: Request, codec: Codec) -> None:
    """Raise SerializationException if a CBOR body has another content type.

    In JSON any type is accepted: the first clients of AWS JSON sent none at all.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if codec.binary and given != codec.content_type:
        raise ServiceError(
            MALFORMED, problem=f"The body's type is {_ascii(given) or 'not given'}, not {codec.content_type}"
        )


def _operation_of_path(request: Request, model: TextractModel) -> str:
    path = request.url.path
    # The specification requires servers to check this header first.
    if codec_of(request) is not CBOR:
        raise ServiceError(NO_SUCH_PAGE, f"the header smithy-protocol is not {CBOR.name}", path=_ascii(path))
    service, _, operation = path.removeprefix(RPC_V2_PREFIX).partition("/operation/")
    if service != model.target_prefix or operation not in model.operations:
        raise ServiceError(UNKNOWN_OPERATION, target=_ascii(path))
    return operation


def require_signature(request: Request) -> None:
    """Raise ``ServiceError`` if a request has no signature, or its signature lacks a part."""
    authorization = request.headers.get("authorization", "").strip()
    if not authorization:
        raise ServiceError(MISSING_AUTHENTICATION)
    given = {
        name.strip() for name, _, value in map(_assignment, authorization.partition(" ")[2].split(",")) if value.strip()
    }
    lacking = [part for part in _SIGNATURE_PARTS if part not in given]
    if lacking:
        problem = " ".join(f"Authorization header requires '{part}' parameter." for part in lacking)
        raise ServiceError(INCOMPLETE_SIGNATURE, problem=problem)


def response(content: bytes, codec: Codec) -> Response:
    """Return the HTTP response with an operation's encoded content."""
    return Response(content, media_type=codec.content_type, headers={**_request_id(), **codec.headers})


def error(refusal: ServiceError, codec: Codec = JSON, headers: Mapping[str, str] | None = None) -> Response:
    """Return the HTTP response for an error.

    Details for developers that are not in the message are in the emulator's header ``REASON_HEADER``.
    """
    return Response(
        codec.dump_error(refusal.failure, refusal.message),
        status_code=refusal.failure.status,
        media_type=codec.content_type,
        headers={
            **_request_id(),
            **codec.headers,
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
