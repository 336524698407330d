"""Translates botocore's errors about S3 into ``photo_worker.errors``.

Codes are those of "Error responses" in the Amazon S3 API reference. A fault that may pass by itself becomes
``StorageUnavailable``, a fault in one job's bucket or key an ``InputError``, and wrong credentials, a wrong region or a
wrong request ``ServiceRefused``, which is not retried, because the same call would be refused again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from photo_worker.errors import (
    BucketForbidden,
    BucketMissing,
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
from photo_worker.throttling import LONGEST_SECONDS, throttle_wait
from photo_worker.userinfo import without_userinfo

TRANSIENT_CODES = frozenset(
    {
        "BadDigest",  # the body was torn on its way; the next attempt sends it again
        "ConditionalRequestConflict",  # another request for the key ran at the same moment
        "IncompleteBody",
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "XAmzContentSHA256Mismatch",
        "KMS.DependencyTimeoutException",
        "KMS.KMSInternalException",
        "KMS.ThrottlingException",
    }
)
# By these codes the service asks for fewer requests (Amazon S3 API reference, error responses).
THROTTLED_CODES = frozenset(
    {"KMS.ThrottlingException", "SlowDown", "Throttling", "ThrottlingException", "TooManyRequestsException"}
)
# boto3 reports the bare HTTP status as the code if the response has no body.
FORBIDDEN_CODES = frozenset({"AccessDenied", "AllAccessDisabled", "Forbidden", "403"})
# S3 passes on KMS's errors about an object's key, except throttling ("Error responses", AWS KMS API reference).
KMS_CODES = "KMS."
OPAQUE_CODES = frozenset({"400", "403", "Bad Request", "Forbidden"})

PRECONDITION_FAILED = 412
NOT_IMPLEMENTED = 501

UNREACHABLE = (
    boto.HTTPClientError,
    boto.ConnectionError,
    boto.IncompleteReadError,
    boto.FlexibleChecksumError,
    boto.MetadataRetrievalError,
    # For example an HTML page with status 200 in place of a listing.
    ResponseParserError,
    HTTPError,
    OSError,
)
FAILURES = (boto.BotoCoreError, boto.ClientError, ResponseParserError, HTTPError, OSError)


def code_of(error: boto.ClientError) -> str:
    """Return the S3 error code, or the HTTP status if the response had no body."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: boto.ClientError) -> int:
    """Return the HTTP status, 0 if there was none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def names_no_version(error: Exception) -> bool:
    """Tell whether the response to a request with a version id means that there is no such version.

    S3 reports an id that the bucket cannot have given as an invalid argument ("GetObject" in its API reference).
    """
    return isinstance(error, boto.ClientError) and code_of(error) in {"NoSuchVersion", "InvalidArgument"}


def translate(error: Exception, *, store: str, bucket: str, key: str | None) -> PhotoWorkerError:
    """Return the error to raise in place of ``error``, one of ``FAILURES``.

    ``key`` is None if the request was about the bucket. A bare 404 is taken to be about the object: after a HEAD the
    caller has to check the bucket first.
    """
    if isinstance(error, boto.ClientError):
        return _translate_response(error, store=store, bucket=bucket, key=key)
    # The text may quote the endpoint or the proxy with their credentials.
    reason = without_userinfo(" ".join(str(error).split()))
    if isinstance(error, boto.ParamValidationError) and "bucket" in reason.lower():
        return InvalidBucket(bucket=bucket, reason=reason.removeprefix("Parameter validation failed: "))
    if isinstance(error, boto.ReadTimeoutError):
        # In the middle of a body botocore's own text names no endpoint.
        return StorageUnavailable(store=store, reason="it sent nothing within the read timeout")
    if isinstance(error, UNREACHABLE):
        return StorageUnavailable(store=store, reason=reason or type(error).__name__)
    return ServiceRefused(service=store, reason=reason or type(error).__name__)


def _translate_response(error: boto.ClientError, *, store: str, bucket: str, key: str | None) -> PhotoWorkerError:
    code, status = code_of(error), status_of(error)
    message = error.response.get("Error", {}).get("Message", "")
    reason = f"{code} {message}".strip() or f"HTTP status {status}"
    found: PhotoWorkerError
    if code == "NoSuchBucket" or (status == 404 and key is None):
        found = BucketMissing(bucket=bucket)
    elif status == 404:
        found = ObjectMissing(bucket=bucket, key=key)
    elif code in TRANSIENT_CODES or status >= 500 or status == 429:
        found = StorageUnavailable(store=store, reason=reason)
        if code in THROTTLED_CODES or status == 429:
            found.retry_after_seconds = throttle_wait(cast(Mapping[str, Any], error.response))
    elif code == "InvalidBucketName":
        found = InvalidBucket(bucket=bucket, reason=message or "the store says that it is not valid")
    elif code == "KeyTooLongError":
        found = InvalidKey(key=key, reason=message or "it is too long")
    elif code == "BucketAlreadyExists" or (code in FORBIDDEN_CODES and key is None):
        found = BucketForbidden(bucket=bucket)
    elif code in FORBIDDEN_CODES:
        found = ObjectForbidden(bucket=bucket, key=key)
    elif code == "InvalidObjectState" and key is not None:
        found = ObjectArchived(bucket=bucket, key=key, reason=reason)
        # A restore takes minutes at least, hours mostly.
        found.retry_after_seconds = LONGEST_SECONDS
    elif code.startswith(KMS_CODES) and key is not None:
        found = ObjectKeyUnusable(bucket=bucket, key=key, reason=reason)
    elif _is_elsewhere(error, code, status):
        found = ServiceRefused(service=store, reason=f"bucket {bucket!r} is in {_region(error)} ({reason})")
    else:
        found = ServiceRefused(service=store, reason=reason)
    return found


def _is_elsewhere(error: boto.ClientError, code: str, status: int) -> bool:
    moved = code in {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
    return moved or status in {301, 307} or (status == 400 and _bucket_region(error) is not None)


def _bucket_region(error: boto.ClientError) -> str | None:
    response = cast(dict[str, Any], error.response)
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    found = headers.get("x-amz-bucket-region") or response.get("Error", {}).get("Region")
    return str(found) if found else None


def _region(error: boto.ClientError) -> str:
    region = _bucket_region(error)
    return f"region {region}; set AWS_REGION to it" if region else "another region than AWS_REGION names"
