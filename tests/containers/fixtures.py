"""Fixtures that start a throwaway service for a test module, in a container that is removed after it.

They skip with the reason if no Docker engine responds or an image is unavailable.
docs/how-to/containers-in-tests.md shows them in use.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest

from tests.containers import services
from tests.containers.engine import Engine, NoContainer, open_engine
from tests.contracts.s3.case import Endpoint

_T = TypeVar("_T")


@contextmanager
def or_skip(opening: AbstractContextManager[_T]) -> Iterator[_T]:
    """Enter a block; skip the test with the reason if that raises ``NoContainer``."""
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(opening)
        except NoContainer as reason:
            pytest.skip(str(reason))
        yield opened


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[Engine]:
    """The Docker engine of this machine."""
    with or_skip(open_engine()) as engine:
        yield engine


@pytest.fixture(scope="module")
def throwaway_postgres(docker_engine: Engine) -> Iterator[str]:
    """The connection string of an empty Postgres database."""
    with or_skip(services.postgres(docker_engine)) as url:
        yield url


@pytest.fixture(scope="module")
def throwaway_localstack(docker_engine: Engine) -> Iterator[Endpoint]:
    """LocalStack with S3, SNS and SQS."""
    with or_skip(services.localstack(docker_engine)) as server:
        yield server


@pytest.fixture(scope="module")
def localstack_session(throwaway_localstack: Endpoint) -> Any:
    """A ``localstack_client.session.Session``: its clients go to the throwaway LocalStack."""
    session = pytest.importorskip(
        "localstack_client.session", reason="localstack-client is not installed; `nox -s containers` brings it"
    )
    server = throwaway_localstack
    return session.Session(
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        localstack_host=urlsplit(server.url).netloc,
    )


@pytest.fixture(scope="module")
def throwaway_minio(docker_engine: Engine) -> Iterator[Endpoint]:
    """MinIO on one drive."""
    with or_skip(services.minio(docker_engine)) as server:
        yield server


@pytest.fixture(scope="module")
def throwaway_temporal(docker_engine: Engine) -> Iterator[str]:
    """HOST:PORT of Temporal's development server."""
    with or_skip(services.temporal(docker_engine)) as target:
        yield target


@pytest.fixture(scope="module")
def throwaway_textract(docker_engine: Engine) -> Iterator[str]:
    """The URL of the Textract emulator."""
    with or_skip(services.textract(docker_engine)) as url:
        yield url
