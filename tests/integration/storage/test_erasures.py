"""Erasures beside concurrent statements: locks force every order, so that no test depends on timing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest

from photo_worker.adapters.memory.job_repository import MemoryJobRepository
from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.adapters.memory.orchestrator import MemoryOrchestrator
from photo_worker.adapters.postgres.job_repository import PostgresJobRepository, make_pool
from photo_worker.adapters.s3.object_store import BotoObjectStore
from photo_worker.contracts.keys import converted_key
from photo_worker.errors import DatabaseUnavailable, JobErased
from photo_worker.services.binding import MARKER_KEY, bind
from photo_worker.services.erasure import Erasure
from photo_worker.services.jobs import JobService
from photo_worker.sources import Source
from tests.support.healthy_deployment import BUCKET, START

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.stack

INSERT = (
    "INSERT INTO recipes (id, s3_raw_bucket, s3_raw_key, content_sha256, status)"
    " VALUES (%s, 'photos', 'pie.jpg', '', 'queued')"
)


def has_to_wait(work: Future[Any], database_url: str) -> bool:
    """Wait until a statement of the pool waits for a lock, and return True, or False if ``work`` ends without that."""
    waits = (
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'photo-worker' AND wait_event_type = 'Lock'"
    )
    with psycopg.connect(database_url, autocommit=True) as connection:
        while not work.done():
            if connection.execute(waits).fetchone():
                return True
    return False


def test_mark_erased_waits_for_an_open_write(database_url: str) -> None:
    """Otherwise the erasure deletes the rows before that writer commits, and the commit brings them back."""
    job_id = uuid4()
    with (
        make_pool(database_url) as pool,
        psycopg.connect(database_url) as writer,
        ThreadPoolExecutor(1) as threads,
    ):
        repository = PostgresJobRepository(pool)
        writer.execute(INSERT, [job_id])
        marking = threads.submit(repository.mark_erased, job_id)
        waited = has_to_wait(marking, database_url)
        writer.commit()
        marking.result(timeout=10)
        assert waited
        assert repository.delete(job_id) is True
        with pytest.raises(JobErased):
            repository.queue(job_id, bucket="photos", key="pie.jpg")


def test_queue_waiting_for_the_mark_raises_job_erased(database_url: str) -> None:
    """The statement begins before the mark exists, and checks for the mark after its wait."""
    job_id = uuid4()
    with make_pool(database_url) as pool, psycopg.connect(database_url) as marker, ThreadPoolExecutor(1) as threads:
        repository = PostgresJobRepository(pool)
        marker.execute("SELECT pg_advisory_xact_lock(recipes_job_lock(%s))", [job_id])
        writing = threads.submit(repository.queue, job_id, bucket="photos", key="pie.jpg")
        assert has_to_wait(writing, database_url)
        marker.execute("INSERT INTO erasures (job_digest) VALUES (recipes_job_digest(%s))", [job_id])
        marker.commit()
        with pytest.raises(JobErased):
            writing.result(timeout=10)
        assert repository.get(job_id) is None


def test_erase_beside_open_write_leaves_no_row(database_url: str) -> None:
    """The writer commits only after the erasure has deleted the rows or has to wait for the writer."""
    job_id = uuid4()
    with make_pool(database_url) as pool, psycopg.connect(database_url) as writer, ThreadPoolExecutor(1) as threads:
        repository = PostgresJobRepository(pool)

        def erase() -> None:
            repository.mark_erased(job_id)
            repository.delete(job_id)

        writer.execute(INSERT, [job_id])
        erasing = threads.submit(erase)
        has_to_wait(erasing, database_url)
        writer.commit()
        erasing.result(timeout=10)
        assert repository.get(job_id) is None


def test_erase_beside_new_write_leaves_no_row(database_url: str) -> None:
    job_id = uuid4()
    with (
        make_pool(database_url) as pool,
        psycopg.connect(database_url) as marker,
        psycopg.connect(database_url, application_name="photo-worker") as writer,
        ThreadPoolExecutor(1) as threads,
    ):
        repository = PostgresJobRepository(pool)
        marker.execute("SELECT pg_advisory_xact_lock(recipes_job_lock(%s))", [job_id])
        marker.execute("INSERT INTO erasures (job_digest) VALUES (recipes_job_digest(%s))", [job_id])
        writing = threads.submit(writer.execute, INSERT, [job_id])
        has_to_wait(writing, database_url)
        marker.commit()
        with suppress(psycopg.DatabaseError):
            writing.result(timeout=10)
        repository.delete(job_id)
        # If the statement was refused, there is nothing to commit.
        writer.commit()
        assert repository.get(job_id) is None


class Meanwhile(MemoryObjectStore):
    """A store in memory that calls ``deleting`` once, just before it deletes a photo."""

    def __init__(self) -> None:
        super().__init__()
        self.ensure_bucket(BUCKET)
        self.deleting: Callable[[], object] | None = None

    def delete(self, bucket: str, key: str) -> int:
        if key.startswith("raw/") and self.deleting is not None:
            call, self.deleting = self.deleting, None
            call()
        return super().delete(bucket, key)


class Place:
    """Submits and erases jobs with rows in Postgres and objects in memory."""

    def __init__(self, repository: PostgresJobRepository, photo: Path) -> None:
        self.repository = repository
        self.store = Meanwhile()
        workflows = MemoryOrchestrator(now=lambda: START)
        bind(self.store, repository, BUCKET)
        self.erasure = Erasure(self.store, repository, workflows, BUCKET)
        self._service = JobService(self.store, repository, workflows, BUCKET)
        self._photo = photo
        photo.write_bytes(b"flour, butter and sugar")

    def submit(self) -> UUID:
        return asyncio.run(self._service.submit(Source(self._photo.name, path=self._photo))).job_id

    def erase(self, job_id: UUID) -> None:
        asyncio.run(self.erasure.erase(job_id))

    def photos(self) -> list[str]:
        return [entry.key for entry in self.store.list(BUCKET, "raw/")]


@pytest.fixture
def place(database_url: str, tmp_path: Path) -> Iterator[Place]:
    with make_pool(database_url) as pool:
        yield Place(PostgresJobRepository(pool), tmp_path / "pie.png")


def test_erase_keeps_photo_that_another_job_uses(place: Place) -> None:
    one, other = place.submit(), place.submit()
    place.erase(one)
    row = place.repository.get(other)
    assert row is not None
    assert place.photos() == [row.s3_raw_key], "the other job's photo is gone"
    place.erase(other)
    assert place.photos() == []


def test_erase_jobs_sharing_photo_concurrently_deletes_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [place.submit(), place.submit()]
    for job_id in jobs:
        place.repository.mark_erased(job_id)
    # Both erasures check for other users before either job's row is deleted.
    delete = place.repository.delete
    monkeypatch.setattr(place.repository, "delete", lambda job_id: True)
    for job_id in jobs:
        place.erase(job_id)
    for job_id in jobs:
        delete(job_id)
    assert place.photos() == []


def test_submit_photo_during_its_deletion_stores_it_again(place: Place, database_url: str) -> None:
    """The submission waits for the deletion, and stores the photo again."""
    first = place.submit()
    with ThreadPoolExecutor(1) as threads:
        submitting: list[Future[UUID]] = []

        def submit() -> None:
            submitting.append(threads.submit(place.submit))
            has_to_wait(submitting[0], database_url)

        place.store.deleting = submit
        place.erase(first)
        row = place.repository.get(submitting[0].result(timeout=10))
    assert row is not None
    assert place.photos() == [row.s3_raw_key], "the job's photo is gone"


def test_erase_when_lock_is_lost_keeps_the_rows(place: Place, database_url: str) -> None:
    """A job may have been queued for the photo meanwhile, so the erasure raises and is not complete."""
    job_id = place.submit()

    def cut() -> None:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'photo-worker' AND state = 'idle in transaction'"
            )
        place.submit()

    place.store.deleting = cut
    with suppress(DatabaseUnavailable):
        place.erase(job_id)
    assert place.repository.get(job_id) is not None, "the erasure counts as done"


def test_erase_deletes_objects_on_all_pages(s3_client: S3Client, bucket: str) -> None:
    store, job_id = BotoObjectStore(s3_client, page=2), uuid4()
    for number in range(5):
        store.put(bucket, f"tags/{job_id}/{number}.json", b"{}", content_type="application/json")
    repository = MemoryJobRepository()
    bind(store, repository, bucket)
    erasure = Erasure(store, repository, MemoryOrchestrator(now=lambda: START), bucket)
    asyncio.run(erasure.erase(job_id))
    assert [entry["Key"] for entry in s3_client.list_objects_v2(Bucket=bucket)["Contents"]] == [MARKER_KEY]


class Listed:
    """Counts the keys under ``converted/`` in the listings that an S3 client has requested."""

    def __init__(self, client: S3Client) -> None:
        self.keys = 0
        for name in ("ListObjectsV2", "ListObjectVersions"):
            client.meta.events.register(f"after-call.s3.{name}", self._count)

    def _count(self, parsed: dict[str, Any], **_: Any) -> None:
        entries = [*parsed.get("Contents", []), *parsed.get("Versions", []), *parsed.get("DeleteMarkers", [])]
        self.keys += sum(entry["Key"].startswith("converted/") for entry in entries)


@pytest.mark.parametrize("older", [False, True], ids=["kept", "older than the record"])
async def test_erase_finds_own_copies_among_many(
    database_url: str, s3_client: S3Client, versioned_bucket: str, older: bool
) -> None:
    """The copies are of earlier and current bytes, one behind a delete marker. Only an old row requires a listing."""
    place = ("somebodys", "pie.heic")
    job_id, before, now = uuid4(), "1" * 64, "2" * 64
    mine = [converted_key(*place, sha256) for sha256 in (before, now)]
    others = [converted_key("somebodys", f"{number}.heic", f"{number:064x}") for number in range(60)]
    store = BotoObjectStore(s3_client, page=7)
    for key in mine + others:
        store.put(versioned_bucket, key, b"copy", content_type="image/jpeg")
    store.put(versioned_bucket, mine[0], b"copy", content_type="image/jpeg")
    if not older:
        s3_client.delete_object(Bucket=versioned_bucket, Key=mine[0])
    with make_pool(database_url) as pool:
        repository = PostgresJobRepository(pool)
        repository.start(job_id, bucket=place[0], key=place[1], sha256=before)
        repository.start(job_id, bucket=place[0], key=place[1], sha256=now, instead_of=before)
        if older:
            with pool.connection() as connection:
                connection.execute("DELETE FROM earlier_hashes")
                connection.execute("UPDATE recipes SET hashes_kept = false")
        bind(store, repository, versioned_bucket)
        listed = Listed(s3_client)
        await Erasure(store, repository, MemoryOrchestrator(now=lambda: START), versioned_bucket).erase(job_id)
    gone_through = listed.keys
    left = s3_client.list_object_versions(Bucket=versioned_bucket, Prefix="converted/")
    assert sorted(entry["Key"] for entry in left["Versions"]) == sorted(others)
    assert not left.get("DeleteMarkers")
    if not older:
        # The versions of its own copies: three, and a delete marker.
        assert gone_through == 4, "the copies of other photos were gone through"
