"""The environment of real cells: the stack's services, and a database, bucket and task queue for each world."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from temporalio.client import (
    Client,
    Interceptor,
    OutboundInterceptor,
    StartWorkflowInput,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowHistory,
)
from temporalio.service import RPCError, RPCStatusCode

from photo_worker.adapters.postgres.job_repository import PostgresJobRepository, make_pool
from photo_worker.adapters.s3.object_store import BotoObjectStore, make_client
from photo_worker.adapters.temporal.connection import connect
from photo_worker.adapters.temporal.orchestrator import TemporalOrchestrator
from photo_worker.config import Settings, load_settings, read_environment
from photo_worker.pipelines import workflow_types
from photo_worker.ports.job_repository import JobRepository
from photo_worker.ports.object_store import ObjectStore
from photo_worker.ports.orchestrator import WorkflowOrchestrator
from photo_worker.services.binding import bind
from photo_worker.services.consistency.inspector import InspectionPorts
from photo_worker.services.jobs import JobService
from photo_worker.sources import Source
from tests.crash.real.arming import Arm
from tests.crash.real.processes import Child, Forkserver, variables_for
from tests.crash.real.scaled import Scale
from tests.support.resources import create_database, database_named, drop_database, session_of

# A stopped worker keeps its workflow task for this time. On a busy machine a running one must complete the tasks that
# it has taken within it, or they are given to another and repeated endlessly.
_WORKFLOW_TASK_SECONDS = 5.0
_MOST_WORKFLOW_TASKS = 6


class _ShortTasks(Interceptor):
    """Sets a short workflow task timeout for the workflows that a client starts."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _ShortTasksOutbound(super().intercept_client(next))


class _ShortTasksOutbound(OutboundInterceptor):
    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        input.task_timeout = timedelta(seconds=_WORKFLOW_TASK_SECONDS)
        return await super().start_workflow(input)


@dataclass
class World:
    """One isolated deployment: settings, ports and the processes."""

    environment: Environment
    name: str
    variables: dict[str, str]
    settings: Settings
    repository: JobRepository
    orchestrator: WorkflowOrchestrator
    service: JobService
    scale: Scale
    directory: Path
    children: list[Child] = field(default_factory=list)

    @property
    def store(self) -> ObjectStore:
        """The object store, which all worlds share with separate buckets."""
        return self.environment.store

    @property
    def bucket(self) -> str:
        """The world's own bucket."""
        return self.settings.s3_bucket

    @property
    def ports(self) -> InspectionPorts:
        """The ports that the product's own check uses."""
        return InspectionPorts(self.store, self.repository, self.orchestrator, self.bucket)

    async def worker(self, arm: Arm | None = None, **variables: str) -> Child:
        """Start a worker process; ``arm`` is its fault."""
        return await self._spawn("worker", arm, variables)

    async def command(self, *arguments: str, arm: Arm | None = None, **variables: str) -> Child:
        """Start a ``photo-worker`` command."""
        return await self._spawn("command", arm, variables, *arguments)

    async def submit(self, path: Path, job_id: UUID) -> None:
        """Submit a file from this process."""
        await self.service.submit(Source(path.name, path=path), job_id=job_id)

    async def ended(self, job_id: UUID, seconds: float = 60.0) -> None:
        """Wait until the job's row is final and its workflow closed, in any status."""
        async with asyncio.timeout(seconds):
            await self.service.wait(job_id)
            with contextlib.suppress(WorkflowFailureError):
                await self.environment.client.get_workflow_handle(str(job_id)).result()

    def logs(self) -> str:
        """Return the logs of all of the world's processes."""
        return "\n".join(child.output() for child in self.children)

    async def _spawn(self, main: str, arm: Arm | None, more: Mapping[str, str], *arguments: str) -> Child:
        log = self.directory / f"{self.name}-{len(self.children)}.log"
        variables = {**self.variables, **(arm.as_variables() if arm else {}), **more}
        child = await self.environment.forkserver.spawn(main, variables, log, *arguments)
        self.children.append(child)
        return child


@dataclass
class Environment:
    """What worlds share: the stack's variables, its clients, a migrated template database, and the fork server."""

    stack: dict[str, str]
    template: str
    client: Client
    store: ObjectStore
    forkserver: Forkserver
    directory: Path

    @asynccontextmanager
    async def world(self, name: str, scale: Scale | None = None, **own: str) -> AsyncIterator[World]:
        """Yield a world; end its processes and drop its database after the block. Its bucket ends with the stack."""
        scale = scale or Scale()
        server = self.stack["DATABASE_URL"]
        database = await asyncio.to_thread(create_database, server, template=self.template)
        bucket = f"crash-{secrets.token_hex(8)}"
        await asyncio.to_thread(self.store.ensure_bucket, bucket)
        variables = (
            variables_for(
                self.stack,
                DATABASE_URL=urlsplit(server)._replace(path=f"/{database}").geturl(),
                S3_BUCKET=bucket,
                TEMPORAL_TASK_QUEUE=f"crash-{secrets.token_hex(6)}",
                MAX_ACTIVITIES="1",
                MAX_WF_TASKS=str(_MOST_WORKFLOW_TASKS),
                GRACEFUL_SHUTDOWN_SECONDS="10",
                **scale.as_variables(),
            )
            | own
        )
        settings = load_settings(read_environment(variables, None))
        pool = make_pool(database_named(server, database), max_size=2)
        repository = PostgresJobRepository(pool)
        orchestrator = TemporalOrchestrator(self.client, settings.temporal_task_queue, types=workflow_types())
        await asyncio.to_thread(bind, self.store, repository, bucket)
        service = JobService(self.store, repository, orchestrator, bucket)
        world = World(self, name, variables, settings, repository, orchestrator, service, scale, self.directory)
        try:
            yield world
        finally:
            await asyncio.gather(*(child.kill() for child in world.children if child.alive))
            await asyncio.to_thread(pool.close)
            await asyncio.to_thread(drop_database, server, database)

    async def history(self, workflow_id: str) -> WorkflowHistory | None:
        """Return a workflow's history so far, None if Temporal has none."""
        try:
            return await self.client.get_workflow_handle(workflow_id).fetch_history()
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return None
            raise


@asynccontextmanager
async def open_environment(
    stack: dict[str, str], template: str, forkserver: Forkserver, directory: Path
) -> AsyncIterator[Environment]:
    """Connect to a stack and yield the environment of its worlds."""
    settings = load_settings(read_environment(stack, None))
    client = await connect(settings, stack)
    config = client.config()
    config["interceptors"] = [_ShortTasks()]
    s3 = make_client(session=session_of(stack), endpoint_url=stack["AWS_ENDPOINT_URL_S3"], max_pool_connections=20)
    try:
        yield Environment(stack, template, Client(**config), BotoObjectStore(s3), forkserver, directory)
    finally:
        s3.close()
