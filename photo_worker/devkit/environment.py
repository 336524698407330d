"""The variables that point the application and botocore at a stack."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.parse import quote

from photo_worker.devkit.layout import DEFAULT_NAME, StackPaths, check_name, default_home
from photo_worker.devkit.ports import LOOPBACK
from photo_worker.devkit.state import DATABASE, DATABASE_USER, TASK_QUEUE, Processes, StackRecord

ACCOUNT = "000000000000"
AWS_SERVICES = ("s3", "sns", "sqs", "textract")
# S3 servers with a port of their own; the others serve S3 on the port of SNS and SQS.
_S3_APART = ("seaweedfs", "minio")
# The length of AWS secret keys.
_SECRET_LENGTH = 40
_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def environment_of(record: StackRecord) -> dict[str, str]:
    """Return the variables of a stack, whether it runs or not.

    If an AWS service is external, the credentials are those of this process' environment, if it has any.
    """
    ports, external, region = record.ports, record.external, record.region
    aws = f"http://{LOOPBACK}:{ports['aws']}"
    s3 = f"http://{LOOPBACK}:{ports['s3']}" if record.s3 in _S3_APART else aws
    artifacts = f"{record.prefix}-artifacts"
    database = (
        f"postgresql://{DATABASE_USER}:{quote(record.password, safe='')}@{LOOPBACK}:{ports['postgres']}/{DATABASE}"
        # Without this, a shell's PGSSLMODE could demand TLS, which the local server does not offer.
        "?sslmode=disable"
    )
    # The address of an external server's UI is unknown.
    ui = {} if "temporal" in external else {"TEMPORAL_UI_URL": f"http://{LOOPBACK}:{ports['temporal-ui']}"}
    return {
        "TEMPORAL_TARGET": external.get("temporal", f"{LOOPBACK}:{ports['temporal']}"),
        "TEMPORAL_NAMESPACE": record.prefix,
        "TEMPORAL_TASK_QUEUE": TASK_QUEUE,
        **ui,
        "DATABASE_URL": external.get("postgres", database),
        "S3_BUCKET": f"{record.prefix}-photos",
        "SNS_TOPIC_ARN": f"arn:aws:sns:{region}:{ACCOUNT}:{artifacts}",
        "SQS_QUEUE_URL": f"{external.get('sqs', aws)}/{ACCOUNT}/{artifacts}",
        **record.found,
        "AWS_ENDPOINT_URL_S3": external.get("s3", s3),
        "AWS_ENDPOINT_URL_SNS": external.get("sns", aws),
        "AWS_ENDPOINT_URL_SQS": external.get("sqs", aws),
        "AWS_ENDPOINT_URL_TEXTRACT": external.get("textract", f"http://{LOOPBACK}:{ports['textract']}"),
        **_credentials(record),
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _credentials(record: StackRecord) -> dict[str, str]:
    given = {name: os.environ[name] for name in _CREDENTIALS if os.environ.get(name, "").strip()}
    if {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= given.keys() and any(
        service in record.external for service in AWS_SERVICES
    ):
        return given
    # LocalStack checks presigned URLs against exactly this secret.
    key, secret = ("test", "test") if record.s3 == "localstack" else ("local", "local")
    if record.s3 in _S3_APART:
        # These accept every valid signature: with a well-known secret, a web page could sign requests.
        secret = hashlib.sha256(f"s3 {record.password}".encode()).hexdigest()[:_SECRET_LENGTH]
    return {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}


def stack_environment(name: str | None = None, home: Path | None = None) -> dict[str, str] | None:
    """Return the variables of a running stack, or None if it does not run.

    Cheap: reads two small files and a lock, without a probe; for containers, one request to the engine. ``home`` is
    the directory of stacks (``.photo-worker`` in the worktree by default), ``name`` the stack in it.
    """
    paths = StackPaths(home or default_home(), check_name(name or DEFAULT_NAME))
    record = StackRecord.load(paths)
    if record is None:
        return None
    if record.kind == "compose":
        from photo_worker.devkit.containers import is_up

        return environment_of(record) if is_up(paths) else None
    return environment_of(record) if Processes.load(paths).alive else None
