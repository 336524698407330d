"""The Textract service of a conformance run: a separate emulator, or the real one.

Requests are built here and signed by botocore's signer, since its client refuses to send many of the invalid
requests, and hides unknown members of responses. The shape of each response is checked.
"""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from textract_support import response_schema
from textract_support.http_exchange import HttpResponse, send_over

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient

    from textract_support.emulator import RunningEmulator

JSON_11 = "application/x-amz-json-1.1"
GET = {
    "StartDocumentTextDetection": "GetDocumentTextDetection",
    "StartDocumentAnalysis": "GetDocumentAnalysis",
}
START, ANALYSE = tuple(GET)
TERMINAL = {"SUCCEEDED", "FAILED", "PARTIAL_SUCCESS"}
# A page of a thousand words takes seconds, and a test machine may be busy.
JOB_SECONDS = 120.0
# Throttled calls are retried on the real service, never on the emulator.
_THROTTLES = {"ProvisionedThroughputExceededException", "ThrottlingException", "LimitExceededException"}
_THROTTLED_SECONDS = 60.0
_SEVEN_DAYS = 7 * 24 * 3600

_T = TypeVar("_T")


@dataclass(frozen=True)
class Channel:
    """A topic and the queue that gets its messages."""

    member: Mapping[str, str]
    queue: str


@dataclass
class Control:
    """The emulator's control interface, and its process."""

    running: RunningEmulator
    start_again: Callable[[], RunningEmulator]

    def restart(self) -> None:
        """Kill the process and start it again with the same data and port."""
        self.running = self.start_again()

    def request(self, method: str, path: str, body: Any = None) -> HttpResponse:
        content = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.running.port}/_emulator/{path}"
        return exchange(url, method, content, {"Content-Type": "application/json"} if content else {})

    def counters(self) -> Any:
        return self.request("GET", "counters").json

    def billed(self, content: bytes) -> int:
        """Return how often a document was billed."""
        from hashlib import sha256

        tally = self.counters()["documents"].get(sha256(content).hexdigest(), {})
        return int(tally.get("billed", 0))

    def age(self, job_id: str, seconds: float) -> None:
        response = self.request("POST", "jobs/age", {"JobId": job_id, "seconds": seconds})
        assert response.status == 200, response.body

    def expire(self, job_id: str) -> None:
        """Age a job until it expires after seven days."""
        self.age(job_id, _SEVEN_DAYS + 60)

    @contextmanager
    def faults(self, *rules: Mapping[str, Any]) -> Iterator[None]:
        """Inject faults by these rules for the duration of the block."""
        response = self.request("PUT", "faults", {"seed": 1, "rules": list(rules)})
        assert response.status == 200, response.body
        try:
            yield
        finally:
            assert self.request("DELETE", "faults").status == 200


@dataclass
class Service:
    """The service under test, and its S3, SNS and SQS."""

    url: str
    session: boto3.Session
    region: str
    bucket: str
    s3: S3Client
    sns: SNSClient
    sqs: SQSClient
    control: Control | None = None
    given_channel: Channel | None = None
    """An existing topic and queue; if None, each channel is created."""
    prefix: str = field(default_factory=lambda: f"conformance/{secrets.token_hex(6)}")

    @property
    def emulator(self) -> Control:
        """The emulator's controls, for expectations that only apply to it."""
        assert self.control is not None, "only the emulator has controls"
        return self.control

    def send(self, operation: str, given: Any, headers: Mapping[str, str | None] | None = None) -> HttpResponse:
        """Send a request, encoding bytes in base64, and check the response's shape."""
        return self.post(f"Textract.{operation}", json.dumps(_encodable(given)).encode(), headers)

    def post(self, target: str, body: bytes, headers: Mapping[str, str | None] | None = None) -> HttpResponse:
        """Send a body unchanged. ``headers`` replace those of the signed request; None removes one."""
        deadline = time.monotonic() + _THROTTLED_SECONDS
        while True:
            response = self._post(target, body, headers)
            throttled = response.status >= 400 and any(name.encode() in response.body for name in _THROTTLES)
            if self.control is not None or not throttled or time.monotonic() > deadline:
                break
            time.sleep(1.0)
        operation = target.partition(".")[2]
        if response.status == 200 and JSON_11 in response.headers.get("content-type", ""):
            response_schema.require(operation, response.json)
        return response

    def _post(self, target: str, body: bytes, headers: Mapping[str, str | None] | None) -> HttpResponse:
        sent = self.signed("/", body, {"Content-Type": JSON_11, "X-Amz-Target": target})
        for name, value in (headers or {}).items():
            for known in [known for known in sent if known.lower() == name.lower()]:
                del sent[known]
            if value is not None:
                sent[name] = value
        return exchange(f"{self.url}/", "POST", body, sent)

    def signed(self, path: str, body: bytes, headers: Mapping[str, str]) -> dict[str, str]:
        """Return the headers of a signed request."""
        request = AWSRequest("POST", f"{self.url}{path}", data=body, headers=dict(headers))
        credentials = self.session.get_credentials()
        assert credentials is not None, "there are no credentials"
        SigV4Auth(credentials, "textract", self.region).add_auth(request)
        return dict(request.headers.items())

    def ask(self, operation: str, **given: Any) -> Any:
        """Return an operation's response; an error fails the test."""
        response = self.send(operation, given)
        assert response.status == 200, f"{operation} returned {response.status} {response.body[:500]!r}"
        return response.json

    def refused(self, operation: str, **given: Any) -> tuple[str, str]:
        """Return the code and message of an operation's error."""
        response = self.send(operation, given)
        assert response.status >= 400, f"{operation} returned {response.body[:500]!r}"
        return response.json["__type"], response.json["Message"]

    def stored(self, content: bytes, key: str | None = None) -> dict[str, Any]:
        """Put a document in the bucket and return its location."""
        name = f"{self.prefix}/{key or secrets.token_hex(8)}"
        self.s3.put_object(Bucket=self.bucket, Key=name, Body=content)
        return {"S3Object": {"Bucket": self.bucket, "Name": name}}

    def start(self, content: bytes | Mapping[str, Any], operation: str = START, **given: Any) -> str:
        """Start a job for a document, or a location, and return its id."""
        location = self.stored(content) if isinstance(content, bytes) else content
        if operation == ANALYSE:
            given.setdefault("FeatureTypes", ["TABLES"])
        job_id: str = self.ask(operation, DocumentLocation=location, **given)["JobId"]
        return job_id

    def finished(self, job_id: str, operation: str = START, **given: Any) -> Any:
        """Wait until a job has ended, and return Get's response."""

        def probe() -> Any:
            response = self.ask(GET[operation], JobId=job_id, **given)
            return response if response["JobStatus"] in TERMINAL else None

        return self.until(probe, seconds=JOB_SECONDS)

    def succeeded(self, job_id: str, operation: str = START, **given: Any) -> Any:
        """Like ``finished``, but fail the test unless the job has succeeded."""
        response = self.finished(job_id, operation, **given)
        assert response["JobStatus"] == "SUCCEEDED", {name: response[name] for name in response if name != "Blocks"}
        return response

    def pages_of(self, job_id: str, operation: str = START, **given: Any) -> list[Any]:
        """Return all pages of Get's responses for a finished job."""
        responses = [self.succeeded(job_id, operation, **given)]
        while "NextToken" in responses[-1]:
            assert len(responses) < 2000, "paging does not end"
            token = responses[-1]["NextToken"]
            responses.append(self.ask(GET[operation], JobId=job_id, NextToken=token, **given))
        return responses

    def blocks_of(self, job_id: str, operation: str = START, **given: Any) -> list[Any]:
        """Return all blocks of a finished job, after a check of their shape as a whole."""
        blocks = [block for response in self.pages_of(job_id, operation, **given) for block in response["Blocks"]]
        found = list(response_schema.block_faults(blocks, asynchronous=True))
        assert found == []
        return blocks

    def channel(self) -> Channel:
        """Return a topic with a queue that receives its messages."""
        if self.given_channel is not None:
            return self.given_channel
        name = f"conformance-{secrets.token_hex(6)}"
        topic = self.sns.create_topic(Name=name)["TopicArn"]
        queue = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        self.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        role = "arn:aws:iam::000000000000:role/textract"
        return Channel({"SNSTopicArn": topic, "RoleArn": role}, queue)

    def until_told(self, channel: Channel, *job_ids: str) -> list[Any]:
        """Return the messages of a channel, in their order, until each of these jobs has one."""
        found: list[Any] = []

        def probe() -> bool:
            waiting = self.sqs.receive_message(QueueUrl=channel.queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            for message in waiting.get("Messages", []):
                found.append(json.loads(json.loads(message["Body"])["Message"]))
                self.sqs.delete_message(QueueUrl=channel.queue, ReceiptHandle=message["ReceiptHandle"])
            return set(job_ids) <= {message["JobId"] for message in found}

        self.until(probe, seconds=JOB_SECONDS)
        return found

    def until(self, probe: Callable[[], _T | None], *, seconds: float) -> _T:
        """Return the first true result of a probe."""
        pause = 0.05 if self.control else 1.0
        deadline = time.monotonic() + seconds
        while True:
            result = probe()
            if result:
                return result
            assert time.monotonic() < deadline, f"nothing within {seconds} s"
            time.sleep(pause)


def exchange(url: str, method: str, body: bytes | None, headers: Mapping[str, str]) -> HttpResponse:
    """Send one HTTP request over a connection of its own."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return send_over(kind(parts.hostname or "", parts.port, timeout=120), method, parts.path, body, headers)


def texts(blocks: list[Any], kind: str = "LINE") -> list[str]:
    """Return the texts of the blocks of a kind."""
    return [block["Text"] for block in blocks if block["BlockType"] == kind]


def _encodable(given: Any) -> Any:
    if isinstance(given, bytes):
        return base64.b64encode(given).decode()
    if isinstance(given, Mapping):
        return {name: _encodable(value) for name, value in given.items()}
    if isinstance(given, list | tuple):
        return [_encodable(value) for value in given]
    return given
