"""Observe a Textract emulator from outside: one probe per promise, over the wire.

Each result is a few words that do not vary between runs, so that a table of them can be checked. They describe
the observation; the mark before them tells whether Textract does the same.
"""

from __future__ import annotations

import io
import json
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from botocore.exceptions import BotoCoreError, ClientError

DEADLINE_SECONDS = 60
# Long enough for a message in transit, short enough to wait for one that never arrives.
MESSAGE_SECONDS = 8
KEPT, BROKEN = "yes", "no"
ROLE = "arn:aws:iam::000000000000:role/textract"
Seen = tuple[bool, str]


@dataclass
class Target:
    """An emulator under comparison, its S3, SNS and SQS, and documents for the probes."""

    url: str
    clients: Callable[[str, str], Any]
    """Makes a client for a service's name and an emulator's address."""
    restart: Callable[[], str]
    """Stops the emulator, starts it again with its stored data, and returns its address."""
    page: bytes
    word: str
    bucket: str = ""

    @property
    def textract(self) -> Any:
        return self.clients("textract", self.url)

    def store(self, key: str, content: bytes) -> dict[str, Any]:
        """Put a document into S3 and return its location."""
        s3 = self.clients("s3", self.url)
        if not self.bucket:
            self.bucket = f"compared-{uuid.uuid4().hex}"
            s3.create_bucket(Bucket=self.bucket)
        s3.put_object(Bucket=self.bucket, Key=key, Body=content)
        return {"S3Object": {"Bucket": self.bucket, "Name": key}}

    def post(self, path: str, body: bytes, **headers: str) -> tuple[int, str, bytes]:
        """Send a request that no client would, with a well-formed signature; return status, content type and body."""
        signed = (
            "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/textract/aws4_request,"
            " SignedHeaders=host;x-amz-date, Signature=0123456789abcdef"
        )
        given = {"Authorization": signed, "X-Amz-Date": "20260101T000000Z", **headers}
        # The address is that of a server on this machine.
        request = Request(self.url + path, data=body, headers=given, method="POST")  # noqa: S310
        try:
            with urlopen(request, timeout=60) as response:  # noqa: S310
                return response.status, response.headers.get("content-type", ""), response.read()
        except HTTPError as error:
            return error.code, error.headers.get("content-type", ""), error.read()


def done(target: Target, job: str, operation: str = "get_document_text_detection") -> Any:
    """Wait for a job and return the first part of its result."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        response = getattr(target.textract, operation)(JobId=job)
        if response["JobStatus"] != "IN_PROGRESS":
            return response
        if time.monotonic() > deadline:
            raise TimeoutError(f"the job {job} does not end")
        time.sleep(0.1)


def refused(call: Callable[[], Any], code: str) -> Seen:
    """Return whether a call is refused with this code, or what else happens."""
    try:
        call()
    except ClientError as error:
        seen = error.response["Error"]["Code"]
        return seen == code, seen
    except BotoCoreError as error:
        return False, type(error).__name__
    return False, "accepted"


def reads(target: Target) -> Seen:
    blocks = target.textract.detect_document_text(Document={"Bytes": target.page})["Blocks"]
    words = [block["Text"] for block in blocks if block["BlockType"] == "WORD"]
    return target.word in words, "its words" if target.word in words else f"{len(blocks)} blocks"


def pages(target: Target) -> Seen:
    response = target.textract.detect_document_text(Document={"Bytes": target.page})
    found = response["DocumentMetadata"]["Pages"]
    return found == 1, "1" if found == 1 else f"of type {type(found).__name__}"


def content_type(target: Target) -> Seen:
    headers = target.textract.detect_document_text(Document={"Bytes": target.page})["ResponseMetadata"]["HTTPHeaders"]
    found = headers["content-type"].partition(";")[0]
    return found == "application/x-amz-json-1.1", found


def analyses(target: Target) -> Seen:
    try:
        response = target.textract.analyze_document(Document={"Bytes": target.page}, FeatureTypes=["LAYOUT"])
    except ClientError as error:
        return False, f"HTTP {error.response['ResponseMetadata']['HTTPStatusCode']}"
    found = any(block["BlockType"].startswith("LAYOUT_") for block in response["Blocks"])
    return found, "layout of the page" if found else f"{len(response['Blocks'])} blocks"


def no_document(target: Target) -> Seen:
    ask = target.textract.detect_document_text
    return refused(lambda: ask(Document={"Bytes": b"lemon"}), "UnsupportedDocumentException")


def neither(target: Target) -> Seen:
    return refused(lambda: target.textract.detect_document_text(Document={}), "InvalidParameterException")


def missing_object(target: Target) -> Seen:
    target.store("there.png", target.page)
    where = {"S3Object": {"Bucket": target.bucket, "Name": "missing.png"}}
    return refused(lambda: target.textract.detect_document_text(Document=where), "InvalidS3ObjectException")


def missing_object_at_start(target: Target) -> Seen:
    target.store("there.png", target.page)
    where = {"S3Object": {"Bucket": target.bucket, "Name": "missing.png"}}
    start = target.textract.start_document_text_detection
    return refused(lambda: start(DocumentLocation=where), "InvalidS3ObjectException")


def job_id(target: Target) -> Seen:
    found = target.textract.start_document_text_detection(DocumentLocation=target.store("id.png", target.page))["JobId"]
    kept = re.fullmatch("[0-9a-f]{64}", found) is not None
    return kept, "64 hex digits" if kept else f"{len(found)} characters"


def one_token(target: Target) -> Seen:
    asked = {"DocumentLocation": target.store("token.png", target.page), "ClientRequestToken": uuid.uuid4().hex}
    jobs = {target.textract.start_document_text_detection(**asked)["JobId"] for _ in range(2)}
    return len(jobs) == 1, f"{len(jobs)} job" + "s" * (len(jobs) > 1)


def token_reused(target: Target) -> Seen:
    token = uuid.uuid4().hex
    start = target.textract.start_document_text_detection
    start(DocumentLocation=target.store("first.png", target.page), ClientRequestToken=token)
    other = target.store("second.png", target.page)
    return refused(
        lambda: start(DocumentLocation=other, ClientRequestToken=token), "IdempotentParameterMismatchException"
    )


def begins_in_progress(target: Target) -> Seen:
    # New bytes, so that no cache has the document.
    content = target.page + uuid.uuid4().bytes
    job = target.textract.start_document_text_detection(DocumentLocation=target.store("new.png", content))["JobId"]
    status = target.textract.get_document_text_detection(JobId=job)["JobStatus"]
    return status == "IN_PROGRESS", status


def read_again(target: Target) -> Seen:
    job = target.textract.start_document_text_detection(DocumentLocation=target.store("again.png", target.page))[
        "JobId"
    ]
    first, second = (done(target, job) for _ in range(2))
    kept = first["Blocks"] == second["Blocks"]
    return kept, "the same twice" if kept else "another one"


def other_operation(target: Target) -> Seen:
    job = target.textract.start_document_text_detection(DocumentLocation=target.store("other.png", target.page))[
        "JobId"
    ]
    return refused(lambda: target.textract.get_document_analysis(JobId=job), "InvalidJobIdException")


def paged(target: Target) -> Seen:
    job = target.textract.start_document_text_detection(DocumentLocation=target.store("paged.png", target.page))[
        "JobId"
    ]
    done(target, job)
    response = target.textract.get_document_text_detection(JobId=job, MaxResults=2)
    kept = len(response["Blocks"]) == 2 and "NextToken" in response
    token = "a" if "NextToken" in response else "no"
    return kept, f"{len(response['Blocks'])} blocks and {token} NextToken"


def nothing_at_all(target: Target) -> Seen:
    job = target.textract.start_document_text_detection(DocumentLocation=target.store("zero.png", target.page))["JobId"]
    get = target.textract.get_document_text_detection
    return refused(lambda: get(JobId=job, MaxResults=0), "InvalidParameterException")


def output(target: Target) -> Seen:
    where = target.store("output.png", target.page)
    config = {"S3Bucket": target.bucket, "S3Prefix": "out"}
    job = target.textract.start_document_text_detection(DocumentLocation=where, OutputConfig=config)["JobId"]
    done(target, job)
    listed = target.clients("s3", target.url).list_objects_v2(Bucket=target.bucket, Prefix=f"out/{job}/")
    keys = [item["Key"].rpartition("/")[2] for item in listed.get("Contents", [])]
    return "1" in keys, "written to S3" if keys else "nothing written"


def told(target: Target, operation: str, **more: Any) -> Seen:
    """Start a job with a topic and return what arrives in a queue subscribed to it."""
    sns, sqs = target.clients("sns", target.url), target.clients("sqs", target.url)
    name = f"compared-{uuid.uuid4().hex}"
    topic = sns.create_topic(Name=name)["TopicArn"]
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    channel = {"SNSTopicArn": topic, "RoleArn": ROLE}
    location = target.store("told.png", target.page)
    start = getattr(target.textract, f"start_{operation}")
    job = start(DocumentLocation=location, NotificationChannel=channel, JobTag="lemon", **more)["JobId"]
    done(target, job, f"get_{operation}")
    messages = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=MESSAGE_SECONDS).get("Messages", [])
    if not messages:
        return False, "no message"
    message = json.loads(json.loads(messages[0]["Body"])["Message"])
    kept = message["JobId"] == job and message["JobTag"] == "lemon"
    return kept, "a message with the JobTag" if kept else "a message without the JobTag"


def told_of_text(target: Target) -> Seen:
    return told(target, "document_text_detection")


def told_of_analysis(target: Target) -> Seen:
    return told(target, "document_analysis", FeatureTypes=["TABLES"])


def others(target: Target) -> Seen:
    body = json.dumps({"Document": {"S3Object": {"Bucket": "lemons", "Name": "card.png"}}}).encode()
    headers = {"X-Amz-Target": "Textract.AnalyzeExpense", "Content-Type": "application/x-amz-json-1.1"}
    status, kind, response = target.post("/", body, **headers)
    kept = status == 400 and b"__type" in response
    return kept, "a modelled error" if kept else f"HTTP {status}, {kind.partition(';')[0]}"


def cbor(target: Target) -> Seen:
    import cbor2

    body = cbor2.dumps({"Document": {"Bytes": target.page}})
    headers = {"smithy-protocol": "rpc-v2-cbor", "Content-Type": "application/cbor", "Accept": "application/cbor"}
    status, kind, response = target.post("/service/Textract/operation/DetectDocumentText", body, **headers)
    if status != 200 or kind != "application/cbor":
        return False, f"HTTP {status}"
    return "Blocks" in cbor2.load(io.BytesIO(response)), "a response"


def survives(target: Target) -> Seen:
    job = target.textract.start_document_text_detection(DocumentLocation=target.store("kept.png", target.page))["JobId"]
    done(target, job)
    target.url = target.restart()
    kept, seen = refused(lambda: target.textract.get_document_text_detection(JobId=job), "InvalidJobIdException")
    return not kept and seen == "accepted", "still there" if seen == "accepted" else seen


PROBES: dict[str, Callable[[Target], Seen]] = {
    "The response is what the page says": reads,
    "`AnalyzeDocument` reads the page": analyses,
    "`DocumentMetadata.Pages` is a number": pages,
    "Responses are of type `application/x-amz-json-1.1`": content_type,
    "Smithy RPC v2 CBOR gets a response": cbor,
    "Operations that are not emulated have a modelled error": others,
    "Bytes that are no document are refused": no_document,
    "A document without bytes and object is refused": neither,
    "A missing object is an error": missing_object,
    "A missing object is an error when a job starts": missing_object_at_start,
    "A `JobId` has 64 hexadecimal digits": job_id,
    "A new job is in progress first": begins_in_progress,
    "A result can be read again": read_again,
    "A job is unknown to the other operation's Get": other_operation,
    "One `ClientRequestToken` gives one job": one_token,
    "A token with another document is refused": token_reused,
    "`MaxResults` and `NextToken` page a result": paged,
    "`MaxResults` of 0 is refused": nothing_at_all,
    "`OutputConfig` writes the result to S3": output,
    "SNS hears of a finished text detection, with its `JobTag`": told_of_text,
    "SNS hears of a finished analysis, with its `JobTag`": told_of_analysis,
    # Runs last, as the emulator has another address afterwards.
    "Jobs survive a restart": survives,
}


def ask(target: Target) -> dict[str, str]:
    """Run all probes; return the observation with its mark for each promise."""
    seen = {}
    for promise, probe in PROBES.items():
        kept, words = probe(target)
        seen[promise] = f"{KEPT if kept else BROKEN}: {words}"
    return seen
