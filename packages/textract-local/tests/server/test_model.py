"""The constraints of the service's model, for each operation."""

from __future__ import annotations

import base64
import re
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.model import ListShape, MapShape, Shape, StructureShape
from hypothesis import given
from hypothesis import strategies as st

from textract_local.server.model import TextractModel, WrongType, whole
from textract_support.requests import LOCATION, PHOTO, VALID

MODEL = TextractModel()


def scalars(shape: Shape, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Shape]]:
    """Yield each scalar that an input can have, with its path."""
    if isinstance(shape, StructureShape):
        for name, member in shape.members.items():
            yield from scalars(member, (*path, name))
    elif isinstance(shape, ListShape):
        yield from scalars(shape.member, (*path, 0))
    elif not isinstance(shape, MapShape):
        yield path, shape


def request_with(operation: str, path: tuple[str | int, ...], value: object) -> object:
    """Return a valid request of an operation with one scalar replaced."""

    def put(into: object, steps: tuple[str | int, ...]) -> object:
        if not steps:
            return value
        if isinstance(steps[0], int):
            return [put(None, steps[1:])]
        known = into if isinstance(into, dict) else {}
        return {**known, steps[0]: put(known.get(steps[0]), steps[1:])}

    return put(VALID[operation], path)


INPUTS = [
    (operation, path, scalar)
    for operation in MODEL.operations
    if (shape := MODEL.operation(operation).input_shape) is not None
    for path, scalar in scalars(shape)
]
SCALARS = [pytest.param(*entry, id=f"{entry[0]}-{'.'.join(map(str, entry[1]))}") for entry in INPUTS]
PATTERNED = [param for param, entry in zip(SCALARS, INPUTS, strict=True) if "pattern" in entry[2].metadata]


def named(path: tuple[str | int, ...]) -> str:
    return re.sub(r"\.(\[\d+\])", r"\1", ".".join(f"[{step}]" if isinstance(step, int) else step for step in path))


def violations(operation: str, request: object, path: tuple[str | int, ...]) -> set[str]:
    return {found.rule for found in MODEL.read_request(operation, request)[1] if found.path == named(path)}


def test_model_has_25_operations() -> None:
    assert set(VALID) == set(MODEL.operations)
    assert len(VALID) == 25


@pytest.mark.parametrize("operation", sorted(VALID))
def test_read_request_valid_is_accepted(operation: str) -> None:
    assert MODEL.read_request(operation, VALID[operation])[1] == []


@pytest.mark.parametrize("operation", sorted(VALID))
def test_read_request_missing_member_is_required(operation: str) -> None:
    shape = MODEL.operation(operation).input_shape
    assert shape is not None
    for member in shape.required_members:
        for request in (
            {name: value for name, value in VALID[operation].items() if name != member},
            {**VALID[operation], member: None},
        ):
            assert [(found.path, found.rule) for found in MODEL.read_request(operation, request)[1]] == [
                (member, "required")
            ]


@pytest.mark.parametrize(("operation", "path", "shape"), SCALARS)
def test_read_request_wrong_type_is_refused(operation: str, path: tuple[str | int, ...], shape: Shape) -> None:
    accepted = {"string": str, "blob": str, "integer": int, "timestamp": int | float, "boolean": bool}[shape.type_name]
    for value in ("text!", 7, 1.5, True, ["text"], {"a": "b"}):
        if isinstance(value, accepted) and (not isinstance(value, bool) or accepted is bool) and value != "text!":
            continue
        if shape.type_name == "string" and value == "text!":
            continue
        with pytest.raises(WrongType, match=re.escape(named(path))):
            MODEL.read_request(operation, request_with(operation, path, value))


@pytest.mark.parametrize(("operation", "path", "shape"), SCALARS)
def test_read_request_out_of_range_violates_min_or_max(
    operation: str, path: tuple[str | int, ...], shape: Shape
) -> None:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")

    def found(size: int) -> set[str]:
        value: object = size
        if shape.type_name == "string":
            value = "a" * size
        elif shape.type_name == "blob":
            value = base64.b64encode(bytes(size)).decode()
        return violations(operation, request_with(operation, path, value), path)

    if least:
        assert found(least - 1) == {"min"}
        assert "min" not in found(least)
    if most:
        assert found(most + 1) == {"max"}
        assert "max" not in found(most)


@pytest.mark.parametrize(("operation", "path", "shape"), PATTERNED)
def test_read_request_pattern_matches_whole_string(operation: str, path: tuple[str | int, ...], shape: Shape) -> None:
    sound = {
        "HumanLoopName": "loop-1",
        "SNSTopicArn": "arn:aws:sns:us-east-1:000000000000:done",
        "RoleArn": "arn:aws:iam::000000000000:role/textract",
        "QueryPage": "1",
        "AdapterPage": "1",
    }.get(shape.name, "abc")
    assert violations(operation, request_with(operation, path, sound), path) == set()
    for bad in (f"{sound}\n", f"\n{sound}"):
        if r"\s!" not in shape.metadata["pattern"]:
            assert violations(operation, request_with(operation, path, bad), path) == {"pattern"}


@pytest.mark.parametrize(
    ("operation", "path", "bad"),
    [
        ("DetectDocumentText", ("Document", "S3Object", "Bucket"), "my bucket"),
        ("DetectDocumentText", ("Document", "S3Object", "Bucket"), "büchse"),
        ("DetectDocumentText", ("Document", "S3Object", "Name"), "   "),
        ("StartDocumentTextDetection", ("ClientRequestToken",), "a b"),
        ("StartDocumentTextDetection", ("JobTag",), "a/b"),
        ("GetDocumentTextDetection", ("JobId",), "Invalid Job Id"),
        (
            "StartDocumentTextDetection",
            ("NotificationChannel", "RoleArn"),
            "arn:aws:iam::00000000000\u0660:role/textract",
        ),
        ("CreateAdapter", ("Tags", "a*b"), "c"),
        ("CreateAdapter", ("Tags", "aws:b"), "c"),
    ],
)
def test_read_request_forbidden_character_violates_pattern(operation: str, path: tuple[str, ...], bad: str) -> None:
    found = MODEL.read_request(operation, request_with(operation, path, bad))[1]
    assert [violation.rule for violation in found] == ["pattern"]


def test_read_request_unknown_enum_value_violates_enum() -> None:
    request = {"Document": LOCATION, "FeatureTypes": ["TABLES", "tables"]}
    found = MODEL.read_request("AnalyzeDocument", request)[1]
    assert [(violation.path, violation.rule) for violation in found] == [("FeatureTypes[1]", "enum")]


def test_read_request_list_too_long_violates_max() -> None:
    found = MODEL.read_request("AnalyzeID", {"DocumentPages": [LOCATION] * 3})[1]
    assert [(violation.path, violation.rule) for violation in found] == [("DocumentPages", "max")]


def test_read_request_unknown_members_are_dropped() -> None:
    request = {"Document": {**LOCATION, "Colour": {"deep": [1]}}, "Mood": 7}
    assert MODEL.read_request("DetectDocumentText", request) == ({"Document": LOCATION}, [])


def test_read_request_base64_is_decoded() -> None:
    value, found = MODEL.read_request("DetectDocumentText", {"Document": {"Bytes": PHOTO}})
    assert (value, found) == ({"Document": {"Bytes": b"photo"}}, [])


@pytest.mark.parametrize("text", ["cGhvdG8", "cGhv dG8=", "cGhvdG8=\n", "photo!!!", "фото"])
def test_read_request_invalid_base64_is_refused(text: str) -> None:
    with pytest.raises(WrongType, match=r"Document\.Bytes"):
        MODEL.read_request("DetectDocumentText", {"Document": {"Bytes": text}})


@pytest.mark.parametrize("number", [1 << 31, -(1 << 31) - 1])
def test_read_request_integer_over_32_bits_is_refused(number: int) -> None:
    with pytest.raises(WrongType, match="MaxResults"):
        MODEL.read_request("GetDocumentTextDetection", {"JobId": "a", "MaxResults": number})


def test_read_request_lone_surrogate_is_refused() -> None:
    with pytest.raises(WrongType, match="half"):
        MODEL.read_request(
            "DetectDocumentText", request_with("DetectDocumentText", ("Document", "S3Object", "Name"), "\ud83d")
        )


def test_whole_compiles_all_patterns_of_model() -> None:
    patterns = {str(scalar.metadata["pattern"]) for _, _, scalar in INPUTS if "pattern" in scalar.metadata}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pattern in patterns:
            assert r"\p" not in whole(pattern).pattern
    assert len(patterns) >= 10


MEMBERS = sorted(
    {name for _, path, _ in INPUTS for name in path if isinstance(name, str)} | {"Tags", "TagKeys", "Unknown"}
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(PHOTO),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=4),
    max_leaves=12,
)


@given(operation=st.sampled_from(sorted(VALID)), body=JSON)
def test_read_request_any_json_is_read_or_refused(operation: str, body: object) -> None:
    try:
        value, _ = MODEL.read_request(operation, body)
    except WrongType:
        return
    assert isinstance(body, dict)
    assert set(value) <= {name for name, item in body.items() if item is not None}


@given(operation=st.sampled_from(sorted(VALID)), junk=st.dictionaries(st.sampled_from(MEMBERS), JSON, max_size=3))
def test_read_request_ignores_members_of_other_operations(operation: str, junk: dict[str, Any]) -> None:
    shape = MODEL.operation(operation).input_shape
    assert shape is not None
    foreign = {name: value for name, value in junk.items() if name not in shape.members}
    assert MODEL.read_request(operation, foreign | VALID[operation]) == MODEL.read_request(operation, VALID[operation])


GEOMETRY = {
    "BoundingBox": {"Width": 1.0, "Height": 1.0, "Left": 0, "Top": 0},
    "Polygon": [{"X": 0.0, "Y": 0.0}],
}
BLOCK = {"BlockType": "PAGE", "Geometry": GEOMETRY, "Id": "a"}


def test_check_response_valid_is_accepted() -> None:
    MODEL.check_response("DetectDocumentText", {"DocumentMetadata": {"Pages": 1}, "Blocks": [BLOCK]})


@pytest.mark.parametrize(
    "response",
    [
        {"DocumentMetadata": {"Pages": {"Pages": 1}}},
        {"DocumentMetadata": {"Pages": 1.0}},
        {"Blocks": [{**BLOCK, "BlockType": "SENTENCE"}]},
        {"Blocks": [{**BLOCK, "Confidence": "99"}]},
        {"Blocks": [{**BLOCK, "childText": "a"}]},
        {"Blocks": [{**BLOCK, "Id": " "}]},
        {"Blocks": [{**BLOCK, "Page": -1}]},
        {"JobStatus": "SUCCEEDED"},
    ],
)
def test_check_response_invalid_is_refused(response: dict[str, Any]) -> None:
    with pytest.raises((WrongType, ValueError)):
        MODEL.check_response("DetectDocumentText", response)
