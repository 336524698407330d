"""One real round trip through each service, which also makes what the stack needs in it.

A service that listens may still be of no use; these find out. All raise ``NotReady``, with the
reason, where asking again may help. Clients are imported where they are used: each costs more time
than its service needs to start, and they are imported while the services start.
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
# How long closed runs stay in a namespace that is made here; a development server keeps its own for a day.
_RETENTION = "72h"
_SHOWN_WORDS = "READY 2468"


class NotReady(Exception):
    """A service does not do its work yet; the text says what was seen."""


class ResetFailed(Exception):
    """A service cannot be emptied while it runs; the text says why. It has to start anew, on no data."""


def describe_namespace(env: dict[str, str], program: Path) -> None:
    """Ask Temporal for the stack's namespace over gRPC, by its own command line.

    The Python client would do, but takes several times longer to import than this takes to run.
    """
    answer = _ask_temporal(env, program, "describe", "--output", "json")
    if json.loads(answer)["namespaceInfo"]["state"] != "NAMESPACE_STATE_REGISTERED":
        raise NotReady(f"the namespace {env['TEMPORAL_NAMESPACE']} is not registered")


def make_namespace(env: dict[str, str], program: Path) -> None:
    """Ask a Temporal server that nobody started for this stack for its namespace; made where it is missing."""
    try:
        describe_namespace(env, program)
    except NotReady as error:
        if "is not found" not in str(error):
            raise
        _ask_temporal(env, program, "create", "--retention", _RETENTION)
        describe_namespace(env, program)


def _ask_temporal(env: dict[str, str], program: Path, verb: str, *options: str) -> str:
    """Return what Temporal's command line answers about the stack's namespace; raises ``NotReady``."""
    argv = [str(program), "operator", "namespace", verb, "--disable-config-file", "--disable-config-env"]
    argv += ["--address", env["TEMPORAL_TARGET"], "--namespace", env["TEMPORAL_NAMESPACE"]]
    argv += ["--command-timeout", f"{_COMMAND_SECONDS}s", *options]
    try:
        answer = subprocess.run(argv, capture_output=True, text=True, timeout=2 * _COMMAND_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise NotReady(f"{program} did not end") from error
    if answer.returncode != 0:
        raise NotReady(answer.stderr.strip() or f"{program} ended with code {answer.returncode}")
    return answer.stdout


def store_and_deliver(env: dict[str, str]) -> None:
    """Do what ``store`` and ``deliver`` do."""
    store(env)
    deliver(env)


def store(env: dict[str, str]) -> None:
    """Make the bucket where it is missing, and put, get and delete an object in it."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        _round_trip_s3(aws_client(aws_session(env), "s3", env), env["S3_BUCKET"], env["AWS_REGION"])
    except (BotoCoreError, ClientError) as error:
        raise NotReady(str(error)) from error


def deliver(env: dict[str, str]) -> dict[str, str]:
    """Make the topic and the queue, and have a message delivered; return their variables as the service names them.

    The message goes through a topic and a queue of its own, so that no consumer ever sees it.
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


def read_an_image(env: dict[str, str]) -> None:
    """Have a small picture of known text read."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client = aws_client(aws_session(env), "textract", env)
        answer = client.detect_document_text(Document={"Bytes": _picture(_SHOWN_WORDS)})
    except (BotoCoreError, ClientError) as error:
        raise NotReady(str(error)) from error
    text = " ".join(block.get("Text", "") for block in answer["Blocks"] if block["BlockType"] == "LINE")
    if text.upper().split() != _SHOWN_WORDS.split():
        raise NotReady(f"it read {text!r} where {_SHOWN_WORDS!r} was written")


def aws_session(env: dict[str, str]) -> Any:
    """Return a botocore session that sees nothing of the user's own AWS configuration."""
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
    """Return what reads the services' descriptions, megabytes of JSON, once for all sessions."""
    from botocore.loaders import create_loader

    return create_loader()


def aws_client(session: Any, service: str, env: dict[str, str]) -> Any:
    """Return a client of one service; it tries nothing twice."""
    from botocore.config import Config

    endpoint = env[f"AWS_ENDPOINT_URL_{service.upper()}"]
    # No retries: the caller asks again, and knows when to stop. No proxy ever knows loopback.
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
    """Make a bucket where it is missing. Asked for by name: a key may be allowed one bucket and not the list of all."""
    from botocore.exceptions import ClientError

    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != HTTPStatus.NOT_FOUND:
            raise NotReady(f"the bucket {bucket} cannot be used: {error}") from error
        # The default region of AWS is the one that must not be named.
        elsewhere = {} if region == REGION else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        client.create_bucket(Bucket=bucket, **elsewhere)


def _connect_queue(sns: Any, sqs: Any, name: str) -> tuple[str, str]:
    """Make a topic, a queue and the subscription between them; all are no-ops where they exist."""
    topic = sns.create_topic(Name=name)["TopicArn"]
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn", "Policy"])["Attributes"]
    arn = attributes["QueueArn"]
    if not attributes.get("Policy"):
        # AWS delivers to no queue that does not say so (SNS developer guide, "Fanout to Amazon SQS queues").
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
    """Send a message and wait for it, removing what earlier checks left behind."""
    token = secrets.token_hex(8)
    sns.publish(TopicArn=topic, Message=token)
    deadline = time.monotonic() + _DELIVERY_SECONDS
    while time.monotonic() < deadline:
        answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        seen = False
        for message in answer.get("Messages", []):
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
