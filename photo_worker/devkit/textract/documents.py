"""The document of a request: bytes that came with it, or an object in S3."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from photo_worker.devkit.textract.failures import (
    DOCUMENT_TOO_LARGE,
    INTERNAL_ERROR,
    INVALID_PARAMETER,
    INVALID_S3_OBJECT,
    Refusal,
)
from photo_worker.policies import SYNC_OCR_LIMIT_BYTES

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

INLINE_NAME = "Document.Bytes"

_CONNECT_SECONDS = 2
_READ_SECONDS = 20
_DOWNLOADS = 8
_FALLBACK_REGION = "us-east-1"


@dataclass(frozen=True)
class Document:
    """A document's bytes and their hash, in lower-case hex. ``name`` is for messages."""

    content: bytes
    name: str
    sha256: str

    @classmethod
    def of(cls, content: bytes, name: str) -> Document:
        """Return the document of these bytes."""
        return cls(content, name, hashlib.sha256(content).hexdigest())


class DocumentSource:
    """Gets the documents of requests. S3 is the one that the standard AWS variables name."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_DOWNLOADS, thread_name_prefix="download")
        self._lock = Lock()
        self._client: S3Client | None = None

    async def get(self, document: Mapping[str, Any]) -> Document:
        """Return the document of a Document or DocumentLocation member, its hash taken.

        Raises ``Refusal``: InvalidParameterException where it is neither or both, InvalidS3ObjectException,
        DocumentTooLargeException for over 10 MB, InternalServerError where S3 does not answer.
        """
        inline, stored = document.get("Bytes"), document.get("S3Object")
        if inline is not None and stored is not None:
            raise Refusal(INVALID_PARAMETER, "Document has both Bytes and S3Object")
        loop = asyncio.get_running_loop()
        if inline is not None:
            return await loop.run_in_executor(self._threads, Document.of, inline, INLINE_NAME)
        if stored is None:
            raise Refusal(INVALID_PARAMETER, "Document has neither Bytes nor S3Object")
        # The model requires neither of them.
        missing = [name for name in ("Bucket", "Name") if name not in stored]
        if missing:
            raise Refusal(INVALID_PARAMETER, f"Document.S3Object has no {' and no '.join(missing)}")
        return await loop.run_in_executor(self._threads, self._download, stored)

    def warm(self) -> None:
        """Make the S3 client, which takes longer than most requests to it."""
        from botocore.exceptions import BotoCoreError

        try:
            self._s3()
        except (BotoCoreError, ValueError) as error:
            logger.error("S3 cannot be used: %s", error)

    def close(self) -> None:
        """Begin no further download."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _s3(self) -> S3Client:
        with self._lock:
            if self._client is None:
                import boto3
                from botocore.config import Config

                session = boto3.Session()
                self._client = session.client(
                    "s3",
                    region_name=session.region_name or _FALLBACK_REGION,
                    config=Config(
                        connect_timeout=_CONNECT_SECONDS,
                        read_timeout=_READ_SECONDS,
                        max_pool_connections=_DOWNLOADS,
                        retries={"total_max_attempts": 2, "mode": "standard"},
                    ),
                )
            return self._client

    def _download(self, stored: Mapping[str, str]) -> Document:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError

        where: Any = {"Bucket": stored["Bucket"], "Key": stored["Name"]}
        if "Version" in stored:
            where["VersionId"] = stored["Version"]
        try:
            answer = self._s3().get_object(**where)
            with answer["Body"] as body:
                size = answer["ContentLength"]
                if size > SYNC_OCR_LIMIT_BYTES:
                    raise Refusal(DOCUMENT_TOO_LARGE, size=f"{size} bytes", limit_bytes=SYNC_OCR_LIMIT_BYTES)
                content = body.read()
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500:
                raise Refusal(INTERNAL_ERROR, str(error), problem="S3 failed") from error
            raise Refusal(INVALID_S3_OBJECT, str(error)) from error
        except (ParamValidationError, NoCredentialsError) as error:
            raise Refusal(INVALID_S3_OBJECT, str(error)) from error
        except ValueError as error:
            # botocore's word for an endpoint that is no URL.
            raise Refusal(INTERNAL_ERROR, str(error), problem="S3 cannot be used") from error
        except (BotoCoreError, OSError) as error:
            raise Refusal(INTERNAL_ERROR, str(error), problem="S3 does not answer") from error
        return Document.of(content, f"s3://{stored['Bucket']}/{stored['Name']}")
