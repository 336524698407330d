"""Scans of deployments that change meanwhile."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.contracts.keys import manifest_key, ocr_key, raw_key
from photo_worker.errors import (
    BucketMissing,
    JobMissing,
    ObjectArchived,
    PhotoWorkerError,
    ServiceRefused,
    StorageUnavailable,
)
from photo_worker.ports.job_repository import JobRecord, OcrRecord
from photo_worker.ports.object_store import ObjectInfo
from photo_worker.ports.orchestrator import QueueState, WorkflowState
from photo_worker.services.binding import bind
from photo_worker.services.consistency.inspector import InspectionConfig, InspectionPorts
from photo_worker.services.consistency.scan import ScanProgress, ScanReport, open_scanner
from tests.support.healthy_deployment import BUCKET, FOREIGN, JOB, OTHER, Deployment
from tests.unit.integrity.refusals import Refusing

HOUR = timedelta(hours=1)


async def scan(deployment: Deployment, *only: UUID, ports: InspectionPorts | None = None, **means: Any) -> ScanReport:
    async with open_scanner(ports or deployment.ports, deployment.means(**means)) as one:
        return await one.scan_jobs(only) if only else await one.scan_all()


def codes(report: ScanReport) -> list[str]:
    return sorted(found.code for found in report.findings)


async def test_scan_sound_deployment_finds_nothing() -> None:
    deployment = Deployment()
    deployment.succeeded(JOB)
    deployment.failed(OTHER)
    report = await scan(deployment)
    assert (codes(report), report.jobs, report.objects, report.passing) == ([], 2, 4, 0)
    assert report.hashed_bytes == len(b"photo") + len(b"no photo")


async def test_scan_empty_deployment_finds_nothing() -> None:
    report = await scan(Deployment())
    assert (codes(report), report.jobs, report.objects) == ([], 0, 0)


async def test_scan_many_jobs_reports_rising_progress() -> None:
    deployment = Deployment()
    for number in range(600):
        deployment.succeeded(uuid4(), body=b"photo %d" % (number // 2))
    seen: list[ScanProgress] = []
    async with open_scanner(deployment.ports, deployment.means()) as one:
        report = await one.scan_all(seen.append)
    assert (codes(report), report.jobs, report.objects) == ([], 600, 1500)
    shares = [step.share for step in seen if step.stage == "jobs"]
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] <= 1
    assert report.hashed_bytes < 600 * len(b"photo 000")


async def test_scan_shared_photo_is_not_read_once_per_job() -> None:
    deployment = Deployment()
    for _ in range(5):
        deployment.succeeded(uuid4())
    assert (await scan(deployment)).hashed_bytes <= 2 * len(b"photo")


async def test_scan_without_hashes_compares_sizes_only() -> None:
    deployment = Deployment()
    deployment.succeeded(JOB)
    key, _ = deployment.photo(b"photo")
    deployment.store.put(BUCKET, key, b"PHOTO", content_type="image/png")
    assert codes(await scan(deployment)) == ["photo_differs"]
    report = await scan(deployment, hashes=False)
    assert (codes(report), report.hashed_bytes) == ([], 0)
    deployment.store.put(BUCKET, key, b"a longer photo", content_type="image/png")
    assert codes(await scan(deployment, hashes=False)) == ["photo_differs"]


@pytest.mark.parametrize(
    "refusal",
    [
        ObjectArchived(bucket=FOREIGN, key="pie.png", reason="InvalidObjectState"),
        ServiceRefused(service="S3", reason="InvalidRequest The object was stored with a customer's key"),
    ],
    ids=lambda error: error.code,
)
async def test_scan_unreadable_photo_is_reported_and_scan_goes_on(refusal: PhotoWorkerError) -> None:
    deployment = Refusing(refusal, {"pie.png"})
    deployment.succeeded(JOB, at=(FOREIGN, "pie.png"))
    deployment.succeeded(OTHER)
    key, _ = deployment.photo(b"photo")
    deployment.store.put(BUCKET, key, b"PHOTO", content_type="image/png")
    report = await scan(deployment)
    assert codes(report) == ["object_unreadable", "photo_differs"]
    (unreadable,) = [found for found in report.findings if found.code == "object_unreadable"]
    assert refusal.message in unreadable.problem


async def test_scan_when_all_photos_refused_raises() -> None:
    refusal = ServiceRefused(service="S3", reason="ExpiredToken")
    deployment = Refusing(refusal, {"pie.png", ""})
    deployment.succeeded(JOB, at=(FOREIGN, "pie.png"))
    with pytest.raises(ServiceRefused, match="ExpiredToken"):
        await scan(deployment, JOB)


async def test_scan_foreign_source_is_hashed_too() -> None:
    deployment = Deployment()
    deployment.succeeded(JOB, at=(FOREIGN, "a b+ü.png"))
    assert codes(await scan(deployment)) == []
    deployment.store.put(FOREIGN, "a b+ü.png", b"PHOTO", content_type="image/png")
    assert codes(await scan(deployment)) == ["source_differs"]


async def test_scan_copy_is_hashed_and_belongs_to_its_job() -> None:
    deployment = Deployment()
    deployment.succeeded(JOB, at=(FOREIGN, "inbox/photo.heic"), copy=b"copy")
    deployment.time += 2 * HOUR
    report = await scan(deployment)
    assert (codes(report), report.objects) == ([], 3)
    assert report.hashed_bytes == len(b"photo") + len(b"copy")
    (entry,) = deployment.store.list(BUCKET, "converted/")
    deployment.store.put(BUCKET, entry.key, b"COPY", content_type="image/jpeg")
    assert codes(await scan(deployment)) == ["copy_differs"]
    assert codes(await scan(deployment, JOB)) == ["copy_differs"]
    assert codes(await scan(deployment, hashes=False)) == []


async def test_scan_copy_of_failed_job_is_no_orphan() -> None:
    deployment = Deployment()
    deployment.failed(JOB)
    row = deployment.rows.get(JOB)
    assert row is not None
    deployment.copy(BUCKET, row.s3_raw_key, row.content_sha256, b"copy")
    deployment.copy(BUCKET, row.s3_raw_key, "0" * 64, b"of bytes that were there before")
    deployment.time += 2 * HOUR
    assert codes(await scan(deployment)) == ["copy_without_row"]


async def test_scan_orphans_are_reported_after_one_hour() -> None:
    deployment = Deployment()
    deployment.photo(b"an orphan")
    deployment.store.put(BUCKET, ocr_key(JOB), b"{}", content_type="application/json")
    report = await scan(deployment)
    assert (codes(report), report.young) == ([], 2)
    deployment.time += HOUR
    report = await scan(deployment)
    assert (codes(report), report.young) == (["artifact_without_row", "photo_without_row"], 0)


async def test_scan_hand_named_photo_of_a_job_is_known() -> None:
    deployment = Deployment()
    deployment.succeeded(JOB, at=(BUCKET, "raw/by hand.png"))
    assert codes(await scan(deployment)) == []
    deployment.store.put(BUCKET, "raw/an orphan.png", b"x", content_type="image/png")
    assert codes(await scan(deployment)) == ["name_unknown"]


async def test_scan_running_workflow_without_row_is_found() -> None:
    deployment = Deployment()
    deployment.temporal.states[str(JOB)] = WorkflowState("running", deployment.time - timedelta(days=1))
    report = await scan(deployment)
    assert (codes(report), report.jobs) == (["workflow_without_row"], 1)


async def test_scan_jobs_checks_only_the_given_ids() -> None:
    deployment = Deployment()
    deployment.succeeded(JOB)
    deployment.succeeded(OTHER, body=b"other photo")
    for job_id in (JOB, OTHER):
        deployment.store.delete(BUCKET, ocr_key(job_id))
    report = await scan(deployment, JOB)
    assert [(found.code, found.job_id) for found in report.findings] == [("ocr_missing", JOB)]
    assert report.jobs == 1
    assert codes(await scan(deployment, JOB, OTHER, JOB)) == ["ocr_missing", "ocr_missing"]
    with pytest.raises(JobMissing):
        await scan(deployment, uuid4())


async def test_scan_jobs_fully_erased_job_finds_nothing() -> None:
    deployment = Deployment()
    deployment.rows.mark_erased(JOB)
    report = await scan(deployment, JOB)
    assert (codes(report), report.jobs) == ([], 1)


async def test_scan_missing_bucket_raises() -> None:
    deployment = Deployment()
    deployment.succeeded(JOB)
    ports = InspectionPorts(deployment.store, deployment.rows, deployment.temporal, "no-such-bucket")
    for only in ((), (JOB,)):
        with pytest.raises(BucketMissing):
            await scan(deployment, *only, ports=ports)


class _Watched(MemoryObjectStore):
    """A store that calls ``then`` once, when it has read the first listing of ``prefix``."""

    def __init__(self, inner: MemoryObjectStore, prefix: str, then: Callable[[], object]) -> None:
        self.__dict__ = inner.__dict__
        self._prefix = prefix
        self._then = then

    def list(self, bucket: str, prefix: str) -> Any:
        found = list(super().list(bucket, prefix))
        if prefix == self._prefix:
            self._prefix = ""
            self._then()
        return iter(found)


class _Stale(MemoryObjectStore):
    """A store whose next ``failures`` requests of ``head`` fail."""

    failures = 0

    def __init__(self, inner: MemoryObjectStore) -> None:
        self.__dict__ = inner.__dict__

    def head(self, bucket: str, key: str, *, version_id: str = "") -> ObjectInfo:
        if self.failures:
            self.failures -= 1
            raise StorageUnavailable(store="memory", reason="away for a moment")
        return super().head(bucket, key, version_id=version_id)


async def test_scan_brief_outage_is_retried() -> None:
    deployment = Deployment()
    deployment.succeeded(JOB)
    store = _Stale(deployment.store)
    ports = InspectionPorts(store, deployment.rows, deployment.temporal, BUCKET)
    store.failures = 3
    assert codes(await scan(deployment, ports=ports)) == []
    assert len(deployment.waited) == 3
    store.failures = 99
    with pytest.raises(StorageUnavailable):
        await scan(deployment, ports=ports)


async def test_confirm_job_ending_between_reads_finds_nothing() -> None:
    deployment = Deployment()
    deployment.queued(JOB)
    deployment.temporal.states[str(JOB)] = WorkflowState("running", deployment.time)

    class Ending(type(deployment.rows)):  # type: ignore[misc]
        def __init__(self, inner: object) -> None:
            self.__dict__ = inner.__dict__

        def get(self, job_id: UUID) -> JobRecord | None:
            found: JobRecord | None = super().get(job_id)
            deployment.succeeded(JOB)
            return found

    ports = InspectionPorts(deployment.store, Ending(deployment.rows), deployment.temporal, BUCKET)
    async with open_scanner(ports, deployment.means()) as one:
        assert await one.confirm(JOB) == []
    assert deployment.temporal.states[str(JOB)].status == "completed"


async def test_confirm_erase_between_reads_is_not_a_loss() -> None:
    deployment = Deployment()
    deployment.succeeded(JOB)

    class Erasing(MemoryObjectStore):
        def __init__(self, inner: object) -> None:
            self.__dict__ = inner.__dict__

        def head(self, bucket: str, key: str, *, version_id: str = "") -> ObjectInfo:
            deployment.rows.mark_erased(JOB)
            for name in (ocr_key(JOB), manifest_key(JOB)):
                deployment.store.delete(BUCKET, name)
            return super().head(bucket, key, version_id=version_id)

    ports = InspectionPorts(Erasing(deployment.store), deployment.rows, deployment.temporal, BUCKET)
    async with open_scanner(ports, deployment.means()) as one:
        assert [found.code for found in await one.confirm(JOB)] == ["erased_traces"]


class _Torn(MemoryObjectStore):
    """A store whose next ``failures`` listings end with an error after ``after`` objects."""

    def __init__(self, inner: MemoryObjectStore, failures: int, after: int) -> None:
        self.__dict__ = inner.__dict__
        self.failures, self.after = failures, after

    def list(self, bucket: str, prefix: str) -> Any:
        for number, entry in enumerate(super().list(bucket, prefix)):
            if self.failures and number == self.after:
                self.failures -= 1
                raise StorageUnavailable(store="memory", reason="away for a moment")
            yield entry


@pytest.mark.parametrize("after", [0, 300, 599])
async def test_scan_interrupted_listing_is_resumed(after: int) -> None:
    deployment = Deployment()
    for number in range(300):
        deployment.succeeded(uuid4(), body=b"photo %d" % number)
    damaged = UUID(int=(1 << 128) - 1)
    deployment.succeeded(damaged, body=b"damaged")
    deployment.store.delete(BUCKET, ocr_key(damaged))
    deployment.store.put(BUCKET, "raw/zzz", b"last", content_type="image/png")
    whole = await scan(deployment)
    torn = _Torn(deployment.store, failures=3, after=after)
    report = await scan(deployment, ports=InspectionPorts(torn, deployment.rows, deployment.temporal, BUCKET))
    assert codes(report) == ["name_unknown", "ocr_missing"], "what is damaged behind the break was not found"
    assert (torn.failures, report.jobs, report.objects) == (0, whole.jobs, whole.objects)


async def test_scan_listing_that_keeps_failing_raises() -> None:
    deployment = Deployment()
    deployment.succeeded(JOB)
    torn = _Torn(deployment.store, failures=99, after=1)
    with pytest.raises(StorageUnavailable):
        await scan(deployment, ports=InspectionPorts(torn, deployment.rows, deployment.temporal, BUCKET))


async def test_scan_job_ending_meanwhile_is_no_finding() -> None:
    """The listing shows the row as running, and the workflow has completed when the scan asks Temporal."""
    deployment = Deployment()
    key = deployment.queued(JOB)
    deployment.temporal.states[str(JOB)] = WorkflowState("running", deployment.time)
    listed = deployment.rows.get(JOB)
    assert listed is not None
    sha256 = hashlib.sha256(b"photo").hexdigest()

    class Ending(type(deployment.rows)):  # type: ignore[misc]
        def __init__(self, inner: object) -> None:
            self.__dict__ = inner.__dict__

        def all(self, *, page: int = 1000) -> Any:
            yield listed
            deployment.succeeded(JOB)

    ports = InspectionPorts(deployment.store, Ending(deployment.rows), deployment.temporal, BUCKET)
    report = await scan(deployment, ports=ports)
    assert key == raw_key(sha256, ".png")
    assert (codes(report), report.passing) == ([], 1)


async def test_scan_photo_submitted_meanwhile_is_no_finding() -> None:
    deployment = Deployment()
    key, sha256 = deployment.photo(b"an old orphan")
    deployment.time += 2 * HOUR

    def submit() -> None:
        deployment.rows.queue(JOB, bucket=BUCKET, key=key, sha256=sha256)

    store = _Watched(deployment.store, "raw/", submit)
    report = await scan(deployment, ports=InspectionPorts(store, deployment.rows, deployment.temporal, BUCKET))
    assert (codes(report), report.passing) == ([], 1)


async def test_scan_waits_for_a_running_erase() -> None:
    deployment = Deployment()
    deployment.succeeded(JOB)
    deployment.rows.mark_erased(JOB)
    means = deployment.means()

    async def wait(seconds: float) -> None:
        await means.wait(seconds)
        if len(deployment.waited) == 3:
            for key in (ocr_key(JOB), manifest_key(JOB), raw_key(hashlib.sha256(b"photo").hexdigest(), ".png")):
                deployment.store.delete(BUCKET, key)
            deployment.temporal.states.clear()
            deployment.rows.delete(JOB)

    async with open_scanner(deployment.ports, InspectionConfig(now=means.now, wait=wait)) as one:
        report = await one.scan_all()
    assert (codes(report), report.passing, len(deployment.waited)) == ([], 1, 3)


async def test_scan_interrupted_erase_is_found() -> None:
    deployment = Deployment()
    deployment.succeeded(JOB)
    deployment.rows.mark_erased(JOB)
    report = await scan(deployment)
    assert codes(report) == ["erased_traces"]
    assert 150 <= sum(deployment.waited) < 180


@pytest.mark.parametrize("running", [True, False])
async def test_scan_erased_job_with_further_workflow_is_found(running: bool) -> None:
    deployment = Deployment()
    deployment.succeeded(JOB)
    deployment.succeeded(OTHER, b"other")
    deployment.rows.mark_erased(JOB)
    deployment.rows.delete(JOB)
    for entry in [*deployment.store.list(BUCKET, f"artifacts/{JOB}/")]:
        deployment.store.delete(BUCKET, entry.key)
    deployment.store.delete(BUCKET, raw_key(hashlib.sha256(b"photo").hexdigest(), ".png"))
    del deployment.temporal.states[str(JOB)]
    further = f"{JOB}/later"
    closed = None if running else deployment.time
    deployment.temporal.states[further] = WorkflowState("running" if running else "failed", deployment.time, closed)
    report = await (scan(deployment) if running else scan_one(deployment, JOB))
    (finding,) = report.findings
    assert (finding.code, finding.job_id) == ("erased_traces", JOB)
    assert f"its workflow {further}" in finding.problem


async def scan_one(deployment: Deployment, job_id: UUID) -> ScanReport:
    async with open_scanner(deployment.ports, deployment.means()) as scanner:
        return await scanner.scan_jobs([job_id])


async def test_scan_queue_emptied_meanwhile_is_no_finding() -> None:
    deployment = Deployment()
    waiting = QueueState("recipe-process", backlog=3, oldest_seconds=5.0, has_worker=False)
    deployment.temporal.queue = waiting
    assert codes(await scan(deployment)) == ["queue_without_worker"]

    def recover() -> None:
        deployment.temporal.queue = QueueState("recipe-process", backlog=0, oldest_seconds=0.0, has_worker=True)

    store = _Watched(deployment.store, "raw/", recover)
    assert (
        codes(await scan(deployment, ports=InspectionPorts(store, deployment.rows, deployment.temporal, BUCKET))) == []
    )


async def test_scan_queue_filled_meanwhile_is_no_finding() -> None:
    """The first task of a worker that is just starting is not yet a queue without a worker."""
    deployment = Deployment()

    def begin() -> None:
        deployment.temporal.queue = QueueState("recipe-process", backlog=1, oldest_seconds=0.0, has_worker=False)

    store = _Watched(deployment.store, "raw/", begin)
    assert (
        codes(await scan(deployment, ports=InspectionPorts(store, deployment.rows, deployment.temporal, BUCKET))) == []
    )


async def test_scan_changes_nothing() -> None:
    deployment = Deployment()
    deployment.succeeded(JOB)
    deployment.queued(OTHER, b"other")
    deployment.photo(b"an orphan")
    deployment.time += 2 * HOUR
    before = dump(deployment)
    assert codes(await scan(deployment)) == ["photo_without_row", "queued_without_workflow"]
    assert dump(deployment) == before


def dump(deployment: Deployment) -> tuple[list[JobRecord], list[tuple[str, bytes]], dict[str, WorkflowState]]:
    """Return all rows, objects and workflows."""
    keys = [entry.key for entry in deployment.store.list(BUCKET, "")]
    objects = [(key, deployment.store.get(BUCKET, key, limit_bytes=1 << 20)) for key in keys]
    return list(deployment.rows.all()), objects, dict(deployment.temporal.states)


async def test_scan_result_in_former_bucket_is_checked() -> None:
    """S3_BUCKET may change; rows keep the bucket that their objects are in."""
    deployment = Deployment()
    deployment.succeeded(JOB)
    deployment.store.ensure_bucket("new-bucket")
    bind(deployment.store, deployment.rows, "new-bucket")
    ports = InspectionPorts(deployment.store, deployment.rows, deployment.temporal, "new-bucket")
    report = await scan(deployment, ports=ports)
    assert (codes(report), report.linked) == ([], 0)
    deployment.store.delete(BUCKET, ocr_key(JOB))
    assert codes(await scan(deployment, ports=ports)) == ["ocr_missing"]


async def test_scan_row_without_bucket_names_finds_nothing() -> None:
    deployment = Deployment()
    key, sha256 = deployment.photo(b"photo")
    deployment.rows.queue(JOB, bucket="", key=key, sha256=sha256)
    deployment.temporal.states[str(JOB)] = WorkflowState("running", deployment.time)
    assert codes(await scan(deployment)) == []
    deployment.succeeded(JOB)
    ocr = OcrRecord("", ocr_key(JOB), manifest_key(JOB), "textract", "1.0", 1)
    deployment.rows.succeed(JOB, bucket="", key=key, sha256=sha256, ocr=ocr)
    assert codes(await scan(deployment)) == []
