"""Fixtures: an emulator per test process whose S3 has no object, and clients of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from textract_support.clients import client_of
from textract_support.document_calls import tallies
from textract_support.emulator import RunningEmulator, running
from textract_support.recognisers import made

if TYPE_CHECKING:
    from mypy_boto3_textract import TextractClient

__all__ = ["made", "tallies"]


class _NoObjects(BaseHTTPRequestHandler):
    """An S3 that has no object."""

    def do_HEAD(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="session")
def aws_variables() -> Iterator[dict[str, str]]:
    """Yield the variables of AWS for an emulator and its clients."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _NoObjects) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        }
        server.shutdown()


@pytest.fixture(scope="session")
def emulator(aws_variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    with running(tmp_path_factory.mktemp("textract"), aws_variables) as started:
        yield started


@pytest.fixture(scope="session")
def textract(emulator: RunningEmulator, aws_variables: dict[str, str]) -> Iterator[TextractClient]:
    client = client_of(aws_variables, emulator.url)
    yield client
    client.close()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this directory: each needs an emulator's processes, alike on every Python."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("single_python")
