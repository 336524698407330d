"""Throwaway services, each in a container, usable when yielded."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from photo_worker.devkit.guard.rules import HOSTS_VARIABLE
from tests.containers.engine import Engine, image_of
from tests.contracts.s3.case import Endpoint
from tests.s3.servers import wait_until_usable

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

_SECONDS = 90
_POLL = 0.1
# Data of tests need not survive a power failure.
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@contextmanager
def postgres(engine: Engine) -> Iterator[str]:
    """Yield the connection string of an empty database, as its owner and superuser."""
    from testcontainers.community.postgres import PostgresContainer

    container = PostgresContainer(
        image_of("postgres"),
        username="photo_worker",
        password=secrets.token_hex(8),
        dbname="photo_worker",
        driver=None,
    )
    container.with_command(["postgres", *(word for setting in _FAST for word in ("-c", setting))])
    with engine.running(container, container.port):
        yield container.get_connection_url()


@contextmanager
def localstack(engine: Engine) -> Iterator[Endpoint]:
    """Yield LocalStack with S3, SNS and SQS."""
    from testcontainers.core.container import DockerContainer

    # testcontainers' own class waits for a line in the log, after which calls may still fail.
    container = DockerContainer(image_of("aws")).with_envs(SERVICES="s3,sns,sqs", GATEWAY_LISTEN="0.0.0.0:4566")
    container.with_envs(DISABLE_EVENTS="1", SKIP_SSL_CERT_DOWNLOAD="1", DNS_ADDRESS="0")
    container.with_env("S3_SKIP_SIGNATURE_VALIDATION", "0")
    with (
        engine.running(container, 4566),
        closing(Endpoint("localstack", _url(container, 4566), "test", "test")) as server,
    ):
        wait_until_usable(server, lambda: None, seconds=_SECONDS)
        yield server


@contextmanager
def minio(engine: Engine) -> Iterator[Endpoint]:
    """Yield MinIO on one drive."""
    from testcontainers.core.container import DockerContainer

    access_key, secret_key = "photo-worker", secrets.token_hex(8)
    container = DockerContainer(image_of("s3")).with_command(["server", "/data", "--address", ":9000"])
    container.with_envs(MINIO_ROOT_USER=access_key, MINIO_ROOT_PASSWORD=secret_key)
    container.with_envs(MINIO_BROWSER="off", MINIO_UPDATE="off", MINIO_CALLHOME_ENABLE="off")
    with (
        engine.running(container, 9000),
        closing(Endpoint("minio", _url(container, 9000), access_key, secret_key)) as server,
    ):
        wait_until_usable(server, lambda: None, seconds=_SECONDS)
        yield server


@contextmanager
def temporal(engine: Engine) -> Iterator[str]:
    """Yield HOST:PORT of Temporal's development server, with the namespace ``default``, in memory."""
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import ExecWaitStrategy

    container = DockerContainer(image_of("temporal"))
    container.with_command(["server", "start-dev", "--ip=0.0.0.0", "--headless", "--log-level=warn"])
    container.with_env("TEMPORAL_VERSION_CHECK_DISABLED", "1")
    described = ["temporal", "operator", "namespace", "describe", "--namespace", "default"]
    wait = ExecWaitStrategy([*described, "--command-timeout", "5s"])
    container.waiting_for(wait.with_startup_timeout(_SECONDS).with_poll_interval(_POLL))
    with engine.running(container, 7233):
        yield _url(container, 7233).removeprefix("http://")


@contextmanager
def textract(engine: Engine) -> Iterator[str]:
    """Yield the URL of this project's Textract emulator for inline documents; it has no S3."""
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import HttpWaitStrategy

    container = DockerContainer(image_of("textract"))
    # If the engine is not on this machine's loopback, clients call the emulator by the engine's host.
    container.with_env(HOSTS_VARIABLE, container.get_docker_client().host())
    wait = HttpWaitStrategy(8765, "/_emulator/health")
    container.waiting_for(wait.with_startup_timeout(_SECONDS).with_poll_interval(_POLL))
    with engine.running(container, 8765):
        yield _url(container, 8765)


def _url(container: DockerContainer, port: int) -> str:
    return f"http://{container.get_container_host_ip()}:{container.get_exposed_port(port)}"
