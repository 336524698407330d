"""The document of a request: bytes that came with it, or an object in S3."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from textract_local.reader.document import ASYNC, SYNC, DocumentLimits
from textract_local.server.clients import breakable_client
from textract_local.server.failures import (
    DOCUMENT_TOO_LARGE,
    INTERNAL_ERROR,
    INVALID_PARAMETER,
    INVALID_S3_OBJECT,
    DiskFails,
    ServiceError,
)
from textract_local.server.service_calls import BrokenOff, ServiceCall, is_final, no_response_errors
from textract_local.server.spool import Spool

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["ASYNC", "Document", "DocumentLimits", "DocumentSource", "SYNC"]  # noqa: RUF022

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

INLINE_NAME = "Document.Bytes"

_DOWNLOADS = 8
# Until the response begins, retries included: a store that does not respond uses 20 s twice.
_RESPONSE_SECONDS = 25
# 500 MB at 1 MB/s.
_DOWNLOAD_SECONDS = 600
_PIECE_BYTES = 256 * 1024


class Document:
    """A document: ``sha256`` in lower-case hex, ``size`` in bytes, and ``name`` for messages.

    Its bytes are in memory or in a file of the spool, which is deleted with the document.
    """

    def __init__(self, name: str, sha256: str, size: int, content: bytes | Path) -> None:
        self.name, self.sha256, self.size = name, sha256, size
        self._content = content
        self._forget = weakref.finalize(self, _remove, content) if isinstance(content, Path) else None

    @classmethod
    def of(cls, content: bytes, name: str) -> Document:
        """Return the document of these bytes."""
        return cls(name, hashlib.sha256(content).hexdigest(), len(content), content)

    @contextmanager
    def file(self, spool: Spool) -> Iterator[Path]:
        """Give the document as a file for the duration of the block. Raises ``OSError`` if the disk is full."""
        if isinstance(self._content, Path):
            yield self._content
            return
        path = spool.write(self._content)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Delete the file now instead of when the document is garbage-collected."""
        if self._forget is not None:
            self._forget()


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


class DocumentSource:
    """Gets the documents of requests. S3 is the one that the standard AWS variables name."""

    def __init__(
        self, spool: Spool, *, response_seconds: float = _RESPONSE_SECONDS, download_seconds: float = _DOWNLOAD_SECONDS
    ) -> None:
        """Documents above the limit of synchronous operations become files of ``spool``.

        S3 may take ``response_seconds`` until its response begins, and ``download_seconds`` until it ends.
        """
        self._spool = spool
        self._response_seconds, self._download_seconds = response_seconds, download_seconds
        self._threads = ThreadPoolExecutor(_DOWNLOADS, thread_name_prefix="download")
        self._lock = Lock()
        self._client: S3Client | None = None

    async def get(self, document: Mapping[str, Any], limits: DocumentLimits = SYNC) -> Document:
        """Return the document of a Document or DocumentLocation member, with its hash.

        Raises ``ServiceError``: InvalidParameterException if it has neither Bytes nor S3Object, or both;
        InvalidS3ObjectException; DocumentTooLargeException; InternalServerError if S3 does not respond, or too slowly.
        Cancelling breaks off the download.
        """
        inline, stored = document.get("Bytes"), document.get("S3Object")
        if inline is not None and stored is not None:
            raise ServiceError(INVALID_PARAMETER, "Document has both Bytes and S3Object")
        if inline is not None:
            # Not in the download threads, which S3 may block.
            return await asyncio.to_thread(Document.of, inline, INLINE_NAME)
        location, call = self._place(document), ServiceCall(self._response_seconds, self._download_seconds)
        return await self._run(call, partial(self._download, location, limits, call))

    async def check(self, location: Mapping[str, Any], limits: DocumentLimits) -> None:
        """Check that the object of a DocumentLocation exists and is not too large, without downloading it.

        Raises ``ServiceError`` as ``get`` does.
        """
        await self._run(ServiceCall(self._response_seconds), partial(self._head, self._place(location), limits))

    def warm(self) -> None:
        """Create the S3 client in advance, which takes longer than most requests."""
        from botocore.exceptions import BotoCoreError

        try:
            self._s3()
        except (BotoCoreError, ValueError) as error:
            logger.error("S3 cannot be used: %s", error)

    def close(self) -> None:
        """Start no further downloads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _s3(self) -> S3Client:
        with self._lock:
            if self._client is None:
                self._client = breakable_client("s3", None, connections=_DOWNLOADS)
            return self._client

    async def _run(self, call: ServiceCall, work: Callable[[], _T]) -> _T:
        try:
            return await call.run(self._threads, work)
        except (ServiceError, BrokenOff) as error:
            if call.late_after is None:
                raise
            raise ServiceError(
                INTERNAL_ERROR, f"after {call.late_after:g} s: {error}", problem="S3 is too slow"
            ) from error

    def _place(self, document: Mapping[str, Any]) -> dict[str, str]:
        """Return the S3 parameters of a document's location. The model requires none of them."""
        stored = document.get("S3Object")
        if stored is None:
            raise ServiceError(INVALID_PARAMETER, "Document has neither Bytes nor S3Object")
        missing = [name for name in ("Bucket", "Name") if name not in stored]
        if missing:
            raise ServiceError(INVALID_PARAMETER, f"Document.S3Object has no {' and no '.join(missing)}")
        location = {"Bucket": stored["Bucket"], "Key": stored["Name"]}
        return {**location, "VersionId": stored["Version"]} if "Version" in stored else location

    def _head(self, location: Any, limits: DocumentLimits) -> None:
        with _s3_errors():
            _check_size(self._s3().head_object(**location).get("ContentLength", 0), limits)

    def _download(self, location: Any, limits: DocumentLimits, call: ServiceCall) -> Document:
        name = f"s3://{location['Bucket']}/{location['Key']}"
        with _s3_errors():
            response = self._s3().get_object(**location)
            call.responded()
            with response["Body"] as body:
                # Some stores omit the header.
                size: int | None = response.get("ContentLength")
                if size is None and not _ends_by_itself(response):
                    raise ServiceError(
                        INTERNAL_ERROR, "its headers do not say where it ends", problem="S3 does not respond"
                    )
                _check_size(size or 0, limits)
                pieces = _pieces(body, limits)
                if size is not None and size <= SYNC.most_bytes:
                    return Document.of(b"".join(pieces), name)
                return self._spooled(pieces, name)

    def _spooled(self, pieces: Iterator[bytes], name: str) -> Document:
        digest, size = hashlib.sha256(), 0
        with _disk_errors():
            path, file = self._spool.new()
        try:
            with _disk_errors(), file:
                while True:
                    with _s3_errors():
                        piece = next(pieces, b"")
                    if not piece:
                        break
                    digest.update(piece)
                    size += len(piece)
                    file.write(piece)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Document(name, digest.hexdigest(), size, path)


def _pieces(body: Any, limits: DocumentLimits) -> Iterator[bytes]:
    """Yield an object's bytes, checking the size: it may send more than its headers declare."""
    size = 0
    while piece := body.read(_PIECE_BYTES):
        size += len(piece)
        _check_size(size, limits)
        yield piece


def _ends_by_itself(response: Any) -> bool:
    """Return whether the end of a body without Content-Length is marked; otherwise truncation goes unnoticed."""
    headers = response["ResponseMetadata"]["HTTPHeaders"]
    return "chunked" in str(headers.get("transfer-encoding", "")).lower()


def _check_size(size: int, limits: DocumentLimits) -> None:
    if size > limits.most_bytes:
        raise ServiceError(DOCUMENT_TOO_LARGE, size=f"{size} bytes", limit_bytes=limits.most_bytes)


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Turn ``OSError`` into ``DiskFails``, so that errors of the local disk are not blamed on S3."""
    try:
        yield
    except OSError as error:
        raise DiskFails(error.strerror or str(error)) from error


@contextmanager
def _s3_errors() -> Iterator[None]:
    """Turn the errors of boto3 into the errors that the service would return."""
    from botocore.exceptions import ClientError, NoCredentialsError, ParamValidationError

    try:
        yield
    except ClientError as error:
        if not is_final(error):
            raise ServiceError(INTERNAL_ERROR, str(error), problem="S3 failed") from error
        raise ServiceError(INVALID_S3_OBJECT, str(error)) from error
    except (ParamValidationError, NoCredentialsError) as error:
        raise ServiceError(INVALID_S3_OBJECT, str(error)) from error
    except RecursionError as error:
        # botocore follows a redirect without a region to the same place again and again.
        raise ServiceError(INVALID_S3_OBJECT, "S3 says that the bucket is elsewhere, and not where") from error
    except ValueError as error:
        # botocore raises this for an endpoint that is not a URL.
        raise ServiceError(INTERNAL_ERROR, str(error), problem="S3 cannot be used") from error
    except no_response_errors() as error:
        # botocore passes on some errors of urllib3 while a body is read.
        raise ServiceError(INTERNAL_ERROR, str(error), problem="S3 does not respond") from error
