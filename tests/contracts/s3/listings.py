"""Listings: order, pages, prefixes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tests.contracts.s3.case import S3Suite

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIXED = ["B", "a b", "a!", "a-b", "a/b", "a/c/d", "ab", "é", "ж", "\uff5e", "🥧"]


def keys(s3: S3Client, bucket: str, **how: Any) -> list[str]:
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket, **how).get("Contents", [])]


class ListingBehaviours(S3Suite):
    def test_list_objects_orders_keys_by_their_bytes(self, s3: S3Client, bucket: str) -> None:
        for key in reversed(MIXED):
            s3.put_object(Bucket=bucket, Key=key, Body=b"")
        assert keys(s3, bucket) == sorted(MIXED, key=str.encode)

    def test_list_objects_orders_keys_under_ids(self, s3: S3Client, bucket: str) -> None:
        ids = sorted(str(uuid4()) for _ in range(6))
        wanted = [f"artifacts/{one}/{name}" for one in ids for name in ("manifest.json", "textract.json")]
        for key in reversed(wanted):
            s3.put_object(Bucket=bucket, Key=key, Body=b"")
        assert keys(s3, bucket, Prefix="artifacts/") == wanted
        assert keys(s3, bucket, Prefix="artifacts/", StartAfter=wanted[4], MaxKeys=3) == wanted[5:8]

    def test_list_objects_continues_page_by_page(self, s3: S3Client, bucket: str) -> None:
        _goes_on(s3, bucket, [f"many/{number:02} +&" for number in range(11)])

    def test_list_objects_continues_after_non_ascii_key(self, s3: S3Client, bucket: str) -> None:
        _goes_on(s3, bucket, [f"many/{number:02} é" for number in range(11)])

    def test_list_objects_prefix_is_matched_literally(self, s3: S3Client, bucket: str) -> None:
        for key in ["x/1/a", "x/1/b/c", "x/10/a", "X/1/a", "y/1+1 %"]:
            s3.put_object(Bucket=bucket, Key=key, Body=b"")
        assert keys(s3, bucket, Prefix="x/1/") == ["x/1/a", "x/1/b/c"]
        assert keys(s3, bucket, Prefix="x/1") == ["x/1/a", "x/1/b/c", "x/10/a"]
        assert keys(s3, bucket, Prefix="y/1+1 %") == ["y/1+1 %"]
        assert keys(s3, bucket, Prefix="y/1 1") == []

    def test_list_objects_delimiter_groups_common_prefixes(self, s3: S3Client, bucket: str) -> None:
        for key in ["a", "f/1", "f/2", "f/g/3", "h/4"]:
            s3.put_object(Bucket=bucket, Key=key, Body=b"")
        top = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
        assert [entry["Key"] for entry in top["Contents"]] == ["a"]
        assert [directory["Prefix"] for directory in top["CommonPrefixes"]] == ["f/", "h/"]
        below = s3.list_objects_v2(Bucket=bucket, Delimiter="/", Prefix="f/")
        assert [entry["Key"] for entry in below["Contents"]] == ["f/1", "f/2"]
        assert [directory["Prefix"] for directory in below["CommonPrefixes"]] == ["f/g/"]

    def test_list_objects_start_after_begins_behind_the_key(self, s3: S3Client, bucket: str) -> None:
        for key in ["a", "b é+&", "b é+&2", "f/c"]:
            s3.put_object(Bucket=bucket, Key=key, Body=b"")
        assert keys(s3, bucket, StartAfter="a") == ["b é+&", "b é+&2", "f/c"]
        assert keys(s3, bucket, StartAfter="b é+&") == ["b é+&2", "f/c"]
        assert keys(s3, bucket, StartAfter="b é+&", Prefix="b") == ["b é+&2"]
        assert keys(s3, bucket, StartAfter="c") == ["f/c"]
        assert keys(s3, bucket, StartAfter="f/c") == []

    def test_list_object_versions_continues_page_by_page(self, s3: S3Client, bucket: str) -> None:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        made = [s3.put_object(Bucket=bucket, Key="k", Body=b"%d" % number)["VersionId"] for number in range(5)]
        pages = list(
            s3.get_paginator("list_object_versions").paginate(
                Bucket=bucket, Prefix="k", PaginationConfig={"PageSize": 2}
            )
        )
        assert [version["VersionId"] for page in pages for version in page["Versions"]] == made[::-1]


def _goes_on(s3: S3Client, bucket: str, wanted: list[str]) -> None:
    for key in wanted:
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    pages = list(
        s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="many/", PaginationConfig={"PageSize": 4})
    )
    assert [len(page["Contents"]) for page in pages] == [4, 4, 3]
    assert [page["IsTruncated"] for page in pages] == [True, True, False]
    assert [entry["Key"] for page in pages for entry in page["Contents"]] == wanted
