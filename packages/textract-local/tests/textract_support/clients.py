"""Requests to an emulator: as bytes over HTTP, and by botocore's client."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import boto3
import cbor2
from botocore.config import Config

from textract_support.http_exchange import HttpResponse, send_over

if TYPE_CHECKING:
    from mypy_boto3_textract import TextractClient

DETECT = "Textract.DetectDocumentText"
EMULATED = (
    "DetectDocumentText",
    "AnalyzeDocument",
    "StartDocumentTextDetection",
    "GetDocumentTextDetection",
    "StartDocumentAnalysis",
    "GetDocumentAnalysis",
)
JSON_11 = "application/x-amz-json-1.1"
SIGNED = (
    "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/textract/aws4_request,"
    " SignedHeaders=host;x-amz-date, Signature=0123456789abcdef"
)
CBOR = {"smithy-protocol": "rpc-v2-cbor", "Content-Type": "application/cbor", "Authorization": SIGNED}


def send(
    port: int, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    return send_over(http.client.HTTPConnection("127.0.0.1", port, timeout=30), method, path, body, headers or {})


def call(port: int, target: str, body: bytes, **headers: str) -> HttpResponse:
    """Post to the service as a client does; a header with an empty value is omitted."""
    given = {"X-Amz-Target": target, "Content-Type": JSON_11, "Authorization": SIGNED, **headers}
    return send(port, "POST", "/", body, {name: value for name, value in given.items() if value})


def session_of(variables: Mapping[str, str]) -> boto3.Session:
    """Return a session with the credentials and the region of these variables alone."""
    return boto3.Session(
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        region_name=variables.get("AWS_REGION") or variables["AWS_DEFAULT_REGION"],
    )


def client_of(variables: Mapping[str, str], url: str, *, connections: int = 16) -> TextractClient:
    # One attempt: a retry would hide the errors that these tests check.
    config = Config(retries={"total_max_attempts": 1}, max_pool_connections=connections, read_timeout=60)
    return session_of(variables).client("textract", endpoint_url=url, config=config)


def sent(content: bytes) -> bytes:
    return json.dumps({"Document": {"Bytes": base64.b64encode(content).decode()}}).encode()


def post(port: int, operation: str, body: bytes, headers: Mapping[str, str] | None = None) -> HttpResponse:
    return send(port, "POST", f"/service/Textract/operation/{operation}", body, CBOR if headers is None else headers)


def error_of(response: HttpResponse) -> tuple[int, str]:
    """Return the status and type of an error in CBOR."""
    assert response.headers["content-type"] == "application/cbor"
    assert response.headers["smithy-protocol"] == "rpc-v2-cbor"
    body = cbor2.loads(response.body)
    assert set(body) == {"__type", "Message"}
    assert body["Message"]
    return response.status, body["__type"]
