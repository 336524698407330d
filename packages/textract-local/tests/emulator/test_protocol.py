"""The wire protocol: required parts of requests, the format of errors, and operations that are not emulated."""

from __future__ import annotations

import base64
import json
import socket
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from textract_local.server.model import TextractModel
from textract_support.clients import DETECT, EMULATED, JSON_11, SIGNED, call, send, sent
from textract_support.emulator import DEADLINE_SECONDS, RunningEmulator, document, running
from textract_support.http_exchange import HttpResponse
from textract_support.requests import VALID

if TYPE_CHECKING:
    from mypy_boto3_textract import TextractClient

DEEP = b"[" * 200_000


def assert_error(response: HttpResponse, status: int, code: str) -> str:
    assert (response.status, response.json["__type"]) == (status, code)
    assert set(response.json) == {"__type", "Message"}
    assert response.headers["content-type"] == JSON_11
    assert str(UUID(response.headers["x-amzn-requestid"])) == response.headers["x-amzn-requestid"]
    assert parsedate_to_datetime(response.headers["date"])
    message: str = response.json["Message"]
    assert message
    return message


def test_json_response_has_headers_of_service(emulator: RunningEmulator) -> None:
    first, second = (call(emulator.port, DETECT, sent(document())) for _ in range(2))
    assert first.status == 200
    assert first.headers["content-type"] == JSON_11
    assert parsedate_to_datetime(first.headers["date"])
    assert UUID(first.headers["x-amzn-requestid"]) != UUID(second.headers["x-amzn-requestid"])
    assert int(first.headers["content-length"]) == len(first.body)
    assert [block["BlockType"] for block in first.json["Blocks"]] == ["PAGE", "LINE", "WORD", "WORD", "WORD"]


def test_json_unknown_members_are_ignored(emulator: RunningEmulator) -> None:
    body = json.loads(sent(document())) | {"Surprise": [1]}
    assert call(emulator.port, DETECT, json.dumps(body).encode()).status == 200


@pytest.mark.parametrize(
    "target",
    ["", "DetectDocumentText", "Textract.", "Textract.detectDocumentText", "Rekognition.DetectText", "Textract.\u00e9"],
)
def test_json_unknown_target_is_unknown_operation(emulator: RunningEmulator, target: str) -> None:
    assert_error(call(emulator.port, target, b"{}"), 400, "UnknownOperationException")


def test_authorization_missing_is_refused(emulator: RunningEmulator) -> None:
    message = assert_error(
        call(emulator.port, DETECT, sent(document()), Authorization=""), 400, "MissingAuthenticationTokenException"
    )
    assert message == "Request is missing Authentication Token"


@pytest.mark.parametrize("part", ["Credential", "SignedHeaders", "Signature"])
def test_authorization_without_one_part_is_incomplete_signature(emulator: RunningEmulator, part: str) -> None:
    header = SIGNED.replace(f"{part}=", "Other=", 1)
    message = assert_error(
        call(emulator.port, DETECT, sent(document()), Authorization=header), 400, "IncompleteSignatureException"
    )
    assert message == f"Authorization header requires '{part}' parameter."


@pytest.mark.parametrize("header", ["Bearer abc", "AWS4-HMAC-SHA256", "x", ",", SIGNED.rpartition("=")[0] + "="])
def test_authorization_not_a_signature_is_refused(emulator: RunningEmulator, header: str) -> None:
    assert_error(
        call(emulator.port, DETECT, sent(document()), Authorization=header), 400, "IncompleteSignatureException"
    )


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff\xfe{}",
        b"[]",
        b'"text"',
        b"null",
        b"NaN",
        b'{"Document": NaN}',
        b'{"Document": "x"}',
        b'{"Document": {"Bytes": 7}}',
        b'{"Document": {"Bytes": "not base64"}}',
        b'{"Document": {"S3Object": {"Bucket": "photos", "Name": ["a"]}}}',
        b'{"Document": {"S3Object": {"Bucket": "photos", "Name": "\\ud83d"}}}',
        b'{"Document": ' + b"9" * 10_000 + b"}",
        b'{"Document": ' + DEEP,
        DEEP,
    ],
    ids=lambda body: body[:40].decode("ascii", "replace"),
)
def test_json_unparsable_body_is_serialization_error(emulator: RunningEmulator, body: bytes) -> None:
    assert_error(call(emulator.port, DETECT, body), 400, "SerializationException")
    assert call(emulator.port, DETECT, sent(document())).status == 200


@pytest.mark.parametrize(
    "request_body",
    [
        {},
        {"Document": None},
        {"Document": {}},
        {"Document": {"Bytes": ""}},
        {"Document": {"S3Object": {}}},
        {"Document": {"S3Object": {"Bucket": "photos"}}},
        {"Document": {"S3Object": {"Name": "a.png"}}},
        {"Document": {"S3Object": {"Bucket": "ab", "Name": "a.png"}}},
        {"Document": {"S3Object": {"Bucket": "photos\n", "Name": "a.png"}}},
        {"Document": {"S3Object": {"Bucket": "photos", "Name": " "}}},
        {"Document": {"S3Object": {"Bucket": "photos", "Name": "a" * 1025}}},
        {"Document": {"S3Object": {"Bucket": "photos", "Name": "a", "Version": ""}}},
        {"Document": {"Bytes": "cGhvdG8=", "S3Object": {"Bucket": "photos", "Name": "a.png"}}},
    ],
    ids=str,
)
def test_json_constraint_violation_is_invalid_parameter(
    emulator: RunningEmulator, request_body: dict[str, Any]
) -> None:
    response = call(emulator.port, DETECT, json.dumps(request_body).encode())
    assert assert_error(response, 400, "InvalidParameterException") == "Request has invalid parameters"
    assert "Document" in response.headers["x-emulator-reason"]


def test_json_empty_body_is_invalid_parameter(emulator: RunningEmulator) -> None:
    assert_error(call(emulator.port, DETECT, b""), 400, "InvalidParameterException")


OTHERS = sorted(set(VALID) - set(EMULATED))


@pytest.mark.parametrize("operation", OTHERS)
def test_unemulated_operation_is_access_denied(emulator: RunningEmulator, operation: str) -> None:
    response = call(emulator.port, f"Textract.{operation}", json.dumps(VALID[operation]).encode())
    message = assert_error(response, 400, "AccessDeniedException")
    assert operation in message
    assert "DetectDocumentText" in message
    model = TextractModel()
    assert model.lists_error(operation, response.json["__type"])


@pytest.mark.parametrize("operation", sorted(set(OTHERS) - {"ListAdapters", "ListAdapterVersions"}))
def test_unemulated_operation_is_validated_first(emulator: RunningEmulator, operation: str) -> None:
    assert_error(call(emulator.port, f"Textract.{operation}", b"{}"), 400, "InvalidParameterException")
    assert_error(call(emulator.port, f"Textract.{operation}", b"{"), 400, "SerializationException")


def test_client_raises_modelled_exceptions(textract: TextractClient) -> None:
    with pytest.raises(textract.exceptions.AccessDeniedException, match="not emulated"):
        textract.analyze_expense(Document={"Bytes": b"x"})
    with pytest.raises(textract.exceptions.InvalidParameterException):
        textract.detect_document_text(Document={})
    with pytest.raises(ClientError) as caught:
        textract.get_document_text_detection(JobId="not a job")
    assert caught.value.response["Error"]["Code"] == "InvalidJobIdException"


ANALYSIS = {"Document": {"Bytes": base64.b64encode(document()).decode()}, "FeatureTypes": ["TABLES"]}
QUERY = {"Text": "How much flour?"}


@pytest.mark.parametrize(
    "given",
    [
        {"FeatureTypes": []},
        {"FeatureTypes": ["TABLES", "PICTURES"]},
        {"FeatureTypes": ["QUERIES"]},
        {"FeatureTypes": ["QUERIES"], "QueriesConfig": {"Queries": []}},
        {"FeatureTypes": ["QUERIES"], "QueriesConfig": {"Queries": [QUERY] * 16}},
        {"FeatureTypes": ["TABLES"], "QueriesConfig": {"Queries": [QUERY]}},
        {"Document": {}},
    ],
    ids=str,
)
def test_analyze_document_wrong_features_are_invalid_parameter(
    emulator: RunningEmulator, given: dict[str, Any]
) -> None:
    response = call(emulator.port, "Textract.AnalyzeDocument", json.dumps({**ANALYSIS, **given}).encode())
    assert assert_error(response, 400, "InvalidParameterException") == "Request has invalid parameters"


@pytest.mark.parametrize(("queries", "accepted"), [(30, True), (31, False)])
def test_start_document_analysis_accepts_30_queries(emulator: RunningEmulator, queries: int, accepted: bool) -> None:
    given = {
        "DocumentLocation": {"S3Object": {"Bucket": "no-such-bucket-here", "Name": "a.png"}},
        "FeatureTypes": ["QUERIES"],
        "QueriesConfig": {"Queries": [QUERY] * queries},
    }
    response = call(emulator.port, "Textract.StartDocumentAnalysis", json.dumps(given).encode())
    # The object is checked only if the rest of the request is valid.
    assert_error(response, 400, "InvalidS3ObjectException" if accepted else "InvalidParameterException")


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("HumanLoopConfig", {"HumanLoopName": "a", "FlowDefinitionArn": "arn:aws:sagemaker:us-east-1:1:flow/a"}),
        ("AdaptersConfig", {"Adapters": [{"AdapterId": "a" * 12, "Version": "1"}]}),
    ],
)
def test_analyze_document_unemulated_parts_are_access_denied(
    emulator: RunningEmulator, part: str, value: dict[str, Any]
) -> None:
    body = json.dumps({**ANALYSIS, part: value}).encode()
    message = assert_error(call(emulator.port, "Textract.AnalyzeDocument", body), 400, "AccessDeniedException")
    assert message == f"{part} is not emulated"
    body = json.dumps({**ANALYSIS, part: {}}).encode()
    assert_error(call(emulator.port, "Textract.AnalyzeDocument", body), 400, "InvalidParameterException")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 405),
        ("PUT", "/", 405),
        ("DELETE", "/_emulator/health", 405),
        ("GET", "/_emulator/reset", 405),
        ("PROPFIND", "/", 405),
        ("GET", "/index.html", 404),
        ("GET", "/service/Textract/operation/DetectDocumentText", 405),
        ("POST", "/_emulator", 404),
        ("GET", "/_emulator/health/", 404),
        ("POST", "/service/Textract/operation/DetectDocumentText", 404),
        ("GET", "/%00%0d%0aX:%20y", 404),
    ],
)
def test_http_wrong_path_or_method_is_json_error(
    emulator: RunningEmulator, method: str, path: str, status: int
) -> None:
    assert_error(
        send(emulator.port, method, path, b"{}" if method == "POST" else None), status, "UnknownOperationException"
    )


def test_http_large_body_to_wrong_path_is_404(emulator: RunningEmulator) -> None:
    assert_error(send(emulator.port, "POST", "/upload", bytes(8_000_000)), 404, "UnknownOperationException")


def test_http_client_disconnect_in_body_is_not_logged_as_error(tmp_path: Path) -> None:
    with running(tmp_path, {}) as started:
        with socket.create_connection(("127.0.0.1", started.port)) as connection:
            connection.sendall(
                f"POST / HTTP/1.1\r\nHost: [::1]\r\nX-Amz-Target: {DETECT}\r\nContent-Length: 1000\r\n\r\n{{".encode()
            )
        assert call(started.port, DETECT, sent(document())).status == 200
        started.process.terminate()
        started.process.wait(DEADLINE_SECONDS)
        assert "Traceback" not in started.log.read_text("utf-8")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operation=st.sampled_from(sorted(VALID)), body=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_json_any_body_is_client_error(emulator: RunningEmulator, operation: str, body: bytes) -> None:
    response = call(emulator.port, f"Textract.{operation}", body)
    assert response.status == 400
    assert response.json["__type"] in {"SerializationException", "InvalidParameterException", "AccessDeniedException"}
