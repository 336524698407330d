"""Objects: written, read, copied, deleted."""

from __future__ import annotations

import hashlib
from contextlib import closing
from typing import TYPE_CHECKING

from botocore.exceptions import ConnectionClosedError

from tests.contracts.s3.case import S3Suite, refused

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

MIB = 1 << 20
PART = 5 * MIB  # the smallest part that S3 takes before the last
KEYS = [
    "фото/рецепт.jpg",
    "写真/レシピ 1.jpg",
    "cre\u0300me bru\u0302le\u0301e.jpg",
    "🥧/?#[]@!$'()*,;:~.jpg",
    "50%+butter & flour=1.png",
    " leading and trailing ",
    "<&>\"'.jpg",
]
ALIKE = ["a b", "a+b", "a%20b", "a%2Bb", "A b", "é", "e\u0301"]


class ObjectBehaviours(S3Suite):
    def test_head_object_and_get_object_agree_on_revision(self, s3: S3Client, bucket: str) -> None:
        for kept in (False, True):
            if kept:
                s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
            put = s3.put_object(Bucket=bucket, Key="k", Body=b"first")
            head = s3.head_object(Bucket=bucket, Key="k")
            response = s3.get_object(Bucket=bucket, Key="k")
            response["Body"].close()
            assert head["ETag"] == response["ETag"] == put["ETag"]
            assert head["LastModified"] == response["LastModified"]
            told = {put.get("VersionId"), head.get("VersionId"), response.get("VersionId")}
            # The version id "null" of a bucket without versions identifies no bytes.
            assert len(told) == 1 if kept else told <= {None, "null"}
            assert kept is (told.pop() not in {None, "null"})

    def test_get_object_version_id_reads_a_replaced_version(self, s3: S3Client, bucket: str) -> None:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        first = s3.put_object(Bucket=bucket, Key="k", Body=b"first", Metadata={"writer": "1"})
        before = s3.head_object(Bucket=bucket, Key="k")
        s3.put_object(Bucket=bucket, Key="k", Body=b"second")
        s3.delete_object(Bucket=bucket, Key="k")
        head = s3.head_object(Bucket=bucket, Key="k", VersionId=first["VersionId"])
        response = s3.get_object(Bucket=bucket, Key="k", VersionId=first["VersionId"])
        assert response["Body"].read() == b"first"
        for told in (head, response):
            assert (told["VersionId"], told["ETag"]) == (first["VersionId"], first["ETag"])
            assert (told["LastModified"], told["Metadata"]) == (before["LastModified"], {"writer": "1"})

    def test_get_object_deleted_version_is_no_such_version(self, s3: S3Client, bucket: str) -> None:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        first = s3.put_object(Bucket=bucket, Key="k", Body=b"first")["VersionId"]
        s3.put_object(Bucket=bucket, Key="k", Body=b"second")
        s3.delete_object(Bucket=bucket, Key="k", VersionId=first)
        with refused(404, "NoSuchVersion"):
            s3.get_object(Bucket=bucket, Key="k", VersionId=first)
        with refused(404):
            s3.head_object(Bucket=bucket, Key="k", VersionId=first)

    def test_head_object_returns_type_length_and_metadata(self, s3: S3Client, bucket: str) -> None:
        etag = s3.put_object(
            Bucket=bucket, Key="k", Body=b"12345", ContentType="image/jpeg", Metadata={"job": "1", "note": "a b"}
        )["ETag"]
        head = s3.head_object(Bucket=bucket, Key="k")
        assert (head["ContentLength"], head["ContentType"], head["ETag"]) == (5, "image/jpeg", etag)
        assert head["Metadata"] == {"job": "1", "note": "a b"}

    def test_get_object_streams_the_body(self, s3: S3Client, bucket: str) -> None:
        body = hashlib.shake_256(b"stream").digest(3 * MIB + 17)
        s3.put_object(Bucket=bucket, Key="k", Body=body, ContentType="image/png", Metadata={"job": "1"})
        response = s3.get_object(Bucket=bucket, Key="k")
        assert (response["ContentLength"], response["ContentType"]) == (len(body), "image/png")
        assert response["Metadata"] == {"job": "1"}
        with closing(response["Body"]) as stream:
            assert b"".join(stream.iter_chunks(MIB)) == body

    def test_get_object_range_is_206_and_beyond_end_is_416(self, s3: S3Client, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
        for asked, got, content_range in [
            ("bytes=2-4", b"234", "bytes 2-4/10"),
            ("bytes=7-", b"789", "bytes 7-9/10"),
            ("bytes=-2", b"89", "bytes 8-9/10"),
        ]:
            response = s3.get_object(Bucket=bucket, Key="k", Range=asked)
            assert response["ResponseMetadata"]["HTTPStatusCode"] == 206
            assert (response["Body"].read(), response["ContentRange"]) == (got, content_range)
        with refused(416, "InvalidRange"):
            s3.get_object(Bucket=bucket, Key="k", Range="bytes=10-12")

    def test_put_object_empty_body_is_an_object(self, s3: S3Client, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=b"", ContentType="image/png")
        response = s3.get_object(Bucket=bucket, Key="k")
        assert (response["ContentLength"], response["ContentType"], response["Body"].read()) == (0, "image/png", b"")

    def test_put_object_key_may_be_any_text(self, s3: S3Client, bucket: str) -> None:
        for key in KEYS:
            s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
        assert [s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode() for key in KEYS] == KEYS
        assert sorted(entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]) == sorted(KEYS)

    def test_put_object_key_may_have_empty_segments(self, s3: S3Client, bucket: str) -> None:
        _come_back_and_are_listed(s3, bucket, ["a//b", "c/", "d"])

    def test_put_object_key_may_be_prefix_of_another(self, s3: S3Client, bucket: str) -> None:
        _come_back_and_are_listed(s3, bucket, ["a", "a/b", "a/b/c"])

    def test_put_object_similar_keys_are_different_objects(self, s3: S3Client, bucket: str) -> None:
        for key in ALIKE:
            s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
        assert [s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode() for key in ALIKE] == ALIKE

    def test_put_object_is_visible_at_once(self, s3: S3Client, bucket: str) -> None:
        for number in range(10):
            body = b"%d" % number
            s3.put_object(Bucket=bucket, Key="k", Body=body)
            assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body
            assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["k"]
        s3.delete_object(Bucket=bucket, Key="k")
        with refused(404, "NoSuchKey"):
            s3.get_object(Bucket=bucket, Key="k")
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0

    def test_put_object_etag_is_the_md5_of_the_body(self, s3: S3Client, bucket: str) -> None:
        for body in (b"", b"one", b"two"):
            digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
            assert s3.put_object(Bucket=bucket, Key="k", Body=body)["ETag"] == f'"{digest}"'
            assert s3.head_object(Bucket=bucket, Key="k")["ETag"] == f'"{digest}"'

    def test_copy_object_takes_new_metadata(self, s3: S3Client, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="from", Body=b"x", ContentType="image/png", Metadata={"a": "1"})
        s3.copy_object(Bucket=bucket, Key="kept", CopySource={"Bucket": bucket, "Key": "from"})
        s3.copy_object(
            Bucket=bucket,
            Key="new",
            CopySource={"Bucket": bucket, "Key": "from"},
            MetadataDirective="REPLACE",
            ContentType="image/jpeg",
            Metadata={"b": "2"},
        )
        kept, new = (s3.head_object(Bucket=bucket, Key=key) for key in ("kept", "new"))
        assert (kept["ContentType"], kept["Metadata"]) == ("image/png", {"a": "1"})
        assert (new["ContentType"], new["Metadata"]) == ("image/jpeg", {"b": "2"})
        assert s3.get_object(Bucket=bucket, Key="new")["Body"].read() == b"x"

    def test_multipart_upload_joins_the_parts(self, s3: S3Client, bucket: str) -> None:
        pieces = [bytes([number]) * size for number, size in enumerate([PART, PART, 7])]
        upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ContentType="image/png")["UploadId"]
        parts: list[CompletedPartTypeDef] = []
        for number, piece in enumerate(pieces, 1):
            sent = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=piece)
            parts.append({"ETag": sent["ETag"], "PartNumber": number})
        listed = s3.list_parts(Bucket=bucket, Key="k", UploadId=upload)["Parts"]
        assert [(part["PartNumber"], part["Size"]) for part in listed] == [(1, PART), (2, PART), (3, 7)]
        with refused(404):
            s3.head_object(Bucket=bucket, Key="k")
        done = s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts})
        assert done["ETag"].strip('"').endswith("-3")
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"".join(pieces)

    def test_multipart_upload_is_listed_and_aborted(self, s3: S3Client, bucket: str) -> None:
        upload = s3.create_multipart_upload(Bucket=bucket, Key="up/k")["UploadId"]
        s3.upload_part(Bucket=bucket, Key="up/k", UploadId=upload, PartNumber=1, Body=b"x")
        # MinIO lists only the uploads of one key; with the whole key as prefix S3 gives the same response.
        listed = s3.list_multipart_uploads(Bucket=bucket, Prefix="up/k")["Uploads"]
        assert [(found["Key"], found["UploadId"]) for found in listed] == [("up/k", upload)]
        s3.abort_multipart_upload(Bucket=bucket, Key="up/k", UploadId=upload)
        assert s3.list_multipart_uploads(Bucket=bucket, Prefix="up/k").get("Uploads", []) == []
        with refused(404, "NoSuchUpload"):
            s3.list_parts(Bucket=bucket, Key="up/k", UploadId=upload)

    def test_multipart_upload_list_filters_by_prefix(self, s3: S3Client, bucket: str) -> None:
        uploads = {key: s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"] for key in ("up/a", "up/b", "x")}
        try:
            listed = s3.list_multipart_uploads(Bucket=bucket, Prefix="up/").get("Uploads", [])
            assert [found["Key"] for found in listed] == ["up/a", "up/b"]
        finally:
            for key, upload in uploads.items():
                s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)

    def test_delete_objects_removes_many_at_once(self, s3: S3Client, bucket: str) -> None:
        for key in ("a", "b", "c"):
            s3.put_object(Bucket=bucket, Key=key, Body=b"x")
        done = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a"}, {"Key": "b"}, {"Key": "missing"}]})
        assert sorted(entry["Key"] for entry in done["Deleted"]) == ["a", "b", "missing"]
        assert done.get("Errors", []) == []
        assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["c"]

    def test_delete_object_missing_key_is_204(self, s3: S3Client, bucket: str) -> None:
        response = s3.delete_object(Bucket=bucket, Key="missing")
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 204


def _content(s3: S3Client, bucket: str, key: str) -> str:
    try:
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
    except ConnectionClosedError as error:
        # SeaweedFS closes the connection after a response whose bytes it has lost; the next request may be in transit.
        raise AssertionError(f"{key!r} gets no response") from error


def _come_back_and_are_listed(s3: S3Client, bucket: str, keys: list[str]) -> None:
    try:
        for key in keys:
            s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
        assert [_content(s3, bucket, key) for key in keys] == keys
        assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == keys
    finally:
        # On a server that omits one of them from listings, the fixture could not empty the bucket.
        for key in reversed(keys):
            s3.delete_object(Bucket=bucket, Key=key)
