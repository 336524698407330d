"""The S3 and SNS that jobs write to: those that the standard AWS variables name."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from photo_worker.devkit.textract.service_calls import ServiceCall
from photo_worker.loopback import direct_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient

_THREADS = 4
_CONNECT_SECONDS = 2
_READ_SECONDS = 20
# Of a call with its answer, repetitions included: a service that is silent has twice 20.
_CALL_SECONDS = 25
_FALLBACK_REGION = "us-east-1"

_Result = TypeVar("_Result")


class Clients:
    """Makes clients where they are first needed, which takes longer than most calls, and calls them in threads."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="aws")
        self._lock = Lock()
        self._clients: dict[tuple[str, str], Any] = {}

    async def call(self, work: Callable[[], _Result]) -> _Result:
        """Do something that waits for a service, beside the event loop; it ends where the caller is cancelled.

        What takes longer than a service may is broken off, and fails as where the service does not answer.
        """
        return await ServiceCall(_CALL_SECONDS).run(self._threads, work)

    def s3(self) -> S3Client:
        """Return the client of S3. Raises ``ValueError`` where its endpoint is no URL."""
        client: S3Client = self._client("s3", None)
        return client

    def sns(self, topic: str) -> SNSClient:
        """Return the client of SNS in a topic's region."""
        client: SNSClient = self._client("sns", topic.split(":")[3])
        return client

    def close(self) -> None:
        """Begin no further call."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _client(self, service: str, region: str | None) -> Any:
        with self._lock:
            key = (service, region or "")
            if key not in self._clients:
                import boto3
                from botocore.config import Config

                from photo_worker.devkit.textract.breakable_connections import breakable

                session = boto3.Session()
                create: Callable[..., Any] = session.client
                config = Config(
                    connect_timeout=_CONNECT_SECONDS,
                    read_timeout=_READ_SECONDS,
                    max_pool_connections=_THREADS,
                    retries={"total_max_attempts": 2, "mode": "standard"},
                )
                where = region or session.region_name or _FALLBACK_REGION
                self._clients[key] = direct_client(partial(create, service, region_name=where), config)
                breakable(self._clients[key])
            return self._clients[key]
