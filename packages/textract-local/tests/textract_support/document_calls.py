"""Calls with documents: their words, their errors, and what the emulator counts of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from textract_support.clients import send
from textract_support.emulator import RunningEmulator

if TYPE_CHECKING:
    from mypy_boto3_textract import TextractClient

NO_OBJECT = "Unable to get object metadata from S3. Check object key, region and/or access permissions."
Tallies = Callable[[str], dict[str, int]]


def hash_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def words(response: Any) -> list[str]:
    return [block["Text"] for block in response["Blocks"] if block["BlockType"] == "WORD"]


def refused(textract: TextractClient, asked: Any) -> tuple[str, str, int]:
    with pytest.raises(ClientError) as caught:
        textract.detect_document_text(Document=asked)
    response = caught.value.response
    return response["Error"]["Code"], response["Error"]["Message"], response["ResponseMetadata"]["HTTPStatusCode"]


@pytest.fixture
def tallies(emulator: RunningEmulator) -> Tallies:
    """Return the emulator's counts for a document."""

    def of(sha256: str) -> dict[str, int]:
        counted: dict[str, dict[str, int]] = send(emulator.port, "GET", "/_emulator/counters").json["documents"]
        return counted[sha256]

    return of
