"""Conditional writes and reads ("Conditional requests" in the Amazon S3 user guide)."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.contracts.s3.case import S3Suite, refused

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

WRITERS = 8
ROUNDS = 3
OTHER = '"00000000000000000000000000000000"'


class ConditionBehaviours(S3Suite):
    def test_put_object_if_none_match_writes_only_new_keys(self, s3: S3Client, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=b"first", IfNoneMatch="*")
        with refused(412, "PreconditionFailed"):
            s3.put_object(Bucket=bucket, Key="k", Body=b"second", IfNoneMatch="*")
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"first"
        s3.delete_object(Bucket=bucket, Key="k")
        s3.put_object(Bucket=bucket, Key="k", Body=b"third", IfNoneMatch="*")
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"third"

    def test_put_object_if_none_match_over_delete_marker_writes(self, s3: S3Client, bucket: str) -> None:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        s3.put_object(Bucket=bucket, Key="k", Body=b"first", IfNoneMatch="*")
        s3.delete_object(Bucket=bucket, Key="k")
        s3.put_object(Bucket=bucket, Key="k", Body=b"second", IfNoneMatch="*")
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"second"

    def test_put_object_if_none_match_concurrently_one_wins(self, s3: S3Client, bucket: str) -> None:
        for number in range(ROUNDS):
            key = f"k{number}"

            def write(body: bytes, key: str = key) -> None:
                s3.put_object(Bucket=bucket, Key=key, Body=body, IfNoneMatch="*")

            winner = only_winner(write)
            assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == winner

    def test_put_object_failed_condition_changes_nothing(self, s3: S3Client, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=b"first", ContentType="image/png", Metadata={"writer": "1"})
        before = s3.head_object(Bucket=bucket, Key="k")
        another: dict[str, Any] = {"ContentType": "image/jpeg", "Metadata": {"writer": "2"}}
        with refused(412, "PreconditionFailed"):
            s3.put_object(Bucket=bucket, Key="k", Body=b"second", IfNoneMatch="*", **another)
        with refused(412, "PreconditionFailed"):
            s3.put_object(Bucket=bucket, Key="k", Body=b"third", IfMatch=OTHER, **another)
        after = s3.head_object(Bucket=bucket, Key="k")
        for told in ("ETag", "LastModified", "ContentLength", "ContentType", "Metadata"):
            assert after[told] == before[told], told

    @pytest.mark.parametrize("condition", [{"IfNoneMatch": "*"}, {"IfMatch": OTHER}], ids=str)
    def test_put_object_failed_condition_leaves_no_version(
        self, s3: S3Client, bucket: str, condition: dict[str, Any]
    ) -> None:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        first = s3.put_object(Bucket=bucket, Key="k", Body=b"first")["VersionId"]
        with refused(412, "PreconditionFailed"):
            s3.put_object(Bucket=bucket, Key="k", Body=b"second", **condition)
        assert [found["VersionId"] for found in s3.list_object_versions(Bucket=bucket)["Versions"]] == [first]

    def test_put_object_if_none_match_bad_md5_leaves_key_free(self, s3: S3Client, bucket: str) -> None:
        torn, whole = b"flour, sug", b"flour, sugar"
        digest = b64encode(hashlib.md5(whole, usedforsecurity=False).digest()).decode()
        with refused(400, "BadDigest"):
            s3.put_object(Bucket=bucket, Key="k", Body=torn, ContentMD5=digest, IfNoneMatch="*")
        s3.put_object(Bucket=bucket, Key="k", Body=whole, ContentMD5=digest, IfNoneMatch="*")
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == whole

    def test_put_object_if_match_replaces_only_what_was_read(self, s3: S3Client, bucket: str) -> None:
        etag = s3.put_object(Bucket=bucket, Key="k", Body=b"first")["ETag"]
        s3.put_object(Bucket=bucket, Key="k", Body=b"second", IfMatch=etag)
        with refused(412, "PreconditionFailed"):
            s3.put_object(Bucket=bucket, Key="k", Body=b"third", IfMatch=etag)
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"second"

    def test_put_object_if_match_concurrently_one_wins(self, s3: S3Client, bucket: str) -> None:
        for number in range(ROUNDS):
            key = f"k{number}"
            etag = s3.put_object(Bucket=bucket, Key=key, Body=b"what all have read")["ETag"]

            def write(body: bytes, key: str = key, etag: str = etag) -> None:
                s3.put_object(Bucket=bucket, Key=key, Body=body, IfMatch=etag)

            winner = only_winner(write)
            assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == winner

    def test_put_object_if_match_needs_the_newest_version(self, s3: S3Client, bucket: str) -> None:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        first = s3.put_object(Bucket=bucket, Key="k", Body=b"first")["ETag"]
        second = s3.put_object(Bucket=bucket, Key="k", Body=b"second")["ETag"]
        with refused(412, "PreconditionFailed"):
            s3.put_object(Bucket=bucket, Key="k", Body=b"third", IfMatch=first)
        s3.put_object(Bucket=bucket, Key="k", Body=b"third", IfMatch=second)
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"third"

    @pytest.mark.parametrize("versions", [False, True], ids=["without versions", "with versions"])
    def test_put_object_if_match_missing_key_writes_nothing(self, s3: S3Client, bucket: str, versions: bool) -> None:
        # Servers differ in their response: that the key does not exist, or that the condition does not hold.
        if versions:
            s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        etag = s3.put_object(Bucket=bucket, Key="deleted", Body=b"x")["ETag"]
        s3.delete_object(Bucket=bucket, Key="deleted")
        for key, condition in (("deleted", etag), ("missing", OTHER)):
            with pytest.raises(ClientError) as caught:
                s3.put_object(Bucket=bucket, Key=key, Body=b"x", IfMatch=condition)
            told = caught.value.response
            status, code = told["ResponseMetadata"]["HTTPStatusCode"], told["Error"]["Code"]
            assert (status, code) in {(404, "NoSuchKey"), (412, "PreconditionFailed")}, key
        assert "Contents" not in s3.list_objects_v2(Bucket=bucket)

    def test_put_object_if_match_missing_key_is_404(self, s3: S3Client, bucket: str) -> None:
        with refused(404, "NoSuchKey"):
            s3.put_object(Bucket=bucket, Key="missing", Body=b"x", IfMatch=OTHER)

    def test_get_object_honours_if_match_and_if_none_match(self, s3: S3Client, bucket: str) -> None:
        etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
        assert s3.get_object(Bucket=bucket, Key="k", IfMatch=etag)["Body"].read() == b"x"
        assert s3.get_object(Bucket=bucket, Key="k", IfNoneMatch=OTHER)["Body"].read() == b"x"
        with refused(304):
            s3.get_object(Bucket=bucket, Key="k", IfNoneMatch=etag)
        with refused(412):
            s3.get_object(Bucket=bucket, Key="k", IfMatch=OTHER)


def only_winner(write: Callable[[bytes], None]) -> bytes:
    """Write different bodies from ``WRITERS`` threads at once; return the body of the only writer that succeeds.

    The others get 412, or 409 because another request ran at the same moment.
    """
    bodies = [b"%d" % writer * 50_000 for writer in range(WRITERS)]
    barrier = Barrier(WRITERS)

    def attempt(body: bytes) -> int:
        barrier.wait(timeout=10)
        try:
            write(body)
        except ClientError as error:
            return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
        return 200

    with ThreadPoolExecutor(WRITERS) as pool:
        told = list(pool.map(attempt, bodies))
    assert told.count(200) == 1
    assert set(told) <= {200, 409, 412}
    return bodies[told.index(200)]
