"""The errors that a caller gets for S3's refusals and for network failures."""

from __future__ import annotations

import hashlib
import os
import socket
import zlib
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest

from photo_worker.adapters.s3.object_store import BotoObjectStore, make_client
from photo_worker.aws import aws_session
from photo_worker.errors import (
    BucketForbidden,
    BucketMissing,
    ConfigurationError,
    InvalidBucket,
    InvalidKey,
    ObjectArchived,
    ObjectForbidden,
    ObjectKeyUnusable,
    ObjectMissing,
    PhotoWorkerError,
    ServiceRefused,
    StorageUnavailable,
)
from tests.support.s3_responses import Request, Response, S3Responses, refusal, s3_responding

VERSIONS = """<?xml version='1.0'?><ListVersionsResult><Name>photos</Name><IsTruncated>{more}</IsTruncated>
<NextKeyMarker>raw/pie</NextKeyMarker><NextVersionIdMarker>v2</NextVersionIdMarker>{entries}</ListVersionsResult>"""
MARKER = "<DeleteMarker><Key>raw/pie</Key><VersionId>v2</VersionId><IsLatest>true</IsLatest></DeleteMarker>"
VERSION = """<Version><Key>raw/pie</Key><VersionId>v1</VersionId><IsLatest>false</IsLatest><Size>4</Size>
<LastModified>2026-01-01T00:00:00.000Z</LastModified></Version>"""

ACCESS_KEY, SECRET_KEY = "AKIDEXAMPLE", "a-secret-that-no-message-shows"
MIB = 1 << 20


@cache
def session(region: str = "us-east-1") -> boto3.Session:
    """Return a cached session: reading the service's description takes longer than most tests."""
    return aws_session({"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_REGION": region})


@contextmanager
def store_at(url: str, *, read_timeout: float = 5, region: str = "us-east-1") -> Iterator[BotoObjectStore]:
    client = make_client(session=session(region), endpoint_url=url, read_timeout=read_timeout, connect_timeout=2)
    try:
        yield BotoObjectStore(client)
    finally:
        client.close()


@contextmanager
def store_responding(
    response: Callable[[Request], Response], *, read_timeout: float = 5, region: str = "us-east-1"
) -> Iterator[tuple[BotoObjectStore, S3Responses]]:
    with s3_responding(response) as server, store_at(server.url, read_timeout=read_timeout, region=region) as store:
        yield store, server


def read_all(store: BotoObjectStore) -> bytes:
    with store.open("photos", "pie.jpg") as (_, pieces):
        return b"".join(pieces)


CALLS: dict[str, Callable[[BotoObjectStore], object]] = {
    "head": lambda store: store.head("photos", "pie.jpg"),
    "open": read_all,
    "get": lambda store: store.get("photos", "pie.jpg", limit_bytes=10),
    "put": lambda store: store.put("photos", "pie.jpg", b"x", content_type="image/jpeg"),
    "put_new": lambda store: store.put_new("photos", "pie.jpg", b"x", content_type="image/jpeg"),
    "delete": lambda store: store.delete("photos", "pie.jpg"),
}

# The same table holds for HEAD, whose responses have only a status.
REFUSALS: list[tuple[Response, type[PhotoWorkerError], str]] = [
    (refusal(403, "AccessDenied", "Access Denied"), ObjectForbidden, "pie.jpg"),
    (refusal(403, "InvalidAccessKeyId", "no such key id"), ServiceRefused, "InvalidAccessKeyId"),
    (refusal(403, "SignatureDoesNotMatch", "check your secret"), ServiceRefused, "SignatureDoesNotMatch"),
    (refusal(403, "RequestTimeTooSkewed", "clock"), ServiceRefused, "RequestTimeTooSkewed"),
    (refusal(403, "InvalidObjectState", "archived"), ObjectArchived, "before it is restored"),
    (refusal(400, "KMS.DisabledException", "arn is disabled."), ObjectKeyUnusable, "arn is disabled"),
    (refusal(400, "KMS.KMSInvalidStateException", "pending deletion"), ObjectKeyUnusable, "pending deletion"),
    (refusal(400, "KMS.ThrottlingException", "slow down"), StorageUnavailable, ""),
    (refusal(400, "ExpiredToken", "The provided token has expired."), ServiceRefused, "ExpiredToken"),
    (refusal(400, "InvalidBucketName", "not valid"), InvalidBucket, "photos"),
    (refusal(400, "KeyTooLongError", "Your key is too long"), InvalidKey, "too long"),
    (refusal(400, "RequestTimeout", "idle"), StorageUnavailable, "RequestTimeout"),
    (refusal(404, "NoSuchBucket", "none"), BucketMissing, "photos"),
    (refusal(500, "InternalError", "We encountered an internal error."), StorageUnavailable, ""),
    (refusal(503, "SlowDown", "Please reduce your request rate."), StorageUnavailable, ""),
    (Response(502, b"<html>bad gateway</html>"), StorageUnavailable, ""),
    (Response(429), StorageUnavailable, ""),
]


@pytest.mark.parametrize("call", list(CALLS))
@pytest.mark.parametrize(
    ("response", "kind", "says"), REFUSALS, ids=[f"{kind.code}-{index}" for index, (_, kind, _) in enumerate(REFUSALS)]
)
def test_store_call_refused_raises_matching_error(
    response: Response, kind: type[PhotoWorkerError], says: str, call: str
) -> None:
    with store_responding(lambda _: response) as (store, _), pytest.raises(PhotoWorkerError) as caught:
        CALLS[call](store)
    assert type(caught.value) is kind
    assert says in caught.value.message
    assert SECRET_KEY not in caught.value.message
    assert caught.value.retryable is (kind is StorageUnavailable)


@pytest.mark.parametrize("call", ["put", "put_new", "replace"])
def test_store_write_bare_403_raises_object_forbidden(call: str) -> None:
    """A gateway may refuse so. The error that the object is missing would end the job."""
    calls = CALLS | {"replace": lambda store: store.replace("photos", "pie.jpg", b"", etag="0", content_type="a/b")}

    def response(asked: Request) -> Response:
        return Response(403) if asked.method == "PUT" else refusal(404, "NoSuchKey")

    with store_responding(response) as (store, _), pytest.raises(ObjectForbidden):
        calls[call](store)


@pytest.mark.parametrize("body", [b"<html>We are back soon</html>", b"<html>We are <br>back soon</html>"])
@pytest.mark.parametrize("call", ["head", "open", "get", "put", "put_new", "list"])
def test_store_call_html_page_raises_storage_unavailable(call: str, body: bytes) -> None:
    """A proxy or a maintenance page may respond to every request with 200; this is neither an object nor a write."""
    page = Response(200, body, {"Content-Type": "text/html", "ETag": ""})
    calls = CALLS | {"list": lambda store: list(store.list("photos", "raw/"))}
    with store_responding(lambda _: page) as (store, _), pytest.raises(StorageUnavailable):
        calls[call](store)


@pytest.mark.parametrize("call", ["head", "open", "get"])
def test_store_read_missing_object_raises_object_missing(call: str) -> None:
    def response(request: Request) -> Response:
        return Response() if request.path.split("?")[0] == "/photos" else refusal(404, "NoSuchKey")

    with store_responding(response) as (store, _), pytest.raises(ObjectMissing):
        CALLS[call](store)


def test_store_head_missing_in_unlistable_bucket_is_missing() -> None:
    def response(request: Request) -> Response:
        return refusal(403, "AccessDenied") if request.path == "/photos" else refusal(404, "NoSuchKey")

    with store_responding(response) as (store, _), pytest.raises(ObjectMissing):
        store.head("photos", "pie.jpg")


def test_store_head_when_bucket_probe_fails_is_unavailable() -> None:
    def response(request: Request) -> Response:
        return Response(503) if request.path == "/photos" else Response(404)

    with store_responding(response) as (store, _), pytest.raises(StorageUnavailable):
        store.head("photos", "pie.jpg")


@pytest.mark.parametrize("call", list(CALLS))
@pytest.mark.parametrize(
    "response",
    [
        refusal(400, "AuthorizationHeaderMalformed", "the region is wrong", Region="eu-central-1"),
        Response(301, refusal(301, "PermanentRedirect").body, {"x-amz-bucket-region": "eu-central-1"}),
        Response(400, b"", {"x-amz-bucket-region": "eu-central-1"}),
    ],
    ids=["malformed", "redirect", "bare"],
)
def test_store_call_wrong_region_names_the_right_one(call: str, response: Response) -> None:
    with (
        store_responding(lambda _: response) as (store, _),
        pytest.raises(ServiceRefused, match="eu-central-1") as caught,
    ):
        CALLS[call](store)
    assert "AWS_REGION" in caught.value.message


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (refusal(403, "AccessDenied"), BucketForbidden),
        (refusal(403, "InvalidAccessKeyId"), ServiceRefused),
        (refusal(503, "SlowDown"), StorageUnavailable),
    ],
)
def test_ensure_bucket_refused_head_raises_matching_error(response: Response, kind: type[PhotoWorkerError]) -> None:
    with store_responding(lambda _: response) as (store, _), pytest.raises(kind):
        store.ensure_bucket("photos")


@pytest.mark.parametrize(
    ("code", "kind"), [("BucketAlreadyExists", BucketForbidden), ("TooManyBuckets", ServiceRefused)]
)
def test_ensure_bucket_refused_create_raises_matching_error(code: str, kind: type[PhotoWorkerError]) -> None:
    def response(request: Request) -> Response:
        return Response(404) if request.method == "HEAD" else refusal(409 if "Exists" in code else 400, code)

    with store_responding(response) as (store, _), pytest.raises(kind):
        store.ensure_bucket("photos")


@pytest.mark.parametrize(("region", "location"), [("us-east-1", b""), ("eu-central-1", b"eu-central-1")])
def test_ensure_bucket_creates_in_the_clients_region(region: str, location: bytes) -> None:
    def response(request: Request) -> Response:
        return Response(404) if request.method == "HEAD" else refusal(409, "BucketAlreadyOwnedByYou")

    with store_responding(response, region=region) as (store, server):
        store.ensure_bucket("photos")
    created = next(request for request in server.requests if request.method == "PUT")
    assert (b"LocationConstraint" in created.body, location in created.body) == (bool(location), True)


@pytest.mark.parametrize("call", list(CALLS))
def test_store_call_connection_refused_is_retryable(call: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with store_at(url) as store, pytest.raises(StorageUnavailable) as caught:
            CALLS[call](store)
    assert url in caught.value.message
    assert caught.value.retryable


def test_open_connection_cut_midway_raises_storage_unavailable() -> None:
    response = Response(body=b"x" * (2 * MIB + 5), announced=10 * MIB)
    with store_responding(lambda _: response) as (store, _), store.open("photos", "pie.jpg") as (info, pieces):
        assert info.size_bytes == 10 * MIB
        with pytest.raises(StorageUnavailable):
            deque(pieces, maxlen=0)


def test_open_stalled_body_times_out() -> None:
    response = Response(body=b"x" * 10, announced=10 * MIB, stall=True)
    with store_responding(lambda _: response, read_timeout=0.3) as (store, server):
        with pytest.raises(StorageUnavailable, match="read timeout"):
            read_all(store)
        server.released.set()


def test_get_stalled_response_times_out() -> None:
    response = Response(announced=5, stall=True)
    with store_responding(lambda _: response, read_timeout=0.3) as (store, server):
        with pytest.raises(StorageUnavailable):
            store.get("photos", "pie.jpg", limit_bytes=10)
        server.released.set()


def test_open_wrong_checksum_raises_storage_unavailable() -> None:
    wrong = b64encode(zlib.crc32(b"another body").to_bytes(4, "big")).decode()
    response = Response(body=b"body", headers={"x-amz-checksum-crc32": wrong})
    with store_responding(lambda _: response) as (store, _), pytest.raises(StorageUnavailable, match="checksum"):
        read_all(store)


def test_put_bad_digest_raises_storage_unavailable() -> None:
    with (
        store_responding(lambda _: refusal(400, "BadDigest", "The Content-MD5 did not match")) as (
            store,
            _,
        ),
        pytest.raises(StorageUnavailable),
    ):
        store.put("photos", "pie.jpg", b"x", content_type="image/jpeg")


@pytest.mark.parametrize("damage", [lambda body: body[:-1] + b"?", lambda body: body[: len(body) // 2]])
def test_put_body_damaged_in_transit_is_not_stored(damage: Callable[[bytes], bytes]) -> None:
    """The store compares the body with Content-MD5, as S3 does, and supports no other digest."""
    kept: list[bytes] = []

    def take(request: Request) -> Response:
        came, said = damage(request.body), request.headers.get("content-md5")
        if said not in {None, b64encode(hashlib.md5(came, usedforsecurity=False).digest()).decode()}:
            return refusal(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")
        kept.append(came)
        return Response()

    with store_responding(take) as (store, _), suppress(StorageUnavailable):
        store.put("photos", "pie.jpg", b"a pie", content_type="image/jpeg")
    assert kept == []


def test_put_sends_md5_content_type_and_metadata() -> None:
    body = b"a pie"
    with store_responding(lambda _: Response()) as (store, server):
        store.put("photos", "pie.jpg", body, content_type="image/jpeg", metadata={"name": "crème"})
    (request,) = server.requests
    assert (request.method, request.path, request.body) == ("PUT", "/photos/pie.jpg", body)
    assert request.headers["content-md5"] == b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    assert request.headers["content-type"] == "image/jpeg"
    assert request.headers["x-amz-meta-name"].isascii()


def test_get_unavailable_is_not_retried() -> None:
    with store_responding(lambda _: refusal(503, "SlowDown")) as (store, server):
        with pytest.raises(StorageUnavailable):
            store.get("photos", "pie.jpg", limit_bytes=10)
        assert len(server.requests) == 1


def test_open_sends_one_get_request() -> None:
    with store_responding(lambda _: Response(body=b"body")) as (store, server):
        assert read_all(store) == b"body"
        assert [request.method for request in server.requests] == ["GET"]


def test_get_object_over_limit_is_not_read() -> None:
    response = Response(body=b"x", announced=1 << 40)
    with (
        store_responding(lambda _: response) as (store, _),
        pytest.raises(PhotoWorkerError, match="1099511627776 bytes"),
    ):
        store.get("photos", "pie.jpg", limit_bytes=10)


@pytest.mark.parametrize("bucket", ["", "a/b", "a b", "ü"])
def test_store_call_invalid_bucket_sends_no_request(bucket: str) -> None:
    with store_responding(lambda _: Response()) as (store, server):
        for call in (
            lambda: store.head(bucket, "k"),
            lambda: store.get(bucket, "k", limit_bytes=1),
            lambda: store.put(bucket, "k", b"", content_type="image/png"),
            lambda: store.ensure_bucket(bucket),
        ):
            with pytest.raises(InvalidBucket) as caught:
                call()
            assert repr(bucket) in caught.value.message
        assert not server.requests


@pytest.fixture
def no_aws_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.mark.usefixtures("no_aws_settings")
@pytest.mark.parametrize("call", list(CALLS))
def test_store_call_without_credentials_is_refused(call: str) -> None:
    client = make_client(
        session=aws_session({**os.environ, "AWS_REGION": "us-east-1"}), endpoint_url="http://127.0.0.1:9"
    )
    with pytest.raises(ServiceRefused, match="credentials") as caught:
        CALLS[call](BotoObjectStore(client))
    assert caught.value.retryable is False
    client.close()


@pytest.mark.usefixtures("no_aws_settings")
def test_store_head_without_secret_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    own, endpoint = aws_session(os.environ), "http://127.0.0.1:9"
    with pytest.raises((ServiceRefused, ConfigurationError), match="credentials"):
        BotoObjectStore(make_client(session=own, region="us-east-1", endpoint_url=endpoint)).head("photos", "k")


@pytest.mark.usefixtures("no_aws_settings")
def test_make_client_unknown_profile_is_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ConfigurationError, match="nobody"):
        make_client(session=aws_session(os.environ))


@pytest.mark.parametrize("settings", [{"endpoint_url": "not a url"}, {"region": "no such region"}])
def test_make_client_invalid_setting_is_configuration_error(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        make_client(session=session(), **settings)  # type: ignore[arg-type]


def test_make_client_takes_endpoint_from_session() -> None:
    with s3_responding(lambda _: Response(body=b"body")) as server:
        endpoint = server.url.replace("127.0.0.1", "localhost")
        keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_REGION": "us-east-1"}
        client = make_client(session=aws_session({**keys, "AWS_ENDPOINT_URL_S3": endpoint}))
        assert BotoObjectStore(client).get("photos", "pie.jpg", limit_bytes=10) == b"body"
        client.close()
    assert server.requests[0].path == "/photos/pie.jpg"


def test_describe_omits_credentials() -> None:
    with store_at("http://user:password@127.0.0.1:9") as store:
        assert store.describe() == "S3 at http://127.0.0.1:9"


def test_store_errors_omit_the_endpoint_password() -> None:
    """Error messages are written to logs, rows and histories."""
    address = f"http://kitchen:{SECRET_KEY}@127.0.0.1:1"
    with store_at(address) as store, pytest.raises(StorageUnavailable) as away:
        store.head("photos", "pie.jpg")
    assert "127.0.0.1:1/photos/pie.jpg" in away.value.message
    with pytest.raises(ConfigurationError) as wrong:
        make_client(session=session(), endpoint_url=f"http://kitchen:{SECRET_KEY}@-no-host-:9")
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_REGION": "us-east-1"}
    client = make_client(session=aws_session({**keys, "HTTP_PROXY": address}), endpoint_url="http://192.0.2.1")
    with pytest.raises(StorageUnavailable) as proxied:
        BotoObjectStore(client).head("photos", "pie.jpg")
    client.close()
    for error in (away.value, wrong.value, proxied.value):
        assert "kitchen" not in error.message
        assert SECRET_KEY not in error.message


def test_put_new_sends_if_none_match_and_obeys_412() -> None:
    responses = deque(
        [Response(), refusal(412, "PreconditionFailed", "At least one of the pre-conditions did not hold")]
    )
    with store_responding(lambda _: responses.popleft()) as (store, server):
        assert [CALLS["put_new"](store), CALLS["put_new"](store)] == [True, False]
    assert [request.headers["if-none-match"] for request in server.requests] == ["*", "*"]
    with store_responding(lambda _: Response()) as (store, server):
        CALLS["put"](store)
    assert "if-none-match" not in server.requests[0].headers


def test_put_new_conflict_is_retryable() -> None:
    conflict = refusal(409, "ConditionalRequestConflict", "A conflicting operation occurred.")
    with store_responding(lambda _: conflict) as (store, _), pytest.raises(StorageUnavailable) as caught:
        CALLS["put_new"](store)
    assert "ConditionalRequestConflict" in caught.value.message
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (refusal(403, "AccessDenied", "no s3:ListBucket"), BucketForbidden),
        (refusal(404, "NoSuchBucket"), BucketMissing),
        (refusal(503, "SlowDown"), StorageUnavailable),
        (refusal(403, "SignatureDoesNotMatch"), ServiceRefused),
    ],
)
def test_list_refused_raises_matching_error(response: Response, kind: type[PhotoWorkerError]) -> None:
    with store_responding(lambda _: response) as (store, _), pytest.raises(kind):
        list(store.list("photos", "artifacts/"))


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({}, {}),
        ({"encryption": "AES256"}, {"x-amz-server-side-encryption": "AES256"}),
        (
            {"encryption": "aws:kms", "kms_key_id": "alias/photos"},
            {
                "x-amz-server-side-encryption": "aws:kms",
                "x-amz-server-side-encryption-aws-kms-key-id": "alias/photos",
            },
        ),
    ],
)
def test_store_writes_send_encryption_headers(settings: dict[str, Any], sent: dict[str, str]) -> None:
    with s3_responding(lambda _: Response()) as server:
        client = make_client(session=session(), endpoint_url=server.url)
        store = BotoObjectStore(client, **settings)
        store.put("photos", "a", b"1", content_type="image/png", metadata={"source": "x"})
        store.put_new("photos", "b", b"2", content_type="image/png")
        client.close()
    assert [request.method for request in server.requests] == ["PUT", "PUT"]
    for request in server.requests:
        assert {name: value for name, value in request.headers.items() if "encryption" in name} == sent


def test_list_hidden_version_on_page_after_marker_is_listed() -> None:
    def response(request: Request) -> Response:
        first = "key-marker" not in request.path
        entries = MARKER if first else VERSION
        return Response(200, VERSIONS.format(more=str(first).lower(), entries=entries).encode())

    with store_responding(response) as (store, _):
        assert [entry.key for entry in store.list_hidden("photos", "raw/")] == ["raw/pie"]


def test_list_hidden_versions_not_implemented_is_empty() -> None:
    with store_responding(lambda _: refusal(501, "NotImplemented")) as (store, _):
        assert list(store.list_hidden("photos", "raw/")) == []
