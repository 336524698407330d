"""Map Textract's errors and failed jobs to ``PhotoWorkerError``s."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

from photo_worker.errors import (
    DocumentProtected,
    DocumentTooLarge,
    InvalidKey,
    OcrRefused,
    OcrThrottled,
    OcrUnavailable,
    PhotoWorkerError,
    RequestTokenTaken,
    ServiceRefused,
    UnreadableDocument,
    UnsupportedDocument,
)
from photo_worker.policies import SYNC_OCR_LIMIT_BYTES
from photo_worker.ports.object_store import DocumentRef
from photo_worker.throttling import throttle_wait
from photo_worker.userinfo import without_userinfo

# Amazon Textract API reference, errors; and the errors common to all AWS services.
_THROTTLED = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
        "LimitExceededException",
        "TooManyRequestsException",
    }
)
# Codes of faults of the service itself, with any HTTP status.
_TRANSIENT = frozenset({"InternalServerError", "InternalFailure", "RequestTimeout", "ServiceUnavailable"})

# HTTP statuses whose callers may try again (RFC 9110, 15.5.9; RFC 6585, 4).
_REQUEST_TIMEOUT = 408
_TOO_MANY_REQUESTS = 429

# The wording of a failed job's StatusMessage is not documented. These are Textract's own words for the same fault
# elsewhere, and those of image and PDF decoders.
_UNSUPPORTED = re.compile(r"unsupported|not supported|pixels", re.IGNORECASE)
# About the document's own size: a decoder also says "too large" of what it finds inside.
_TOO_LARGE = re.compile(r"\b(document|file|object)\b[^.:;]*\btoo large|reads at most [\d,.]+ bytes", re.IGNORECASE)
_DAMAGED = re.compile(
    r"truncated|damaged|corrupt|broken (?!pipe)|cannot identify|zero bytes|decompress"
    r"|unrecognized data stream|data format error|failed to load document",
    re.IGNORECASE,
)
# The emulator's own limits of a page.
_COSTLY = re.compile(r"\btook more (?:than [\d.,]+ (?:(?P<time>seconds)|MiB of memory)|memory than)", re.IGNORECASE)
_PROTECTED = re.compile(r"password|protected by|\bencrypted", re.IGNORECASE)
# Textract lacks access to the object or to its KMS key: an operator must grant it, whatever the document is.
_REFUSED = re.compile(r"unable to get object|access ?denied|not authori[sz]ed|forbidden|\bKMS\b", re.IGNORECASE)
_SERVICE = re.compile(r"internal|unavailable|timed? ?out|try again|throttl|\bS3\b|emulator", re.IGNORECASE)


@contextmanager
def explained(service: str, document: DocumentRef) -> Iterator[None]:
    """Translate botocore's errors of a call about ``document`` into the ``PhotoWorkerError`` that fits."""
    try:
        yield
    except ClientError as error:
        raise _explain(error, service, document) from error
    except ParamValidationError as error:
        raise InvalidKey(key=document.key, reason=str(error)) from error
    except BotoCoreError as error:
        raise explain_service(error, service) from error


def explain_service(error: ClientError | BotoCoreError, service: str) -> PhotoWorkerError:
    """Return the ``PhotoWorkerError`` for a failed call that concerns no document."""
    if isinstance(error, ClientError):
        return _about_service(error, service)
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return ServiceRefused(service=service, reason=str(error))
    return OcrUnavailable(engine=service, reason=without_userinfo(str(error)))


def _explain(error: ClientError, service: str, document: DocumentRef) -> PhotoWorkerError:
    code, message = _words(error)
    return _about_request(code, message, service, document) or _about_service(error, service)


def _words(error: ClientError) -> tuple[str, str]:
    code = str(error.response.get("Error", {}).get("Code", ""))
    return code, str(error.response.get("Error", {}).get("Message", "")) or code


def _about_service(error: ClientError, service: str) -> PhotoWorkerError:
    code, message = _words(error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
    if code in _THROTTLED or status == _TOO_MANY_REQUESTS:
        throttled = OcrThrottled(engine=service, reason=message)
        throttled.retry_after_seconds = throttle_wait(error.response)
        return throttled
    if code in _TRANSIENT or status == _REQUEST_TIMEOUT or status >= 500:
        return OcrUnavailable(engine=service, reason=f"{code}: {message}")
    # Credentials, permissions, the clock, or a server that is not Textract: the same call fails again.
    return ServiceRefused(service=service, reason=f"{code}: {message}")


def _about_request(code: str, message: str, service: str, document: DocumentRef) -> PhotoWorkerError | None:
    """Return the error if the response blames the document or the request; otherwise None."""
    error: PhotoWorkerError | None = None
    match code:
        case "UnsupportedDocumentException" | "BadDocumentException" if _PROTECTED.search(message):
            error = _protected(document)
        case "UnsupportedDocumentException":
            error = _unsupported(message, document)
        case "BadDocumentException":
            error = UnreadableDocument(name=document.key, reason=message)
        case "DocumentTooLargeException":
            error = too_large(document)
        case "InvalidS3ObjectException" | "InvalidKMSKeyException":
            # The worker has read the object before, so it is Textract's own access that is missing.
            error = _refused(message, service, document)
        case "InvalidParameterException":
            # The bucket and the key are the only parameters that come from the caller.
            error = InvalidKey(key=document.key, reason=f"Textract does not take it: {message}")
        case "IdempotentParameterMismatchException":
            error = RequestTokenTaken(name=document.key, service=service, reason=message)
        case "InvalidJobIdException":
            # Textract forgets a job and its token after 7 days: the next attempt starts a new job.
            error = OcrUnavailable(engine=service, reason=f"it does not know the job that it began: {message}")
    return error


def too_large(document: DocumentRef) -> DocumentTooLarge:
    """Return the error for a document above the limit of both APIs."""
    return DocumentTooLarge(name=document.key, size_bytes=document.size_bytes, limit_bytes=SYNC_OCR_LIMIT_BYTES)


def too_costly(message: str) -> str | None:
    """Return ``time`` or ``memory`` if a failed job's StatusMessage says that the document took too much of it."""
    found = _COSTLY.search(message)
    if found is None:
        return None
    return "time" if found["time"] else "memory"


def job_failure(message: str, service: str, document: DocumentRef) -> PhotoWorkerError | None:
    """Return the error that a failed job's StatusMessage stands for, or None if it names no known cause.

    After ``OcrRefused`` and ``OcrUnavailable`` another job may succeed; an ``InputError`` is the document's fault.
    """
    found: PhotoWorkerError | None = None
    if _REFUSED.search(message):
        found = _refused(message, service, document)
    elif _PROTECTED.search(message):
        found = _protected(document)
    elif _UNSUPPORTED.search(message):
        found = _unsupported(message, document)
    elif _TOO_LARGE.search(message):
        found = too_large(document)
    elif _DAMAGED.search(message):
        found = UnreadableDocument(name=document.key, reason=message)
    elif _SERVICE.search(message):
        found = OcrUnavailable(engine=service, reason=f"a job for the document failed: {message}")
    return found


def _refused(message: str, service: str, document: DocumentRef) -> OcrRefused:
    return OcrRefused(bucket=document.bucket, key=document.key, engine=service, reason=message)


def _protected(document: DocumentRef) -> DocumentProtected:
    return DocumentProtected(name=document.key, by="a password")


def _unsupported(message: str, document: DocumentRef) -> UnsupportedDocument:
    return UnsupportedDocument(
        name=document.key, actual=f"{document.content_type} in a form that Textract refuses ({message})"
    )
