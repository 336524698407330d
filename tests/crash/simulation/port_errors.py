"""The errors of a port whose service fails, which the product's adapters make of real responses.

So the activities see an outage in the simulation as they do in production.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import psycopg
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from temporalio.service import RPCError, RPCStatusCode

from photo_worker.adapters.postgres import connection as pg_connection
from photo_worker.adapters.postgres import errors as pg_errors
from photo_worker.adapters.s3 import errors as s3_errors
from photo_worker.adapters.temporal import rpc_errors
from photo_worker.adapters.times import PostgresTimes, S3Times, TextractTimes
from photo_worker.errors import PhotoWorkerError

ErrorFactory: TypeAlias = Callable[[], Exception]

# Longer than any wait within a call, and than any policy's maximum interval.
LONG_RETRY_AFTER = "600"


@dataclass(frozen=True)
class PortErrors:
    """The errors of one port; None for those that its service cannot return.

    A call without a response ends after ``limit`` seconds. ``writes`` are the methods that a read-only service
    refuses.
    """

    away: ErrorFactory
    silent: ErrorFactory
    limit: float
    refused: ErrorFactory | None = None
    forbidden: ErrorFactory | None = None
    """This worker's credentials are valid and lack a permission."""
    throttled: ErrorFactory | None = None
    throttled_long: ErrorFactory | None = None
    """Throttled with a retry delay that is longer than all counted attempts."""
    read_only: ErrorFactory | None = None
    broken: ErrorFactory | None = None
    """The service responds, and reports damaged data."""
    writes: frozenset[str] = frozenset()


def _refusal(operation: str, code: str, status: int, retry_after: str | None = None) -> ClientError:
    headers = {} if retry_after is None else {"retry-after": retry_after}
    about: Any = {
        "Error": {"Code": code, "Message": f"simulated {code}"},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers},
    }
    return ClientError(about, operation)


def _store(error: Exception, key: str | None = "photo") -> PhotoWorkerError:
    return s3_errors.translate(error, store="memory", bucket="photos", key=key)


def _rows(error: psycopg.Error) -> PhotoWorkerError:
    found = pg_errors.translate(error, "memory")
    if found is None:
        raise AssertionError(f"the adapter knows no error for {error!r}")
    return found


def _temporal(status: RPCStatusCode) -> PhotoWorkerError:
    return rpc_errors.translate(RPCError("simulated", status, b""), target="memory", namespace="simulated")


STORE = PortErrors(
    away=lambda: _store(EndpointConnectionError(endpoint_url="memory")),
    silent=lambda: _store(ReadTimeoutError(endpoint_url="memory")),
    limit=S3Times.connect + S3Times.read,
    refused=lambda: _store(_refusal("GetObject", "ExpiredToken", 400)),
    forbidden=lambda: _store(_refusal("GetObject", "AccessDenied", 403)),
    throttled=lambda: _store(_refusal("PutObject", "SlowDown", 503)),
    throttled_long=lambda: _store(_refusal("PutObject", "SlowDown", 503, LONG_RETRY_AFTER)),
    # A bucket policy that forbids writes; a server with a read-only disk returns InternalError, as if away.
    read_only=lambda: _store(_refusal("PutObject", "AccessDenied", 403)),
    writes=frozenset({"put", "put_new", "replace", "delete", "ensure_bucket"}),
)

ROWS = PortErrors(
    away=lambda: _rows(psycopg.OperationalError("connection refused")),
    silent=lambda: _rows(pg_connection.ResponseTimeout("the server has not responded within 18 s")),
    limit=PostgresTimes().call,
    refused=lambda: _rows(psycopg.OperationalError('FATAL:  password authentication failed for user "worker"')),
    forbidden=lambda: _rows(psycopg.errors.InsufficientPrivilege("permission denied for table recipes")),
    broken=lambda: _rows(psycopg.errors.DataCorrupted("invalid page in block 0 of relation base/1/2")),
    # The error of a standby, or of a server whose disk is almost full.
    read_only=lambda: _rows(psycopg.errors.ReadOnlySqlTransaction("cannot execute INSERT in a read-only transaction")),
    writes=frozenset({"queue", "start", "succeed", "fail", "mark_erased", "delete", "make_deployment_id"}),
)

_START = "StartDocumentTextDetection"

# The backend under test translates these itself.
TEXTRACT = PortErrors(
    away=lambda: EndpointConnectionError(endpoint_url="memory"),
    silent=lambda: ReadTimeoutError(endpoint_url="memory"),
    limit=TextractTimes.connect + TextractTimes.job_read,
    refused=lambda: _refusal(_START, "ExpiredTokenException", 400),
    forbidden=lambda: _refusal(_START, "AccessDeniedException", 400),
    throttled=lambda: _refusal(_START, "ProvisionedThroughputExceededException", 400),
    throttled_long=lambda: _refusal(_START, "ThrottlingException", 400, LONG_RETRY_AFTER),
)

TEMPORAL = PortErrors(
    away=lambda: _temporal(RPCStatusCode.UNAVAILABLE),
    silent=lambda: _temporal(RPCStatusCode.DEADLINE_EXCEEDED),
    # The SDK's own client retries for this time (its default retry options), and then gives up.
    limit=10.0,
    throttled=lambda: _temporal(RPCStatusCode.RESOURCE_EXHAUSTED),
)
