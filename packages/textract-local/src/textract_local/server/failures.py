"""The errors that the emulator returns, and how certain each is.

Real Textract is the reference. ``Basis`` is the source of a code or a message, so that a reader can tell what is
known from what was chosen for this emulator.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Basis(StrEnum):
    """The source of a fact about the real service."""

    DOCUMENTED = "D"
    """Amazon Textract's API reference, its quotas page, or botocore's service model."""
    OBSERVED = "O"
    """Seen in recorded traffic of the real service, or quoted from it by its users."""
    CONVENTION = "C"
    """What AWS services with JSON 1.1 do; not seen on Textract itself."""
    UNKNOWN = "?"
    """Nothing is known; this is the simplest reasonable choice."""


@dataclass(frozen=True)
class ErrorResponse:
    """One kind of error response.

    ``message`` is a format string for the details of ``ServiceError``; messages without fields are
    the exact text of the real service. All errors have HTTP status 400 [O], except the few for which
    the API reference gives another status.
    """

    code: str
    message: str
    code_basis: Basis
    message_basis: Basis
    status: int = 400


class ServiceError(Exception):
    """A call ends in an error. ``reason`` is for developers: it appears in logs and a header, never in the body.

    ``status_message`` is the StatusMessage of a job that fails with this error.
    """

    def __init__(self, failure: ErrorResponse, reason: str = "", **details: object) -> None:
        self.failure = failure
        self.message = failure.message.format(**details)
        self.status_message = self.message
        self.reason = reason
        super().__init__(f"{failure.code}: {self.message} {reason}".rstrip())


def without_frames(error: BaseException) -> None:
    """Remove the tracebacks of a handled error, so that it does not keep the frames' memory alive.

    An error that passes through tasks references frames, and these reference the tasks. Until the garbage collector
    breaks such a cycle, which happens seldom, each would keep its document.
    """
    left, seen = [error], set[int]()
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        each.__traceback__ = None
        left += [other for other in (each.__cause__, each.__context__) if other is not None]


INVALID_PARAMETER = ErrorResponse(
    "InvalidParameterException", "Request has invalid parameters", Basis.DOCUMENTED, Basis.OBSERVED
)
INVALID_S3_OBJECT = ErrorResponse(
    "InvalidS3ObjectException",
    "Unable to get object metadata from S3. Check object key, region and/or access permissions.",
    Basis.DOCUMENTED,
    Basis.OBSERVED,
)
UNSUPPORTED_DOCUMENT = ErrorResponse(
    "UnsupportedDocumentException", "Request has unsupported document format", Basis.DOCUMENTED, Basis.OBSERVED
)
# The limit is documented, the error code is not.
IMAGE_TOO_LARGE = ErrorResponse(
    "UnsupportedDocumentException", "The image has {width} x {height} pixels; {limit}", Basis.UNKNOWN, Basis.UNKNOWN
)
# Whether a cut-off file is Bad or Unsupported is not known; Bad says more.
BAD_DOCUMENT = ErrorResponse("BadDocumentException", "{problem}", Basis.UNKNOWN, Basis.UNKNOWN)
DOCUMENT_TOO_LARGE = ErrorResponse(
    "DocumentTooLargeException",
    "The document has {size}; this operation reads at most {limit_bytes} bytes",
    Basis.DOCUMENTED,
    Basis.UNKNOWN,
)
# The model of each operation lists it, and no client retries it.
NOT_EMULATED = ErrorResponse(
    "AccessDeniedException",
    "textract:{operation} is not emulated; this server emulates {emulated}",
    Basis.UNKNOWN,
    Basis.UNKNOWN,
)
PART_NOT_EMULATED = ErrorResponse("AccessDeniedException", "{part} is not emulated", Basis.UNKNOWN, Basis.UNKNOWN)
INTERNAL_ERROR = ErrorResponse("InternalServerError", "{problem}", Basis.DOCUMENTED, Basis.UNKNOWN, status=500)
# The three errors of fault scripts. In the API reference throttling has a server error's status.
INTERNAL_FAULT = ErrorResponse(
    "InternalServerError", "The emulator was told to fail this call", Basis.DOCUMENTED, Basis.UNKNOWN, status=500
)
THROTTLED = ErrorResponse("ThrottlingException", "Rate exceeded", Basis.DOCUMENTED, Basis.CONVENTION, status=500)
PROVISIONED_THROUGHPUT_EXCEEDED = ErrorResponse(
    "ProvisionedThroughputExceededException", "Provisioned rate exceeded", Basis.DOCUMENTED, Basis.OBSERVED
)

INVALID_JOB_ID = ErrorResponse("InvalidJobIdException", "Request has invalid Job Id", Basis.DOCUMENTED, Basis.OBSERVED)
IDEMPOTENT_PARAMETER_MISMATCH = ErrorResponse(
    "IdempotentParameterMismatchException",
    "The ClientRequestToken was used with other parameters",
    Basis.DOCUMENTED,
    Basis.UNKNOWN,
)
LIMIT_EXCEEDED = ErrorResponse(
    "LimitExceededException", "Open jobs exceed maximum concurrent job limit", Basis.DOCUMENTED, Basis.OBSERVED
)
INVALID_KMS_KEY = ErrorResponse(
    "InvalidKMSKeyException", "S3 does not take the KMS key: {problem}", Basis.DOCUMENTED, Basis.UNKNOWN
)

MISSING_AUTHENTICATION = ErrorResponse(
    "MissingAuthenticationTokenException",
    "Request is missing Authentication Token",
    Basis.CONVENTION,
    Basis.CONVENTION,
)
INCOMPLETE_SIGNATURE = ErrorResponse("IncompleteSignatureException", "{problem}", Basis.CONVENTION, Basis.CONVENTION)
UNKNOWN_OPERATION = ErrorResponse(
    "UnknownOperationException", "There is no operation {target}", Basis.CONVENTION, Basis.UNKNOWN
)
NO_SUCH_PAGE = ErrorResponse(
    "UnknownOperationException", "There is nothing at {path}", Basis.CONVENTION, Basis.UNKNOWN, status=404
)
NO_SUCH_METHOD = ErrorResponse(
    "UnknownOperationException",
    "{path} does not take the method {method}",
    Basis.CONVENTION,
    Basis.UNKNOWN,
    status=405,
)
MALFORMED = ErrorResponse("SerializationException", "{problem}", Basis.CONVENTION, Basis.UNKNOWN)
# S3 has this code for the same error.
REQUEST_TIMEOUT = ErrorResponse(
    "RequestTimeout", "The request's body did not arrive within {seconds} seconds", Basis.CONVENTION, Basis.UNKNOWN
)
# AWS has no such error: it requires a signature that a web page cannot make.
WEB_PAGE = ErrorResponse("AccessDeniedException", "{problem}", Basis.UNKNOWN, Basis.UNKNOWN, status=403)


class DiskFails(ServiceError):
    """The emulator's own disk is full, read-only or broken. ``problem`` is the operating system's message."""

    def __init__(self, problem: str) -> None:
        super().__init__(INTERNAL_ERROR, problem=f"The emulator cannot write its files: {problem}")


FAILURES: tuple[ErrorResponse, ...] = (
    INVALID_PARAMETER,
    INVALID_S3_OBJECT,
    UNSUPPORTED_DOCUMENT,
    IMAGE_TOO_LARGE,
    BAD_DOCUMENT,
    DOCUMENT_TOO_LARGE,
    NOT_EMULATED,
    PART_NOT_EMULATED,
    INTERNAL_ERROR,
    INTERNAL_FAULT,
    THROTTLED,
    PROVISIONED_THROUGHPUT_EXCEEDED,
    INVALID_JOB_ID,
    IDEMPOTENT_PARAMETER_MISMATCH,
    LIMIT_EXCEEDED,
    INVALID_KMS_KEY,
    MISSING_AUTHENTICATION,
    INCOMPLETE_SIGNATURE,
    UNKNOWN_OPERATION,
    NO_SUCH_PAGE,
    NO_SUCH_METHOD,
    MALFORMED,
    REQUEST_TIMEOUT,
    WEB_PAGE,
)
"""All error responses, for tables and tests."""
