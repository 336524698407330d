"""What presigned URLs, forms and signatures allow."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

from tests.contracts.s3.case import REGION, Endpoint, Response, S3Suite, refused, request

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class SignatureBehaviours(S3Suite):
    def test_presigned_url_writes_and_reads(self, s3: S3Client, bucket: str) -> None:
        to_write = s3.generate_presigned_url(
            "put_object", Params={"Bucket": bucket, "Key": "k é", "ContentType": "image/png"}, ExpiresIn=60
        )
        assert request("PUT", to_write, b"photo", {"Content-Type": "image/png"}).status == 200
        to_read = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k é"}, ExpiresIn=60)
        got = request("GET", to_read)
        assert (got.status, got.body, got.headers["content-type"]) == (200, b"photo", "image/png")

    def test_presigned_url_sets_the_download_name(self, s3: S3Client, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=b"photo", ContentType="image/png")
        disposition = 'attachment; filename="pie.png"'
        url = s3.generate_presigned_url(
            "get_object",
            Params={
                "Bucket": bucket,
                "Key": "k",
                "ResponseContentDisposition": disposition,
                "ResponseContentType": "application/octet-stream",
            },
        )
        got = request("GET", url)
        assert (got.status, got.body) == (200, b"photo")
        assert got.headers["content-disposition"] == disposition
        assert got.headers["content-type"] == "application/octet-stream"

    def test_presigned_url_expired_is_refused(self, server: Endpoint, s3: S3Client, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=b"photo")
        assert _signed_long_ago(server, bucket, expires=60).status in {400, 403}
        # The same signature with a longer validity, to show that not every old signature is refused.
        assert _signed_long_ago(server, bucket, expires=7 * 24 * 3600 - 1).status == 200

    def test_presigned_url_tampered_is_refused(self, s3: S3Client, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=b"photo")
        url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
        last = url[-1]
        assert request("GET", url[:-1] + ("0" if last != "0" else "1")).status == 403
        assert request("GET", url).status == 200

    def test_presigned_url_for_another_key_is_refused(self, s3: S3Client, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="mine", Body=b"photo")
        s3.put_object(Bucket=bucket, Key="yours", Body=b"photo")
        url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "mine"})
        assert request("GET", url.replace("/mine?", "/yours?")).status == 403

    def test_signature_with_wrong_secret_is_refused(self, server: Endpoint, bucket: str) -> None:
        with refused(403, "SignatureDoesNotMatch"):
            server.s3(secret_key=f"not-{server.secret_key}").list_objects_v2(Bucket=bucket)

    def test_presigned_post_uploads_a_file(self, s3: S3Client, bucket: str) -> None:
        form = s3.generate_presigned_post(bucket, "up/${filename}", ExpiresIn=60)
        assert _post(form["url"], form["fields"], b"photo").status in {200, 201, 204}
        assert s3.get_object(Bucket=bucket, Key="up/pie.png")["Body"].read() == b"photo"

    def test_presigned_post_limits_the_size(self, s3: S3Client, bucket: str) -> None:
        form = s3.generate_presigned_post(bucket, "k", Conditions=[["content-length-range", 1, 10]], ExpiresIn=60)
        assert _post(form["url"], form["fields"], bytes(11)).status == 400
        with refused(404):
            s3.head_object(Bucket=bucket, Key="k")
        assert _post(form["url"], form["fields"], bytes(10)).status in {200, 201, 204}


def _signed_long_ago(server: Endpoint, bucket: str, *, expires: int) -> Response:
    """Read with a URL that was signed an hour ago ("Signature Version 4" in a query, as the Amazon S3 API has it)."""
    at = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{at[:8]}/{REGION}/s3/aws4_request"
    query = urlencode(
        {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{server.access_key}/{scope}",
            "X-Amz-Date": at,
            "X-Amz-Expires": expires,
            "X-Amz-SignedHeaders": "host",
        }
    )
    host, path = urlsplit(server.url).netloc, f"/{bucket}/k"
    canonical = "\n".join(["GET", path, query, f"host:{host}", "", "host", "UNSIGNED-PAYLOAD"])
    to_sign = "\n".join(["AWS4-HMAC-SHA256", at, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{server.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    return request("GET", f"{server.url}{path}?{query}&X-Amz-Signature={signature}")


def _post(url: str, fields: dict[str, str], body: bytes) -> Response:
    """Send a form as a browser does (RFC 7578)."""
    boundary = uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    file = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="pie.png"\r\n'
    parts += [file.encode(), b"Content-Type: image/png\r\n\r\n", body, f"\r\n--{boundary}--\r\n".encode()]
    return request("POST", url, b"".join(parts), {"Content-Type": f"multipart/form-data; boundary={boundary}"})
