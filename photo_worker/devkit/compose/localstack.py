"""Empty LocalStack while it runs: it has no request for that, and a restart takes seconds.

The resources of the stack's account in the stack's region are deleted through the services' APIs. Resources
in another region are detected, and only a restart removes them. Those of another account are not detected:
LocalStack does not list the accounts it has seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from photo_worker.devkit import readiness
from photo_worker.devkit.environment import environment_of
from photo_worker.devkit.http_client import HttpFailed, request
from photo_worker.devkit.ports import LOOPBACK
from photo_worker.devkit.readiness import ResetFailed
from photo_worker.devkit.state import StackRecord

_SECONDS = 20.0
# The most keys that DeleteObjects accepts in one request (Amazon S3 API Reference).
_BATCH = 1000


def empty(record: StackRecord) -> None:
    """Delete every bucket, topic and queue; raises ``ResetFailed`` if anything else is left."""
    from botocore.exceptions import BotoCoreError, ClientError

    # LocalStack's own S3 as well, even if the stack's S3 is another server.
    aws = f"http://{LOOPBACK}:{record.ports['aws']}"
    env = {**environment_of(record), **{f"AWS_ENDPOINT_URL_{service}": aws for service in ("S3", "SNS", "SQS")}}
    try:
        session = readiness.aws_session(env)
        clients = [readiness.aws_client(session, service, env) for service in ("s3", "sns", "sqs")]
        with ThreadPoolExecutor(4) as pool:
            begun = [
                pool.submit(_empty_s3, clients[0]),
                pool.submit(_empty_sns, clients[1]),
                pool.submit(_empty_sqs, clients[2]),
                pool.submit(_require_empty_elsewhere, aws, env, session.get_available_regions("sqs")),
            ]
            for one in begun:
                one.result()
    except (BotoCoreError, ClientError, HttpFailed, OSError) as error:
        raise ResetFailed(f"LocalStack: {error}") from error


def _empty_s3(client: Any) -> None:
    for bucket in client.list_buckets()["Buckets"]:
        name = bucket["Name"]
        versions = client.get_paginator("list_object_versions").paginate(Bucket=name)
        for page in versions:
            found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            for batch in _batches([{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]):
                client.delete_objects(Bucket=name, Delete={"Objects": batch, "Quiet": True})
        # Fails if an object could not be deleted.
        client.delete_bucket(Bucket=name)


def _empty_sns(client: Any) -> None:
    for page in client.get_paginator("list_topics").paginate():
        for topic in page.get("Topics", []):
            client.delete_topic(TopicArn=topic["TopicArn"])


def _empty_sqs(client: Any) -> None:
    for page in client.get_paginator("list_queues").paginate():
        for queue in page.get("QueueUrls", []):
            client.delete_queue(QueueUrl=queue)


def _require_empty_elsewhere(endpoint: str, env: dict[str, str], regions: list[str]) -> None:
    """Raise ``ResetFailed`` if another region has a topic or a queue.

    Plain HTTP: creating a client for each region and service takes longer than all requests.
    LocalStack reads the region from the credential's scope and checks no signature of these services.
    """
    url = urlsplit(endpoint)
    address = (url.hostname or LOOPBACK, url.port or 80)
    for region in regions:
        if region == env["AWS_REGION"]:
            continue
        for service, action, sign in (("sqs", "ListQueues", b"<QueueUrl>"), ("sns", "ListTopics", b"<TopicArn>")):
            scope = f"{env['AWS_ACCESS_KEY_ID']}/20260101/{region}/{service}/aws4_request"
            headers = {
                "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
                "Content-Type": "application/x-www-form-urlencoded",
            }
            response = request(address, "POST", "/", f"Action={action}".encode(), seconds=_SECONDS, headers=headers)
            if response.status != 200 or sign in response.body:
                raise ResetFailed(f"LocalStack has {service} of {region}, or does not say ({response.status})")


def _batches(keys: list[dict[str, str]]) -> Iterator[list[dict[str, str]]]:
    for start in range(0, len(keys), _BATCH):
        yield keys[start : start + _BATCH]
