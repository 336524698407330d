"""Smithy RPC v2 CBOR: with botocore's serializer and parser, the results are the same as over JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import cbor2
import pytest
from botocore.exceptions import ClientError

from textract_support.clients import CBOR, error_of, post, send
from textract_support.emulator import RunningEmulator, document
from textract_support.rpc_v2_cbor import cbor_client

if TYPE_CHECKING:
    from mypy_boto3_textract import TextractClient


@pytest.fixture(scope="module")
def by_cbor(
    emulator: RunningEmulator, aws_variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TextractClient]:
    client = cbor_client(tmp_path_factory.mktemp("model"), aws_variables, emulator.url)
    yield client
    client.close()


def without_metadata(response: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in response.items() if name != "ResponseMetadata"}


def test_cbor_response_has_headers_of_protocol(by_cbor: TextractClient) -> None:
    metadata = by_cbor.detect_document_text(Document={"Bytes": document()})["ResponseMetadata"]
    assert metadata["HTTPHeaders"]["content-type"] == "application/cbor"
    assert metadata["HTTPHeaders"]["smithy-protocol"] == "rpc-v2-cbor"
    assert metadata["RequestId"] == metadata["HTTPHeaders"]["x-amzn-requestid"]


def test_cbor_response_equals_json_response(textract: TextractClient, by_cbor: TextractClient) -> None:
    content = document("Küche: ½ Zitrone")
    over_json, over_cbor = (client.detect_document_text(Document={"Bytes": content}) for client in (textract, by_cbor))
    assert without_metadata(over_json) == without_metadata(over_cbor)
    assert over_json["Blocks"][1]["Text"] == "Küche: ½ Zitrone"


@pytest.mark.parametrize(
    ("operation", "given"),
    [
        ("detect_document_text", {"Document": {}}),
        ("detect_document_text", {"Document": {"Bytes": b"no image"}}),
        ("detect_document_text", {"Document": {"S3Object": {"Bucket": "no-such-bucket", "Name": "a"}}}),
        ("get_document_text_detection", {"JobId": "0" * 64}),
        ("analyze_id", {"DocumentPages": [{"Bytes": b"x"}]}),
        ("list_adapters", {"AfterCreationTime": 1_700_000_000}),
    ],
)
def test_cbor_error_equals_json_error(
    textract: TextractClient, by_cbor: TextractClient, operation: str, given: dict[str, Any]
) -> None:
    errors = []
    for client in (textract, by_cbor):
        with pytest.raises(ClientError) as caught:
            getattr(client, operation)(**given)
        modelled = type(caught.value).__name__
        errors.append((modelled, caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]))
    assert errors[0] == errors[1]
    # The type in the response leads to the modelled exception in both.
    assert errors[0][0] == errors[0][1]


def test_cbor_error_type_is_full_shape_name(emulator: RunningEmulator) -> None:
    response = post(emulator.port, "DetectDocumentText", cbor2.dumps({"Document": {}}))
    assert error_of(response) == (400, "com.amazonaws.textract#InvalidParameterException")


@pytest.mark.parametrize(
    "body",
    [
        b"\xa1",
        b"\x9f" * 10,
        b"\xff",
        b"\x81" * 100_000,
        b"\xc1" * 100_000,
        b"\x9b" + b"\xff" * 8,
        b"\xbb\x7f" + b"\xff" * 7,
        b"\x5b\x7f" + b"\xff" * 7,
        b"\x7a\x7f" + b"\xff" * 3,
        b"\x9a\x00\x40\x00\x00" + b"\xa0" * (4 << 20),
        b"\xc2\x59\x10\x00" + b"\xff" * 0x1000,
        b"\xc5\x82\x1a\x3b\x9a\xca\x00\x01",
        b"\xd8\x1c\x81\xd8\x1d\x00",
        b"\xd8\x23\x64(a+)",
        b"\xdb" + b"\xff" * 8 + b"\x01",
        b"\xa2\x68Document\xa0\x68Document\xa0",
        b"\xa1\x01\x02",
        b"\x5f\x61a\xff",
        b"\x1c",
        b"\xf8\x63",
        b"\x62\xff\xfe",
        b"\x80",
        b"\xf7",
        b"\xa0\xa0",
        cbor2.dumps({"Document": {"Bytes": "cGhvdG8="}}),
        cbor2.dumps({"Document": {"Bytes": 7}}),
        cbor2.dumps({"Document": "x"}),
        cbor2.dumps({"Document": {"S3Object": {"Bucket": b"photos", "Name": "a"}}}),
    ],
    ids=lambda body: body[:12].hex(),
)
def test_cbor_hostile_body_is_serialization_error(emulator: RunningEmulator, body: bytes) -> None:
    assert error_of(post(emulator.port, "DetectDocumentText", body)) == (
        400,
        "com.amazon.coral.service#SerializationException",
    )


@pytest.mark.parametrize("stamp", [cbor2.CBORTag(1, "now"), cbor2.CBORTag(1, float("nan")), 1_700_000_000, "2026"])
def test_cbor_timestamp_without_number_tag_is_refused(emulator: RunningEmulator, stamp: Any) -> None:
    response = post(emulator.port, "ListAdapters", cbor2.dumps({"AfterCreationTime": stamp}))
    assert error_of(response)[1].endswith("#SerializationException")


def test_cbor_indefinite_lengths_are_read(emulator: RunningEmulator) -> None:
    content = document("Lemon")
    pieces = (
        b"\x5f" + b"".join(cbor2.dumps(content[start : start + 7]) for start in range(0, len(content), 7)) + b"\xff"
    )
    body = b"\xbf\x68Document\xbf\x7f\x62By\x63tes\xff" + pieces + b"\xff\xff"
    response = post(emulator.port, "DetectDocumentText", body)
    assert [block.get("Text") for block in cbor2.loads(response.body)["Blocks"]] == [None, "Lemon", "Lemon"]


def test_cbor_null_and_undefined_members_are_ignored(emulator: RunningEmulator) -> None:
    body = cbor2.dumps({"Document": {"Bytes": document(), "S3Object": None}, "Other": cbor2.undefined})
    assert post(emulator.port, "DetectDocumentText", body).status == 200
    body = cbor2.dumps({"Document": {"Bytes": document(), "S3Object": cbor2.undefined}})
    assert post(emulator.port, "DetectDocumentText", body).status == 200


@pytest.mark.parametrize("path", ["Textract/operation/ReadMinds", "Rekognition/operation/DetectDocumentText"])
def test_cbor_unknown_operation_or_service_is_refused(emulator: RunningEmulator, path: str) -> None:
    response = send(emulator.port, "POST", f"/service/{path}", cbor2.dumps({}), CBOR)
    assert error_of(response) == (400, "com.amazon.coral.service#UnknownOperationException")


def test_cbor_without_protocol_header_is_404(emulator: RunningEmulator) -> None:
    headers = {name: value for name, value in CBOR.items() if name != "smithy-protocol"}
    response = post(emulator.port, "DetectDocumentText", cbor2.dumps({}), headers)
    assert (response.status, response.json["__type"]) == (404, "UnknownOperationException")


def test_cbor_wrong_content_type_is_serialization_error(emulator: RunningEmulator) -> None:
    response = post(emulator.port, "DetectDocumentText", b"{}", {**CBOR, "Content-Type": "application/json"})
    assert error_of(response)[1].endswith("#SerializationException")


def test_cbor_without_signature_is_refused(emulator: RunningEmulator) -> None:
    headers = {name: value for name, value in CBOR.items() if name != "Authorization"}
    response = post(emulator.port, "DetectDocumentText", cbor2.dumps({}), headers)
    assert error_of(response)[1].endswith("#MissingAuthenticationTokenException")
