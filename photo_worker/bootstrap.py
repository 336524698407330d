"""The composition root: makes an ``Application`` from settings alone; nothing is global."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from photo_worker.adapters.times import ServiceTimes, TextractTimes
from photo_worker.config import Settings
from photo_worker.contracts.image import CONFIGURED_ENGINE
from photo_worker.errors import BackendMissing, ConfigurationError, UnknownEngine
from photo_worker.ports.job_repository import JobRepository
from photo_worker.ports.object_store import ObjectStore
from photo_worker.ports.ocr import OcrBackend, RequiresUsable
from photo_worker.ports.orchestrator import WorkflowOrchestrator

if TYPE_CHECKING:
    import boto3
    from temporalio.client import Client
    from temporalio.runtime import Runtime

    from photo_worker.pipelines import Pipeline
    from photo_worker.services.consistency.inspector import InspectionConfig
    from photo_worker.services.consistency.repair import Repairer
    from photo_worker.services.consistency.scan import Scanner
    from photo_worker.services.erasure import Erasure
    from photo_worker.services.jobs import JobService

# An activity uses its connection for milliseconds, and Postgres allows 100 connections in all by default.
_MAX_CONNECTIONS = 20


@dataclass
class Application(AbstractContextManager["Application"]):
    """One deployment: its settings, ports and use cases. Leaving the context closes its connections.

    Several can exist in one process: each has its own AWS session, database connections and Temporal client.
    ``session`` is for the OCR backends that need AWS. ``connected`` is set by ``connect``. ``own_pipelines`` replace
    those of the registry and ``times`` the limits of waits for services, as tests do to shorten waits.
    """

    settings: Settings
    store: ObjectStore
    repository: JobRepository
    session: boto3.Session | None = None
    connected: WorkflowOrchestrator | None = None
    own_pipelines: Sequence[Pipeline] | None = None
    times: ServiceTimes = field(default_factory=ServiceTimes)
    resources: ExitStack = field(default_factory=ExitStack, repr=False)

    def __post_init__(self) -> None:
        self.backends = BackendRegistry(self.settings, self.store, self.session, times=self.times.textract)
        self._client: Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self.resources.close()

    @property
    def pipelines(self) -> Sequence[Pipeline]:
        """The pipelines of this deployment."""
        return _or_registered(self.own_pipelines)

    async def client(self, runtime: Runtime | None = None) -> Client:
        """Return the connection to Temporal, made at the first call with ``runtime``.

        Raises what ``connect`` raises.
        """
        if self._client is None:
            from photo_worker.adapters.temporal.connection import connect

            self._client = await connect(self.settings, self.settings.variables, runtime)
        return self._client

    async def connect(self) -> WorkflowOrchestrator:
        """Connect to Temporal at the first call, and return the orchestrator.

        Raises:
            TemporalUnavailable: if Temporal does not respond in time.
            PhotoWorkerError: the other errors into which ``rpc_errors`` translates a refusal.
        """
        if self.connected is None:
            from photo_worker.adapters.temporal.orchestrator import TemporalOrchestrator

            self.connected = TemporalOrchestrator(
                await self.client(),
                self.settings.temporal_task_queue,
                types=tuple(pipeline.kind for pipeline in self.pipelines),
            )
        return self.connected

    @property
    def orchestrator(self) -> WorkflowOrchestrator:
        """The orchestrator, as soon as ``connect`` has returned."""
        if self.connected is None:
            raise RuntimeError("the application is not connected to Temporal")
        return self.connected

    def jobs(self) -> JobService:
        """Return the use cases of jobs; before ``connect`` they only report."""
        from photo_worker.services.jobs import JobService

        return JobService(
            self.store,
            self.repository,
            self.connected,
            self.settings.s3_bucket,
            lifetime_seconds=self.settings.job_lifetime_seconds,
        )

    def erasure(self) -> Erasure:
        """Return the use case that deletes every trace of a job."""
        from photo_worker.services.erasure import Erasure

        return Erasure(self.store, self.repository, self.orchestrator, self.settings.s3_bucket)

    def scanner(self, config: InspectionConfig) -> AbstractAsyncContextManager[Scanner]:
        """Return a context manager of the scanner that checks the invariants."""
        from photo_worker.services.consistency.inspector import InspectionPorts
        from photo_worker.services.consistency.scan import open_scanner

        ports = InspectionPorts(
            self.store,
            self.repository,
            self.orchestrator,
            self.settings.s3_bucket,
            self.pipelines,
        )
        return open_scanner(ports, config)

    def repairer(self, scanner: Scanner) -> Repairer:
        """Return the use case that repairs the findings of ``scanner``."""
        from photo_worker.services.consistency.repair import Repairer

        return Repairer(scanner, self.erasure().erase, lifetime_seconds=self.settings.job_lifetime_seconds)


def database_conninfo(settings: Settings) -> str:
    """Return the database's connection string. Raises ``ConfigurationError`` if DATABASE_URL is not set.

    The deployment's PG* variables give the parameters that DATABASE_URL does not, as libpq's own defaults do.
    """
    from photo_worker.adapters.postgres.connection import with_defaults

    return with_defaults(settings.require_database_url(), settings.variables)


def build_application(
    settings: Settings, *, pipelines: Sequence[Pipeline] | None = None, times: ServiceTimes | None = None
) -> Application:
    """Wire S3 and Postgres. Nothing is connected yet: a process may start before its services.

    ``pipelines`` are those of the registry, and ``times`` the usual ones, if they are None.

    Raises ``ConfigurationError`` if DATABASE_URL is missing or no AWS region is set.
    """
    from photo_worker.adapters.postgres.job_repository import PostgresJobRepository, make_pool
    from photo_worker.adapters.s3.object_store import BotoObjectStore, make_client
    from photo_worker.aws import aws_session

    times = times or ServiceTimes()
    pool = make_pool(
        database_conninfo(settings), max_size=min(settings.max_activities, _MAX_CONNECTIONS), times=times.postgres
    )
    session = aws_session(settings.variables)
    client = make_client(
        session=session,
        max_pool_connections=settings.max_activities,
        connect_timeout=times.s3.connect,
        read_timeout=times.s3.read,
    )
    store = BotoObjectStore(
        client, encryption=settings.s3_server_side_encryption, kms_key_id=settings.s3_sse_kms_key_id
    )
    application = Application(
        settings, store, PostgresJobRepository(pool), session=session, own_pipelines=pipelines, times=times
    )
    application.resources.callback(client.close)
    application.resources.callback(pool.close)
    return application


class BackendRegistry:
    """OCR backends by engine name, each created at its first use and then kept. Thread-safe."""

    def __init__(
        self,
        settings: Settings,
        store: ObjectStore,
        session: boto3.Session | None = None,
        *,
        times: TextractTimes | None = None,
    ) -> None:
        self._times = times or TextractTimes()
        self._settings = settings
        self._store = store
        self._session = session
        self._made: dict[str, OcrBackend] = {}
        self._lock = threading.Lock()

    def __call__(self, engine: str) -> OcrBackend:
        """Return the backend of ``engine``; ``CONFIGURED_ENGINE`` stands for the one in the settings.

        Raises ``BackendMissing`` if a job names a backend that this worker does not have, ``ConfigurationError`` if the
        settings do, and any error of the backend's constructor.
        """
        from photo_worker.activities.heartbeats import HeartbeatNotes, attempt_seconds, wait
        from photo_worker.adapters.ocr.registry import BackendContext, make_backend

        name = self._settings.ocr_engine if engine == CONFIGURED_ENGINE else engine
        context = BackendContext(
            store=self._store,
            session=self._session,
            recorded_dir=self._settings.ocr_recorded_dir,
            max_parallel=self._settings.max_activities,
            textract_api=self._settings.textract_api,
            wait=wait,
            notes=HeartbeatNotes(),
            attempt_seconds=attempt_seconds,
            textract_times=self._times,
            variables=self._settings.variables,
        )
        with self._lock:
            try:
                if name not in self._made:
                    self._made[name] = make_backend(name, context)
            except UnknownEngine as error:
                if engine == CONFIGURED_ENGINE:
                    raise ConfigurationError(problems=f"OCR_ENGINE: {error.message.rstrip('.')}") from error
                # Another worker may have it.
                raise BackendMissing(engine=name, known=error.context["known"]) from error
            return self._made[name]

    def require_usable(self) -> None:
        """Raise the error that keeps the configured backend from reading any document, if there is one."""
        backend = self(CONFIGURED_ENGINE)
        if isinstance(backend, RequiresUsable):
            backend.require_usable()


def build_activities(
    application: Application, backends: Callable[[str], OcrBackend] | None = None
) -> list[Callable[..., Any]]:
    """Return every activity of the worker, bound to this process's ports."""
    from photo_worker.activities.heartbeats import stop_if_cancelled
    from photo_worker.adapters.documents.process import ProcessDecoder
    from photo_worker.pipelines import ActivityPorts

    ports = ActivityPorts(
        application.store,
        application.repository,
        backends or application.backends,
        ProcessDecoder(look=stop_if_cancelled),
        application.settings.s3_bucket,
    )
    return [activity for pipeline in application.pipelines for activity in pipeline.activities(ports)]


def workflow_classes(pipelines: Sequence[Pipeline] | None = None) -> list[type]:
    """Return every workflow class of the worker."""
    return [pipeline.workflow for pipeline in _or_registered(pipelines)]


def workflow_policies(application: Application) -> Mapping[str, object]:
    """Return the policies that the worker passes to its workflows, by workflow type."""
    return {pipeline.kind.name: pipeline.policies for pipeline in application.pipelines}


def _or_registered(chosen: Sequence[Pipeline] | None) -> Sequence[Pipeline]:
    if chosen is not None:
        return chosen
    # Commands that only report need neither workflows nor activities.
    from photo_worker.pipelines import PIPELINES

    return PIPELINES
