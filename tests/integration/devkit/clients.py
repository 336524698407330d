"""Clients of a stack's AWS services, as its variables configure them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import boto3


def client(service: str, env: Mapping[str, str]) -> Any:
    """Return the boto3 client of a service, made from the variables of a stack alone."""
    return boto3.client(
        service,  # type: ignore[call-overload]
        endpoint_url=env[f"AWS_ENDPOINT_URL_{service.upper()}"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        region_name=env["AWS_REGION"],
    )
