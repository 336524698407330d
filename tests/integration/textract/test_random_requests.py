"""Random requests for all operations in both protocols get a response or a modelled error, never a server error."""

from __future__ import annotations

import base64
import json
from typing import Any

import cbor2
from botocore.model import ListShape, MapShape, Shape, StringShape, StructureShape
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from textract_local.server.failures import FAILURES
from textract_local.server.model import TextractModel
from textract_support.clients import call, post
from textract_support.emulator import RunningEmulator, document
from textract_support.http_exchange import HttpResponse
from textract_support.requests import VALID

MODEL = TextractModel()
FRONT = {failure.code for failure in FAILURES} - {"InternalServerError", "ThrottlingException"}

# Wrong values for any member.
WRONG = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
)


def of(shape: Shape) -> st.SearchStrategy[Any]:  # noqa: PLR0911
    """Return a strategy for values of a shape's types that mostly satisfy its constraints; blobs are bytes."""
    if isinstance(shape, StructureShape):
        members = {name: of(member) for name, member in shape.members.items()}
        required = {name: members.pop(name) for name in shape.required_members}
        return st.fixed_dictionaries(required, optional=members)
    least, most = int(shape.metadata.get("min", 0)), shape.metadata.get("max")
    if isinstance(shape, ListShape):
        return st.lists(of(shape.member), min_size=least, max_size=min(most or 3, least + 3))
    if isinstance(shape, MapShape):
        return st.dictionaries(of(shape.key), of(shape.value), min_size=least, max_size=3)
    if isinstance(shape, StringShape):
        return st.sampled_from(shape.enum) if shape.enum else text(shape.metadata.get("pattern"), least, most)
    match shape.type_name:
        case "integer" | "long":
            return st.integers(least, min(most or 1 << 31, (1 << 31) - 1))
        case "boolean":
            return st.booleans()
        case "blob":
            return st.binary(min_size=1, max_size=40) | st.builds(document)
        case _:
            return st.floats(0, 1e10)


def text(pattern: str | None, least: int, most: int | None) -> st.SearchStrategy[str]:
    known = st.sampled_from(["a" * 12, "0" * 64, "photos", "1", "1-2", "*", "arn:aws:sns:us-east-1:000000000000:done"])
    alphabet = "abcXYZ019-_." if pattern else "abcäö ½/+"
    return known | st.text(alphabet, min_size=least, max_size=min(most or 40, least + 40))


@st.composite
def requests(draw: st.DrawFn, operation: str) -> Any:
    """Draw a request; in one of three cases a part of it is replaced by a wrong value."""
    shape = MODEL.operation(operation).input_shape
    value = draw(st.just(VALID[operation]) | of(shape)) if shape is not None else {}
    return draw(damaged(value)) if draw(st.integers(0, 2)) == 0 else value


@st.composite
def damaged(draw: st.DrawFn, value: Any) -> Any:
    if isinstance(value, dict) and value and draw(st.booleans()):
        name = draw(st.sampled_from(sorted(value)))
        return {**value, name: draw(damaged(value[name]))}
    if isinstance(value, list) and value and draw(st.booleans()):
        return [draw(damaged(value[0])), *value[1:]]
    return draw(WRONG)


def as_json(value: Any) -> bytes:
    return json.dumps(value, default=lambda content: base64.b64encode(content).decode()).encode()


def as_cbor(value: Any, shape: Shape | None) -> bytes:
    return cbor2.dumps(raw(value, shape))


def raw(value: Any, shape: Shape | None) -> Any:
    """Return a request with CBOR's types: bytes, and tagged timestamps."""
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        return {name: raw(item, shape.members.get(name)) for name, item in value.items()}
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [raw(item, shape.member) for item in value]
    if shape is not None and shape.type_name == "blob" and isinstance(value, str):
        return value.encode()
    if shape is not None and shape.type_name == "timestamp" and isinstance(value, float | int):
        return cbor2.CBORTag(1, value)
    return value


def judged(operation: str, response: HttpResponse, body: Any) -> str:
    """Return the code of a response, after a check that the operation may return it."""
    if response.status == 200:
        MODEL.check_response(operation, body)
        return "200"
    assert response.status == 400, body
    code = str(body["__type"]).rpartition("#")[2]
    assert MODEL.lists_error(operation, code) or code == "SerializationException", body
    assert code in FRONT
    return code


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), operation=st.sampled_from(MODEL.operations))
def test_random_requests_get_response_or_modelled_error(
    emulator: RunningEmulator, data: st.DataObject, operation: str
) -> None:
    request = data.draw(requests(operation), label="request")
    by_json = call(emulator.port, f"Textract.{operation}", as_json(request))
    judged(operation, by_json, by_json.json)
    by_cbor = post(emulator.port, operation, as_cbor(request, MODEL.operation(operation).input_shape))
    judged(operation, by_cbor, cbor2.loads(by_cbor.body))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), operation=st.sampled_from(MODEL.operations))
def test_random_valid_request_is_judged_alike_by_protocols(
    emulator: RunningEmulator, data: st.DataObject, operation: str
) -> None:
    shape = MODEL.operation(operation).input_shape
    request = data.draw(of(shape) if shape is not None else st.just({}), label="request")
    by_json = call(emulator.port, f"Textract.{operation}", as_json(request))
    by_cbor = post(emulator.port, operation, as_cbor(request, shape))
    assert judged(operation, by_json, by_json.json) == judged(operation, by_cbor, cbor2.loads(by_cbor.body))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(operation=st.sampled_from(MODEL.operations), body=st.binary(max_size=200))
def test_random_cbor_bytes_get_response_or_modelled_error(
    emulator: RunningEmulator, operation: str, body: bytes
) -> None:
    by_cbor = post(emulator.port, operation, body)
    judged(operation, by_cbor, cbor2.loads(by_cbor.body))
