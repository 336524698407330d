"""ministack as the native stack runs it: objects that it reports as stored survive a restart."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from photo_worker.devkit.ports import free_base
from photo_worker.devkit.probes import http_ok
from tests.integration.devkit.fake_services import wait_until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(120)]

MEGABYTE = 1024 * 1024
# No file of this process may exceed a megabyte: that acts as a full disk for it alone.
LIMITED = f"""
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({MEGABYTE}, {MEGABYTE}))
os.execv(sys.executable, [sys.executable, "-m", "photo_worker.devkit.guard.ministack"])
"""
WHOLE = "import os, sys; os.execv(sys.executable, [sys.executable, '-m', 'photo_worker.devkit.guard.ministack'])"


@contextmanager
def ministack(directory: Path, program: str) -> Iterator[Any]:
    """Run ministack with its data in a directory, and yield an S3 client of it."""
    port = free_base()
    env = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    env |= {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "SERVICES": "s3", "S3_PERSIST": "1"}
    env |= {"S3_DATA_DIR": str(directory / "s3"), "PERSIST_STATE": "1", "STATE_DIR": str(directory / "state")}
    env |= {"IOT_MTLS_ENABLED": "0", "SFTP_ENABLED": "0", "LOG_LEVEL": "WARNING", "DOCKER_HOST": "unix:///nowhere"}
    with subprocess.Popen([sys.executable, "-c", program], env=env, cwd=directory) as process:
        try:
            wait_until(lambda: http_ok(port, "/_ministack/health"), "ministack responds")
            client = boto3.client(
                "s3",
                endpoint_url=f"http://127.0.0.1:{port}",
                region_name="us-east-1",
                aws_access_key_id="local",
                aws_secret_access_key="local",
                config=Config(retries={"total_max_attempts": 1}, proxies={}),
            )
            yield client
            client.close()
        finally:
            process.terminate()


def missing(s3: Any, key: str) -> bool:
    with pytest.raises(ClientError) as head:
        s3.head_object(Bucket="photos", Key=key)
    return bool(head.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404)


def test_put_object_on_full_disk_is_refused_and_keeps_old(tmp_path: Path) -> None:
    part = {"Bucket": "photos", "Key": "parts", "PartNumber": 1}
    with ministack(tmp_path, LIMITED) as s3:
        s3.create_bucket(Bucket="photos")
        s3.put_object(Bucket="photos", Key="small", Body=b"a photo")
        with pytest.raises(ClientError) as put:
            s3.put_object(Bucket="photos", Key="large", Body=bytes(2 * MEGABYTE))
        assert missing(s3, "large")
        # A status 412 would say that the object exists, and a client would take that for success.
        with pytest.raises(ClientError) as repeated:
            s3.put_object(Bucket="photos", Key="large", Body=bytes(2 * MEGABYTE), IfNoneMatch="*")
        with pytest.raises(ClientError) as replaced:
            s3.put_object(Bucket="photos", Key="small", Body=bytes(2 * MEGABYTE), Tagging="a=b")
        assert s3.get_object(Bucket="photos", Key="small")["Body"].read() == b"a photo"
        assert s3.get_object_tagging(Bucket="photos", Key="small")["TagSet"] == []
        upload = s3.create_multipart_upload(Bucket="photos", Key="parts")["UploadId"]
        sent = s3.upload_part(**part, UploadId=upload, Body=bytes(2 * MEGABYTE))
        parts = {"Parts": [{"PartNumber": 1, "ETag": sent["ETag"]}]}
        with pytest.raises(ClientError) as completed:
            s3.complete_multipart_upload(Bucket="photos", Key="parts", UploadId=upload, MultipartUpload=parts)
        # Status 5xx: clients retry, and blame the service.
        for refused in (put, repeated, replaced, completed):
            assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] >= 500
        assert missing(s3, "parts")
    with ministack(tmp_path, WHOLE) as s3:
        assert [entry["Key"] for entry in s3.list_objects_v2(Bucket="photos")["Contents"]] == ["small"]
        assert s3.get_object(Bucket="photos", Key="small")["Body"].read() == b"a photo"
        s3.put_object(Bucket="photos", Key="large", Body=bytes(2 * MEGABYTE))


def test_put_object_versioned_on_full_disk_adds_no_version(tmp_path: Path) -> None:
    with ministack(tmp_path, LIMITED) as s3:
        s3.create_bucket(Bucket="photos")
        s3.put_bucket_versioning(Bucket="photos", VersioningConfiguration={"Status": "Enabled"})
        first = s3.put_object(Bucket="photos", Key="a", Body=b"first")["VersionId"]
        for key in ("a", "b"):
            with pytest.raises(ClientError):
                s3.put_object(Bucket="photos", Key=key, Body=bytes(2 * MEGABYTE))
        found = s3.list_object_versions(Bucket="photos")["Versions"]
        assert [(one["Key"], one["VersionId"], one["IsLatest"]) for one in found] == [("a", first, True)]
        assert s3.get_object(Bucket="photos", Key="a")["Body"].read() == b"first"


def test_put_object_failed_metadata_write_keeps_old_object(tmp_path: Path) -> None:
    with ministack(tmp_path, WHOLE) as s3:
        s3.create_bucket(Bucket="photos")
        etag = s3.put_object(Bucket="photos", Key="small", Body=b"a photo")["ETag"]
        (facts,) = (tmp_path / "s3").rglob("*.meta.json")
        hindrance = facts.with_name(f"{facts.name}.tmp")
        hindrance.mkdir()
        with pytest.raises(ClientError):
            s3.put_object(Bucket="photos", Key="small", Body=b"another")
        found = s3.get_object(Bucket="photos", Key="small")
        assert (found["ETag"], found["Body"].read()) == (etag, b"a photo")
        hindrance.rmdir()
    with ministack(tmp_path, WHOLE) as s3:
        found = s3.get_object(Bucket="photos", Key="small")
        assert (found["ETag"], found["Body"].read()) == (etag, b"a photo")
