"""The wire protocol: headers, the format of errors, signatures, targets, JSON and CBOR."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from uuid import UUID

import cbor2

from tests.conformance import documents
from tests.conformance.expectation import REQUEST_INVALID, C, D, Expectation, O, refusal
from tests.conformance.service import JSON_11, Service, exchange, texts
from textract_local.server.model import TextractModel
from textract_support import response_schema
from textract_support.http_exchange import HttpResponse
from textract_support.requests import VALID

_DETECT = "DetectDocumentText"
_UNBILLED = "a run would be charged for, or leave things behind"
_EMULATED = {
    "AnalyzeDocument",
    "DetectDocumentText",
    "GetDocumentAnalysis",
    "GetDocumentTextDetection",
    "StartDocumentAnalysis",
    "StartDocumentTextDetection",
}


def _photo(text: str = "LEMON 2468") -> Mapping[str, Any]:
    return {"Document": {"Bytes": documents.png(text)}}


def _headers(service: Service) -> None:
    response = service.send(_DETECT, _photo())
    assert response.status == 200, response.body[:300]
    assert response.headers["content-type"] == JSON_11
    assert parsedate_to_datetime(response.headers["date"])
    assert int(response.headers["content-length"]) == len(response.body)
    request_id = response.headers["x-amzn-requestid"]
    assert str(UUID(request_id)) == request_id


def _new_request_id(service: Service) -> None:
    one, other = (service.send(_DETECT, _photo()) for _ in range(2))
    assert one.headers["x-amzn-requestid"] != other.headers["x-amzn-requestid"]
    assert one.body == other.body


def _error_form(service: Service) -> None:
    response = service.send(_DETECT, {})
    assert response.status == 400
    assert response.json == {"__type": "InvalidParameterException", "Message": REQUEST_INVALID}
    assert response.headers["content-type"] == JSON_11
    assert UUID(response.headers["x-amzn-requestid"])
    assert parsedate_to_datetime(response.headers["date"])


def _coded(response: HttpResponse, code: str) -> None:
    assert (response.status, response.json.get("__type")) == (400, code), (response.status, response.body[:300])
    assert response.headers["content-type"] == JSON_11


def _without_authorization(service: Service) -> None:
    response = service.send(_DETECT, _photo(), {"Authorization": None, "X-Amz-Date": None})
    _coded(response, "MissingAuthenticationTokenException")


def _without_signature(service: Service) -> None:
    response = service.send(_DETECT, _photo(), {"Authorization": "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host"})
    _coded(response, "IncompleteSignatureException")


def _target(service: Service, *, target: str) -> None:
    _coded(service.post(target, b"{}"), "UnknownOperationException")


def _body(service: Service, *, body: bytes) -> None:
    _coded(service.post(f"Textract.{_DETECT}", body), "SerializationException")


def _no_body(service: Service) -> None:
    _coded(service.post(f"Textract.{_DETECT}", b""), "InvalidParameterException")


def _unknown_members(service: Service) -> None:
    given = {**_photo("OATS 1357"), "Surprise": [1], "FeatureTypes": 7}
    assert texts(service.ask(_DETECT, **given)["Blocks"]) == ["OATS 1357"]


def _null_members(service: Service) -> None:
    response = service.send(_DETECT, {"Document": None})
    assert (response.status, response.json["__type"]) == (400, "InvalidParameterException")
    document = {"Bytes": documents.png("OATS 1357"), "S3Object": None}
    assert texts(service.ask(_DETECT, Document=document)["Blocks"]) == ["OATS 1357"]


def _responses_in_json(service: Service, *, operation: str) -> None:
    response = service.send(operation, VALID[operation])
    assert response.status < 500
    assert response.headers["content-type"] == JSON_11
    if response.status != 200:
        assert TextractModel().lists_error(operation, response.json["__type"]), response.body
    if operation not in _EMULATED:
        assert operation in response.json["Message"]


def _cbor(service: Service, operation: str, given: Mapping[str, Any]) -> HttpResponse:
    path = f"/service/Textract/operation/{operation}"
    body = cbor2.dumps(given)
    headers = {"smithy-protocol": "rpc-v2-cbor", "Content-Type": "application/cbor", "Accept": "application/cbor"}
    response = exchange(f"{service.url}{path}", "POST", body, service.signed(path, body, headers))
    assert response.headers["smithy-protocol"] == "rpc-v2-cbor"
    assert response.headers["content-type"] == "application/cbor"
    return response


def _cbor_response(service: Service) -> None:
    response = _cbor(service, _DETECT, _photo("FLOUR 8642"))
    assert response.status == 200, response.body[:300]
    given = cbor2.loads(response.body)
    response_schema.require(_DETECT, given)
    assert texts(given["Blocks"]) == ["FLOUR 8642"]


def _cbor_is_json(service: Service) -> None:
    over_cbor = cbor2.loads(_cbor(service, _DETECT, _photo("FLOUR 8642")).body)
    over_json = service.ask(_DETECT, **_photo("FLOUR 8642"))
    assert texts(over_cbor["Blocks"], "WORD") == texts(over_json["Blocks"], "WORD")
    assert [list(block) for block in over_cbor["Blocks"]] == [list(block) for block in over_json["Blocks"]]


def _cbor_error(service: Service) -> None:
    response = _cbor(service, _DETECT, {})
    error = cbor2.loads(response.body)
    assert response.status == 400
    assert error["__type"].endswith("InvalidParameterException")
    assert REQUEST_INVALID in error.values()


def _parallel(service: Service) -> None:
    from concurrent.futures import ThreadPoolExecutor

    words = [f"CARD {1000 + 37 * number}" for number in range(16)]

    def read(text: str) -> list[str]:
        return texts(service.ask(_DETECT, **_photo(text))["Blocks"])

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(read, words)) == [[text] for text in words]


_BODIES = {
    "cut": b"{",
    "not-utf-8": b"\xff\xfe{}",
    "list": b"[]",
    "text": b'"text"',
    "nan": b'{"Document": NaN}',
    "document-is-text": b'{"Document": "x"}',
    "bytes-is-number": b'{"Document": {"Bytes": 7}}',
    "not-base64": b'{"Document": {"Bytes": "not base64"}}',
    "name-is-list": b'{"Document": {"S3Object": {"Bucket": "photos", "Name": ["a"]}}}',
    "nested": b"[" * 100_000,
}
_TARGETS = {
    "other-service": "Rekognition.DetectText",
    "other-case": "Textract.detectDocumentText",
    "no-prefix": "DetectDocumentText",
    "no-operation": "Textract.",
}

EXPECTATIONS: tuple[Expectation, ...] = (
    Expectation(
        "wire.headers",
        O,
        "`DetectDocumentText` of a page",
        f"200, `{JSON_11}`, `x-amzn-requestid` a UUID, Date, Content-Length",
        _headers,
    ),
    Expectation(
        "wire.request-id", O, "the same page twice", "the same body, another `x-amzn-requestid`", _new_request_id
    ),
    Expectation(
        "wire.error-form",
        O,
        "`DetectDocumentText` of nothing",
        f'400, `{{"__type": "InvalidParameterException", "Message": "{REQUEST_INVALID}"}}` and nothing else',
        _error_form,
    ),
    Expectation(
        "wire.no-authorization",
        C,
        "no Authorization header",
        "400 `MissingAuthenticationTokenException`",
        _without_authorization,
    ),
    Expectation(
        "wire.no-signature",
        C,
        "an Authorization header without Signature",
        "400 `IncompleteSignatureException`",
        _without_signature,
    ),
    *(
        Expectation(
            f"wire.unknown-target.{name}",
            C,
            f"the target `{target}`",
            "400 `UnknownOperationException`",
            functools.partial(_target, target=target),
        )
        for name, target in _TARGETS.items()
    ),
    *(
        Expectation(
            f"wire.unreadable.{name}",
            C,
            f"the body `{body[:60].decode('ascii', 'replace')}`",
            "400 `SerializationException`",
            functools.partial(_body, body=body),
        )
        for name, body in _BODIES.items()
    ),
    Expectation("wire.no-body", C, "an empty body", "400 `InvalidParameterException`", _no_body),
    Expectation(
        "wire.unknown-members", C, "members that the model does not have", "they are ignored", _unknown_members
    ),
    Expectation("wire.null-members", C, "members that are null", "they count as missing", _null_members),
    *(
        Expectation(
            f"wire.operation.{operation}",
            D if operation in _EMULATED else C,
            f"a valid `{operation}`",
            "a response in JSON or an error that the model lists",
            functools.partial(_responses_in_json, operation=operation),
            "" if operation in _EMULATED and not operation.startswith("Start") else _UNBILLED,
        )
        for operation in sorted(VALID)
    ),
    Expectation(
        "wire.cbor",
        D,
        "RPC v2 CBOR, the page as raw bytes",
        "200, a response in CBOR of the same shape",
        _cbor_response,
    ),
    Expectation("wire.cbor-is-json", D, "the same page in both protocols", "the same blocks", _cbor_is_json),
    Expectation(
        "wire.cbor-error", D, "RPC v2 CBOR, no members", "400 `InvalidParameterException` in CBOR", _cbor_error
    ),
    Expectation("wire.16-at-once", D, "16 pages at the same time", "each response is of its own page", _parallel),
    refusal(
        "wire.get-without-job",
        O,
        "GetDocumentTextDetection",
        {},
        "InvalidParameterException",
        REQUEST_INVALID,
    ),
)
