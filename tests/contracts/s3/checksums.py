"""Checksums of uploaded bytes ("Checking object integrity" in the Amazon S3 user guide)."""

from __future__ import annotations

import hashlib
import io
from base64 import b64encode
from typing import TYPE_CHECKING

import pytest

from tests.contracts.s3.case import Endpoint, S3Suite, refused

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BODY = b"flour, sugar, butter"
SHA256 = b64encode(hashlib.sha256(BODY).digest()).decode()
OTHER_SHA256 = b64encode(hashlib.sha256(b"salt").digest()).decode()
OTHER_MD5 = b64encode(hashlib.md5(b"salt", usedforsecurity=False).digest()).decode()


class ChecksumBehaviours(S3Suite):
    @pytest.fixture
    def checking(self, server: Endpoint) -> S3Client:
        """A client as boto3 makes it by default: it sends a checksum with every upload."""
        return server.s3(checksums=True)

    def test_put_object_with_wrong_md5_is_refused(self, s3: S3Client, bucket: str) -> None:
        with refused(400, "BadDigest"):
            s3.put_object(Bucket=bucket, Key="k", Body=BODY, ContentMD5=OTHER_MD5)
        with refused(404):
            s3.head_object(Bucket=bucket, Key="k")

    def test_put_object_with_wrong_sha256_is_refused(self, s3: S3Client, bucket: str) -> None:
        with refused(400, "BadDigest", "InvalidRequest", "XAmzContentChecksumMismatch"):
            s3.put_object(Bucket=bucket, Key="k", Body=BODY, ChecksumSHA256=OTHER_SHA256)
        with refused(404):
            s3.head_object(Bucket=bucket, Key="k")

    def test_put_object_sha256_is_kept(self, s3: S3Client, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=BODY, ChecksumAlgorithm="SHA256", ChecksumSHA256=SHA256)
        assert s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")["ChecksumSHA256"] == SHA256
        response = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
        assert response["ChecksumSHA256"] == SHA256
        assert response["Body"].read() == BODY

    def test_put_object_response_has_the_sha256(self, s3: S3Client, bucket: str) -> None:
        put = s3.put_object(Bucket=bucket, Key="k", Body=BODY, ChecksumAlgorithm="SHA256", ChecksumSHA256=SHA256)
        assert put["ChecksumSHA256"] == SHA256

    def test_get_object_attributes_has_the_sha256(self, s3: S3Client, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=BODY, ChecksumAlgorithm="SHA256", ChecksumSHA256=SHA256)
        found = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["Checksum", "ObjectSize"])
        assert found["ObjectSize"] == len(BODY)
        assert found["Checksum"]["ChecksumSHA256"] == SHA256

    def test_put_object_with_boto3s_checksums_is_accepted(self, checking: S3Client, bucket: str) -> None:
        checking.put_object(Bucket=bucket, Key="bytes", Body=BODY)
        # boto3 sends a file in chunks, with the checksum in a trailer.
        checking.put_object(Bucket=bucket, Key="file", Body=io.BytesIO(BODY), ChecksumAlgorithm="SHA256")
        checking.upload_fileobj(io.BytesIO(BODY), bucket, "uploaded")
        for key in ("bytes", "file", "uploaded"):
            assert checking.get_object(Bucket=bucket, Key=key)["Body"].read() == BODY
        assert checking.head_object(Bucket=bucket, Key="file", ChecksumMode="ENABLED")["ChecksumSHA256"] == SHA256
