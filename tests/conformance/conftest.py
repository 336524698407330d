"""The service under test: an emulator process of one's own, or what PHOTO_WORKER_CONFORMANCE says."""

from __future__ import annotations

import os
from collections.abc import Iterator

import boto3
import pytest

from tests.conformance import target
from tests.conformance.service import Service


@pytest.fixture(scope="session")
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The real Textract where the run is pointed at it, and an emulator on the run's stack otherwise."""
    if target.is_aws():
        yield target.aws(boto3.Session(), os.environ)
        return
    stack_env: dict[str, str] = request.getfixturevalue("stack_env")
    with target.emulated(stack_env, tmp_path_factory.mktemp("conformance")) as made:
        yield made
