"""The two encodings of requests and responses: AWS JSON 1.1 and Smithy RPC v2 CBOR.

Both carry the same values, so that the rest of the server handles them alike. They differ in binary data, which
is base64 in JSON and bytes in CBOR, and in timestamps, which CBOR tags. Clients are not trusted: nesting and the
number of values are limited before a body is turned into objects, since a few million empty lists fit into the
largest body and take a hundred times its size.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import cbor2

from textract_local.server.failures import MALFORMED, Basis, ErrorResponse, ServiceError

# The largest valid request, 200 tags of a resource, has some 400 values three levels deep.
MOST_VALUES = 20_000
MOST_LEVELS = 32

_SHAPES = "com.amazonaws.textract#"
# Errors of the front end that AWS services share, before a service's own model applies [C].
_FRONT_SHAPES = "com.amazon.coral.service#"

_BYTES, _TEXT, _LIST, _MAP, _TAG = 2, 3, 4, 5, 6
_TIMESTAMP = 1
_BREAK = 0xFF
_FOLLOWING_BYTES = {24: 1, 25: 2, 26: 4, 27: 8}
_INDEFINITE = 31
_ENDLESS = float("inf")
# How many values an item of each kind holds per unit of its length.
_WITHIN = {_BYTES: 1, _TEXT: 1, _LIST: 1, _MAP: 2}


@dataclass(frozen=True)
class Codec:
    """One encoding. ``binary`` is True if it has bytes and timestamps (``Timestamp``) of its own."""

    name: str
    content_type: str
    binary: bool
    parse: Callable[[bytes], object]
    """Return a body's values; an empty body is an object without members. Raises SerializationException."""
    dump: Callable[[Mapping[str, Any]], bytes]
    """Return a response's bytes. Raises ``ValueError`` for values that clients cannot read."""
    dump_error: Callable[[ErrorResponse, str], bytes]
    """Return the body of an error with its message."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """The headers of a response besides the content type."""


@dataclass(frozen=True)
class Timestamp:
    """A tagged number: seconds since 1970."""

    seconds: float


def _parse_json(body: bytes) -> object:
    if not body:
        return {}
    # Each value but the first follows one of these. Base64, the only large content, contains none of them.
    if sum(map(body.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise ServiceError(MALFORMED, problem="The body has too many values")
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_not_json)
    except UnicodeDecodeError as error:
        raise ServiceError(MALFORMED, problem="The body is not UTF-8") from error
    except RecursionError as error:
        raise ServiceError(MALFORMED, problem="The body is nested too deeply") from error
    except ValueError as error:
        raise ServiceError(MALFORMED, problem=f"The body is not JSON: {error}") from error


def _dump_json(response: Mapping[str, Any]) -> bytes:
    return json.dumps(response, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _dump_json_error(failure: ErrorResponse, message: str) -> bytes:
    """Return an error in the form that the real service uses: a bare type and a capital M [O]."""
    return json.dumps({"__type": failure.code, "Message": message}).encode()


def _not_json(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON value")


def _parse_cbor(body: bytes) -> object:
    if not body:
        return {}
    _survey(body)
    try:
        return cbor2.loads(
            body,
            semantic_decoders={_TIMESTAMP: _timestamp},
            max_depth=MOST_LEVELS + 1,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
        )
    except cbor2.CBORDecodeError as error:
        raise ServiceError(MALFORMED, problem=f"The body is not CBOR: {error}") from error


def _timestamp(seconds: object, _immutable: bool) -> Timestamp:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise cbor2.CBORDecodeError("a timestamp is no number")
    return Timestamp(seconds)


def _survey(body: bytes) -> None:
    """Raise unless a body is exactly one value within the limits, without creating any objects.

    All tags except that of timestamps are refused: big numbers, fractions, regular expressions and references
    to other values do not occur in the service's model, and some of them cost more than their bytes.
    """
    position = values = 0
    # How many values each open list or map still needs; infinitely many if a break ends it.
    waiting: list[float] = [1]
    while waiting:
        if waiting[-1] == 0:
            waiting.pop()
            continue
        if position >= len(body):
            raise _not_cbor("it is cut off")
        if body[position] == _BREAK and waiting[-1] == _ENDLESS:
            waiting.pop()
            position += 1
            continue
        values += 1
        if values > MOST_VALUES:
            raise ServiceError(MALFORMED, problem="The body has too many values")
        if len(waiting) > MOST_LEVELS:
            raise ServiceError(MALFORMED, problem="The body is nested too deeply")
        waiting[-1] -= 1
        kind, length, position = _head(body, position)
        if kind in {_BYTES, _TEXT} and length != _ENDLESS:
            position += int(length)
        elif kind in _WITHIN:
            # An indefinite string: its pieces follow. cbor2 checks their kind.
            waiting.append(length * _WITHIN[kind])
        elif kind == _TAG:
            if length != _TIMESTAMP:
                raise _not_cbor(f"the tag {length} has no meaning here")
            waiting.append(1)
    if position != len(body):
        raise _not_cbor("it is cut off" if position > len(body) else "something follows it")


def _head(body: bytes, position: int) -> tuple[int, float, int]:
    """Return a value's kind, its number or length (infinite if indefinite), and the position of its content."""
    kind, detail = body[position] >> 5, body[position] & 0x1F
    position += 1
    if detail == _INDEFINITE and kind in _WITHIN:
        return kind, _ENDLESS, position
    if detail < min(_FOLLOWING_BYTES):
        return kind, detail, position
    if detail not in _FOLLOWING_BYTES:
        raise _not_cbor(f"there is no value that begins with {body[position - 1]:#04x}")
    end = position + _FOLLOWING_BYTES[detail]
    if end > len(body):
        raise _not_cbor("it is cut off")
    return kind, int.from_bytes(body[position:end], "big"), end


def _not_cbor(problem: str) -> ServiceError:
    return ServiceError(MALFORMED, problem=f"The body is not CBOR: {problem}")


def _dump_cbor(response: Mapping[str, Any]) -> bytes:
    return cbor2.dumps(response)


def _dump_cbor_error(failure: ErrorResponse, message: str) -> bytes:
    """Return an error as the protocol specifies: its type is the shape's absolute name.

    The message member has the name of the service's Smithy model, the same as in JSON.
    """
    space = _FRONT_SHAPES if failure.code_basis is Basis.CONVENTION else _SHAPES
    return cbor2.dumps({"__type": space + failure.code, "Message": message})


JSON = Codec("json-1.1", "application/x-amz-json-1.1", False, _parse_json, _dump_json, _dump_json_error)
CBOR = Codec(
    "rpc-v2-cbor",
    "application/cbor",
    True,
    _parse_cbor,
    _dump_cbor,
    _dump_cbor_error,
    {"smithy-protocol": "rpc-v2-cbor"},
)
