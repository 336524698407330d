"""Expects from the stack's S3 server the deviations that the table of S3 behaviours lists."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.contracts.s3.table import expect_deviations

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    compose = os.environ.get("PHOTO_WORKER_STACK_KIND") == "compose"
    server = os.environ.get("PHOTO_WORKER_S3") or ("localstack" if compose else "ministack")
    own = [item for item in items if item.path.parent == HERE]
    expect_deviations(own, lambda item: server if "s3_client" in item.fixturenames else "")
