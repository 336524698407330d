"""The translation of an activity's error decides whether Temporal retries, and so whether OCR is charged again."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from temporalio.api.failure.v1 import Failure
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from photo_worker.activities.boundary import ErrorBoundary, to_application_error
from photo_worker.errors import (
    BucketMissing,
    DatabaseUnavailable,
    EngineUnavailable,
    JobConflict,
    ObjectArchived,
    ObjectForbidden,
    ObjectKeyUnusable,
    ObjectMissing,
    OcrThrottled,
    PhotoWorkerError,
    SchemaMissing,
    ServiceRefused,
    StorageUnavailable,
    UnreadableDocument,
)


@pytest.mark.parametrize(
    "error",
    [
        UnreadableDocument(name="pie.jpg", reason="it is cut off"),
        JobConflict(job_id="1", known="a", asked="b"),
        ObjectMissing(bucket="photos", key="raw/pie.jpg"),
    ],
    ids=lambda error: error.code,
)
def test_to_application_error_final_is_non_retryable(error: PhotoWorkerError) -> None:
    assert to_application_error(error).non_retryable


@pytest.mark.parametrize(
    "error",
    [
        DatabaseUnavailable(database="d", reason="it is away"),
        StorageUnavailable(store="s", reason="it is away"),
        OcrThrottled(engine="textract", reason="too many requests"),
        ServiceRefused(service="S3", reason="ExpiredToken"),
        SchemaMissing(database="d", reason="no step was applied"),
        ObjectForbidden(bucket="photos", key="raw/pie.jpg"),
        ObjectArchived(bucket="photos", key="raw/pie.jpg", reason="InvalidObjectState"),
        ObjectKeyUnusable(bucket="photos", key="raw/pie.jpg", reason="KMS.DisabledException"),
        EngineUnavailable(engine="local", reason="its extra is not installed"),
    ],
    ids=lambda error: error.code,
)
def test_to_application_error_passing_is_retryable(error: PhotoWorkerError) -> None:
    assert not to_application_error(error).non_retryable


def test_to_application_error_carries_code_and_hint() -> None:
    error = OcrThrottled(engine="textract", reason="too many requests")
    told = to_application_error(error)
    assert (told.type, told.message, list(told.details)) == (error.code, error.message, [error.hint])


def test_to_application_error_throttled_sets_retry_delay() -> None:
    error = OcrThrottled(engine="textract", reason="too many requests")
    error.retry_after_seconds = 7.5
    delay = to_application_error(error).next_retry_delay
    assert delay is not None
    assert delay.total_seconds() == 7.5


class _Raising(ActivityInboundInterceptor):
    """An activity that raises an error."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        raise self._error


async def ends(error: BaseException, boundary: ErrorBoundary) -> ApplicationError:
    """Return the error of an activity that raises ``error`` inside the boundary."""
    inbound = boundary.intercept_activity(_Raising(error))
    given: Any = None

    async def attempt() -> None:
        await inbound.execute_activity(given)

    with pytest.raises(ApplicationError) as caught:
        await ActivityEnvironment().run(attempt)
    return caught.value


async def test_boundary_error_without_code_is_unexpected() -> None:
    told = await ends(ZeroDivisionError("division by zero"), ErrorBoundary())
    assert (told.type, told.message) == ("unexpected", "ZeroDivisionError: division by zero")


async def test_boundary_error_without_code_hides_password() -> None:
    told = await ends(RuntimeError("no response from http://kitchen:secret-word@127.0.0.1:9/"), ErrorBoundary())
    assert told.message == "RuntimeError: no response from http://127.0.0.1:9/"


async def test_boundary_long_cause_chain_fits_failure_size_limit() -> None:
    try:
        try:
            raise ConnectionError("cannot reach " + "x" * 5000)
        except ConnectionError as cause:
            raise DatabaseUnavailable(database="d", reason=str(cause) * 3) from cause
    except DatabaseUnavailable as error:
        told = await ends(error, ErrorBoundary())
    failure = Failure()
    await DataConverter.default.encode_failure(told, failure)
    # Above this a server replaces the failure of a pending activity by "Failure exceeds size limit.".
    assert failure.ByteSize() < 4096
    assert failure.message.startswith("Postgres does not respond (d): cannot reach")


async def test_boundary_missing_worker_bucket_is_retryable() -> None:
    boundary = ErrorBoundary("photos")
    own = await ends(BucketMissing(bucket="photos"), boundary)
    other = await ends(BucketMissing(bucket="theirs"), boundary)
    assert (own.type, own.non_retryable) == ("worker_bucket_missing", False)
    assert (other.type, other.non_retryable) == ("bucket_missing", True)


@pytest.mark.parametrize("key", ["artifacts/1/textract.json", "converted/1.jpg"])
async def test_boundary_forbidden_worker_bucket_is_retryable(key: str) -> None:
    heard: list[str | None] = []
    boundary = ErrorBoundary("photos", record_outcome=lambda kind, error: heard.append(error.code if error else None))
    told = await ends(ObjectForbidden(bucket="photos", key=key), boundary)
    assert (told.type, told.non_retryable) == ("worker_bucket_forbidden", False)
    await ends(ObjectForbidden(bucket="theirs", key=key), boundary)
    await ends(ObjectForbidden(bucket="photos", key="raw/1.jpg"), boundary)
    assert heard == ["worker_bucket_forbidden", "object_forbidden", "object_forbidden"]


async def test_boundary_reports_service_faults_only() -> None:
    heard: list[tuple[str, str | None]] = []
    boundary = ErrorBoundary(record_outcome=lambda kind, error: heard.append((kind, error.code if error else None)))
    await ends(ServiceRefused(service="S3", reason="ExpiredToken"), boundary)
    await ends(ObjectMissing(bucket="photos", key="a"), boundary)
    assert [code for _, code in heard] == ["service_refused", None]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("can't start new thread"), "worker_exhausted"),
        (MemoryError(), "worker_exhausted"),
        (OSError(errno.EMFILE, "Too many open files"), "worker_exhausted"),
        (OSError(errno.ENFILE, "Too many open files in system"), "worker_exhausted"),
        (OSError(errno.ENOSPC, "No space left on device"), "worker_exhausted"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "worker_exhausted"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "worker_exhausted"),
        (ModuleNotFoundError("No module named 'textract_local.reader.pdf'"), "worker_incomplete"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
async def test_boundary_exhausted_machine_is_retryable(error: Exception, code: str) -> None:
    heard: list[str | None] = []
    boundary = ErrorBoundary(record_outcome=lambda kind, error: heard.append(error.code if error else None))
    told = await ends(error, boundary)
    assert (told.type, told.non_retryable, heard) == (code, False, [code])
    assert type(error).__name__ in told.message


@pytest.mark.parametrize(
    "error", [RuntimeError("the list is empty"), FileNotFoundError(errno.ENOENT, "gone"), KeyError("ETag")]
)
async def test_boundary_reports_unexpected_errors(error: Exception) -> None:
    """The admission must notice a worker on which every activity fails, or it pulls the backlog into final failures."""
    heard: list[str | None] = []
    boundary = ErrorBoundary(record_outcome=lambda kind, error: heard.append(error.code if error else None))
    told = await ends(error, boundary)
    assert (told.type, heard) == ("unexpected", ["step_failed"])


async def test_boundary_passes_cancellation_unchanged() -> None:
    inbound = ErrorBoundary().intercept_activity(_Raising(CancelledError("Cancelled")))
    given: Any = None

    async def attempt() -> None:
        await inbound.execute_activity(given)

    with pytest.raises(CancelledError):
        await ActivityEnvironment().run(attempt)
