"""Binding a bucket to a database, so that no object of another deployment is deleted."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from threading import Barrier
from uuid import UUID, uuid4

import pytest

from photo_worker.adapters.memory.job_repository import MemoryJobRepository
from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.contracts.keys import ocr_key
from photo_worker.errors import (
    BindingUnreadable,
    BucketBoundElsewhere,
    BucketMissing,
    BucketNeverBound,
    BucketNotBound,
    ObjectForbidden,
    PhotoWorkerError,
    StorageUnavailable,
)
from photo_worker.ports.orchestrator import WorkflowState
from photo_worker.services.binding import (
    MARKER_KEY,
    Bound,
    BoundElsewhere,
    Unbound,
    bind,
    bound_since,
    read_binding,
    require_own_bucket,
)
from photo_worker.services.consistency.repair import Repairer, RepairResult
from photo_worker.services.consistency.scan import open_scanner
from photo_worker.services.erasure import Erasure, Part
from tests.support.healthy_deployment import BUCKET, FOREIGN, JOB, Deployment

LONG = timedelta(days=1)
GRACE = timedelta(seconds=1)


@pytest.fixture
def store() -> MemoryObjectStore:
    made = MemoryObjectStore()
    made.ensure_bucket(BUCKET)
    return made


def put_marker(store: MemoryObjectStore, body: bytes) -> None:
    store.put(BUCKET, MARKER_KEY, body, content_type="application/json")


def test_bind_twice_writes_marker_once(store: MemoryObjectStore) -> None:
    rows = MemoryJobRepository()
    assert isinstance(read_binding(store, rows, BUCKET), Unbound)
    assert rows.deployment_id() is None, "looking has made an id"
    assert bind(store, rows, BUCKET)
    own = rows.make_deployment_id()
    assert read_binding(store, rows, BUCKET) == Bound(own)
    body = store.get(BUCKET, MARKER_KEY, limit_bytes=1 << 20)
    assert json.loads(body) == {"format": 1, "deployment": str(own), "database": "memory"}
    assert not bind(store, rows, BUCKET)
    assert store.get(BUCKET, MARKER_KEY, limit_bytes=1 << 20) == body


def test_bind_bucket_of_other_database_needs_rebind(store: MemoryObjectStore) -> None:
    first, second = MemoryJobRepository(), MemoryJobRepository()
    bind(store, first, BUCKET)
    with suppress(BucketBoundElsewhere):
        bind(store, second, BUCKET)
    assert isinstance(read_binding(store, first, BUCKET), Bound), "the bucket was taken"
    with pytest.raises(BucketBoundElsewhere, match=r"belongs to another database \(memory\)"):
        bind(store, second, BUCKET)
    found = read_binding(store, second, BUCKET)
    assert isinstance(found, BoundElsewhere)
    assert (found.deployment, found.marker.deployment) == (second.deployment_id(), first.deployment_id())
    assert isinstance(read_binding(store, first, BUCKET), Bound)
    assert bind(store, second, BUCKET, rebind=True)
    assert isinstance(read_binding(store, second, BUCKET), Bound)
    assert isinstance(read_binding(store, first, BUCKET), BoundElsewhere)


def test_bind_several_buckets_to_one_database_succeeds(store: MemoryObjectStore) -> None:
    rows = MemoryJobRepository()
    store.ensure_bucket("second")
    for bucket in (BUCKET, "second"):
        assert bind(store, rows, bucket)
        assert isinstance(read_binding(store, rows, bucket), Bound)


def test_bind_concurrently_one_database_wins(store: MemoryObjectStore) -> None:
    databases = [MemoryJobRepository() for _ in range(4)]
    barrier = Barrier(len(databases))

    def race(rows: MemoryJobRepository) -> bool:
        barrier.wait(timeout=10)
        try:
            return bind(store, rows, BUCKET)
        except BucketBoundElsewhere:
            return False

    with ThreadPoolExecutor(len(databases)) as pool:
        won = list(pool.map(race, databases))
    assert won.count(True) == 1
    assert [isinstance(read_binding(store, rows, BUCKET), Bound) for rows in databases] == won


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b'{"format": 1}',
        b'{"format": 1, "deployment": "x", "database": "y"}',
        b'{"format": 1, "deployment": 5, "database": "y"}',
        b'{"format": 2, "deployment": "00000000-0000-4000-8000-000000000001", "database": "y"}',
        b"[" * 20_000,
    ],
)
def test_bind_damaged_marker_is_refused_and_kept(store: MemoryObjectStore, body: bytes) -> None:
    rows = MemoryJobRepository()
    put_marker(store, body)
    assert isinstance(read_binding(store, rows, BUCKET), Unbound)
    with pytest.raises(BindingUnreadable, match="Nothing can be learnt"):
        bind(store, rows, BUCKET)
    # A database that was never bound requires no marker yet.
    require_own_bucket(store, rows, BUCKET)
    assert store.get(BUCKET, MARKER_KEY, limit_bytes=1 << 20) == body
    assert bind(store, rows, BUCKET, rebind=True)
    assert isinstance(read_binding(store, rows, BUCKET), Bound)


def test_require_own_bucket_after_first_bind_needs_marker(store: MemoryObjectStore) -> None:
    rows = MemoryJobRepository()
    require_own_bucket(store, rows, BUCKET)
    put_marker(store, b"damaged")
    require_own_bucket(store, rows, BUCKET)
    bind(store, rows, BUCKET, rebind=True)
    require_own_bucket(store, rows, BUCKET)
    with pytest.raises(BucketBoundElsewhere):
        require_own_bucket(store, MemoryJobRepository(), BUCKET)
    put_marker(store, b"damaged")
    with pytest.raises(BindingUnreadable, match="is damaged"):
        require_own_bucket(store, rows, BUCKET)
    store.delete(BUCKET, MARKER_KEY)
    with pytest.raises(BucketNotBound, match=r"it has no object \.photo-worker/deployment\.json"):
        require_own_bucket(store, rows, BUCKET)
    bind(store, rows, BUCKET)
    require_own_bucket(store, rows, BUCKET)


def test_bind_when_store_unavailable_requires_no_marker_yet(
    store: MemoryObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise its workers would require a marker that a migration without S3 could not write."""
    rows = MemoryJobRepository()

    def away(bucket: str, key: str, *, limit_bytes: int) -> bytes:
        raise StorageUnavailable(store="memory", reason="away")

    with monkeypatch.context() as patched:
        patched.setattr(store, "get", away)
        with pytest.raises(StorageUnavailable):
            bind(store, rows, BUCKET)
    require_own_bucket(store, rows, BUCKET)


def test_bind_when_marker_write_refused_still_requires_it(
    store: MemoryObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = MemoryJobRepository()

    def refused(bucket: str, key: str, *arguments: object, **named: object) -> bool:
        raise ObjectForbidden(bucket=bucket, key=key)

    with monkeypatch.context() as patched:
        patched.setattr(store, "put_new", refused)
        with pytest.raises(ObjectForbidden):
            bind(store, rows, BUCKET)
    with pytest.raises(BucketNotBound):
        require_own_bucket(store, rows, BUCKET)
    bind(store, rows, BUCKET)
    require_own_bucket(store, rows, BUCKET)


def test_require_own_bucket_forbidden_marker_is_accepted(
    store: MemoryObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = MemoryJobRepository()
    bind(store, rows, BUCKET)

    def refused(bucket: str, key: str, *, limit_bytes: int) -> bytes:
        raise ObjectForbidden(bucket=bucket, key=key)

    monkeypatch.setattr(store, "get", refused)
    require_own_bucket(store, rows, BUCKET)


def test_read_binding_forbidden_marker_is_unbound(store: MemoryObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(bucket: str, key: str, *, limit_bytes: int) -> bytes:
        raise ObjectForbidden(bucket=bucket, key=key)

    monkeypatch.setattr(store, "get", refused)
    found = read_binding(store, MemoryJobRepository(), BUCKET)
    assert isinstance(found, Unbound)
    assert "refused" in found.reason


def test_read_binding_and_bind_missing_bucket_raise(store: MemoryObjectStore) -> None:
    with pytest.raises(BucketMissing):
        read_binding(store, MemoryJobRepository(), "no-such-bucket")
    with pytest.raises(BucketMissing):
        bind(store, MemoryJobRepository(), "no-such-bucket")


def test_bound_since_returns_the_stores_marker_time(store: MemoryObjectStore) -> None:
    assert bound_since(store, BUCKET) is None
    store.put(BUCKET, MARKER_KEY + ".old", b"", content_type="text/plain")
    assert bound_since(store, BUCKET) is None
    bind(store, MemoryJobRepository(), BUCKET)
    (entry,) = [entry for entry in store.list(BUCKET, MARKER_KEY) if entry.key == MARKER_KEY]
    assert bound_since(store, BUCKET) == entry.modified_at


# -- two deployments and one bucket ----------------------------------------------------------------------------------


class Neighbours:
    """Deployment A, which checks, and B, with its own database and namespace and three photos in the same bucket."""

    def __init__(self) -> None:
        self.ours = Deployment()
        # Both used the bucket before the first release with markers.
        self.ours.store.delete(BUCKET, MARKER_KEY)
        for number in range(10):
            self.ours.succeeded(uuid4(), body=b"photo %d of A" % number)
        self.theirs = MemoryJobRepository(now=lambda: self.ours.time)
        self.photos = []
        for number in range(3):
            key, sha256 = self.ours.photo(b"photo %d of B" % number)
            self.theirs.queue(uuid4(), bucket=BUCKET, key=key, sha256=sha256)
            self.photos.append(key)
        self.artifact = ocr_key(uuid4())
        self.ours.store.put(BUCKET, self.artifact, b"{}", content_type="application/json")
        self.ours.time += LONG

    async def repair(self) -> Sequence[tuple[str, str, str]]:
        """Run ``check --repair --grace 1s`` with A's settings; return code, outcome and detail of each step."""
        erasure = Erasure(self.ours.store, self.ours.rows, self.ours.temporal, BUCKET)
        said: list[RepairResult] = []
        async with open_scanner(self.ours.ports, self.ours.means(grace=GRACE)) as scanner:
            report = await scanner.scan_all()
            await Repairer(scanner, erasure.erase).repair(report, said.append)
        return [(step.finding.code, step.outcome, step.detail) for step in said if step.outcome != "begun"]

    def left(self) -> set[str]:
        return {entry.key for entry in self.ours.store.list(BUCKET, "")}


def unbound(pair: Neighbours) -> None:
    """Leave the bucket without a marker."""


def bind_to_theirs(pair: Neighbours) -> None:
    bind(pair.ours.store, pair.theirs, BUCKET)
    pair.ours.time += LONG


def bind_to_ours(pair: Neighbours) -> None:
    bind(pair.ours.store, pair.ours.rows, BUCKET)
    pair.ours.time += LONG


@pytest.mark.parametrize(
    ("bound", "reason"),
    [
        (unbound, "nothing says that the bucket belongs to this database"),
        (bind_to_theirs, "belongs to another database"),
        (bind_to_ours, "was there before the bucket was bound"),
    ],
)
async def test_repair_shared_bucket_deletes_nothing_of_the_other(
    bound: Callable[[Neighbours], None], reason: str
) -> None:
    pair = Neighbours()
    bound(pair)
    before = pair.left()
    steps = await pair.repair()
    assert pair.left() == before, "something of B was deleted"
    assert [(code, outcome) for code, outcome, _ in steps] == [
        ("artifact_without_row", "refused"),
        *[("photo_without_row", "refused")] * 3,
    ]
    assert all(reason in detail for _, _, detail in steps)


async def test_repair_orphan_newer_than_binding_is_deleted() -> None:
    pair = Neighbours()
    bind_to_ours(pair)
    key, _ = pair.ours.photo(b"of a submission that was killed")
    pair.ours.time += LONG
    before = pair.left()
    steps = await pair.repair()
    assert [code for code, outcome, _ in steps if outcome == "done"] == ["photo_without_row"]
    assert before - pair.left() == {key}


async def test_repair_orphan_as_old_as_binding_is_kept() -> None:
    pair = Neighbours()
    bind(pair.ours.store, pair.ours.rows, BUCKET)
    key, _ = pair.ours.photo(b"of the same moment")
    pair.ours.time += LONG
    await pair.repair()
    assert key in pair.left()


async def test_repair_after_rebind_keeps_older_orphans() -> None:
    deployment = Deployment()
    deployment.succeeded(uuid4())
    key, _ = deployment.photo(b"of the database that was lost")
    deployment.time += LONG
    bind(deployment.store, MemoryJobRepository(), BUCKET, rebind=True)
    bind(deployment.store, deployment.rows, BUCKET, rebind=True)
    deployment.time += LONG
    erasure = Erasure(deployment.store, deployment.rows, deployment.temporal, BUCKET)
    async with open_scanner(deployment.ports, deployment.means()) as scanner:
        report = await scanner.scan_all()
        steps = await Repairer(scanner, erasure.erase).repair(report, lambda step: None)
    assert [(step.finding.code, step.outcome) for step in steps] == [("photo_without_row", "refused")]
    deployment.store.head(BUCKET, key)


async def test_repair_bucket_rebound_during_scan_deletes_nothing() -> None:
    deployment = Deployment()
    deployment.succeeded(uuid4())
    key, _ = deployment.photo(b"an orphan")
    deployment.time += LONG
    erasure = Erasure(deployment.store, deployment.rows, deployment.temporal, BUCKET)
    async with open_scanner(deployment.ports, deployment.means()) as scanner:
        report = await scanner.scan_all()
        bind(deployment.store, MemoryJobRepository(), BUCKET, rebind=True)
        steps = await Repairer(scanner, erasure.erase).repair(report, lambda step: None)
    assert [(step.finding.code, step.outcome) for step in steps] == [("photo_without_row", "refused")]
    deployment.store.head(BUCKET, key)


@pytest.mark.parametrize("foreign", [True, False])
async def test_repair_erased_traces_without_own_marker_is_refused(foreign: bool) -> None:
    deployment = Deployment()
    deployment.succeeded(JOB)
    deployment.rows.mark_erased(JOB)
    deployment.store.delete(BUCKET, MARKER_KEY)
    if foreign:
        bind(deployment.store, MemoryJobRepository(), BUCKET)
    erased: list[UUID] = []

    async def erase(job_id: UUID) -> None:
        erased.append(job_id)

    async with open_scanner(deployment.ports, deployment.means()) as scanner:
        report = await scanner.scan_all()
        steps = await Repairer(scanner, erase).repair(report, lambda step: None)
    assert [(step.finding.code, step.outcome) for step in steps] == [("erased_traces", "refused")]
    assert erased == []


@pytest.mark.parametrize(("foreign", "outcome"), [(True, "refused"), (False, "done")])
async def test_repair_job_in_foreign_bucket_is_not_started(foreign: bool, outcome: str) -> None:
    """Without a marker the job is started: that loses nothing."""
    deployment = Deployment()
    deployment.queued(JOB)
    deployment.time += LONG
    deployment.store.delete(BUCKET, MARKER_KEY)
    if foreign:
        bind(deployment.store, MemoryJobRepository(), BUCKET)
    erasure = Erasure(deployment.store, deployment.rows, deployment.temporal, BUCKET)
    async with open_scanner(deployment.ports, deployment.means()) as scanner:
        report = await scanner.scan_all()
        steps = await Repairer(scanner, erasure.erase).repair(report, lambda step: None)
    assert [(step.finding.code, step.outcome) for step in steps] == [("queued_without_workflow", outcome)]
    assert len(deployment.temporal.started) == (0 if foreign else 1)


async def test_erase_bucket_of_other_database_deletes_nothing() -> None:
    """Both may have a job of this id, as after a restore of one database from the other's backup."""
    deployment = Deployment()
    deployment.succeeded(JOB)
    bind(deployment.store, MemoryJobRepository(), BUCKET, rebind=True)
    before = {entry.key for entry in deployment.store.list(BUCKET, "")}
    erasure = Erasure(deployment.store, deployment.rows, deployment.temporal, BUCKET)
    with suppress(BucketBoundElsewhere):
        await erasure.erase(JOB)
    assert {entry.key for entry in deployment.store.list(BUCKET, "")} == before, "objects of the other one are gone"
    for act in (erasure.traces, erasure.erase):
        with pytest.raises(BucketBoundElsewhere):
            await act(JOB)
    assert {entry.key for entry in deployment.store.list(BUCKET, "")} == before
    assert (deployment.rows.is_erased(JOB), deployment.rows.get(JOB) is None) == (False, False)
    assert deployment.temporal.states[str(JOB)] == WorkflowState("completed", deployment.time, deployment.time)


MARKERS: dict[str, tuple[bytes | None, type[PhotoWorkerError], str]] = {
    "missing": (None, BucketNotBound, "photo-worker migrate --bind"),
    "damaged": (b"{", BindingUnreadable, "photo-worker migrate --rebind"),
    "never bound": (None, BucketNeverBound, "`photo-worker migrate` binds the two"),
    "forbidden": (b"", ObjectForbidden, "s3:GetObject"),
}


@pytest.mark.parametrize("where", ["the worker's bucket", "the bucket that the row names"])
@pytest.mark.parametrize("marker", MARKERS)
async def test_erase_bucket_without_own_marker_deletes_nothing(
    monkeypatch: pytest.MonkeyPatch, marker: str, where: str
) -> None:
    """The objects under the job's id may be another deployment's, for example with a wrong S3_BUCKET."""
    body, error, todo = MARKERS[marker]
    deployment = Deployment()
    deployment.succeeded(JOB)
    store, own = deployment.store, BUCKET
    if where == "the bucket that the row names":
        own = "the-next-bucket"
        store.ensure_bucket(own)
        if marker != "never bound":
            bind(store, deployment.rows, own)
    store.delete(BUCKET, MARKER_KEY)
    if marker == "never bound":
        deployment.rows._deployment = None
    elif body is not None:
        store.put(BUCKET, MARKER_KEY, body, content_type="application/json")
    if marker == "forbidden":
        get = store.get

        def refused(bucket: str, key: str, *, limit_bytes: int) -> bytes:
            if (bucket, key) == (BUCKET, MARKER_KEY):
                raise ObjectForbidden(bucket=bucket, key=key)
            return get(bucket, key, limit_bytes=limit_bytes)

        monkeypatch.setattr(store, "get", refused)
    before = {entry.key for entry in store.list(BUCKET, "")}
    erasure = Erasure(store, deployment.rows, deployment.temporal, own)
    with suppress(PhotoWorkerError):
        await erasure.erase(JOB, with_source=True)
    assert {entry.key for entry in store.list(BUCKET, "")} == before, "what may be another deployment's is gone"
    for act in (erasure.traces, erasure.erase):
        with pytest.raises(error) as caught:
            await act(JOB)
        assert todo in caught.value.hint
    assert (deployment.rows.is_erased(JOB), deployment.rows.get(JOB) is None) == (False, False)
    assert deployment.temporal.states[str(JOB)] == WorkflowState("completed", deployment.time, deployment.time)
    if marker == "never bound":
        assert bind(store, deployment.rows, own)
    # Once the bucket of an older deployment, or of one that lost its marker, is bound, the erasure works.
    monkeypatch.undo()
    bind(store, deployment.rows, BUCKET, rebind=True)
    await erasure.erase(JOB)
    assert [entry.key for entry in store.list(BUCKET, "")] == [MARKER_KEY]


async def test_erase_foreign_source_is_deleted_only_on_request() -> None:
    """The bucket of a photo's owner has no marker and needs none."""
    for asked in (False, True):
        deployment = Deployment()
        deployment.succeeded(JOB, at=(FOREIGN, "pie.png"))
        erasure = Erasure(deployment.store, deployment.rows, deployment.temporal, BUCKET)
        await erasure.erase(JOB, with_source=asked)
        assert [entry.key for entry in deployment.store.list(FOREIGN, "")] == ([] if asked else ["pie.png"])
        assert [entry.key for entry in deployment.store.list(BUCKET, "")] == [MARKER_KEY]


@pytest.mark.parametrize("bound", [True, False])
async def test_erase_former_bucket_deletes_unless_bound_elsewhere(bound: bool) -> None:
    """As in a copy of the database with a new bucket: the other database has jobs of the same ids."""
    deployment = Deployment()
    deployment.succeeded(JOB)
    key = next(deployment.store.list(BUCKET, "raw/")).key
    if bound:
        bind(deployment.store, MemoryJobRepository(), BUCKET, rebind=True)
    before = {entry.key for entry in deployment.store.list(BUCKET, "")}
    deployment.store.ensure_bucket("own")
    bind(deployment.store, deployment.rows, "own")
    erasure = Erasure(deployment.store, deployment.rows, deployment.temporal, "own")
    steps = await erasure.erase(JOB, with_source=True)
    left = {step.part: step.left for step in steps if step.left}
    assert deployment.rows.get(JOB) is None
    if bound:
        assert {entry.key for entry in deployment.store.list(BUCKET, "")} == before
        assert set(left) == {"objects", "photo"}
        assert all("another database's" in text for text in left.values())
        assert f"s3://{BUCKET}/{key}" in left[Part.PHOTO]
    else:
        assert (left, [entry.key for entry in deployment.store.list(BUCKET, "")]) == ({}, [MARKER_KEY])
