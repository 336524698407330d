"""The service under test: a separate emulator process, or the target that PHOTO_WORKER_CONFORMANCE names."""

from __future__ import annotations

import os
from collections.abc import Iterator

import boto3
import pytest

from tests.conformance import target
from tests.conformance.service import Service


@pytest.fixture(scope="session")
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The real Textract if it is the target, otherwise an emulator on the run's stack."""
    if target.is_aws():
        yield target.aws(boto3.Session(), os.environ)
        return
    stack_env: dict[str, str] = request.getfixturevalue("stack_env")
    with target.emulated(stack_env, tmp_path_factory.mktemp("conformance")) as made:
        yield made
