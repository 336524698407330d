"""Submission: what each crash leaves, and how the same call completes it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from photo_worker.adapters.memory.job_repository import MemoryJobRepository
from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.adapters.memory.orchestrator import MemoryOrchestrator
from photo_worker.contracts.references import Input, Result, WorkflowRef
from photo_worker.errors import (
    InvalidBucket,
    InvalidContract,
    InvalidEngine,
    JobConflict,
    JobEndedWithoutRow,
    JobErased,
    JobFailed,
    JobMissing,
    JobWithoutWorkflow,
    ObjectMissing,
    PhotoWorkerError,
    TemporalForbidden,
    TemporalUnavailable,
)
from photo_worker.ports.job_repository import JobRecord
from photo_worker.ports.orchestrator import JobHandle, WorkflowState
from photo_worker.services.jobs import JobService
from photo_worker.sources import Source

BUCKET = "photos"
BODY = b"\x89PNG\r\n\x1a\n a photo"
KEY = f"raw/{hashlib.sha256(BODY).hexdigest()}.png"


class Starts(MemoryOrchestrator):
    """Workflows in memory; ``before`` and ``after`` are hooks around a start, ``failure`` is what ``result`` raises."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[UUID], object] = lambda job_id: None
        self.after: Callable[[UUID], object] = lambda job_id: None
        self.failure: PhotoWorkerError | None = None

    async def start(self, workflow: WorkflowRef[Input, Any], request: Input) -> JobHandle:
        self.before(workflow.job_id)
        handle = await super().start(workflow, request)
        self.after(workflow.job_id)
        return handle

    async def result(self, workflow: WorkflowRef[Any, Result]) -> Result:
        if self.failure is not None:
            raise self.failure
        return await super().result(workflow)


class Meddled(MemoryJobRepository):
    """A repository with hooks before and after a job is queued."""

    def __init__(self) -> None:
        super().__init__()
        self.after_queue: Callable[[UUID], object] = lambda job_id: None
        self.before_queue: Callable[[UUID], object] = lambda job_id: None

    def queue(self, job_id: UUID, *, bucket: str, key: str, sha256: str = "") -> JobRecord:
        self.before_queue(job_id)
        row = super().queue(job_id, bucket=bucket, key=key, sha256=sha256)
        self.after_queue(job_id)
        return row


@pytest.fixture
def store() -> MemoryObjectStore:
    made = MemoryObjectStore()
    made.ensure_bucket(BUCKET)
    return made


@pytest.fixture
def repository() -> Meddled:
    return Meddled()


@pytest.fixture
def starts() -> Starts:
    return Starts()


@pytest.fixture
def service(store: MemoryObjectStore, repository: Meddled, starts: Starts) -> JobService:
    return JobService(store, repository, starts, BUCKET)


@pytest.fixture
def photo(tmp_path: Path) -> Source:
    path = tmp_path / "pie.png"
    path.write_bytes(BODY)
    return Source("pie.png", path=path)


def stored(store: MemoryObjectStore) -> list[str]:
    return [entry.key for entry in store.list(BUCKET, "")]


async def test_submit_writes_object_then_row_then_workflow(
    service: JobService, store: MemoryObjectStore, repository: Meddled, starts: Starts, photo: Source
) -> None:
    seen = []
    repository.before_queue = lambda job_id: seen.append(stored(store))
    starts.before = lambda job_id: seen.append([getattr(repository.get(job_id), "status", "no row")])
    await service.submit(photo)
    assert seen == [[KEY], ["queued"]]


class DiedError(BaseException):
    """Simulates the death of the process."""


async def test_submit_crash_after_row_leaves_job_with_photo(
    service: JobService, store: MemoryObjectStore, repository: Meddled, photo: Source
) -> None:
    def dies(job_id: UUID) -> None:
        raise DiedError

    repository.after_queue = dies
    with pytest.raises(DiedError):
        await service.submit(photo)
    assert [row.s3_raw_key for row in repository.all()] == stored(store) == [KEY]


@pytest.mark.parametrize("uploaded", [True, False])
@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"engine": "e" * 201}, InvalidEngine, "the name of an engine is a-z, then at most 63"),
        ({"engine": ""}, InvalidEngine, "''"),
        ({"engine": "Textract"}, InvalidEngine, "'Textract'"),
        ({"engine": "textract\n"}, InvalidEngine, "'textract.*n'"),
        ({"expected_content_type": "image/" + "p" * 300}, InvalidContract, "expected_content_type"),
        ({"bucket": "b" * 256}, InvalidBucket, "256 characters"),
    ],
)
async def test_submit_invalid_options_write_nothing(
    store: MemoryObjectStore,
    repository: Meddled,
    starts: Starts,
    photo: Source,
    options: dict[str, str],
    error: type[PhotoWorkerError],
    named: str,
    uploaded: bool,
) -> None:
    bucket = options.get("bucket", BUCKET)
    store.ensure_bucket(bucket)
    service = JobService(store, repository, starts, bucket)
    source = photo if uploaded else Source("theirs", bucket=bucket, key="theirs.png")
    more: dict[str, Any] = {name: value for name, value in options.items() if name != "bucket"}
    with pytest.raises(error, match=named) as caught:
        await service.submit(source, **more)
    assert len(caught.value.message) < 400
    assert (stored(store), list(store.list(bucket, "")), list(repository.all()), starts.states) == ([], [], [], {})


async def test_submit_empty_bucket_is_refused(service: JobService, repository: Meddled, starts: Starts) -> None:
    """In a row an empty bucket means the worker's bucket, and erasing the job would delete an object there."""
    with pytest.raises(InvalidBucket, match="empty"):
        await service.submit(Source("s3:///theirs.png", bucket="", key="theirs.png"))
    assert (list(repository.all()), starts.states) == ([], {})


async def test_wait_when_temporal_refuses_leaves_row(
    service: JobService, repository: Meddled, starts: Starts, photo: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that expires while a command waits says nothing about the job."""
    submitted = await service.submit(photo)

    async def refused(workflow: WorkflowRef[Any, Any]) -> Any:
        raise TemporalForbidden(target="here", namespace="photos", reason="the key has expired")

    monkeypatch.setattr(starts, "result", refused)
    with pytest.raises(TemporalForbidden):
        await service.wait(submitted.job_id)
    row = repository.get(submitted.job_id)
    assert row is not None
    assert (row.status, row.error_code) == ("queued", None)


async def test_submit_again_completes_lost_start(
    service: JobService, repository: Meddled, starts: Starts, photo: Source
) -> None:
    job_id = uuid4()

    def cut(_: UUID) -> None:
        raise TemporalUnavailable(target="here", reason="the connection was cut")

    starts.before = cut
    with pytest.raises(TemporalUnavailable):
        await service.submit(photo, job_id=job_id)
    row = repository.get(job_id)
    assert row is not None
    assert (row.status, row.s3_raw_key) == ("queued", KEY)
    starts.before = lambda _: None
    starts.after = cut
    with pytest.raises(TemporalUnavailable):
        await service.submit(photo, job_id=job_id)
    starts.after = lambda _: None
    again = await service.submit(photo, job_id=job_id)
    assert again.joined
    assert list(starts.states) == [str(job_id)]


async def test_submit_finished_job_unknown_to_temporal_joins(
    service: JobService, repository: Meddled, starts: Starts, photo: Source
) -> None:
    job_id = (await service.submit(photo)).job_id
    repository.fail(job_id, bucket=BUCKET, key=KEY, code="object_missing", message="There is no object.")
    starts.states.clear()
    assert (await service.submit(photo, job_id=job_id)).joined
    assert starts.states == {}


def refused() -> WorkflowState:
    now = datetime.now(UTC)
    return WorkflowState("failed", now, now, "service_refused", "Postgres refuses the worker's credentials.")


async def test_submit_closed_workflow_without_row_is_refused(
    service: JobService, repository: Meddled, starts: Starts, photo: Source
) -> None:
    job_id = (await service.submit(photo)).job_id
    starts.states[str(job_id)] = refused()
    with pytest.raises(JobEndedWithoutRow) as caught:
        await service.submit(photo, job_id=job_id)
    assert "service_refused" in caught.value.message
    row = repository.get(job_id)
    assert row is not None
    assert row.status == "queued", "the job can be set going again"


async def test_submit_workflow_closed_with_row_joins(
    service: JobService, repository: Meddled, starts: Starts, photo: Source
) -> None:
    job_id = (await service.submit(photo)).job_id
    starts.states[str(job_id)] = refused()

    def fail(known: UUID) -> None:
        repository.fail(known, bucket=BUCKET, key=KEY, code="object_missing", message="There is no object.")

    starts.after = fail
    assert (await service.submit(photo, job_id=job_id)).joined


async def test_wait_closed_workflow_without_row_leaves_row_open(
    service: JobService, repository: Meddled, starts: Starts, photo: Source
) -> None:
    job_id = (await service.submit(photo)).job_id
    starts.states[str(job_id)] = refused()
    starts.failure = JobFailed(job_id=job_id, reason_code="service_refused", reason="refused")
    with pytest.raises(JobEndedWithoutRow):
        await service.wait(job_id)
    row = repository.get(job_id)
    assert row is not None
    assert row.status == "queued"


def later(store: MemoryObjectStore, repository: Meddled, starts: Starts, seconds: float) -> JobService:
    """Return the service with a clock that is so many seconds ahead."""
    return JobService(store, repository, starts, BUCKET, now=lambda: datetime.now(UTC) + timedelta(seconds=seconds))


@pytest.mark.parametrize("status", ["queued", "running"])
async def test_workflow_of_open_job_without_workflow_raises(
    store: MemoryObjectStore, repository: Meddled, starts: Starts, service: JobService, photo: Source, status: str
) -> None:
    """The workflow ended without the row, and Temporal has deleted the run after its retention."""
    job_id = (await service.submit(photo)).job_id
    if status == "running":
        repository.start(job_id, bucket=BUCKET, key=KEY, sha256=hashlib.sha256(BODY).hexdigest())
    starts.states.clear()
    with pytest.raises(JobWithoutWorkflow) as caught:
        await later(store, repository, starts, 3600).workflow_of(job_id)
    assert f"its row says {status}" in caught.value.message
    assert "check --repair" in caught.value.hint
    # It can be restarted under its id, and then runs.
    assert not (await service.submit(photo, job_id=job_id)).joined
    state = await later(store, repository, starts, 3600).workflow_of(job_id)
    assert state is not None
    assert state.is_open


async def test_workflow_of_job_being_submitted_is_none(
    store: MemoryObjectStore, repository: Meddled, starts: Starts, service: JobService, photo: Source
) -> None:
    """Another process queries the job between its row and its start."""
    job_id = (await service.submit(photo)).job_id
    starts.states.clear()
    assert await service.workflow_of(job_id) is None
    assert await later(store, repository, starts, 50).workflow_of(job_id) is None


async def test_workflow_of_ended_job_without_workflow_is_none(
    store: MemoryObjectStore, repository: Meddled, starts: Starts, service: JobService, photo: Source
) -> None:
    job_id = (await service.submit(photo)).job_id
    starts.states.clear()
    repository.fail(job_id, bucket=BUCKET, key=KEY, code="object_missing", message="There is no object.")
    assert await later(store, repository, starts, 3600).workflow_of(job_id) is None


async def test_workflow_of_job_being_erased_raises_job_erased(
    store: MemoryObjectStore, repository: Meddled, starts: Starts, service: JobService, photo: Source
) -> None:
    job_id = (await service.submit(photo)).job_id
    repository.mark_erased(job_id)
    starts.states.clear()
    with pytest.raises(JobErased):
        await later(store, repository, starts, 3600).workflow_of(job_id)


async def test_wait_deleted_workflow_raises_job_without_workflow(
    repository: Meddled, starts: Starts, service: JobService, photo: Source
) -> None:
    """The row exists, so JobMissing would be wrong."""
    job_id = (await service.submit(photo)).job_id
    starts.states.clear()
    with pytest.raises(JobWithoutWorkflow):
        await service.wait(job_id)
    repository.fail(job_id, bucket=BUCKET, key=KEY, code="object_missing", message="There is no object.")
    assert (await service.wait(job_id)).record.status == "failed"
    with pytest.raises(JobMissing):
        await service.wait(uuid4())


async def test_submit_photo_deleted_by_erasure_is_stored_again(
    service: JobService, store: MemoryObjectStore, repository: Meddled, photo: Source
) -> None:
    repository.before_queue = lambda job_id: store.delete(BUCKET, KEY)
    await service.submit(photo)
    assert store.get(BUCKET, KEY, limit_bytes=1000) == BODY


@pytest.mark.parametrize("when", ["behind the row", "before the photo is stored again"])
async def test_submit_erased_before_start_leaves_nothing(
    store: MemoryObjectStore, repository: Meddled, starts: Starts, photo: Source, when: str
) -> None:
    """The erasure has found no workflow, and perhaps no photo; what the submission writes afterwards must not stay."""

    def erase(job_id: UUID) -> None:
        repository.mark_erased(job_id)
        store.delete(BUCKET, KEY)
        repository.delete(job_id)

    class Beaten(JobService):
        async def _store_raw(self, photo: Any) -> None:
            if any(repository.all()):
                erase(job_id)
            await super()._store_raw(photo)

    service, job_id, refused = Beaten(store, repository, starts, BUCKET), uuid4(), False
    if when == "behind the row":
        starts.before = erase
    else:
        # Another job with the same photo is erased first.
        repository.before_queue = lambda _: store.delete(BUCKET, KEY)
    try:
        await service.submit(photo, job_id=job_id)
    except JobErased:
        refused = True
    assert (starts.states, stored(store)) == ({}, [])
    assert refused


async def test_submit_erased_before_row_leaves_no_object(
    service: JobService, store: MemoryObjectStore, repository: Meddled, starts: Starts, photo: Source
) -> None:
    repository.before_queue = repository.mark_erased
    with pytest.raises(JobErased):
        await service.submit(photo)
    assert stored(store) == []
    assert starts.states == {}


async def test_submit_conflict_deletes_upload(
    service: JobService, store: MemoryObjectStore, photo: Source, tmp_path: Path
) -> None:
    store.put(BUCKET, "elsewhere.png", BODY, content_type="image/png")
    job_id = (await service.submit(Source("elsewhere", bucket=BUCKET, key="elsewhere.png"))).job_id
    with pytest.raises(JobConflict):
        await service.submit(photo, job_id=job_id)
    with pytest.raises(ObjectMissing):
        store.head(BUCKET, KEY)


async def test_submit_conflict_keeps_upload_of_other_job(
    service: JobService, store: MemoryObjectStore, photo: Source
) -> None:
    store.put(BUCKET, "elsewhere.png", BODY, content_type="image/png")
    await service.submit(photo)
    job_id = (await service.submit(Source("elsewhere", bucket=BUCKET, key="elsewhere.png"))).job_id
    with pytest.raises(JobConflict):
        await service.submit(photo, job_id=job_id)
    assert store.get(BUCKET, KEY, limit_bytes=1000) == BODY
