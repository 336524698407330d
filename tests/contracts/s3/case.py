"""What the tests of S3 behaviours share: clients, a bucket, plain HTTP requests, and checks of refusals."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient

REGION = "us-east-1"


@dataclass(frozen=True)
class Endpoint:
    """A server for S3, or for SNS and SQS, and its credentials.

    Clients are made once and shared: making one takes longer than most tests.
    """

    name: str
    url: str
    access_key: str
    secret_key: str
    _made: dict[tuple[object, ...], Any] = field(default_factory=dict, repr=False, compare=False)

    def s3(self, *, checksums: bool = False, secret_key: str | None = None) -> S3Client:
        """Return a client that sends a checksum with every upload, or one that leaves that to the caller."""
        config = Config(
            signature_version="s3v4",
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
            max_pool_connections=20,
            connect_timeout=5,
            read_timeout=30,
            request_checksum_calculation="when_supported" if checksums else "when_required",
        )
        client: S3Client = self._client("s3", config, checksums, secret_key or self.secret_key)
        return client

    def sns(self) -> SNSClient:
        client: SNSClient = self._client("sns", None, False, self.secret_key)
        return client

    def sqs(self) -> SQSClient:
        client: SQSClient = self._client("sqs", None, False, self.secret_key)
        return client

    def close(self) -> None:
        for client in self._made.values():
            client.close()
        self._made.clear()

    def _client(self, service: str, config: Config | None, checksums: bool, secret_key: str) -> Any:
        made = self._made.get((service, checksums, secret_key))
        if made is None:
            session: Any = boto3.Session(self.access_key, secret_key, region_name=REGION)
            made = session.client(service, endpoint_url=self.url, config=config)
            self._made[service, checksums, secret_key] = made
        return made


@dataclass(frozen=True)
class Response:
    """An HTTP response; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def request(method: str, url: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Response:
    """Send one request as a browser would, without the SDK and its retries."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, target, body, dict(headers or {}))
        got = connection.getresponse()
        return Response(got.status, {name.lower(): value for name, value in got.getheaders()}, got.read())
    finally:
        connection.close()


@contextmanager
def refused(status: int, *codes: str) -> Iterator[None]:
    """Fail unless the block is refused with this HTTP status and, if codes are given, one of these codes."""
    with pytest.raises(ClientError) as caught:
        yield
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    if codes:
        assert caught.value.response["Error"]["Code"] in codes


def new_bucket(s3: S3Client) -> str:
    name = f"pw-test-{uuid4().hex}"
    s3.create_bucket(Bucket=name)
    return name


class S3Suite:
    """The fixtures of every group.

    A subclass provides the fixtures ``server``, the S3 server under test, and ``messages``, the SNS and SQS beside it,
    often on the same server: both as ``Endpoint``.
    """

    @pytest.fixture
    def s3(self, server: Endpoint) -> S3Client:
        return server.s3()

    @pytest.fixture
    def bucket(self, s3: S3Client) -> Iterator[str]:
        """A fresh bucket, which is deleted with its content after the test."""
        name = new_bucket(s3)
        yield name
        delete_bucket(s3, name)


def delete_bucket(s3: S3Client, name: str) -> None:
    """Delete a bucket with everything in it: versions, and uncompleted multipart uploads."""
    for upload in s3.list_multipart_uploads(Bucket=name).get("Uploads", []):
        s3.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
        for item in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
            s3.delete_object(Bucket=name, Key=item["Key"], VersionId=item["VersionId"])
    s3.delete_bucket(Bucket=name)
