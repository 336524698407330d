"""Buckets and their settings."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from tests.contracts.s3.case import Endpoint, S3Suite, new_bucket, refused, request

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class BucketBehaviours(S3Suite):
    def test_bucket_is_created_listed_and_deleted(self, s3: S3Client) -> None:
        name = new_bucket(s3)
        s3.head_bucket(Bucket=name)
        assert name in [found["Name"] for found in s3.list_buckets()["Buckets"]]
        s3.delete_bucket(Bucket=name)
        with refused(404):
            s3.head_bucket(Bucket=name)
        assert name not in [found["Name"] for found in s3.list_buckets()["Buckets"]]

    def test_get_object_missing_key_and_bucket_have_own_codes(self, s3: S3Client, bucket: str) -> None:
        nowhere = f"pw-test-{uuid4().hex}"
        with refused(404, "NoSuchKey"):
            s3.get_object(Bucket=bucket, Key="missing")
        with refused(404):
            s3.head_object(Bucket=bucket, Key="missing")
        with refused(404, "NoSuchBucket"):
            s3.get_object(Bucket=nowhere, Key="missing")
        with refused(404):
            s3.head_object(Bucket=nowhere, Key="missing")
        with refused(404, "NoSuchBucket"):
            s3.list_objects_v2(Bucket=nowhere)
        with refused(404, "NoSuchBucket"):
            s3.list_object_versions(Bucket=nowhere)

    def test_put_object_into_missing_bucket_is_refused(self, s3: S3Client) -> None:
        nowhere = f"pw-test-{uuid4().hex}"
        with refused(404, "NoSuchBucket"):
            s3.put_object(Bucket=nowhere, Key="k", Body=b"x")
        with refused(404, "NoSuchBucket"):
            s3.put_object(Bucket=nowhere, Key="k", Body=b"x", IfNoneMatch="*")
        with refused(404):
            s3.head_bucket(Bucket=nowhere)

    def test_delete_bucket_with_objects_is_refused(self, s3: S3Client, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=b"x")
        with refused(409, "BucketNotEmpty"):
            s3.delete_bucket(Bucket=bucket)
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"

    def test_versioning_keeps_versions_and_delete_leaves_marker(self, s3: S3Client, bucket: str) -> None:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        first = s3.put_object(Bucket=bucket, Key="k", Body=b"first")["VersionId"]
        second = s3.put_object(Bucket=bucket, Key="k", Body=b"second")["VersionId"]
        assert s3.get_object(Bucket=bucket, Key="k", VersionId=first)["Body"].read() == b"first"
        deleted = s3.delete_object(Bucket=bucket, Key="k")
        assert deleted["DeleteMarker"]
        with refused(404):
            s3.get_object(Bucket=bucket, Key="k")
        listed = s3.list_object_versions(Bucket=bucket)
        assert {version["VersionId"] for version in listed["Versions"]} == {first, second}
        assert [marker["VersionId"] for marker in listed["DeleteMarkers"]] == [deleted["VersionId"]]
        s3.delete_object(Bucket=bucket, Key="k", VersionId=deleted["VersionId"])
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"second"

    def test_delete_object_version_removes_it_for_good(self, s3: S3Client, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=b"before versions were kept")
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        s3.put_object(Bucket=bucket, Key="k", Body=b"since")
        versions = [version["VersionId"] for version in s3.list_object_versions(Bucket=bucket, Prefix="k")["Versions"]]
        assert len(versions) == 2
        for version in versions:
            s3.delete_object(Bucket=bucket, Key="k", VersionId=version)
        left = s3.list_object_versions(Bucket=bucket)
        assert (left.get("Versions", []), left.get("DeleteMarkers", [])) == ([], [])

    def test_object_tagging_is_kept(self, s3: S3Client, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="course=dessert")
        assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "course", "Value": "dessert"}]
        s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": [{"Key": "rated", "Value": "5"}]})
        assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "rated", "Value": "5"}]
        s3.delete_object_tagging(Bucket=bucket, Key="k")
        assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []

    def test_lifecycle_rules_are_kept(self, s3: S3Client, bucket: str) -> None:
        s3.put_bucket_lifecycle_configuration(
            Bucket=bucket,
            LifecycleConfiguration={
                "Rules": [
                    {"ID": "forget", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 3}}
                ]
            },
        )
        (rule,) = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
        assert (rule["ID"], rule["Status"], rule["Expiration"]["Days"]) == ("forget", "Enabled", 3)
        assert rule["Filter"]["Prefix"] == "tmp/"

    def test_cors_rules_are_kept(self, s3: S3Client, bucket: str) -> None:
        _allow(s3, bucket)
        (rule,) = s3.get_bucket_cors(Bucket=bucket)["CORSRules"]
        assert (rule["AllowedMethods"], rule["AllowedOrigins"]) == (["GET", "PUT"], ["https://recipes.example"])

    def test_cors_preflight_names_the_allowed_origins(self, server: Endpoint, s3: S3Client, bucket: str) -> None:
        _allow(s3, bucket)
        asks = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "content-type"}
        url = f"{server.url}/{bucket}/k"
        allowed = request("OPTIONS", url, headers={"Origin": "https://recipes.example", **asks})
        assert allowed.status in {200, 204}
        assert allowed.headers["access-control-allow-origin"] == "https://recipes.example"
        assert "PUT" in allowed.headers["access-control-allow-methods"]
        other = request("OPTIONS", url, headers={"Origin": "https://elsewhere.example", **asks})
        assert other.headers.get("access-control-allow-origin") not in {"*", "https://elsewhere.example"}

    def test_encryption_with_aes256_is_accepted(self, s3: S3Client, bucket: str) -> None:
        put = s3.put_object(Bucket=bucket, Key="k", Body=b"x", ServerSideEncryption="AES256")
        assert put["ServerSideEncryption"] == "AES256"
        assert s3.head_object(Bucket=bucket, Key="k")["ServerSideEncryption"] == "AES256"


def _allow(s3: S3Client, bucket: str) -> None:
    s3.put_bucket_cors(
        Bucket=bucket,
        CORSConfiguration={
            "CORSRules": [
                {
                    "AllowedMethods": ["GET", "PUT"],
                    "AllowedOrigins": ["https://recipes.example"],
                    "AllowedHeaders": ["*"],
                    "MaxAgeSeconds": 60,
                }
            ]
        },
    )
