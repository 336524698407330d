"""Objects in S3, or in a store with its protocol, over boto3."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from photo_worker.adapters.object_metadata import decode_metadata, encode_metadata
from photo_worker.adapters.s3 import errors as s3_errors
from photo_worker.adapters.times import S3Times
from photo_worker.contracts.keys import validate_key
from photo_worker.errors import (
    BucketMissing,
    ConfigurationError,
    DocumentTooLarge,
    ObjectMissing,
    PhotoWorkerError,
    StorageUnavailable,
)
from photo_worker.ports.object_store import ObjectEntry, ObjectInfo
from photo_worker.userinfo import without_userinfo

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.literals import ServerSideEncryptionType
    from mypy_boto3_s3.type_defs import (
        GetObjectOutputTypeDef,
        HeadObjectOutputTypeDef,
        PaginatorConfigTypeDef,
        PutObjectRequestTypeDef,
    )

CHUNK_BYTES = 1 << 20
# What S3 stores for an object that was uploaded without a Content-Type.
DEFAULT_CONTENT_TYPE = "binary/octet-stream"
# CreateBucket refuses this one region's name as a location: it is the protocol's default.
DEFAULT_REGION = "us-east-1"


def make_client(
    *,
    session: boto3.Session,
    endpoint_url: str | None = None,
    region: str | None = None,
    max_pool_connections: int = 10,
    connect_timeout: float = S3Times.connect,
    read_timeout: float = S3Times.read,
) -> S3Client:
    """Return an S3 client; ``session`` gives all other settings.

    It sends each request once: the workflow's retry policy retries, visibly and counted. boto3 itself addresses buckets
    by path if an endpoint is set. ``max_pool_connections`` is how many threads can call at once without opening a
    connection each time; timeouts are seconds. Raises ``ConfigurationError``.
    """
    from botocore.config import Config

    config = Config(
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        max_pool_connections=max_pool_connections,
        retries={"total_max_attempts": 1},
        # put sends Content-MD5; some stores do not support checksums in trailers.
        request_checksum_calculation="when_required",
        tcp_keepalive=True,
    )
    try:
        return session.client("s3", endpoint_url=endpoint_url or None, region_name=region, config=config)
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(problems=without_userinfo(f"S3: {error}")) from error


class _Read(TypedDict):
    """The parameters that name an object to read."""

    Bucket: str
    Key: str
    VersionId: NotRequired[str]


class BotoObjectStore:
    """``ports.ObjectStore`` over a boto3 S3 client. Thread-safe, as the client is.

    ``page`` is how many keys a request lists, 1,000 at most. Every write sends ``encryption`` and ``kms_key_id`` as
    ``x-amz-server-side-encryption`` and ``x-amz-server-side-encryption-aws-kms-key-id``; without them the bucket's
    default applies. Reads need neither.
    """

    def __init__(
        self,
        client: S3Client,
        *,
        page: int = 1000,
        encryption: ServerSideEncryptionType | None = None,
        kms_key_id: str | None = None,
    ) -> None:
        self._client = client
        self._encryption = encryption
        self._kms_key_id = kms_key_id
        self._paging: PaginatorConfigTypeDef = {"PageSize": page}

    def describe(self) -> str:
        """Return the store's name for messages, with its endpoint."""
        parts = urlsplit(self._client.meta.endpoint_url)
        return f"S3 at {parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    def head(self, bucket: str, key: str, *, version_id: str = "") -> ObjectInfo:
        """Return an object's size, type and metadata. A version by its id needs s3:GetObjectVersion.

        The response to HEAD has no body, so that only its status tells what is wrong; if that is not enough, one more
        request finds out. For a missing object S3 responds with 403 if the credentials may not list the bucket.
        """
        validate_key(key)
        try:
            response = self._client.head_object(**_read(bucket, key, version_id))
        except s3_errors.FAILURES as error:
            raise self._explain(error, bucket, key, version_id) from error
        return self._info(bucket, key, response)

    @contextmanager
    def open(self, bucket: str, key: str, *, version_id: str = "") -> Iterator[tuple[ObjectInfo, Iterator[bytes]]]:
        """Stream an object in pieces of at most 1 MiB, with one request for information and bytes.

        The iterator raises ``StorageUnavailable`` if the connection is cut, or if the bytes do not match the object's
        checksum.
        """
        validate_key(key)
        try:
            response = self._client.get_object(**_read(bucket, key, version_id))
        except s3_errors.FAILURES as error:
            raise self._explain(error, bucket, key, version_id) from error
        with closing(response["Body"]) as body:
            yield self._info(bucket, key, response), self._pieces(body.read, bucket, key)

    def get(self, bucket: str, key: str, *, limit_bytes: int, version_id: str = "") -> bytes:
        """Return an object's bytes. Raises ``DocumentTooLarge`` before reading an object over the limit."""
        with self.open(bucket, key, version_id=version_id) as (info, pieces):
            if info.size_bytes > limit_bytes:
                raise DocumentTooLarge(name=key, size_bytes=info.size_bytes, limit_bytes=limit_bytes)
            return b"".join(pieces)

    def put(
        self, bucket: str, key: str, body: bytes, *, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> None:
        """Write an object whole; the store refuses a body that was damaged on the way."""
        try:
            response = self._client.put_object(**self._upload(bucket, key, body, content_type, metadata))
        except s3_errors.FAILURES as error:
            raise self._explain(error, bucket, key) from error
        self._require_s3(response, "ETag")

    def put_new(
        self, bucket: str, key: str, body: bytes, *, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> bool:
        """Write an object whole if the key has none, and tell whether it was written.

        The store decides, by ``If-None-Match: *``: of many writers one wins ("Conditional writes" in S3's user guide).
        False may also mean that an earlier call of this writer succeeded and its response was lost.
        """
        request = self._upload(bucket, key, body, content_type, metadata)
        request["IfNoneMatch"] = "*"
        try:
            response = self._client.put_object(**request)
        except s3_errors.FAILURES as error:
            if isinstance(error, ClientError) and s3_errors.status_of(error) == s3_errors.PRECONDITION_FAILED:
                return False
            raise self._explain(error, bucket, key) from error
        self._require_s3(response, "ETag")
        return True

    def replace(
        self,
        bucket: str,
        key: str,
        body: bytes,
        *,
        etag: str,
        content_type: str,
        metadata: Mapping[str, str] | None = None,
    ) -> bool:
        """Write an object whole if the key has one with this ETag, and tell whether it was written.

        The store decides, by ``If-Match``. If the object is gone, some stores respond with 404, some with 412.
        """
        request = self._upload(bucket, key, body, content_type, metadata)
        request["IfMatch"] = f'"{etag}"'
        try:
            response = self._client.put_object(**request)
        except s3_errors.FAILURES as error:
            status = s3_errors.status_of(error) if isinstance(error, ClientError) else 0
            gone = isinstance(error, ClientError) and s3_errors.code_of(error) == "NoSuchKey"
            if status == s3_errors.PRECONDITION_FAILED or gone:
                return False
            raise self._explain(error, bucket, key) from error
        self._require_s3(response, "ETag")
        return True

    def list(self, bucket: str, prefix: str) -> Iterator[ObjectEntry]:
        """List the objects whose keys begin with ``prefix``, by key."""
        lists = self._client.get_paginator("list_objects_v2")
        pages = lists.paginate(Bucket=bucket, Prefix=prefix, PaginationConfig=self._paging)
        try:
            for page in pages:
                self._require_s3(page, "Name")
                for item in page.get("Contents", []):
                    yield ObjectEntry(bucket, item["Key"], item["Size"], item["LastModified"])
        except s3_errors.FAILURES as error:
            raise self._explain(error, bucket, None) from error

    def list_hidden(self, bucket: str, prefix: str) -> Iterator[ObjectEntry]:
        """List the newest versions behind delete markers, by key. Needs s3:ListBucketVersions.

        A key's versions and markers come newest first, and may continue on the next page. A server without versions
        may not implement the request; it has nothing behind a marker.
        """
        lists = self._client.get_paginator("list_object_versions")
        pages = lists.paginate(Bucket=bucket, Prefix=prefix, PaginationConfig=self._paging)
        marked = ""
        try:
            for page in pages:
                self._require_s3(page, "Name")
                markers = {entry["Key"] for entry in page.get("DeleteMarkers", []) if entry["IsLatest"]} | {marked}
                for item in page.get("Versions", []):
                    if item["Key"] in markers:
                        markers.discard(item["Key"])
                        yield ObjectEntry(bucket, item["Key"], item["Size"], item["LastModified"], item["VersionId"])
                # Only the page's last key can have more versions on the next page.
                marked = max(markers, default="")
        except s3_errors.FAILURES as error:
            if isinstance(error, ClientError) and s3_errors.status_of(error) == s3_errors.NOT_IMPLEMENTED:
                return
            raise self._explain(error, bucket, None) from error

    def delete(self, bucket: str, key: str) -> int:
        """Delete an object with all its versions and delete markers; return how many there were.

        Needs s3:ListBucketVersions and s3:DeleteObjectVersion. In a bucket without versions, the object is the one
        version that S3 calls null. A version that is written to the key during the call may stay.
        """
        validate_key(key)
        deleted = 0
        try:
            for version in self._versions(bucket, key):
                self._client.delete_object(Bucket=bucket, Key=key, VersionId=version)
                deleted += 1
        except s3_errors.FAILURES as error:
            raise self._explain(error, bucket, key) from error
        return deleted

    def _versions(self, bucket: str, key: str) -> Sequence[str]:
        """Return the ids of a key's versions and delete markers. Keys are listed in order, the key itself first."""
        found = []
        lists = self._client.get_paginator("list_object_versions")
        for page in lists.paginate(Bucket=bucket, Prefix=key, PaginationConfig=self._paging):
            entries = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            found += [entry["VersionId"] for entry in entries if entry["Key"] == key]
            if any(entry["Key"] != key for entry in entries):
                break
        return found

    def ensure_bucket(self, bucket: str) -> None:
        """Create the bucket if it is missing, in the client's region."""
        try:
            self._client.head_bucket(Bucket=bucket)
        except s3_errors.FAILURES as error:
            explained = self._explain(error, bucket, None)
            if not isinstance(explained, BucketMissing):
                raise explained from error
            self._create_bucket(bucket)

    def _create_bucket(self, bucket: str) -> None:
        region: Any = self._client.meta.region_name
        try:
            if region in {DEFAULT_REGION, "aws-global"}:
                self._client.create_bucket(Bucket=bucket)
            else:
                self._client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": region})
        except s3_errors.FAILURES as error:
            # Another process has created it since.
            if isinstance(error, ClientError) and s3_errors.code_of(error) == "BucketAlreadyOwnedByYou":
                return
            raise self._explain(error, bucket, None) from error

    def _upload(
        self, bucket: str, key: str, body: bytes, content_type: str, metadata: Mapping[str, str] | None
    ) -> PutObjectRequestTypeDef:
        """Return the parameters that every write sends."""
        validate_key(key)
        digest = hashlib.md5(body, usedforsecurity=False).digest()
        request: PutObjectRequestTypeDef = {
            "Bucket": bucket,
            "Key": key,
            "Body": body,
            "ContentMD5": b64encode(digest).decode(),
            "ContentType": content_type,
            "Metadata": encode_metadata(metadata or {}),
        }
        if self._encryption is not None:
            request["ServerSideEncryption"] = self._encryption
        if self._kms_key_id is not None:
            request["SSEKMSKeyId"] = self._kms_key_id
        return request

    def _pieces(self, read: Callable[[int], bytes], bucket: str, key: str) -> Iterator[bytes]:
        while True:
            try:
                piece = read(CHUNK_BYTES)
            except s3_errors.FAILURES as error:
                raise self._explain(error, bucket, key) from error
            if not piece:
                return
            yield piece

    def _info(self, bucket: str, key: str, response: HeadObjectOutputTypeDef | GetObjectOutputTypeDef) -> ObjectInfo:
        self._require_s3(response, "ETag", "ContentLength")
        return ObjectInfo(
            bucket=bucket,
            key=key,
            size_bytes=response["ContentLength"],
            content_type=response.get("ContentType") or DEFAULT_CONTENT_TYPE,
            etag=response["ETag"].strip('"'),
            metadata=decode_metadata(response.get("Metadata", {})),
            # Without versions the id is "null", also of the next object under the key: it identifies no bytes.
            version_id=response.get("VersionId", "").removeprefix("null"),
            modified_at=response.get("LastModified"),
        )

    def _require_s3(self, response: Mapping[str, Any], *members: str) -> None:
        """Raise ``StorageUnavailable`` if a proxy or a maintenance page responds with status 200 in the store's place.

        S3 sends the ETag of every object that it returns or stores, the length of those that it returns, and the
        bucket's name with every listing.
        """
        for name in members:
            if response.get(name) in {None, ""}:
                raise StorageUnavailable(store=self.describe(), reason=f"a response that is not S3's: it has no {name}")

    def _explain(self, error: Exception, bucket: str, key: str | None, version_id: str = "") -> PhotoWorkerError:
        """Return the error to raise for ``error``; sends another request if the response does not tell the cause."""
        code = s3_errors.code_of(error) if isinstance(error, ClientError) else ""
        if key is not None and version_id and s3_errors.names_no_version(error):
            return ObjectMissing(bucket=bucket, key=key)
        # A failed write must not be explained by a read of its key: that the object is missing would end the job.
        is_head = isinstance(error, ClientError) and error.operation_name.startswith("Head")
        if is_head and code in s3_errors.OPAQUE_CODES:
            error = self._ask_again(bucket, key, version_id) or error
            if key is not None and version_id and s3_errors.names_no_version(error):
                return ObjectMissing(bucket=bucket, key=key)
        explained = s3_errors.translate(error, store=self.describe(), bucket=bucket, key=key)
        if code == "404" and isinstance(explained, ObjectMissing):
            return self._bucket_problem(bucket) or explained
        return explained

    def _ask_again(self, bucket: str, key: str | None, version_id: str) -> ClientError | None:
        """Repeat a refused HEAD as a request whose response has a body, and return the error of that response."""
        try:
            if key is None:
                self._client.list_objects_v2(Bucket=bucket, MaxKeys=1)
            else:
                asked = _read(bucket, key, version_id)
                self._client.get_object(**asked, Range="bytes=0-0")["Body"].close()
        except ClientError as error:
            return error
        except s3_errors.UNREACHABLE:
            return None
        return None

    def _bucket_problem(self, bucket: str) -> PhotoWorkerError | None:
        """Return what is wrong with a missing object's bucket, None if nothing is or the bucket may not be read."""
        try:
            self._client.head_bucket(Bucket=bucket)
        except s3_errors.FAILURES as error:
            found = s3_errors.translate(error, store=self.describe(), bucket=bucket, key=None)
            return found if isinstance(found, (BucketMissing, StorageUnavailable)) else None
        return None


def _read(bucket: str, key: str, version_id: str) -> _Read:
    asked: _Read = {"Bucket": bucket, "Key": key}
    if version_id:
        asked["VersionId"] = version_id
    return asked
