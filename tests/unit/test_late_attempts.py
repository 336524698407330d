"""Late attempts: concurrent with another one, after the job's end, and after its erasure."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from temporalio.testing import ActivityEnvironment

from photo_worker import policies
from photo_worker.activities.assets import AssetActivities
from photo_worker.activities.heartbeats import HeartbeatNotes, attempt_seconds, heartbeating
from photo_worker.activities.ocr import OcrActivities
from photo_worker.activities.results import ResultActivities
from photo_worker.adapters.memory.job_repository import MemoryJobRepository
from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.contracts.image import LocateAssetInput, OcrInput, OcrResult, PersistInput
from photo_worker.errors import DatabaseUnavailable, JobErased, ObjectMissing
from photo_worker.ports.job_repository import JobRecord, OcrRecord
from photo_worker.ports.object_store import DocumentRef, ObjectInfo
from photo_worker.ports.ocr import DetectedText
from tests.support import documents
from tests.support.documents import InlineDecoder

BUCKET = "photos"
LIMIT = 10_000


@pytest.fixture
def store() -> MemoryObjectStore:
    made = MemoryObjectStore()
    made.ensure_bucket(BUCKET)
    made.put(BUCKET, "k", b"a photo", content_type="image/png")
    return made


@pytest.fixture
def repository() -> MemoryJobRepository:
    return MemoryJobRepository()


class Reading:
    """A backend with a hook that runs while it reads; block ids differ in each response, as a real one's may."""

    engine = "reading"

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        self._meanwhile = meanwhile

    def detect_text(self, document: DocumentRef) -> DetectedText:
        self._meanwhile()
        blocks = [{"BlockType": "PAGE", "Id": str(uuid4())}]
        return DetectedText({"DocumentMetadata": {"Pages": 1}, "Blocks": blocks}, "1.0")


def environment(job_id: UUID, *, attempt: int = 1, heartbeat_timeout: timedelta | None = None) -> ActivityEnvironment:
    made = ActivityEnvironment()
    made.info = dataclasses.replace(
        ActivityEnvironment.default_info(),
        attempt=attempt,
        workflow_id=str(job_id),
        heartbeat_timeout=heartbeat_timeout,
    )
    return made


class TestNotes:
    """An attempt's note for the next one is sent with its heartbeats, of which Temporal keeps the last."""

    def test_heartbeat_notes_are_read_by_next_attempt(self) -> None:
        sent: list[tuple[object, ...]] = []

        def leave() -> None:
            with heartbeating():
                HeartbeatNotes().write({"generation": 3})

        first = environment(uuid4(), heartbeat_timeout=timedelta(seconds=30))
        first.on_heartbeat = lambda *details: sent.append(details)
        first.run(leave)
        second = environment(uuid4(), attempt=2)
        second.info = dataclasses.replace(second.info, heartbeat_details=list(sent[-1]))

        def find() -> object:
            with heartbeating():
                return HeartbeatNotes().read()

        assert second.run(find) == {"generation": 3}
        assert environment(uuid4()).run(find) is None

    @pytest.mark.parametrize("before", [[], [{"generation": 2}]])
    def test_heartbeat_notes_are_repeated_in_each_heartbeat(self, before: list[object]) -> None:
        sent: list[tuple[object, ...]] = []
        enough = threading.Event()

        def note(*details: object) -> None:
            sent.append(details)
            if sent.count(({"generation": 2},)) > 2:
                enough.set()

        def wait_long() -> None:
            with heartbeating():
                if not before:
                    HeartbeatNotes().write({"generation": 2})
                assert enough.wait(10)

        within = environment(uuid4(), attempt=2, heartbeat_timeout=timedelta(milliseconds=20))
        within.info = dataclasses.replace(within.info, heartbeat_details=before)
        within.on_heartbeat = note
        within.run(wait_long)
        # On a busy machine the first heartbeats may come before the note is written, but none of them after it.
        written = sent.index(({"generation": 2},))
        assert set(sent[:written]) <= ({()} if not before else set())
        assert all(details == ({"generation": 2},) for details in sent[written:])

    def test_heartbeat_begun_before_note_does_not_arrive_after_it(self) -> None:
        arrived: list[tuple[object, ...]] = []
        begun, written = threading.Event(), threading.Event()

        def note(*details: object) -> None:
            if details:
                written.set()
            else:
                begun.set()
                # Time for the note to overtake this heartbeat, if it can.
                written.wait(0.3)
            arrived.append(details)

        def write_meanwhile() -> None:
            with heartbeating():
                assert begun.wait(10)
                HeartbeatNotes().write({"generation": 2})

        within = environment(uuid4(), heartbeat_timeout=timedelta(milliseconds=20))
        within.on_heartbeat = note
        within.run(write_meanwhile)
        assert arrived[-1] == ({"generation": 2},)

    def test_heartbeat_notes_outside_activity_are_none(self) -> None:
        HeartbeatNotes().write({"generation": 1})
        assert HeartbeatNotes().read() is None


def test_attempt_seconds_is_limit_of_its_attempt() -> None:
    within = environment(uuid4())
    within.info = dataclasses.replace(within.info, start_to_close_timeout=timedelta(minutes=30))
    assert within.run(attempt_seconds) == 1800
    assert attempt_seconds() == policies.OCR.start_to_close_timeout.total_seconds()


def read(
    store: MemoryObjectStore,
    repository: MemoryJobRepository,
    backend: Reading,
    job_id: UUID,
    within: ActivityEnvironment | None = None,
) -> OcrResult:
    activities = OcrActivities(store, repository, {"reading": backend}.__getitem__, BUCKET)
    request = OcrInput(bucket=BUCKET, key="k", engine="reading", job_id=str(job_id), sha256="a" * 64)
    result: OcrResult = (within or environment(job_id)).run(activities.ocr_textract, request)
    return result


def a_result(job_id: UUID) -> PersistInput:
    return PersistInput(
        job_id=str(job_id),
        s3_raw_key="k",
        sha256="a" * 64,
        ocr_s3_key=f"artifacts/{job_id}/textract.json",
        ocr_engine="reading",
        ocr_version="1.0",
        page_count=1,
        bucket=BUCKET,
    )


def there(store: MemoryObjectStore, key: str) -> bool:
    try:
        store.head(BUCKET, key)
    except ObjectMissing:
        return False
    return True


class TestReading:
    def test_ocr_textract_late_attempt_keeps_reported_response(
        self, store: MemoryObjectStore, repository: MemoryJobRepository
    ) -> None:
        job_id = uuid4()
        reported: list[tuple[OcrResult, bytes]] = []

        def the_next_attempt_ends() -> None:
            result = read(store, repository, Reading(), job_id, environment(job_id, attempt=2))
            reported.append((result, store.get(BUCKET, result.s3_ocr_key, limit_bytes=LIMIT)))

        late = read(store, repository, Reading(the_next_attempt_ends), job_id)
        ((result, stored),) = reported
        assert late == result
        assert store.get(BUCKET, result.s3_ocr_key, limit_bytes=LIMIT) == stored

    def test_ocr_textract_when_job_is_erased_deletes_response(
        self, store: MemoryObjectStore, repository: MemoryJobRepository
    ) -> None:
        job_id, refused = uuid4(), False
        try:
            read(store, repository, Reading(lambda: repository.mark_erased(job_id)), job_id)
        except JobErased:
            refused = True
        assert [entry.key for entry in store.list(BUCKET, "artifacts/")] == []
        assert refused

    def test_ocr_textract_long_attempt_sends_heartbeats(
        self, store: MemoryObjectStore, repository: MemoryJobRepository
    ) -> None:
        """Temporal gives an attempt up and starts another one if no heartbeat arrives within the timeout."""
        seconds, goes_on, given_up = 5, threading.Event(), threading.Event()

        def give_up() -> None:
            given_up.set()
            goes_on.set()

        late = threading.Timer(seconds, give_up)
        within = environment(uuid4(), heartbeat_timeout=timedelta(seconds=seconds))
        within.on_heartbeat = lambda *details: goes_on.set()
        late.start()
        try:
            read(store, repository, Reading(lambda: goes_on.wait(60)), uuid4(), within)
        finally:
            late.cancel()
            late.join()
        assert not given_up.is_set(), "the attempt is given up, and the document is read from the beginning"


class TestVerifying:
    @pytest.mark.parametrize("waits_for", ["the row", "the first piece", "the rest"])
    def test_verify_asset_slow_service_sends_heartbeats(self, waits_for: str) -> None:
        """A call to a service ends by its own timeouts; heartbeats show meanwhile that the worker lives."""
        alive = threading.Event()
        told: dict[str, bool] = {}

        def slowly(what: str) -> None:
            if what == waits_for:
                told[what] = alive.wait(10)

        class Slow(MemoryObjectStore):
            @contextmanager
            def open(
                self, bucket: str, key: str, *, version_id: str = ""
            ) -> Iterator[tuple[ObjectInfo, Iterator[bytes]]]:
                slowly("the first piece")
                with super().open(bucket, key, version_id=version_id) as (info, pieces):
                    yield info, self._slow(pieces)

            def _slow(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
                yield from pieces
                slowly("the rest")

        class Rows(MemoryJobRepository):
            def start(self, job_id: UUID, *, bucket: str, key: str, sha256: str, instead_of: str = "") -> JobRecord:
                slowly("the row")
                return super().start(job_id, bucket=bucket, key=key, sha256=sha256, instead_of=instead_of)

        store, job_id = Slow(), uuid4()
        store.ensure_bucket(BUCKET)
        store.put(BUCKET, "k", documents.encoded(documents.card("Pie"), "PNG"), content_type="image/png")
        within = environment(job_id, heartbeat_timeout=timedelta(milliseconds=200))
        within.on_heartbeat = lambda *details: alive.set()
        activities = AssetActivities(store, Rows(), InlineDecoder(), BUCKET)
        request = LocateAssetInput(bucket=BUCKET, key="k", job_id=str(job_id))
        within.run(activities.verify_and_locate_asset, request)
        assert told == {waits_for: True}


class DiedError(BaseException):
    """Simulates the death of the worker's process."""


class Failing(MemoryJobRepository):
    """A repository that is unavailable when the final row is written, or whose client dies right afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.dies = False

    def succeed(self, job_id: UUID, *, bucket: str, key: str, sha256: str, ocr: OcrRecord) -> JobRecord:
        if self.away:
            raise DatabaseUnavailable(database=self.describe(), reason="it is away")
        row = super().succeed(job_id, bucket=bucket, key=key, sha256=sha256, ocr=ocr)
        if self.dies:
            raise DiedError
        return row


class TestPersisting:
    def test_persist_artifacts_succeeded_row_has_manifest(self, store: MemoryObjectStore) -> None:
        repository, job_id = Failing(), uuid4()
        repository.dies = True
        activities = ResultActivities(store, repository, BUCKET)
        with pytest.raises(DiedError):
            environment(job_id).run(activities.persist_artifacts, a_result(job_id))
        row = repository.get(job_id)
        assert row is not None
        assert (row.status, there(store, row.s3_manifest_key or "")) == ("succeeded", True)

    def test_persist_artifacts_next_attempt_writes_rows(self, store: MemoryObjectStore) -> None:
        repository, job_id = Failing(), uuid4()
        activities = ResultActivities(store, repository, BUCKET)
        repository.away = True
        with pytest.raises(DatabaseUnavailable):
            environment(job_id).run(activities.persist_artifacts, a_result(job_id))
        assert repository.get(job_id) is None
        repository.away = False
        environment(job_id, attempt=2).run(activities.persist_artifacts, a_result(job_id))
        row = repository.get(job_id)
        assert row is not None
        assert row.status == "succeeded"

    def test_persist_artifacts_when_job_is_erased_deletes_manifest(
        self, store: MemoryObjectStore, repository: MemoryJobRepository
    ) -> None:
        job_id: Any = uuid4()
        repository.mark_erased(job_id)
        activities = ResultActivities(store, repository, BUCKET)
        with pytest.raises(JobErased):
            environment(job_id).run(activities.persist_artifacts, a_result(job_id))
        assert [entry.key for entry in store.list(BUCKET, "artifacts/")] == []
