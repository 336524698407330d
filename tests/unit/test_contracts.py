from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from temporalio.exceptions import ApplicationError

from photo_worker.contracts import image
from photo_worker.contracts.image import Contract, FailureInput, ImageProcessingInput, LocatedAsset
from photo_worker.orchestration.converter import ContractPayloadConverter

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
def test_a_request_travels_through_history_unchanged(request: ImageProcessingInput) -> None:
    converter = ContractPayloadConverter()
    (payload,) = converter.to_payloads([request])
    assert payload.metadata["encoding"] == b"json/plain"
    assert converter.from_payloads([payload], [ImageProcessingInput]) == [request]


@pytest.mark.parametrize("kind", CONTRACTS)
def test_instances_do_not_change_and_newer_fields_are_ignored(kind: type[BaseModel]) -> None:
    assert kind.model_config["frozen"] is True
    assert kind.model_config["extra"] == "ignore"


@pytest.mark.parametrize("kind", CONTRACTS)
def test_every_string_is_bounded(kind: type[BaseModel]) -> None:
    def strings(schema: object) -> list[dict[str, object]]:
        if isinstance(schema, dict):
            own = [schema] if schema.get("type") == "string" and "const" not in schema else []
            return own + [found for value in schema.values() for found in strings(value)]
        return [found for value in schema for found in strings(value)] if isinstance(schema, list) else []

    assert all("maxLength" in schema for schema in strings(kind.model_json_schema()["properties"]))


def test_what_is_too_long_fails_where_it_is_made() -> None:
    with pytest.raises(ValidationError):
        FailureInput(job_id="j", bucket="b", key="k", code="c", message="x" * 4001)


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3))
def test_a_payload_that_breaks_its_contract_ends_the_workflow_and_shows_no_value(given: dict[str, object]) -> None:
    converter = ContractPayloadConverter()
    (payload,) = converter.to_payloads([{**given, "size_bytes": "hunter2"}])
    with pytest.raises(ApplicationError) as caught:
        converter.from_payloads([payload], [LocatedAsset])
    assert caught.value.type == "contract_invalid"
    assert caught.value.non_retryable
    assert "size_bytes" in caught.value.message
    assert "hunter2" not in str(caught.value)
