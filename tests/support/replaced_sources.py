"""Run a job's activities one after the other while the owner of its source object overwrites it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from temporalio.testing import ActivityEnvironment

from photo_worker.activities.assets import AssetActivities
from photo_worker.activities.ocr import OcrActivities
from photo_worker.activities.results import ResultActivities
from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.adapters.ocr.textract import TextractBackend
from photo_worker.contracts.image import LocateAssetInput, LocatedAsset, OcrInput, OcrResult, PersistInput
from photo_worker.contracts.keys import ocr_key
from photo_worker.errors import SourceReplaced
from photo_worker.ports.job_repository import FINAL_STATUSES, JobRepository
from photo_worker.ports.ocr import OcrBackend
from tests.crash.simulation.textract import MemoryTextract, blocks_of
from tests.crash.usages import FIRST, SECOND
from tests.support.documents import InlineDecoder

BUCKET, KEY = "photos", "inbox/current.png"


def text_of(body: bytes) -> str:
    """Return a photo's first line, as the simulated Textract reads it."""
    return str(next(block["Text"] for block in blocks_of(body) if block["BlockType"] == "LINE"))


class Place:
    """An object store with the source, a Textract that reads it, and a job repository. Each write advances the time."""

    def __init__(self, rows: JobRepository, *, versions: bool = False) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.store = MemoryObjectStore(lambda: self.now, versions=versions)
        self.store.ensure_bucket(BUCKET)
        self.rows = rows
        self.textract = MemoryTextract(self.store, lambda: self.now)
        self.before_start: list[Callable[[], object]] = []
        client: Any = self
        self.meta = self.textract.meta
        self.get_document_text_detection = self.textract.get_document_text_detection
        self.backend: OcrBackend = TextractBackend(client, wait=self.wait, clock=self.seconds)
        self.write(FIRST)

    def seconds(self) -> float:
        return self.now.timestamp()

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def write(self, body: bytes) -> None:
        """Overwrite the source, as its owner does."""
        self.wait(5)
        self.store.put(BUCKET, KEY, body, content_type="image/png")

    def start_document_text_detection(self, **request: Any) -> dict[str, Any]:
        """Start a job at Textract after running the hook that happens just before."""
        while self.before_start:
            self.before_start.pop(0)()
        return self.textract.start_document_text_detection(**request)

    def _within(self, job_id: UUID, attempt: int) -> ActivityEnvironment:
        made = ActivityEnvironment()
        made.info = dataclasses.replace(
            ActivityEnvironment.default_info(), attempt=attempt, workflow_id=str(job_id), heartbeat_timeout=None
        )
        return made

    def verify(self, job_id: UUID, *, attempt: int = 1, store: MemoryObjectStore | None = None) -> LocatedAsset:
        request = LocateAssetInput(bucket=BUCKET, key=KEY, job_id=str(job_id))
        steps = AssetActivities(store or self.store, self.rows, InlineDecoder(), BUCKET)
        found: LocatedAsset = self._within(job_id, attempt).run(steps.verify_and_locate_asset, request)
        return found

    def read(self, job_id: UUID, located: LocatedAsset) -> OcrResult:
        request = OcrInput(**located.model_dump(), engine="textract", job_id=str(job_id))
        steps = OcrActivities(self.store, self.rows, lambda engine: self.backend, BUCKET)
        found: OcrResult = self._within(job_id, 1).run(steps.ocr_textract, request)
        return found

    def persist(self, job_id: UUID, located: LocatedAsset, ocr: OcrResult) -> None:
        about = located.model_dump(exclude={"key"})
        request = PersistInput(
            **about,
            job_id=str(job_id),
            s3_raw_key=located.key,
            ocr_s3_key=ocr.s3_ocr_key,
            ocr_engine=ocr.ocr_engine,
            ocr_version=ocr.ocr_version,
            page_count=ocr.page_count,
        )
        self._within(job_id, 1).run(ResultActivities(self.store, self.rows, BUCKET).persist_artifacts, request)

    def process(self, job_id: UUID) -> None:
        """Run a job to its end."""
        located = self.verify(job_id)
        self.persist(job_id, located, self.read(job_id, located))

    def carry(self, job_id: UUID, located: LocatedAsset) -> None:
        """Run a verified job to its end; verify and read a replaced source again, as the workflow does.

        An attempt that finds other bytes in its job's row stops.
        """
        try:
            self.persist(job_id, located, self.read(job_id, located))
        except SourceReplaced:
            row = self.rows.get(job_id)
            if row is None or row.status not in FINAL_STATUSES:
                self.process(job_id)

    def outcome(self, job_id: UUID) -> tuple[str, str]:
        """Return the hash in a job's row, and the text that is stored for it."""
        row = self.rows.get(job_id)
        assert row is not None
        body = self.store.get(BUCKET, ocr_key(job_id), limit_bytes=1 << 20)
        lines = [block["Text"] for block in json.loads(body)["Blocks"] if block["BlockType"] == "LINE"]
        return row.content_sha256, lines[0]


__all__ = ["BUCKET", "FIRST", "KEY", "SECOND", "Place", "text_of"]
