"""Writes and reads that hold only under a condition ("Conditional requests" in the Amazon S3 user guide)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from tests.contracts.s3.case import S3Suite, refused

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

WRITERS = 8
ROUNDS = 3
OTHER = '"00000000000000000000000000000000"'


class ConditionBehaviours(S3Suite):
    def test_if_none_match_writes_only_what_is_new(self, s3: S3Client, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=b"first", IfNoneMatch="*")
        with refused(412, "PreconditionFailed"):
            s3.put_object(Bucket=bucket, Key="k", Body=b"second", IfNoneMatch="*")
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"first"
        s3.delete_object(Bucket=bucket, Key="k")
        s3.put_object(Bucket=bucket, Key="k", Body=b"third", IfNoneMatch="*")
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"third"

    def test_a_delete_marker_counts_as_nothing(self, s3: S3Client, bucket: str) -> None:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        s3.put_object(Bucket=bucket, Key="k", Body=b"first", IfNoneMatch="*")
        s3.delete_object(Bucket=bucket, Key="k")
        s3.put_object(Bucket=bucket, Key="k", Body=b"second", IfNoneMatch="*")
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"second"

    def test_of_many_writers_of_a_new_key_one_wins(self, s3: S3Client, bucket: str) -> None:
        # A writer that lost may also be told 409, that another request ran at the same moment.
        for number in range(ROUNDS):
            key, barrier = f"k{number}", Barrier(WRITERS)

            def write(writer: int, key: str = key, barrier: Barrier = barrier) -> int:
                barrier.wait(timeout=10)
                try:
                    s3.put_object(Bucket=bucket, Key=key, Body=b"%d" % writer * 50_000, IfNoneMatch="*")
                except ClientError as error:
                    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
                return 200

            with ThreadPoolExecutor(WRITERS) as pool:
                told = list(pool.map(write, range(WRITERS)))
            assert told.count(200) == 1
            assert set(told) <= {200, 409, 412}
            assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"%d" % told.index(200) * 50_000

    def test_if_match_replaces_what_was_read(self, s3: S3Client, bucket: str) -> None:
        etag = s3.put_object(Bucket=bucket, Key="k", Body=b"first")["ETag"]
        s3.put_object(Bucket=bucket, Key="k", Body=b"second", IfMatch=etag)
        with refused(412, "PreconditionFailed"):
            s3.put_object(Bucket=bucket, Key="k", Body=b"third", IfMatch=etag)
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"second"

    def test_if_match_of_a_missing_key_is_404(self, s3: S3Client, bucket: str) -> None:
        with refused(404, "NoSuchKey"):
            s3.put_object(Bucket=bucket, Key="missing", Body=b"x", IfMatch=OTHER)

    def test_a_read_can_ask_for_another_or_the_same(self, s3: S3Client, bucket: str) -> None:
        etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
        assert s3.get_object(Bucket=bucket, Key="k", IfMatch=etag)["Body"].read() == b"x"
        assert s3.get_object(Bucket=bucket, Key="k", IfNoneMatch=OTHER)["Body"].read() == b"x"
        with refused(304):
            s3.get_object(Bucket=bucket, Key="k", IfNoneMatch=etag)
        with refused(412):
            s3.get_object(Bucket=bucket, Key="k", IfMatch=OTHER)
