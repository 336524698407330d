"""A deployment in memory with one finished job, to be erased."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from temporalio.testing import ActivityEnvironment

from photo_worker.activities.results import ResultActivities
from photo_worker.adapters.memory.job_repository import MemoryJobRepository
from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.adapters.memory.orchestrator import MemoryOrchestrator
from photo_worker.contracts.image import (
    IMAGE_PROCESSING,
    ImageProcessingInput,
    Manifest,
    PersistInput,
)
from photo_worker.contracts.keys import converted_key, manifest_key, ocr_key, raw_key
from photo_worker.crash_points import CrashPoint
from photo_worker.errors import TemporalUnavailable
from photo_worker.ports.job_repository import OcrRecord
from photo_worker.services.binding import MARKER_KEY, bind
from photo_worker.services.erasure import Erasure, ErasureStep
from photo_worker.services.jobs import JobService

BUCKET = "photos"
BODY = b"flour, butter and sugar"
SHA = hashlib.sha256(BODY).hexdigest()
RAW = raw_key(SHA, ".png")
COPY = converted_key(BUCKET, RAW, SHA)
POINTS = [
    CrashPoint.ERASURE_MARKED,
    CrashPoint.WORKFLOW_ERASED,
    CrashPoint.ARTIFACT_ERASED,
    CrashPoint.COPY_ERASED,
    CrashPoint.RAW_OBJECT_ERASED,
    CrashPoint.ROW_ERASED,
]


class Workflows(MemoryOrchestrator):
    """Workflows in memory; notes each erasure, which fails while Temporal is ``away``."""

    def __init__(self, calls: list[str]) -> None:
        super().__init__()
        self.away = False
        self._calls = calls

    async def erase(self, job_id: UUID) -> bool:
        self._calls.append("erase workflow")
        if self.away:
            raise TemporalUnavailable(target="here", reason="away")
        return await super().erase(job_id)


class World:
    """A deployment in memory that records an erasure's calls in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.store = MemoryObjectStore()
        self.store.ensure_bucket(BUCKET)
        self.repository = MemoryJobRepository()
        bind(self.store, self.repository, BUCKET)
        self.workflows = Workflows(self.calls)
        self.erasure = Erasure(self.store, self.repository, self.workflows, BUCKET)
        self.service = JobService(self.store, self.repository, self.workflows, BUCKET)

    def observe(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for port, name in [(self.store, "delete"), (self.repository, "mark_erased"), (self.repository, "delete")]:
            monkeypatch.setattr(port, name, self._noting(getattr(port, name), port, name))

    def _noting(self, call: Callable[..., Any], port: object, name: str) -> Callable[..., Any]:
        what = {"mark_erased": "mark", "delete": "delete rows" if port is self.repository else "delete object"}[name]

        def noted(*args: Any) -> Any:
            self.calls.append(f"{what} {args[1]}" if what == "delete object" else what)
            return call(*args)

        return noted

    async def finished(self, *, bucket: str = BUCKET, key: str = RAW, before: str = "") -> UUID:
        """Create the state that a finished job leaves; ``before`` is the hash of bytes that were replaced meanwhile."""
        job_id = uuid4()
        self.store.ensure_bucket(bucket)
        self.store.put(bucket, key, BODY, content_type="image/png")
        self.repository.start(job_id, bucket=bucket, key=key, sha256=before)
        self.repository.start(job_id, bucket=bucket, key=key, sha256=SHA, instead_of=before)
        await self.workflows.start(
            IMAGE_PROCESSING.of(job_id), ImageProcessingInput(job_id=str(job_id), bucket=bucket, key=key)
        )
        self.store.put(BUCKET, ocr_key(job_id), b"{}", content_type="application/json")
        self.store.put(BUCKET, f"tags/{job_id}/tags.json", b"{}", content_type="application/json")
        manifest = Manifest(
            job_id=str(job_id),
            s3_raw_bucket=bucket,
            s3_raw_key=key,
            sha256=SHA,
            s3_ocr_key=ocr_key(job_id),
            ocr_engine="recorded",
            ocr_version="1",
            page_count=1,
        )
        self.store.put(
            BUCKET, manifest_key(job_id), manifest.model_dump_json().encode(), content_type="application/json"
        )
        ocr = OcrRecord(BUCKET, ocr_key(job_id), manifest_key(job_id), "recorded", "1", 1)
        self.repository.succeed(job_id, bucket=bucket, key=key, sha256=SHA, ocr=ocr)
        return job_id

    def persist_again(self, job_id: UUID) -> None:
        """Run another attempt of the job's last activity."""
        request = PersistInput(
            job_id=str(job_id),
            bucket=BUCKET,
            s3_raw_key=RAW,
            sha256=SHA,
            ocr_s3_key=ocr_key(job_id),
            ocr_engine="recorded",
            ocr_version="1",
            page_count=1,
        )
        ActivityEnvironment().run(ResultActivities(self.store, self.repository, BUCKET).persist_artifacts, request)

    def listing(self, bucket: str = BUCKET) -> list[str]:
        return [entry.key for entry in self.store.list(bucket, "") if entry.key != MARKER_KEY]

    def is_gone(self, job_id: UUID) -> bool:
        named = [key for key in self.listing() if str(job_id) in key]
        return not named and self.repository.get(job_id) is None and str(job_id) not in self.workflows.states


def left(steps: list[ErasureStep]) -> dict[str, str]:
    return {step.part: step.left for step in steps if step.left}
