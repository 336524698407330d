"""The composition root: chooses adapters, creates them and passes them on; nothing is global."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from photo_worker.config import Settings
from photo_worker.contracts.image import CONFIGURED_ENGINE
from photo_worker.errors import BackendMissing, ConfigurationError, UnknownEngine
from photo_worker.ports import JobRepository, ObjectStore, OcrBackend, RequiresUsable, WorkflowOrchestrator

# An activity uses its connection for milliseconds, and Postgres allows 100 connections in all by default.
_MAX_CONNECTIONS = 20


@dataclass
class Application:
    """The ports of one process; ``close`` releases their connections."""

    settings: Settings
    store: ObjectStore
    repository: JobRepository
    close: Callable[[], None]


def build_application(settings: Settings) -> Application:
    """Wire S3 and Postgres. Nothing is connected yet: a process may start before its services.

    Raises ``ConfigurationError`` if DATABASE_URL is missing or no AWS region is set.
    """
    from photo_worker.storage.postgres import PostgresJobRepository, make_pool
    from photo_worker.storage.s3_boto import BotoObjectStore, make_client

    pool = make_pool(settings.require_database_url(), max_size=min(settings.max_activities, _MAX_CONNECTIONS))
    store = BotoObjectStore(
        make_client(max_pool_connections=settings.max_activities),
        encryption=settings.s3_server_side_encryption,
        kms_key_id=settings.s3_sse_kms_key_id,
    )
    return Application(settings=settings, store=store, repository=PostgresJobRepository(pool), close=pool.close)


class BackendRegistry:
    """OCR backends by engine name, each created at its first use and then kept. Thread-safe."""

    def __init__(self, settings: Settings, store: ObjectStore) -> None:
        self._settings = settings
        self._store = store
        self._made: dict[str, OcrBackend] = {}
        self._lock = threading.Lock()

    def __call__(self, engine: str) -> OcrBackend:
        """Return the backend of ``engine``; ``CONFIGURED_ENGINE`` stands for the one in the settings.

        Raises ``BackendMissing`` if a job names a backend that this worker does not have, ``ConfigurationError`` if the
        settings do, and any error of the backend's constructor.
        """
        from photo_worker.activities.heartbeats import HeartbeatNotes, wait
        from photo_worker.ocr.registry import BackendContext, make_backend

        name = self._settings.ocr_engine if engine == CONFIGURED_ENGINE else engine
        context = BackendContext(
            store=self._store,
            recorded_dir=self._settings.ocr_recorded_dir,
            max_parallel=self._settings.max_activities,
            textract_api=self._settings.textract_api,
            wait=wait,
            notes=HeartbeatNotes(),
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
    from photo_worker.activities.assets import AssetActivities
    from photo_worker.activities.heartbeats import stop_if_cancelled
    from photo_worker.activities.ocr import OcrActivities
    from photo_worker.activities.results import ResultActivities
    from photo_worker.documents.process import ProcessDecoder

    store, repository, bucket = application.store, application.repository, application.settings.s3_bucket
    assets = AssetActivities(store, repository, ProcessDecoder(look=stop_if_cancelled), bucket)
    ocr = OcrActivities(store, repository, backends or BackendRegistry(application.settings, store), bucket)
    results = ResultActivities(store, repository, bucket)
    return [
        assets.verify_and_locate_asset,
        ocr.ocr_textract,
        results.persist_artifacts,
        results.record_failure,
    ]


def workflow_types() -> list[type]:
    """Return every workflow class of the worker."""
    from photo_worker.workflows.image import ImageProcessingWorkflow

    return [ImageProcessingWorkflow]


async def build_orchestrator(settings: Settings, variables: Mapping[str, str]) -> WorkflowOrchestrator:
    """Connect to Temporal and return the orchestrator; raises ``TemporalUnavailable``."""
    from photo_worker.orchestration.connection import connect
    from photo_worker.orchestration.temporal import TemporalOrchestrator

    return TemporalOrchestrator(await connect(settings, variables), settings.temporal_task_queue)
