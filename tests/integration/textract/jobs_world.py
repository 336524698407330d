"""Helpers for jobs from a client's view: objects in S3, Start and Get, topics and queues."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.config import Config

from tests.support.resources import session_of
from textract_support.clients import client_of, send
from textract_support.emulator import RunningEmulator, running, until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_textract import TextractClient

ROLE = "arn:aws:iam::000000000000:role/textract"
TEXT, ANALYSIS = "start_document_text_detection", "start_document_analysis"
_GET = {TEXT: "get_document_text_detection", ANALYSIS: "get_document_analysis"}


@dataclass(frozen=True)
class Channel:
    """A topic, and a queue that receives its messages."""

    topic: str
    queue: str
    sns: SNSClient
    sqs: SQSClient

    @property
    def member(self) -> dict[str, str]:
        """The NotificationChannel of a Start operation."""
        return {"SNSTopicArn": self.topic, "RoleArn": ROLE}

    def take(self, *, wait_seconds: int = 0) -> list[Any]:
        """Receive and delete the envelopes that are in the queue."""
        response = self.sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10, WaitTimeSeconds=wait_seconds)
        envelopes = []
        for message in response.get("Messages", []):
            envelopes.append(json.loads(message["Body"]))
            self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
        return envelopes

    def until(self, job_id: str) -> list[Any]:
        """Return the messages in their order, up to and including the first one about a job."""
        found: list[Any] = []

        def arrived() -> bool:
            found.extend(json.loads(envelope["Message"]) for envelope in self.take(wait_seconds=1))
            return any(message["JobId"] == job_id for message in found)

        until(arrived)
        return found


@contextmanager
def channel_of(variables: Mapping[str, str]) -> Iterator[Channel]:
    session = session_of(dict(variables))
    config = Config(retries={"total_max_attempts": 1})
    sns = session.client("sns", endpoint_url=variables["AWS_ENDPOINT_URL_SNS"], config=config)
    sqs = session.client("sqs", endpoint_url=variables["AWS_ENDPOINT_URL_SQS"], config=config)
    name = f"jobs-{secrets.token_hex(8)}"
    topic = sns.create_topic(Name=name)["TopicArn"]
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    try:
        yield Channel(topic, queue, sns, sqs)
    finally:
        sns.delete_topic(TopicArn=topic)
        sqs.delete_queue(QueueUrl=queue)
        sns.close()
        sqs.close()


@dataclass(frozen=True)
class World:
    """An emulator, its client and a bucket."""

    running: RunningEmulator
    textract: TextractClient
    s3: S3Client
    bucket: str

    def stored(self, content: bytes, key: str | None = None) -> str:
        """Store a document and return its key."""
        key = key or f"scan-{secrets.token_hex(6)}"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=content)
        return key

    def start(self, key: str, operation: str = TEXT, /, **members: Any) -> str:
        location = {"S3Object": {"Bucket": self.bucket, "Name": key}}
        if operation == ANALYSIS:
            members.setdefault("FeatureTypes", ["TABLES"])
        job_id: str = getattr(self.textract, operation)(DocumentLocation=location, **members)["JobId"]
        return job_id

    def get(self, job_id: str, operation: str = TEXT, /, **members: Any) -> dict[str, Any]:
        response: dict[str, Any] = getattr(self.textract, _GET[operation])(JobId=job_id, **members)
        response.pop("ResponseMetadata")
        return response

    def ended(self, job_id: str, operation: str = TEXT) -> dict[str, Any]:
        """Wait until a job has ended, and return its first response."""
        response: dict[str, Any] = {}

        def has_ended() -> bool:
            response.clear()
            response.update(self.get(job_id, operation))
            return bool(response["JobStatus"] != "IN_PROGRESS")

        until(has_ended)
        return response

    def jobs(self) -> dict[str, Any]:
        """Return the control interface's data about each job, by id."""
        listed = send(self.running.port, "GET", "/_emulator/jobs").json["jobs"]
        return {job["JobId"]: job for job in listed}

    def tally(self, sha256: str) -> dict[str, int]:
        """Return the emulator's counts for a document."""
        counted: dict[str, int] = send(self.running.port, "GET", "/_emulator/counters").json["documents"][sha256]
        return counted

    def control(self, path: str, method: str = "POST", **body: Any) -> Any:
        response = send(self.running.port, method, f"/_emulator/{path}", json.dumps(body).encode())
        assert response.status == 200, response.body
        return response.json


@contextmanager
def world_in(data: Path, stack_env: Mapping[str, str], s3: S3Client, bucket: str, **variables: str) -> Iterator[World]:
    """Start an emulator on a data directory, which may have the data of an earlier one."""
    aws = {name: value for name, value in stack_env.items() if name.startswith("AWS_")}
    data.mkdir(exist_ok=True)
    with running(data, {**aws, "TEXTRACT_TEST_DATA": str(data / "data"), **variables}) as started:
        client = client_of(stack_env, started.url)
        try:
            yield World(started, client, s3, bucket)
        finally:
            client.close()
