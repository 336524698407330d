"""The ``textract`` backend's requests, and how it maps errors and unusable responses."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

import pytest
from botocore.loaders import Loader

from photo_worker.adapters.ocr.textract import TextractApi, TextractBackend, make_client
from photo_worker.adapters.times import TextractTimes
from photo_worker.aws import aws_session
from photo_worker.errors import (
    ConfigurationError,
    DocumentProtected,
    DocumentTooLarge,
    InvalidKey,
    OcrRefused,
    OcrThrottled,
    OcrUnavailable,
    PhotoWorkerError,
    RequestTokenTaken,
    ServiceRefused,
    UnreadableDocument,
    UnsupportedDocument,
)
from photo_worker.ports.object_store import DocumentRef
from tests.support.textract_responses import Reply, backend_at, refusal, textract_responding

DOCUMENT = DocumentRef("photos", "Omas Karte.jpg", "image/jpeg", 1_000_000, "ab" * 32)
PAGE = {"BlockType": "PAGE", "Id": "c0ffee00-0000-4000-8000-000000000000"}
RESPONSE: dict[str, Any] = {
    "DocumentMetadata": {"Pages": 1},
    "Blocks": [PAGE],
    "DetectDocumentTextModelVersion": "1.0",
}

MODELLED: dict[str, type[PhotoWorkerError]] = {
    "AccessDeniedException": ServiceRefused,
    "BadDocumentException": UnreadableDocument,
    "DocumentTooLargeException": DocumentTooLarge,
    "InternalServerError": OcrUnavailable,
    "InvalidParameterException": InvalidKey,
    "InvalidS3ObjectException": OcrRefused,
    "ProvisionedThroughputExceededException": OcrThrottled,
    "ThrottlingException": OcrThrottled,
    "UnsupportedDocumentException": UnsupportedDocument,
}
OF_START: dict[str, type[PhotoWorkerError]] = {
    "IdempotentParameterMismatchException": RequestTokenTaken,
    # The request names no KMS key, so the error is about the object's.
    "InvalidKMSKeyException": OcrRefused,
    "LimitExceededException": OcrThrottled,
}
OTHERS: list[tuple[Reply, type[PhotoWorkerError]]] = [
    (refusal("LimitExceededException"), OcrThrottled),
    (refusal("TooManyRequestsException", status=429), OcrThrottled),
    (refusal("Whatever", status=429), OcrThrottled),
    (refusal("InternalServerError", status=500), OcrUnavailable),
    (refusal("Whatever", status=500), OcrUnavailable),
    (refusal("ServiceUnavailable", status=503), OcrUnavailable),
    (refusal("RequestTimeout"), OcrUnavailable),
    (Reply(503, b"<html>Bad gateway</html>", "text/html"), OcrUnavailable),
    (Reply(200, b"<html>Sign in to the network</html>", "text/html"), OcrUnavailable),
    (Reply(200, b"{}"), OcrUnavailable),
    (Reply(cut=True), OcrUnavailable),
    (refusal("ExpiredTokenException"), ServiceRefused),
    (refusal("UnrecognizedClientException"), ServiceRefused),
    (refusal("InvalidSignatureException", status=403), ServiceRefused),
    (refusal("MissingAuthenticationToken", status=403), ServiceRefused),
    (refusal("SubscriptionRequiredException"), ServiceRefused),
    (refusal("UnknownOperationException"), ServiceRefused),
    (Reply(403, b"<html>No</html>", "text/html"), ServiceRefused),
    (Reply(404, b"<html>Not found</html>", "text/html"), ServiceRefused),
]


def test_detect_text_sync_names_object_and_returns_response() -> None:
    with textract_responding(Reply(200, json.dumps(RESPONSE).encode())) as served:
        detected = backend_at(served.url, "sync").detect_text(DOCUMENT)
    assert detected.response == RESPONSE
    assert (detected.ocr_version, detected.page_count) == ("1.0", 1)
    assert served.calls == [
        {
            "target": "Textract.DetectDocumentText",
            "body": {"Document": {"S3Object": {"Bucket": "photos", "Name": "Omas Karte.jpg"}}},
        }
    ]


@pytest.mark.parametrize(
    ("operation", "known"),
    [("DetectDocumentText", MODELLED), ("StartDocumentTextDetection", MODELLED | OF_START)],
)
def test_textract_errors_modelled_errors_are_all_mapped(
    operation: str, known: dict[str, type[PhotoWorkerError]]
) -> None:
    model = Loader().load_service_model("textract", "service-2")
    errors = {error["shape"] for error in model["operations"][operation]["errors"]}
    assert errors == set(known)


@pytest.mark.parametrize("reply", [None, refusal("ExpiredTokenException")], ids=["away", "refused"])
@pytest.mark.parametrize("api", ["async", "sync"])
def test_detect_text_error_omits_endpoint_password(reply: Reply | None, api: TextractApi) -> None:
    """Messages go into logs, rows and histories."""
    with textract_responding(reply or Reply()) as served:
        address = served.url if reply else "http://127.0.0.1:1"
        backend = backend_at(address.replace("//", "//kitchen:secret-word@"), api)
        with pytest.raises(PhotoWorkerError) as caught:
            backend.detect_text(DOCUMENT)
    assert address in caught.value.message
    assert "kitchen" not in caught.value.message
    assert "secret-word" not in caught.value.message


@pytest.mark.parametrize("api", ["async", "sync"])
@pytest.mark.parametrize(
    ("reply", "kind"),
    [(refusal(code), kind) for code, kind in (MODELLED | OF_START).items()] + OTHERS,
    ids=lambda value: f"{value.status}-{value.body[:40]!r}" if isinstance(value, Reply) else "",
)
def test_detect_text_service_error_maps_to_class(reply: Reply, kind: type[PhotoWorkerError], api: TextractApi) -> None:
    with textract_responding(reply) as served:
        backend = backend_at(served.url, api)
        with pytest.raises(PhotoWorkerError) as caught:
            backend.detect_text(DOCUMENT)
        assert type(caught.value) is kind
        # Retrying is left to the workflow: each call costs money.
        assert len(served.calls) == 1
        where = served.url if issubclass(kind, OcrUnavailable | OcrThrottled | ServiceRefused) else "Omas Karte.jpg"
        assert where in caught.value.message
    assert caught.value.retryable == issubclass(kind, OcrUnavailable | OcrThrottled | OcrRefused)


@pytest.mark.parametrize("api", ["async", "sync"])
@pytest.mark.parametrize("code", ["BadDocumentException", "UnsupportedDocumentException"])
def test_detect_text_password_message_is_document_protected(code: str, api: TextractApi) -> None:
    with textract_responding(refusal(code, "it is protected by a password")) as served:
        backend = backend_at(served.url, api)
        with pytest.raises(DocumentProtected, match=r"'Omas Karte\.jpg' is protected by a password"):
            backend.detect_text(DOCUMENT)


def test_detect_text_response_without_blocks_is_unavailable() -> None:
    reply = Reply(200, json.dumps(RESPONSE | {"Blocks": []}).encode())
    with textract_responding(reply) as served, pytest.raises(OcrUnavailable, match="no Blocks"):
        backend_at(served.url, "sync").detect_text(DOCUMENT)


@pytest.mark.parametrize("code", ["ThrottlingException", "BadDocumentException", "AccessDeniedException"])
def test_detect_text_error_quotes_service_message(code: str) -> None:
    words = "slowly, please: {braces} stay"
    with textract_responding(refusal(code, words)) as served, pytest.raises(PhotoWorkerError) as caught:
        backend_at(served.url).detect_text(DOCUMENT)
    assert words in caught.value.message


def test_detect_text_unreachable_service_is_retryable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        # The port is bound but not listening: it refuses connections, and no other process can take it meanwhile.
        with pytest.raises(OcrUnavailable, match=url) as caught:
            backend_at(url).detect_text(DOCUMENT)
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("api", "times"), [("sync", TextractTimes(sync_read=0.2)), ("async", TextractTimes(job_read=0.2))]
)
def test_detect_text_silent_service_times_out(api: TextractApi, times: TextractTimes) -> None:
    with textract_responding(Reply(held=True)) as served, pytest.raises(OcrUnavailable, match="timeout"):
        backend_at(served.url, api, times=times).detect_text(DOCUMENT)


def test_detect_text_without_credentials_says_so() -> None:
    files = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
    variables = {**files, "AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "eu-central-1"}
    with textract_responding(Reply()) as served:
        backend = TextractBackend(make_client(session=aws_session(variables), endpoint_url=served.url))
        with pytest.raises(ServiceRefused, match="credentials") as caught:
            backend.detect_text(DOCUMENT)
        assert served.calls == []
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({}, "region"),
        ({"AWS_DEFAULT_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "half"}, "AWS_SECRET_ACCESS_KEY"),
        ({"AWS_DEFAULT_REGION": "eu-central-1", "AWS_ENDPOINT_URL_TEXTRACT": "no url"}, "no url"),
        ({"AWS_DEFAULT_REGION": "eu-central-1", "AWS_PROFILE": "nobody"}, "nobody"),
    ],
)
def test_make_client_invalid_setting_is_named(variables: dict[str, str], says: str) -> None:
    files = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
    with pytest.raises(ConfigurationError, match=says):
        make_client(session=aws_session({**files, **variables}))


@pytest.mark.parametrize("key", ["", " "])
def test_detect_text_blank_key_is_refused(key: str) -> None:
    with textract_responding(refusal("InvalidParameterException", "Request has invalid parameters")) as served:
        backend = backend_at(served.url)
        with pytest.raises(InvalidKey):
            backend.detect_text(DocumentRef("photos", key, "image/jpeg", 1, "ab" * 32))
