from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from temporalio.api.common.v1 import Payload
from temporalio.exceptions import ApplicationError

from photo_worker.adapters.temporal.converter import ContractPayloadConverter
from photo_worker.contracts import image
from photo_worker.contracts.arguments import only_argument
from photo_worker.contracts.base import Contract
from photo_worker.contracts.image import FailureInput, ImageProcessingInput, LocatedAsset
from photo_worker.errors import InvalidContract

CONTRACTS = [
    kind
    for kind in vars(image).values()
    if isinstance(kind, type) and issubclass(kind, Contract) and kind is not Contract
]

text = st.text(max_size=200)
requests = st.builds(
    ImageProcessingInput,
    job_id=text,
    bucket=text,
    key=st.text(max_size=2048),
    expected_content_type=st.none() | text,
    engine=st.none() | text,
)


@given(requests)
def test_converter_round_trips_input(request: ImageProcessingInput) -> None:
    converter = ContractPayloadConverter()
    (payload,) = converter.to_payloads([request])
    assert payload.metadata["encoding"] == b"json/plain"
    assert converter.from_payloads([payload], [ImageProcessingInput]) == [request]


@pytest.mark.parametrize("kind", CONTRACTS)
def test_contracts_are_frozen_and_ignore_extra_fields(kind: type[BaseModel]) -> None:
    assert kind.model_config["frozen"] is True
    assert kind.model_config["extra"] == "ignore"


@pytest.mark.parametrize("kind", CONTRACTS)
def test_contracts_bound_each_string(kind: type[BaseModel]) -> None:
    def strings(schema: object) -> list[dict[str, object]]:
        if isinstance(schema, dict):
            own = [schema] if schema.get("type") == "string" and "const" not in schema else []
            return own + [found for value in schema.values() for found in strings(value)]
        return [found for value in schema for found in strings(value)] if isinstance(schema, list) else []

    assert all("maxLength" in schema for schema in strings(kind.model_json_schema()["properties"]))


def test_contract_too_long_string_is_refused() -> None:
    with pytest.raises(ValidationError):
        FailureInput(job_id="j", bucket="b", key="k", code="c", message="x" * 4001)


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3))
def test_converter_invalid_contract_hides_values(given: dict[str, object]) -> None:
    converter = ContractPayloadConverter()
    (payload,) = converter.to_payloads([{**given, "size_bytes": "hunter2"}])
    with pytest.raises(ApplicationError) as caught:
        converter.from_payloads([payload], [LocatedAsset])
    assert caught.value.type == "contract_invalid"
    assert caught.value.non_retryable
    assert "size_bytes" in caught.value.message
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("metadata", "data"),
    [
        ({"encoding": b"json/plain"}, b"{not JSON"),
        ({"encoding": b"json/plain"}, b""),
        ({"encoding": b"json/plain"}, b"1" * 5000),
        ({"encoding": b"binary/null"}, b"something"),
        # What Temporal's UI sends if its other encoding is selected.
        ({"encoding": b"json/protobuf"}, b"{}"),
        ({"encoding": b"json/protobuf", "messageType": b"temporal.api.common.v1.Payload"}, b"\xff"),
        ({"encoding": b"json/protobuf", "messageType": b"\xff"}, b"{}"),
        ({}, b"{}"),
    ],
)
@pytest.mark.parametrize("hints", [None, [ImageProcessingInput]])
def test_converter_malformed_payload_is_non_retryable(
    metadata: dict[str, bytes], data: bytes, hints: list[type] | None
) -> None:
    payload = Payload(metadata=metadata, data=data)
    with pytest.raises(ApplicationError) as caught:
        ContractPayloadConverter().from_payloads([payload], hints)
    assert caught.value.type == "contract_invalid"
    assert caught.value.non_retryable
    assert "None" not in caught.value.message


def test_converter_unknown_encoding_raises_key_error() -> None:
    payload = Payload(metadata={"encoding": b"binary/encrypted"}, data=b"sealed")
    with pytest.raises(KeyError):
        ContractPayloadConverter().from_payloads([payload], [ImageProcessingInput])


GOOD = {"job_id": "j", "bucket": "b", "key": "k"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "there are 0 arguments instead of one"),
        ((GOOD, GOOD), "there are 2 arguments instead of one"),
        ((None,), "the argument is no JSON object"),
        (([GOOD],), "the argument is no JSON object"),
        (("{}",), "the argument is no JSON object"),
        (({"bucket": "b", "key": 7},), "job_id: Field required; key: Input should be a valid string"),
    ],
)
def test_only_argument_invalid_names_reason(given: tuple[object, ...], said: str) -> None:
    with pytest.raises(InvalidContract) as caught:
        only_argument(given, ImageProcessingInput)
    assert caught.value.message == f"The input does not have the form that ImageProcessingInput asks for: {said}."


def test_only_argument_returns_contract() -> None:
    assert only_argument([GOOD], ImageProcessingInput) == ImageProcessingInput(job_id="j", bucket="b", key="k")
