"""The target of a run: the real service, configured by variables, or an emulator process."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import boto3
from botocore.config import Config

from tests.conformance.service import Channel, Control, Service
from tests.support.resources import session_of
from textract_support.emulator import RunningEmulator, running

TARGET = "PHOTO_WORKER_CONFORMANCE"
BUCKET = "PHOTO_WORKER_CONFORMANCE_BUCKET"
TOPIC = "PHOTO_WORKER_CONFORMANCE_TOPIC_ARN"
ROLE = "PHOTO_WORKER_CONFORMANCE_ROLE_ARN"
QUEUE = "PHOTO_WORKER_CONFORMANCE_QUEUE_URL"
_MODULE = "textract_local.server"


def is_aws(variables: Mapping[str, str] = os.environ) -> bool:
    """Return whether the target is the real service. Raises ``ValueError`` for an unknown target."""
    given = variables.get(TARGET, "emulator")
    if given not in {"emulator", "aws"}:
        raise ValueError(f"{TARGET} is {given!r}; it may be emulator or aws")
    return given == "aws"


def aws(session: boto3.Session, variables: Mapping[str, str]) -> Service:
    """Return the real service in the session's region. Raises ``ValueError`` if a variable is missing."""
    missing = [name for name in (BUCKET, TOPIC, ROLE, QUEUE) if not variables.get(name)]
    if missing or not session.region_name:
        raise ValueError(f"a run against AWS needs {', '.join(missing or ['AWS_DEFAULT_REGION'])}")
    # Loaded now, while the user's own variables are set: tests run without them.
    session.get_credentials()
    region = session.region_name
    return Service(
        # The endpoint of the region, or AWS_ENDPOINT_URL_TEXTRACT for another implementation.
        url=session.client("textract").meta.endpoint_url.rstrip("/"),
        session=session,
        region=region,
        bucket=variables[BUCKET],
        s3=session.client("s3"),
        sns=session.client("sns"),
        sqs=session.client("sqs"),
        given_channel=Channel({"SNSTopicArn": variables[TOPIC], "RoleArn": variables[ROLE]}, variables[QUEUE]),
    )


@contextmanager
def emulated(
    stack_env: Mapping[str, str], directory: Path, *program: str, variables: Mapping[str, str] | None = None
) -> Iterator[Service]:
    """Start an emulator with a separate data directory on a stack's S3, SNS and SQS; end it with the block.

    ``program`` are Python's arguments before the emulator's own, to start it in another way.
    """
    session = session_of(dict(stack_env))
    config = Config(max_pool_connections=20)
    s3 = session.client("s3", endpoint_url=stack_env["AWS_ENDPOINT_URL_S3"], config=config)
    sns = session.client("sns", endpoint_url=stack_env["AWS_ENDPOINT_URL_SNS"], config=config)
    sqs = session.client("sqs", endpoint_url=stack_env["AWS_ENDPOINT_URL_SQS"], config=config)
    bucket = f"conformance-{secrets.token_hex(8)}"
    s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    processes = _Processes(stack_env, directory, program or ("-m", _MODULE), variables or {})
    try:
        started = processes.start()
        control = Control(started, processes.start)
        yield Service(
            url=started.url,
            session=session,
            region=stack_env["AWS_REGION"],
            bucket=bucket,
            s3=s3,
            sns=sns,
            sqs=sqs,
            control=control,
        )
    finally:
        processes.end()
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            for item in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                s3.delete_object(Bucket=bucket, Key=item["Key"], VersionId=item["VersionId"])
        s3.delete_bucket(Bucket=bucket)
        for client in (s3, sns, sqs):
            client.close()


class _Processes:
    """Emulator processes, one at a time, with the same port and data directory."""

    def __init__(
        self, stack_env: Mapping[str, str], directory: Path, program: tuple[str, ...], variables: Mapping[str, str]
    ) -> None:
        self._variables = {name: value for name, value in stack_env.items() if name.startswith("AWS_")} | dict(
            variables
        )
        self._directory = directory
        self._arguments = [*program, "--port", str(_free_port()), "--data", str(directory / "data")]
        self._running = ExitStack()

    def start(self) -> RunningEmulator:
        """Kill the process, if there is one, and start another."""
        self._running.close()
        return self._running.enter_context(running(self._directory, self._variables, *self._arguments))

    def end(self) -> None:
        self._running.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
