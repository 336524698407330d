"""Readiness probes: one real round trip through each service, which also creates what the stack needs in it.

A service that listens may still not work; these probes find out. All raise ``NotReady``, with the
reason, if a retry may help. Clients are imported in functions: importing one takes longer than its
service takes to start, so the imports run while the services start.
"""

from __future__ import annotations

import io
import json
import secrets
import subprocess
import time
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from photo_worker.devkit.state import REGION
from photo_worker.loopback import is_loopback

_COMMAND_SECONDS = 5
_DELIVERY_SECONDS = 5
# How long a namespace created here keeps closed runs; a development server keeps those of its own for a day.
_RETENTION = "72h"
_SHOWN_WORDS = "READY 2468"


class NotReady(Exception):
    """A service does not work yet; the text says what the probe saw."""


class ResetFailed(Exception):
    """A service cannot be emptied while it runs; the text says why. It has to be restarted without data."""


def describe_namespace(env: dict[str, str], program: Path) -> None:
    """Describe the stack's namespace over gRPC with Temporal's command line.

    Importing the Python client would take several times longer than running this.
    """
    described = _ask_temporal(env, program, "describe", "--output", "json")
    if json.loads(described)["namespaceInfo"]["state"] != "NAMESPACE_STATE_REGISTERED":
        raise NotReady(f"the namespace {env['TEMPORAL_NAMESPACE']} is not registered")


def ensure_namespace(env: dict[str, str], program: Path) -> None:
    """Describe the stack's namespace on an external Temporal server, and create it if it is missing."""
    try:
        describe_namespace(env, program)
    except NotReady as error:
        if "is not found" not in str(error):
            raise
        _ask_temporal(env, program, "create", "--retention", _RETENTION)
        describe_namespace(env, program)


def _ask_temporal(env: dict[str, str], program: Path, verb: str, *options: str) -> str:
    """Run a namespace command of Temporal's command line and return its output; raises ``NotReady``."""
    argv = [str(program), "operator", "namespace", verb, "--disable-config-file", "--disable-config-env"]
    argv += ["--address", env["TEMPORAL_TARGET"], "--namespace", env["TEMPORAL_NAMESPACE"]]
    argv += ["--command-timeout", f"{_COMMAND_SECONDS}s", *options]
    try:
        completed = subprocess.run(argv, capture_output=True, text=True, timeout=2 * _COMMAND_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise NotReady(f"{program} did not end") from error
    if completed.returncode != 0:
        raise NotReady(completed.stderr.strip() or f"{program} ended with code {completed.returncode}")
    return completed.stdout


def probe_aws(env: dict[str, str]) -> None:
    """Probe S3 by ``store``, then SNS and SQS by ``deliver``."""
    probe_s3(env)
    probe_sns_and_sqs(env)


def probe_s3(env: dict[str, str]) -> None:
    """Create the bucket if it is missing, and put, get and delete an object in it."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        _round_trip_s3(aws_client(aws_session(env), "s3", env), env["S3_BUCKET"], env["AWS_REGION"])
    except (BotoCoreError, ClientError) as error:
        raise NotReady(str(error)) from error


def probe_sns_and_sqs(env: dict[str, str]) -> dict[str, str]:
    """Create the topic and the queue, and deliver a message; return the variables with the names that were chosen.

    The message goes through a separate topic and queue, so that no consumer ever receives it.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        session = aws_session(env)
        sns, sqs = aws_client(session, "sns", env), aws_client(session, "sqs", env)
        name = env["SQS_QUEUE_URL"].rpartition("/")[2]
        topic, queue = _connect_queue(sns, sqs, name)
        _deliver(sns, sqs, *_connect_queue(sns, sqs, f"{name}-health"))
    except (BotoCoreError, ClientError) as error:
        raise NotReady(str(error)) from error
    return {"SNS_TOPIC_ARN": topic, "SQS_QUEUE_URL": queue}


def probe_textract(env: dict[str, str]) -> None:
    """Have Textract read a small image of known text."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client = aws_client(aws_session(env), "textract", env)
        response = client.detect_document_text(Document={"Bytes": _picture(_SHOWN_WORDS)})
    except (BotoCoreError, ClientError) as error:
        raise NotReady(str(error)) from error
    text = " ".join(block.get("Text", "") for block in response["Blocks"] if block["BlockType"] == "LINE")
    if text.upper().split() != _SHOWN_WORDS.split():
        raise NotReady(f"it read {text!r} where {_SHOWN_WORDS!r} was written")


def aws_session(env: dict[str, str]) -> Any:
    """Return a botocore session that ignores the user's own AWS configuration."""
    import os

    import botocore.session

    session = botocore.session.Session(
        session_vars={
            "profile": (None, [], None, None),
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        }
    )
    session.register_component("data_loader", _descriptions())
    session.set_credentials(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env.get("AWS_SESSION_TOKEN"))
    return session


@cache
def _descriptions() -> Any:
    """Return one loader of the service models for all sessions: they are megabytes of JSON."""
    from botocore.loaders import create_loader

    return create_loader()


def aws_client(session: Any, service: str, env: dict[str, str]) -> Any:
    """Return a client of one service that does not retry."""
    from botocore.config import Config

    endpoint = env[f"AWS_ENDPOINT_URL_{service.upper()}"]
    # The caller retries, and knows when to stop. A proxy cannot reach this machine's loopback.
    proxies: dict[str, str] | None = {} if is_loopback(urlsplit(endpoint).hostname or "") else None
    return session.create_client(
        service,
        region_name=env["AWS_REGION"],
        endpoint_url=endpoint,
        config=Config(connect_timeout=2, read_timeout=20, retries={"total_max_attempts": 1}, proxies=proxies),
    )


def _round_trip_s3(client: Any, bucket: str, region: str) -> None:
    _make_bucket(client, bucket, region)
    key, body = f".photo-worker-health/{secrets.token_hex(8)}", secrets.token_bytes(64)
    client.put_object(Bucket=bucket, Key=key, Body=body)
    try:
        if client.get_object(Bucket=bucket, Key=key)["Body"].read() != body:
            raise NotReady("S3 returned other bytes than were stored")
    finally:
        client.delete_object(Bucket=bucket, Key=key)


def _make_bucket(client: Any, bucket: str, region: str) -> None:
    """Create a bucket if it is missing. HEAD, not a list: a key may be allowed one bucket and not to list all."""
    from botocore.exceptions import ClientError

    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != HTTPStatus.NOT_FOUND:
            raise NotReady(f"the bucket {bucket} cannot be used: {error}") from error
        # AWS refuses its default region as a LocationConstraint.
        elsewhere = {} if region == REGION else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        client.create_bucket(Bucket=bucket, **elsewhere)


def _connect_queue(sns: Any, sqs: Any, name: str) -> tuple[str, str]:
    """Create a topic, a queue and the subscription between them; each is a no-op if it exists."""
    topic = sns.create_topic(Name=name)["TopicArn"]
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn", "Policy"])["Attributes"]
    arn = attributes["QueueArn"]
    if not attributes.get("Policy"):
        # AWS delivers only to a queue whose policy allows it (SNS developer guide, "Fanout to Amazon SQS queues").
        allowed = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
            "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, ReturnSubscriptionArn=True)
    return topic, queue


def _deliver(sns: Any, sqs: Any, topic: str, queue: str) -> None:
    """Publish a message and wait for it, deleting the messages that earlier probes left in the queue."""
    token = secrets.token_hex(8)
    sns.publish(TopicArn=topic, Message=token)
    deadline = time.monotonic() + _DELIVERY_SECONDS
    while time.monotonic() < deadline:
        response = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        seen = False
        for message in response.get("Messages", []):
            seen = seen or json.loads(message["Body"]).get("Message") == token
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        if seen:
            return
    raise NotReady("a message to the topic did not reach the queue")


def _picture(words: str) -> bytes:
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("L", (560, 140), 255)
    ImageDraw.Draw(image).text((40, 35), words, fill=0, font=ImageFont.load_default(60))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
