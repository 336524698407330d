"""The ``textract`` backend: Amazon Textract by boto3, or another server with its protocol; the endpoint decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from botocore.exceptions import BotoCoreError, ClientError

from photo_worker.adapters.ocr.response_validation import response_defect
from photo_worker.adapters.ocr.textract_errors import explain_service, explained
from photo_worker.adapters.ocr.textract_jobs import JobLimits, TextDetectionJobs, s3_object
from photo_worker.adapters.times import TextractTimes
from photo_worker.errors import ConfigurationError, OcrUnavailable
from photo_worker.ports.object_store import DocumentRef
from photo_worker.ports.ocr import AttemptNotes, DetectedText
from photo_worker.userinfo import without_userinfo

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_textract import TextractClient

ENGINE = "textract"

_NO_JOB = "0" * 64

TextractApi: TypeAlias = Literal["async", "sync"]


def make_client(
    *,
    session: boto3.Session,
    endpoint_url: str | None = None,
    max_pool_connections: int = 10,
    api: TextractApi = "async",
    times: TextractTimes | None = None,
) -> TextractClient:
    """Return a Textract client; ``session`` gives endpoint, region and credentials.

    The client does not retry: the workflow's retry policy does. Raises ``ConfigurationError``.
    """
    from botocore.config import Config

    times = times or TextractTimes()
    config = Config(
        connect_timeout=times.connect,
        read_timeout=times.sync_read if api == "sync" else times.job_read,
        max_pool_connections=max_pool_connections,
        retries={"total_max_attempts": 1},
        tcp_keepalive=True,
    )
    try:
        return session.client("textract", endpoint_url=endpoint_url, config=config)
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(problems=without_userinfo(f"Textract: {error}")) from error


def require_textract(client: TextractClient, api: TextractApi = "async", *, reading: bool = True) -> None:
    """Raise an error if the service is away, or refuses the credentials or the operations. Nothing is charged.

    The first call asks for a job that cannot exist; a working service responds that it does not know the job. ``sync``
    needs no permission for this operation, so that a refusal of it is accepted too: it proves that the credentials are
    known. With ``reading``, a second call asks to read no document; it is refused if the role may not read any.
    """
    try:
        client.get_document_text_detection(JobId=_NO_JOB)
    except client.exceptions.InvalidJobIdException:
        pass
    except (BotoCoreError, ClientError) as error:
        if api == "async" or not isinstance(error, client.exceptions.AccessDeniedException):
            raise explain_service(error, _named(client)) from error
    if not reading:
        return
    try:
        if api == "sync":
            client.detect_document_text(Document={})
        else:
            client.start_document_text_detection(DocumentLocation={})
    except client.exceptions.AccessDeniedException as error:
        raise explain_service(error, _named(client)) from error
    except (BotoCoreError, ClientError):
        # Any other response says that the role has the permission. Throttling is left to the attempts, which find the
        # rate that the service allows.
        return


def _named(client: TextractClient) -> str:
    """Name the service by its endpoint."""
    return without_userinfo(f"{ENGINE} at {client.meta.endpoint_url}")


class _NoNotes:
    """``AttemptNotes`` that keep nothing."""

    def read(self) -> None:
        """Return None: there is never a note."""

    def write(self, note: Mapping[str, Any]) -> None:
        """Discard the note."""


class TextractBackend:
    """Reads an object in its bucket by Textract; the bytes do not pass through the worker.

    ``api`` is ``async`` for jobs, which are charged once despite crashes and duplicates (see ``textract_jobs``), or
    ``sync`` for DetectDocumentText, which has no request token: if an attempt dies between the response and storing
    it, the next attempt is charged again.
    """

    engine = ENGINE

    def __init__(
        self,
        client: TextractClient,
        *,
        api: TextractApi = "async",
        notes: AttemptNotes | None = None,
        wait: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        limits: JobLimits | None = None,
    ) -> None:
        """``notes`` are those of the previous attempt; without them a job starts at the first generation again.

        ``wait`` sleeps for seconds, and may raise to end the attempt; ``clock`` returns monotonic seconds.
        """
        self._client = client
        self._api = api
        self._service = _named(client)
        jobs = TextDetectionJobs(
            client, self._service, notes=notes or _NoNotes(), wait=wait, clock=clock, limits=limits or JobLimits()
        )
        self._response = jobs.response if api == "async" else self._detect
        self._may_read = False

    def require_usable(self) -> None:
        """Raise what ``require_textract`` raises for this API.

        The permission to read is probed the first time, and again after an attempt was refused. Most probes follow
        throttled attempts, and each probe of it would use up one of the few Starts a second that an account has.
        """
        require_textract(self._client, self._api, reading=not self._may_read)
        self._may_read = True

    def detect_text(self, document: DocumentRef) -> DetectedText:
        """Return the service's response without ResponseMetadata, which differs from call to call."""
        try:
            response = self._response(document)
        except ConfigurationError:
            self._may_read = False
            raise
        flaw = response_defect(response)
        if flaw:
            raise OcrUnavailable(engine=self._service, reason=f"its response cannot be used: {flaw}")
        return DetectedText(response, response["DetectDocumentTextModelVersion"])

    def _detect(self, document: DocumentRef) -> dict[str, Any]:
        with explained(self._service, document):
            response: dict[str, Any] = dict(
                self._client.detect_document_text(Document={"S3Object": s3_object(document)})
            )
        response.pop("ResponseMetadata", None)
        return response
