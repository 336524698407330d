"""What the storage tests share: a proxy to Postgres, and the deviations that the table of S3 behaviours lists."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg import conninfo

from tests.contracts.s3.table import expect_deviations
from tests.support.proxy import Proxy, proxy_to

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    compose = os.environ.get("PHOTO_WORKER_STACK_KIND") == "compose"
    server = os.environ.get("PHOTO_WORKER_S3") or ("localstack" if compose else "ministack")
    own = [item for item in items if item.path.parent == HERE]
    expect_deviations(own, lambda item: server if "s3_client" in item.fixturenames else "")


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    """A proxy to the Postgres of the test's database."""
    parts: dict[str, Any] = conninfo.conninfo_to_dict(database_url)
    with proxy_to(str(parts["host"]), int(parts["port"])) as made:
        yield made
