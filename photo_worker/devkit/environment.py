"""The variables that point the application and botocore at a stack."""

from __future__ import annotations

import os
from pathlib import Path

from photo_worker.devkit.layout import DEFAULT_NAME, StackPaths, check_name, default_home
from photo_worker.devkit.service_registry import endpoints, replaceable_services
from photo_worker.devkit.state import Processes, StackRecord

ACCOUNT = "000000000000"
AWS_SERVICES = ("s3", "sns", "sqs", "textract")
_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def environment_of(record: StackRecord) -> dict[str, str]:
    """Return the variables of a stack, whether it runs or not.

    If an AWS service is external, the credentials are those of this process' environment, if it has any.
    """
    variables: dict[str, str] = {}
    for service in replaceable_services(record):
        variables |= service.environment(record)
    variables |= record.found
    known = endpoints()
    variables |= {known[name].variable: address for name, address in record.external.items()}
    return {
        **variables,
        **_credentials(record),
        "AWS_REGION": record.region,
        "AWS_DEFAULT_REGION": record.region,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def direct_environment_of(record: StackRecord) -> dict[str, str]:
    """Return the same variables past the optional services, which may be in front of others."""
    return environment_of(record.with_(extras=[]))


def _credentials(record: StackRecord) -> dict[str, str]:
    given = {name: os.environ[name] for name in _CREDENTIALS if os.environ.get(name, "").strip()}
    if {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= given.keys() and any(
        service in record.external for service in AWS_SERVICES
    ):
        return given
    wanted = (service.credentials(record) for service in replaceable_services(record))
    key, secret = next((pair for pair in wanted if pair is not None), ("local", "local"))
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
