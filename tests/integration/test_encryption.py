"""A bucket whose policy refuses writes without an encryption header, as in AWS' example policies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from photo_worker.services.binding import MARKER_KEY
from tests.integration.test_commands import photo_worker
from tests.support.harness import FIXTURES, eventually, open_harness
from tests.support.s3_responses import Request, Response, S3Responses, refusal, s3_responding

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.stack

PHOTO = FIXTURES / "photos" / "clean-print.png"
HEADER = "x-amz-server-side-encryption"
# Hop-by-hop headers, which are not forwarded.
_HOP = {"connection", "transfer-encoding", "content-length", "date", "server", "etag"}


def behind_a_policy(endpoint: str, wanted: str) -> Callable[[Request], Response]:
    """Forward requests to the S3 server, but refuse writes without the header."""
    upstream = urlsplit(endpoint)

    def response(request: Request) -> Response:
        if request.method == "PUT" and request.headers.get(HEADER) != wanted:
            return refusal(403, "AccessDenied", "explicit deny in a resource-based policy")
        connection = HTTPConnection(upstream.hostname or "", upstream.port or 80, timeout=30)
        try:
            connection.request(request.method, request.path, request.body or None, dict(request.headers))
            found = connection.getresponse()
            body = found.read()
            headers = {name: value for name, value in found.getheaders() if name.lower() not in _HOP}
            headers |= {"ETag": found.headers["ETag"]} if found.headers["ETag"] else {}
            told = found.headers["Content-Length"]
            length = int(told) if told and request.method == "HEAD" else None
            return Response(found.status, body, headers, length)
        finally:
            connection.close()

    return response


@pytest.fixture
def policy(stack_variables: dict[str, str]) -> Iterator[S3Responses]:
    with s3_responding(behind_a_policy(stack_variables["AWS_ENDPOINT_URL_S3"], "AES256")) as server:
        yield server


async def test_encryption_setting_passes_bucket_policy(
    stack_variables: dict[str, str],
    policy: S3Responses,
    tmp_path: Path,
    s3_client: S3Client,
) -> None:
    """The bucket's marker, the photo, its OCR response and its manifest."""
    bucket = stack_variables["S3_BUCKET"]
    s3_client.delete_object(Bucket=bucket, Key=MARKER_KEY)
    variables = stack_variables | {
        "AWS_ENDPOINT_URL_S3": policy.url,
        "S3_SERVER_SIDE_ENCRYPTION": "AES256",
        "OCR_ENGINE": "recorded",
    }
    bound = photo_worker("migrate", "--bind", variables=variables, cwd=tmp_path)
    assert bound.returncode == 0, bound.stderr
    submitted = photo_worker("submit", str(PHOTO), "-o", "json", variables=variables, cwd=tmp_path)
    assert submitted.returncode == 0, submitted.stdout
    job_id = json.loads(submitted.stdout)["data"]["jobs"][0]["job_id"]
    async with open_harness(variables) as harness, harness.worker():

        async def ended() -> bool:
            row = next(iter(harness.application.repository.all()))
            return row.status in {"succeeded", "failed"}

        await eventually(ended)
        assert next(iter(harness.application.repository.all())).status == "succeeded"
    written = {request.path for request in policy.requests if request.method == "PUT"}
    assert {path.removeprefix(f"/{bucket}/").partition("/")[0] for path in written} == {
        ".photo-worker",
        "raw",
        "artifacts",
    }
    assert {f"/{bucket}/artifacts/{job_id}/{name}" for name in ("textract.json", "manifest.json")} <= written


def test_encryption_unset_is_refused_by_bucket_policy(
    stack_variables: dict[str, str], policy: S3Responses, tmp_path: Path, s3_client: S3Client
) -> None:
    variables = stack_variables | {"AWS_ENDPOINT_URL_S3": policy.url}
    refused = photo_worker("submit", str(PHOTO), "-o", "json", variables=variables, cwd=tmp_path)
    assert json.loads(refused.stdout)["error"]["code"] == "object_forbidden"


def test_config_show_lists_encryption_settings(stack_variables: dict[str, str], tmp_path: Path) -> None:
    own = {"S3_SERVER_SIDE_ENCRYPTION": "aws:kms", "S3_SSE_KMS_KEY_ID": "alias/photos"}
    shown = photo_worker("config", "show", "-o", "json", variables=stack_variables | own, cwd=tmp_path)
    found = {row["name"]: row["value"] for row in json.loads(shown.stdout)["data"]["settings"]}
    assert {name: found[name] for name in own} == own
