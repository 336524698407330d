"""Notifications that a bucket sends ("Amazon S3 Event Notifications" in its user guide)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus
from uuid import uuid4

import pytest

from tests.contracts.s3.case import Endpoint, S3Suite

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

_SECONDS = 20.0


class Queue:
    """A queue for one test, on the SQS beside the server."""

    def __init__(self, sqs: SQSClient) -> None:
        self._sqs = sqs
        self.url = sqs.create_queue(QueueName=f"pw-test-{uuid4().hex}")["QueueUrl"]
        asked = sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])
        self.arn = asked["Attributes"]["QueueArn"]

    def allow_all(self) -> None:
        allowed = {"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": self.arn}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        self._sqs.set_queue_attributes(QueueUrl=self.url, Attributes={"Policy": policy})

    def messages(self) -> Iterator[str]:
        """Yield bodies as they arrive; fail the test if none arrives for ``_SECONDS``."""
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            got = self._sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            for message in got.get("Messages", []):
                self._sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
                yield message["Body"]
        pytest.fail(f"no message within {_SECONDS:g} s")

    def delete(self) -> None:
        self._sqs.delete_queue(QueueUrl=self.url)


def records(bodies: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Yield the events of messages, without SNS's envelope if they have one; the test event has no records."""
    for body in bodies:
        content = json.loads(body)
        if "Message" in content and "TopicArn" in content:
            content = json.loads(content["Message"])
        yield from content.get("Records", [])


class EventBehaviours(S3Suite):
    @pytest.fixture
    def queue(self, messages: Endpoint) -> Iterator[Queue]:
        queue = Queue(messages.sqs())
        queue.allow_all()
        yield queue
        queue.delete()

    @pytest.fixture
    def topic(self, messages: Endpoint, queue: Queue) -> Iterator[str]:
        """The ARN of a topic that the queue has subscribed to."""
        sns = messages.sns()
        arn = sns.create_topic(Name=f"pw-test-{uuid4().hex}")["TopicArn"]
        sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue.arn)
        yield arn
        sns.delete_topic(TopicArn=arn)

    def test_event_of_new_object_reaches_the_queue(self, s3: S3Client, bucket: str, queue: Queue) -> None:
        _tell(s3, bucket, queue)
        etag = s3.put_object(Bucket=bucket, Key="in/pie.jpg", Body=b"12345")["ETag"]
        event = next(records(queue.messages()))
        assert event["eventSource"] == "aws:s3"
        assert event["eventName"] == "ObjectCreated:Put"
        assert event["s3"]["bucket"]["name"] == bucket
        told = event["s3"]["object"]
        assert (told["key"], told["size"], told["eTag"]) == ("in/pie.jpg", 5, etag.strip('"'))

    def test_event_filter_selects_by_prefix_and_suffix(self, s3: S3Client, bucket: str, queue: Queue) -> None:
        _tell(s3, bucket, queue, prefix="in/", suffix=".jpg")
        for key in ["out/a.jpg", "in/a.png", "in/a.jpg", "in/last.jpg"]:
            s3.put_object(Bucket=bucket, Key=key, Body=b"x")
        told = []
        for event in records(queue.messages()):
            told.append(event["s3"]["object"]["key"])
            if "in/last.jpg" in told and "in/a.jpg" in told:
                break
        assert sorted(told) == ["in/a.jpg", "in/last.jpg"]

    def test_event_of_new_object_reaches_the_topic(self, s3: S3Client, bucket: str, queue: Queue, topic: str) -> None:
        s3.put_bucket_notification_configuration(
            Bucket=bucket,
            NotificationConfiguration={"TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}]},
        )
        s3.put_object(Bucket=bucket, Key="pie.jpg", Body=b"x")
        event = next(records(queue.messages()))
        assert (event["s3"]["bucket"]["name"], event["s3"]["object"]["key"]) == (bucket, "pie.jpg")

    def test_event_key_is_decoded_by_unquote_plus(self, s3: S3Client, bucket: str, queue: Queue) -> None:
        _tell(s3, bucket, queue)
        keys = {"in/p h+1%.jpg", "фото/рецепт.jpg", "🥧/?#&=.jpg"}
        for key in keys:
            s3.put_object(Bucket=bucket, Key=key, Body=b"x")
        told = set()
        for event in records(queue.messages()):
            told.add(unquote_plus(event["s3"]["object"]["key"]))
            if len(told) == len(keys):
                break
        assert told == keys

    def test_event_key_is_quoted_as_s3_quotes_it(self, s3: S3Client, bucket: str, queue: Queue) -> None:
        _tell(s3, bucket, queue)
        s3.put_object(Bucket=bucket, Key="in/p h+1é.jpg", Body=b"x")
        assert next(records(queue.messages()))["s3"]["object"]["key"] == "in/p+h%2B1%C3%A9.jpg"

    def test_notification_configuration_is_kept(self, s3: S3Client, bucket: str, queue: Queue) -> None:
        _tell(s3, bucket, queue, prefix="in/", suffix=".jpg")
        (kept,) = s3.get_bucket_notification_configuration(Bucket=bucket)["QueueConfigurations"]
        assert (kept["QueueArn"], kept["Events"]) == (queue.arn, ["s3:ObjectCreated:*"])
        rules = {rule["Name"].lower(): rule["Value"] for rule in kept["Filter"]["Key"]["FilterRules"]}
        assert rules == {"prefix": "in/", "suffix": ".jpg"}

    def test_event_queue_gets_a_test_event_first(self, s3: S3Client, bucket: str, queue: Queue) -> None:
        _tell(s3, bucket, queue)
        first = json.loads(next(queue.messages()))
        assert (first["Event"], first["Bucket"]) == ("s3:TestEvent", bucket)


def _tell(s3: S3Client, bucket: str, queue: Queue, *, prefix: str = "", suffix: str = "") -> None:
    s3.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={
            "QueueConfigurations": [
                {
                    "QueueArn": queue.arn,
                    "Events": ["s3:ObjectCreated:*"],
                    "Filter": {
                        "Key": {
                            "FilterRules": [{"Name": "prefix", "Value": prefix}, {"Name": "suffix", "Value": suffix}]
                        }
                    },
                }
            ]
        },
    )
