"""The clients of S3 and SNS for jobs, configured by the standard AWS variables."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from textract_local.server.clients import breakable_client
from textract_local.server.service_calls import ServiceCall

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient

_THREADS = 4
# A call including its retries: a service that does not respond uses 20 s twice.
_CALL_SECONDS = 25

_Result = TypeVar("_Result")


class AwsClients:
    """Creates clients when they are first needed, which takes longer than most calls, and calls them in threads."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="aws")
        self._lock = Lock()
        self._clients: dict[tuple[str, str], Any] = {}

    async def call(self, work: Callable[[], _Result]) -> _Result:
        """Run a blocking call of a service in a thread; cancelling the caller breaks it off.

        After ``_CALL_SECONDS`` it is broken off, and fails as if the service did not respond.
        """
        return await ServiceCall(_CALL_SECONDS).run(self._threads, work)

    def s3(self) -> S3Client:
        """Return the S3 client. Raises ``ValueError`` if its endpoint is not a URL."""
        client: S3Client = self._client("s3", None)
        return client

    def sns(self, topic: str) -> SNSClient:
        """Return the SNS client for the region of a topic's ARN."""
        client: SNSClient = self._client("sns", topic.split(":")[3])
        return client

    def close(self) -> None:
        """Start no further calls."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _client(self, service: str, region: str | None) -> Any:
        with self._lock:
            key = (service, region or "")
            if key not in self._clients:
                self._clients[key] = breakable_client(service, region, connections=_THREADS)
            return self._clients[key]
