"""The product on the shared stack with a database, bucket and task queue for one test."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from psycopg.conninfo import conninfo_to_dict
from temporalio.client import Client
from temporalio.worker import Worker

from photo_worker.adapters.postgres.job_repository import PostgresJobRepository, make_pool
from photo_worker.adapters.s3.object_store import BotoObjectStore
from photo_worker.admission import Admission
from photo_worker.bootstrap import Application, build_activities, build_application, workflow_classes
from photo_worker.config import Settings, load_settings, read_environment
from photo_worker.contracts.image import IMAGE_PROCESSING
from photo_worker.policies import IMAGE, ImagePolicies
from photo_worker.ports.ocr import OcrBackend
from photo_worker.ports.orchestrator import WaitingAttempt
from photo_worker.readiness import readiness_checks
from photo_worker.services.binding import bind
from photo_worker.services.jobs import JobService
from photo_worker.worker import WorkerOptions, build_worker
from tests.support.workers import running

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"

_T = TypeVar("_T")


async def eventually(probe: Callable[[], Awaitable[_T | None]], *, seconds: float = 30.0) -> _T:
    """Return the first true result of ``probe``; fail if there is none within ``seconds``."""
    async with asyncio.timeout(seconds):
        while True:
            found = await probe()
            if found:
                return found
            await asyncio.sleep(0.05)


@dataclass
class Harness:
    """The product for one test: settings, ports, a client, and workers on request."""

    variables: dict[str, str]
    settings: Settings
    application: Application
    client: Client
    service: JobService

    @asynccontextmanager
    async def worker(
        self,
        backends: Callable[[str], OcrBackend] | None = None,
        admission: Admission | None = None,
        *,
        policies: ImagePolicies = IMAGE,
    ) -> AsyncIterator[Worker]:
        """Run a worker while the block runs; ``backends`` replace those of the settings."""
        options = WorkerOptions(policies={IMAGE_PROCESSING.name: policies})
        with ThreadPoolExecutor(self.settings.max_activities) as executor:
            activities = build_activities(self.application, backends)
            worker = build_worker(
                self.client, self.settings, workflow_classes(), activities, executor, admission, options
            )
            async with running(worker):
                yield worker

    @asynccontextmanager
    async def admitted_worker(self) -> AsyncIterator[Admission]:
        """Run a worker that polls for activities when its first look finds nothing amiss, as the process does."""
        admission = Admission(readiness_checks(self.application))
        with ThreadPoolExecutor(self.settings.max_activities) as executor:
            worker = build_worker(
                self.client, self.settings, workflow_classes(), build_activities(self.application), executor, admission
            )
            looking = asyncio.create_task(admission.wait_until_ready())
            try:
                async with running(worker):
                    yield admission
            finally:
                looking.cancel()


async def waiting_for(harness: Harness, job_id: UUID, attempts: int) -> WaitingAttempt:
    """Wait until the job's activity has had this many attempts, and return the pending one."""

    async def probe() -> WaitingAttempt | None:
        state = await harness.service.workflow_of(job_id)
        return state.waiting if state and state.waiting and state.waiting.attempt > attempts else None

    return await eventually(probe, seconds=120)


@pytest.fixture
def stack_variables(stack_env: dict[str, str], database_url: str, bucket: str, s3_client: S3Client) -> dict[str, str]:
    """Return the shared stack's variables with the test's own database, bucket bound to it, and task queue."""
    with make_pool(database_url, max_size=1) as pool:
        bind(BotoObjectStore(s3_client), PostgresJobRepository(pool), bucket)
    own = urlsplit(stack_env["DATABASE_URL"])._replace(path=str(conninfo_to_dict(database_url)["dbname"]))
    return stack_env | {
        "DATABASE_URL": own.geturl(),
        "S3_BUCKET": bucket,
        "TEMPORAL_TASK_QUEUE": f"test-{secrets.token_hex(6)}",
        "OCR_RECORDED_DIR": str(FIXTURES / "recorded"),
        "GRACEFUL_SHUTDOWN_SECONDS": "5",
        "MAX_ACTIVITIES": "4",
    }


@asynccontextmanager
async def open_harness(variables: dict[str, str]) -> AsyncIterator[Harness]:
    """Wire the product with ``variables``; the process environment has no part in it."""
    settings = load_settings(read_environment(variables, None))
    with build_application(settings) as application:
        await application.connect()
        yield Harness(variables, settings, application, await application.client(), application.jobs())


@pytest.fixture
async def harness(stack_variables: dict[str, str]) -> AsyncIterator[Harness]:
    """The product on the shared stack, without a running worker."""
    async with open_harness(stack_variables) as made:
        yield made
