"""Errors in each client: its own exception classes, and the service's messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.clients.conftest import Clients
from tests.clients.documents import table_page

Store = Callable[[str, bytes], dict[str, str]]
NO_OBJECT = "Unable to get object metadata from S3. Check object key, region and/or access permissions."
NO_JOB = "Request has invalid Job Id"
NO_DOCUMENT = "Request has unsupported document format"
INVALID = "Request has invalid parameters"


def test_boto3_errors_are_modelled_classes(clients: Clients, stored: Store) -> None:
    seen = clients.ask("with_boto3.py", "errors", **stored("table.png", table_page()))
    expected = {
        "no such object": ("InvalidS3ObjectException", NO_OBJECT),
        "no such object at the start": ("InvalidS3ObjectException", NO_OBJECT),
        "no such job": ("InvalidJobIdException", NO_JOB),
        "another operation's job": ("InvalidJobIdException", NO_JOB),
        "no document": ("UnsupportedDocumentException", NO_DOCUMENT),
        "neither": ("InvalidParameterException", INVALID),
    }
    for name, (kind, message) in expected.items():
        assert seen[name] == {"class": kind, "known": [kind], "message": message, "status": 400, "request": True}, name
    other = seen["an operation that is not emulated"]
    assert other["known"] == [other["class"]]
    assert "ListAdapters" in other["message"]


def test_node_errors_are_modelled_classes(clients: Clients, bucket: str) -> None:
    seen = clients.ask("with_node.cjs", "errors", bucket=bucket)
    expected = {
        "no such object": ("InvalidS3ObjectException", NO_OBJECT),
        "no such job": ("InvalidJobIdException", NO_JOB),
        "no document": ("UnsupportedDocumentException", NO_DOCUMENT),
        "neither": ("InvalidParameterException", INVALID),
    }
    assert seen == {
        name: {"name": kind, "message": message, "class": True, "fault": "client", "status": 400, "request": True}
        for name, (kind, message) in expected.items()
    }


def test_awscli_errors_print_code_and_message(clients: Clients, bucket: str) -> None:
    document = json.dumps({"S3Object": {"Bucket": bucket, "Name": "missing.png"}})
    expected = {
        ("detect-document-text", "--document", document): ("InvalidS3ObjectException", "DetectDocumentText", NO_OBJECT),
        ("get-document-text-detection", "--job-id", "0" * 64): (
            "InvalidJobIdException",
            "GetDocumentTextDetection",
            NO_JOB,
        ),
        ("analyze-document", "--document", document, "--feature-types", "QUERIES"): (
            "InvalidParameterException",
            "AnalyzeDocument",
            INVALID,
        ),
    }
    for arguments, (code, operation, message) in expected.items():
        done = clients.run("aws", "textract", *arguments)
        assert done.returncode not in {0, 1, 2}
        assert f"An error occurred ({code}) when calling the {operation} operation: {message}" in done.stderr


def test_textractor_errors_are_its_own_classes(clients: Clients, bucket: str, tmp_path: Path) -> None:
    file = tmp_path / "lemon.pdf"
    file.write_bytes(b"lemon")
    seen = clients.ask("with_textractor.py", "errors", file=str(file), bucket=bucket, key="missing.pdf")
    assert seen == {"no such object": "InvalidS3ObjectException", "no document": "UnsupportedDocumentException"}
