"""The variables that point the application and botocore at a stack."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from photo_worker.devkit.layout import DEFAULT_NAME, StackPaths, check_name, default_home
from photo_worker.devkit.ports import LOOPBACK
from photo_worker.devkit.state import DATABASE, DATABASE_USER, REGION, TASK_QUEUE, Processes, StackRecord

ACCOUNT = "000000000000"


def environment_of(record: StackRecord) -> dict[str, str]:
    """Return the variables of a stack, whether it runs or not."""
    ports = record.ports
    aws = f"http://{LOOPBACK}:{ports['aws']}"
    artifacts = f"{record.prefix}-artifacts"
    return {
        "TEMPORAL_TARGET": f"{LOOPBACK}:{ports['temporal']}",
        "TEMPORAL_NAMESPACE": record.prefix,
        "TEMPORAL_TASK_QUEUE": TASK_QUEUE,
        "TEMPORAL_UI_URL": f"http://{LOOPBACK}:{ports['temporal-ui']}",
        "DATABASE_URL": (
            f"postgresql://{DATABASE_USER}:{quote(record.password, safe='')}@{LOOPBACK}:{ports['postgres']}/{DATABASE}"
        ),
        "S3_BUCKET": f"{record.prefix}-photos",
        "SNS_TOPIC_ARN": f"arn:aws:sns:{REGION}:{ACCOUNT}:{artifacts}",
        "SQS_QUEUE_URL": f"{aws}/{ACCOUNT}/{artifacts}",
        "AWS_ENDPOINT_URL_S3": aws,
        "AWS_ENDPOINT_URL_SNS": aws,
        "AWS_ENDPOINT_URL_SQS": aws,
        "AWS_ENDPOINT_URL_TEXTRACT": f"http://{LOOPBACK}:{ports['textract']}",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def stack_environment(name: str | None = None, home: Path | None = None) -> dict[str, str] | None:
    """Return the variables of a stack that runs, or None where none runs.

    Cheap: two small files and a lock, no probe. ``home`` is the directory of stacks
    (``.photo-worker`` in the worktree by default), ``name`` the stack in it.
    """
    paths = StackPaths(home or default_home(), check_name(name or DEFAULT_NAME))
    if not Processes.load(paths).alive:
        return None
    record = StackRecord.load(paths)
    return None if record is None else environment_of(record)
