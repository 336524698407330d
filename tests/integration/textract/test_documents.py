"""Documents from S3 and of each size."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from textract_local.limits import SYNC_OCR_LIMIT_BYTES
from textract_support.document_calls import NO_OBJECT, Tallies, hash_of, refused, words
from textract_support.emulator import document

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_textract import TextractClient


@pytest.mark.parametrize(
    "key",
    ["card.png", "two words.png", "a+b.png", "Käse/Brötchen \u96ea.png", "100%25.png", "a/../b.png", "q?a=b&c#d.png"],
)
def test_detect_s3_object_with_any_key_is_read(
    textract: TextractClient, s3_client: S3Client, bucket: str, key: str
) -> None:
    s3_client.put_object(Bucket=bucket, Key=key, Body=document(f"this is {hash_of(key.encode())}"))
    response = textract.detect_document_text(Document={"S3Object": {"Bucket": bucket, "Name": key}})
    assert words(response) == ["this", "is", hash_of(key.encode())]


def test_detect_s3_object_version_is_read(textract: TextractClient, s3_client: S3Client, bucket: str) -> None:
    s3_client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    versions = [
        s3_client.put_object(Bucket=bucket, Key="a", Body=document(text))["VersionId"] for text in ("old", "new")
    ]

    def read(**version: str) -> list[str]:
        where: Any = {"Bucket": bucket, "Name": "a", **version}
        return words(textract.detect_document_text(Document={"S3Object": where}))

    assert [read(), read(Version=versions[0]), read(Version=versions[1])] == [["new"], ["old"], ["new"]]
    missing = {"S3Object": {"Bucket": bucket, "Name": "a", "Version": "0" * 32}}
    assert refused(textract, missing) == ("InvalidS3ObjectException", NO_OBJECT, 400)
    for version in versions:
        s3_client.delete_object(Bucket=bucket, Key="a", VersionId=version)


def test_detect_missing_object_or_bucket_is_invalid_s3_object(textract: TextractClient, bucket: str) -> None:
    for where in ({"Bucket": bucket, "Name": "missing.png"}, {"Bucket": f"{bucket}-missing", "Name": "a.png"}):
        assert refused(textract, {"S3Object": where}) == ("InvalidS3ObjectException", NO_OBJECT, 400)


def test_detect_invalid_bucket_name_is_invalid_s3_object(textract: TextractClient) -> None:
    code, message, _ = refused(textract, {"S3Object": {"Bucket": "---", "Name": "a.png"}})
    assert (code, message) == ("InvalidS3ObjectException", NO_OBJECT)


def test_detect_10_mb_is_read_and_one_byte_more_is_refused(
    textract: TextractClient, s3_client: S3Client, bucket: str, tallies: Tallies
) -> None:
    start = document()
    largest = start + b" " * (SYNC_OCR_LIMIT_BYTES - len(start))
    s3_client.put_object(Bucket=bucket, Key="largest", Body=largest)
    s3_client.put_object(Bucket=bucket, Key="larger", Body=largest + b" ")
    assert textract.detect_document_text(Document={"S3Object": {"Bucket": bucket, "Name": "largest"}})["Blocks"]
    assert textract.detect_document_text(Document={"Bytes": largest})["Blocks"]
    assert tallies(hash_of(largest)) == {"requests": 2, "billed": 2, "recognised": 1}
    stored = refused(textract, {"S3Object": {"Bucket": bucket, "Name": "larger"}})
    inline = refused(textract, {"Bytes": largest + b" "})
    assert (stored[0], inline[0]) == ("DocumentTooLargeException", "DocumentTooLargeException")
    assert str(SYNC_OCR_LIMIT_BYTES + 1) in stored[1]


def test_detect_16_concurrent_documents_are_not_mixed_up(
    textract: TextractClient, s3_client: S3Client, bucket: str
) -> None:
    for number in range(16):
        s3_client.put_object(Bucket=bucket, Key=f"card {number}", Body=document(f"card {number}"))

    def read(number: int) -> list[str]:
        where: Any = {"Bucket": bucket, "Name": f"card {number}"}
        return words(textract.detect_document_text(Document={"S3Object": where}))

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(read, range(16))) == [["card", str(number)] for number in range(16)]
