"""A cancellation ends an attempt between effects, not by an exception anywhere in its thread."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import time
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import pytest
from temporalio import activity
from temporalio.exceptions import CancelledError
from temporalio.testing import ActivityEnvironment

from photo_worker.activities.assets import AssetActivities
from photo_worker.activities.heartbeats import wait
from photo_worker.activities.ocr import OcrActivities
from photo_worker.activities.results import ResultActivities
from photo_worker.adapters.memory.job_repository import MemoryJobRepository
from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.contracts.image import (
    FailureInput,
    LocateAssetInput,
    OcrInput,
)
from photo_worker.ports.object_store import DocumentRef
from photo_worker.ports.ocr import DetectedText
from tests.support.documents import InlineDecoder
from tests.unit.activity_calls import BUCKET, CountingBackend, image, persist_input


@pytest.fixture
def store() -> MemoryObjectStore:
    store = MemoryObjectStore()
    store.ensure_bucket(BUCKET)
    return store


@pytest.fixture
def repository() -> MemoryJobRepository:
    return MemoryJobRepository()


class TestCancellation:
    """A cancellation ends an attempt between effects, not by an exception anywhere in its thread."""

    def attempt(self, job_id: UUID) -> ActivityEnvironment:
        environment = ActivityEnvironment()
        environment.info = dataclasses.replace(ActivityEnvironment.default_info(), workflow_id=str(job_id))
        return environment

    def test_ocr_textract_cancelled_stores_response(self, store: MemoryObjectStore) -> None:
        store.put(BUCKET, "k", image(), content_type="image/png")
        job_id = uuid4()
        environment = self.attempt(job_id)

        class Cancelled(CountingBackend):
            def detect_text(self, document: DocumentRef) -> DetectedText:
                detected = super().detect_text(document)
                environment.cancel()
                return detected

        activities = OcrActivities(store, MemoryJobRepository(), lambda engine: Cancelled(), BUCKET)
        request = OcrInput(bucket=BUCKET, key="k", engine="counting", job_id=str(job_id))
        with suppress(CancelledError):
            environment.run(activities.ocr_textract, request)
        assert [entry.key for entry in store.list(BUCKET, "artifacts/")] == [f"artifacts/{job_id}/textract.json"]

    def test_persist_artifacts_cancelled_commits_result(
        self, store: MemoryObjectStore, repository: MemoryJobRepository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job_id = uuid4()
        environment = self.attempt(job_id)
        self.cancel_in(repository, "succeed", environment, monkeypatch)
        persist = ResultActivities(store, repository, BUCKET).persist_artifacts
        with suppress(CancelledError):
            environment.run(persist, persist_input(job_id))
        stored = [entry.key for entry in store.list(BUCKET, "artifacts/")]
        row = repository.get(job_id)
        assert (stored, row and row.status) == ([f"artifacts/{job_id}/manifest.json"], "succeeded")

    def test_record_failure_cancelled_writes_failure(
        self, store: MemoryObjectStore, repository: MemoryJobRepository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job_id = uuid4()
        environment = self.attempt(job_id)
        self.cancel_in(repository, "fail", environment, monkeypatch)
        failure = FailureInput(job_id=str(job_id), bucket=BUCKET, key="k", code="x", message="why")
        with suppress(CancelledError):
            environment.run(ResultActivities(store, repository, BUCKET).record_failure, failure)
        row = repository.get(job_id)
        assert (row and row.status) == "failed"

    def test_verify_asset_cancelled_records_no_hash(
        self, store: MemoryObjectStore, repository: MemoryJobRepository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.put(BUCKET, "k", image() + bytes(3 << 20), content_type="image/png")
        job_id = uuid4()
        environment = self.attempt(job_id)
        self.cancel_in(repository, "start", environment, monkeypatch)
        with pytest.raises(CancelledError):
            environment.run(
                AssetActivities(store, repository, InlineDecoder(), BUCKET).verify_and_locate_asset,
                LocateAssetInput(bucket=BUCKET, key="k", job_id=str(job_id)),
            )
        # The row is claimed, and no hash of a partial read is recorded.
        assert (row := repository.get(job_id)) is not None
        assert (row.status, row.content_sha256) == ("running", "")

    def test_wait_cancelled_ends_at_once(self) -> None:
        environment = ActivityEnvironment()

        @activity.defn(no_thread_cancel_exception=True)
        def waits() -> None:
            threading.Timer(0.05, environment.cancel).start()
            wait(60)

        began = time.monotonic()
        with pytest.raises(CancelledError):
            environment.run(waits)
        assert time.monotonic() - began < 30

    def test_wait_outside_activity_sleeps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        slept: list[float] = []
        monkeypatch.setattr(time, "sleep", slept.append)
        wait(1.5)
        assert slept == [1.5]

    def cancel_in(
        self,
        repository: MemoryJobRepository,
        name: str,
        environment: ActivityEnvironment,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Cancel the attempt while one of the repository's methods runs."""
        method = getattr(repository, name)

        def cancelled(*given: Any, **named: Any) -> Any:
            environment.cancel()
            # An exception that is thrown into this thread would arrive here.
            hashlib.sha256(b"some work").hexdigest()
            return method(*given, **named)

        monkeypatch.setattr(repository, name, cancelled)
