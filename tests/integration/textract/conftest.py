"""Fixtures: an emulator per test process that uses the stack's S3, and clients of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from textract_support.clients import client_of
from textract_support.document_calls import tallies
from textract_support.emulator import RunningEmulator, running

if TYPE_CHECKING:
    from mypy_boto3_textract import TextractClient

    from tests.integration.textract.jobs_world import Channel

__all__ = ["tallies"]


@pytest.fixture(scope="session")
def emulator(stack_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    variables = {name: value for name, value in stack_env.items() if name.startswith("AWS_")}
    with running(tmp_path_factory.mktemp("textract"), variables) as started:
        yield started


@pytest.fixture(scope="session")
def textract(emulator: RunningEmulator, stack_env: dict[str, str]) -> Iterator[TextractClient]:
    client = client_of(stack_env, emulator.url)
    yield client
    client.close()


@pytest.fixture
def channel(stack_env: dict[str, str]) -> Iterator[Channel]:
    """A topic, and a queue that receives its messages."""
    from tests.integration.textract.jobs_world import channel_of

    with channel_of(stack_env) as made:
        yield made
