"""The ``textract`` backend: Amazon Textract by boto3, or what speaks its protocol, by endpoint alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError

from photo_worker.errors import (
    ConfigurationError,
    DocumentTooLarge,
    InputError,
    InvalidKey,
    ObjectForbidden,
    OcrThrottled,
    OcrUnavailable,
    PhotoWorkerError,
    ServiceRefused,
    UnreadableDocument,
    UnsupportedDocument,
)
from photo_worker.ocr.answers import flaw_of
from photo_worker.policies import SYNC_OCR_LIMIT_BYTES
from photo_worker.ports import DetectedText, DocumentRef

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_textract import TextractClient

ENGINE = "textract"
CONNECT_TIMEOUT_SECONDS = 5
# The synchronous API answers within seconds; a document that takes longer is tried again.
READ_TIMEOUT_SECONDS = 90

# Amazon Textract API reference, DetectDocumentText, errors; and what AWS answers to every service's callers.
_THROTTLED = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
        "LimitExceededException",
        "TooManyRequestsException",
    }
)
# The service's own trouble, whatever its HTTP status.
_TRANSIENT = frozenset({"InternalServerError", "InternalFailure", "RequestTimeout", "ServiceUnavailable"})

# HTTP statuses whose callers may try again (RFC 9110, 15.5.9; RFC 6585, 4).
_REQUEST_TIMEOUT = 408
_TOO_MANY_REQUESTS = 429


def make_client(*, session: boto3.Session | None = None, max_pool_connections: int = 10) -> TextractClient:
    """Return a Textract client; endpoint, region and credentials come from the standard AWS variables.

    It tries once: the workflow's retry policy does the retrying. Raises ``ConfigurationError``.
    """
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        max_pool_connections=max_pool_connections,
        retries={"total_max_attempts": 1},
        tcp_keepalive=True,
    )
    try:
        return (session or boto3.Session()).client("textract", config=config)
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(problems=f"Textract: {error}") from error


class TextractBackend:
    """Calls DetectDocumentText on the object where it lies; its bytes do not pass through the worker."""

    engine = ENGINE

    def __init__(self, client: TextractClient) -> None:
        self._client = client

    def detect_text(self, document: DocumentRef) -> DetectedText:
        """Return the service's answer without its request's metadata, which differs from call to call."""
        try:
            answer: dict[str, Any] = dict(
                self._client.detect_document_text(
                    Document={"S3Object": {"Bucket": document.bucket, "Name": document.key}}
                )
            )
        except ClientError as error:
            raise self._explain(error, document) from error
        except ParamValidationError as error:
            raise InvalidKey(key=document.key, reason=str(error)) from error
        except NoCredentialsError as error:
            raise ServiceRefused(service=self._name(), reason=str(error)) from error
        except BotoCoreError as error:
            raise OcrUnavailable(engine=self._name(), reason=str(error)) from error
        answer.pop("ResponseMetadata", None)
        flaw = flaw_of(answer)
        if flaw:
            raise OcrUnavailable(engine=self._name(), reason=f"its answer cannot be used: {flaw}")
        return DetectedText(answer, answer["DetectDocumentTextModelVersion"])

    def _explain(self, error: ClientError, document: DocumentRef) -> PhotoWorkerError:
        code = str(error.response.get("Error", {}).get("Code", ""))
        message = str(error.response.get("Error", {}).get("Message", "")) or code
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
        if code in _THROTTLED or status == _TOO_MANY_REQUESTS:
            return OcrThrottled(engine=self._name(), reason=message)
        about_document = _input_error(code, message, document)
        if about_document:
            return about_document
        if code in _TRANSIENT or status == _REQUEST_TIMEOUT or status >= 500:
            return OcrUnavailable(engine=self._name(), reason=f"{code}: {message}")
        # Credentials, permissions, the clock, or a server that is no Textract: the same call fails again.
        return ServiceRefused(service=self._name(), reason=f"{code}: {message}")

    def _name(self) -> str:
        return f"textract at {self._client.meta.endpoint_url}"


def _input_error(code: str, message: str, document: DocumentRef) -> InputError | None:
    """Return what an answer says is wrong with the document, if it says so."""
    match code:
        case "UnsupportedDocumentException":
            actual = f"{document.content_type} in a form that synchronous OCR refuses ({message})"
            return UnsupportedDocument(name=document.key, actual=actual)
        case "BadDocumentException":
            return UnreadableDocument(name=document.key, reason=message)
        case "DocumentTooLargeException":
            return DocumentTooLarge(name=document.key, size_bytes=document.size_bytes, limit_bytes=SYNC_OCR_LIMIT_BYTES)
        case "InvalidS3ObjectException":
            # The worker has read the object before, so that what is missing is Textract's own access.
            return ObjectForbidden(bucket=document.bucket, key=document.key)
        case "InvalidParameterException":
            # Bucket and key are all that was sent.
            return InvalidKey(key=document.key, reason=f"Textract does not take it: {message}")
        case _:
            return None
