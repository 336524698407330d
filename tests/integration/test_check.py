"""``photo-worker check`` on the real stack: each damage breaks exactly one rule, and a check changes nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest
from click.testing import CliRunner
from temporalio.testing import ActivityEnvironment

from photo_worker import cli
from photo_worker.activities.assets import AssetActivities
from photo_worker.adapters.temporal.orchestrator import TemporalOrchestrator
from photo_worker.contracts.image import IMAGE_PROCESSING, ImageProcessingInput, LocateAssetInput
from photo_worker.contracts.keys import manifest_key, ocr_key, raw_key
from photo_worker.crash_points import CrashPoint, Phase, armed
from photo_worker.pipelines import workflow_types
from photo_worker.services.consistency.inspector import InspectionConfig, InspectionPorts
from photo_worker.services.consistency.repair import Repairer
from photo_worker.services.consistency.scan import Scanner, ScanReport, open_scanner
from photo_worker.services.erasure import Erasure
from photo_worker.sources import Source
from tests.support import documents
from tests.support.harness import FIXTURES, Harness, eventually, open_harness

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.stack

PHOTOS = sorted(path for path in (FIXTURES / "photos").iterdir() if path.suffix in {".png", ".jpg", ".jpeg"})
# Beyond the grace period and every policy's limit: a job that has not progressed by then counts as stuck.
LATER = timedelta(hours=3)
ORPHAN = raw_key("ab" * 32, ".png")


class Site:
    """A deployment with two finished jobs and a failed one, and the means to check and repair it."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.bucket = harness.settings.s3_bucket
        self.store = harness.application.store
        self.repository = harness.application.repository
        self.orchestrator = TemporalOrchestrator(
            harness.client, harness.settings.temporal_task_queue, types=workflow_types()
        )
        self.jobs: list[UUID] = []

    async def process(self) -> None:
        """Process the jobs with a worker that is stopped afterwards."""
        async with self.harness.worker():
            for photo in PHOTOS[:2]:
                submitted = await self.harness.service.submit(Source(label=photo.name, path=photo), engine="recorded")
                self.jobs.append(submitted.job_id)
            missing = await self.harness.service.submit(Source(label="no", bucket=self.bucket, key="no/such.png"))
            self.jobs.append(missing.job_id)
            reports = [await self.harness.service.wait(job_id) for job_id in self.jobs]
            # A row is final shortly before its workflow closes.
            await eventually(self.all_closed)
        assert [report.record.status for report in reports] == ["succeeded", "succeeded", "failed"]

    async def all_closed(self) -> bool:
        states = [await self.orchestrator.state(IMAGE_PROCESSING.of(job_id)) for job_id in self.jobs]
        return not any(state is None or state.is_open for state in states)

    @asynccontextmanager
    async def survey(self, later: timedelta = timedelta()) -> AsyncIterator[Scanner]:
        ports = InspectionPorts(self.store, self.repository, self.orchestrator, self.bucket)
        means = InspectionConfig(now=lambda: datetime.now(UTC) + later, parallel=4, erase_seconds=0.0)
        async with open_scanner(ports, means) as scanner:
            yield scanner

    async def check(self, later: timedelta = LATER) -> ScanReport:
        async with self.survey(later) as scanner:
            return await scanner.scan_all()

    async def repair(self, later: timedelta = LATER) -> tuple[list[tuple[str, str]], ScanReport]:
        erasure = Erasure(self.store, self.repository, self.orchestrator, self.bucket)
        async with self.survey(later) as scanner:
            report = await scanner.scan_all()
            steps = await Repairer(scanner, erasure.erase).repair(report, lambda step: None)
        return [(step.finding.code, step.outcome) for step in steps], report

    def sql(self, statement: str, *values: object) -> None:
        with psycopg.connect(self.harness.settings.require_database_url(), autocommit=True) as connection:
            assert connection.execute(statement, values).rowcount == 1

    def age(self, job_id: UUID, by: timedelta) -> None:
        """Backdate a row's last change."""
        with psycopg.connect(self.harness.settings.require_database_url()) as connection:
            connection.execute("ALTER TABLE recipes DISABLE TRIGGER USER")
            connection.execute("UPDATE recipes SET updated_at = updated_at - %s WHERE id = %s", [by, job_id])
            connection.execute("ALTER TABLE recipes ENABLE TRIGGER USER")

    def put(self, key: str, body: bytes) -> None:
        self.store.put(self.bucket, key, body, content_type="application/octet-stream")

    async def dump(self) -> dict[str, Any]:
        """Return the whole state: rows as text, objects with bytes, type and metadata, each workflow's last event."""
        seen: dict[str, Any] = {}
        with psycopg.connect(self.harness.settings.require_database_url()) as connection:
            for table in ("recipes", "recipe_ocr", "erasures"):
                rows = connection.execute(f"SELECT t::text FROM {table} AS t ORDER BY 1")  # noqa: S608
                seen[table] = rows.fetchall()
        for entry in self.store.list(self.bucket, ""):
            info = self.store.head(self.bucket, entry.key)
            body = self.store.get(self.bucket, entry.key, limit_bytes=1 << 26)
            seen[entry.key] = (entry.modified_at, info.content_type, dict(info.metadata), body)
        for job_id in self.jobs:
            if await self.orchestrator.state(IMAGE_PROCESSING.of(job_id)) is not None:
                history = await self.harness.client.get_workflow_handle(str(job_id)).fetch_history()
                seen[str(job_id)] = history.events[-1].event_id
        return seen


@pytest.fixture
async def site(stack_variables: dict[str, str]) -> AsyncIterator[Site]:
    # Jobs that a repair starts use the worker's own engine; the text that it reads does not matter here.
    async with open_harness(stack_variables | {"OCR_ENGINE": "recorded"}) as harness:
        made = Site(harness)
        await made.process()
        yield made


def codes(report: ScanReport) -> list[str]:
    return sorted(found.code for found in report.findings)


@asynccontextmanager
async def found(site: Site, code: str, *, later: timedelta = LATER) -> AsyncIterator[None]:
    """Damage something in the block: then exactly this rule is broken, and the check changes nothing."""
    yield
    before = await site.dump()
    report = await site.check(later)
    assert codes(report) == [code], [one.problem for one in report.findings]
    assert await site.dump() == before, f"looking at {code} changed something"


async def test_check_sound_deployment_has_no_findings(site: Site) -> None:
    before = await site.dump()
    for later in (timedelta(), LATER):
        report = await site.check(later)
        assert (codes(report), report.jobs) == ([], 3)
        assert report.hashed_bytes >= sum(photo.stat().st_size for photo in PHOTOS[:2])
    assert await site.dump() == before


async def test_check_damaged_object_breaks_one_rule(site: Site, s3_client: S3Client) -> None:
    job_id = site.jobs[0]
    row = site.repository.get(job_id)
    assert row is not None
    damages = {
        ocr_key(job_id): ("ocr_missing", b"{}", "ocr_differs"),
        manifest_key(job_id): ("manifest_missing", b"{}", "manifest_differs"),
        row.s3_raw_key: ("photo_missing", b"another photo", "photo_differs"),
    }
    for key, (gone, other, changed) in damages.items():
        kept = site.store.head(site.bucket, key)
        body = site.store.get(site.bucket, key, limit_bytes=1 << 26)
        async with found(site, gone):
            site.store.delete(site.bucket, key)
        async with found(site, changed):
            site.put(key, other)
        site.store.put(site.bucket, key, body, content_type=kept.content_type, metadata=kept.metadata)
        assert codes(await site.check()) == []
    # A valid manifest with a wrong hash.
    body = site.store.get(site.bucket, manifest_key(job_id), limit_bytes=1 << 20)
    async with found(site, "manifest_differs"):
        site.put(manifest_key(job_id), body.replace(row.content_sha256.encode(), b"0" * 64))


async def test_check_damaged_row_breaks_one_rule(site: Site) -> None:
    done, _, failed = site.jobs
    async with found(site, "succeeded_with_error"):
        site.sql("UPDATE recipes SET error_code = 'odd' WHERE id = %s", done)
    site.sql("UPDATE recipes SET error_code = NULL WHERE id = %s", done)
    async with found(site, "failed_without_reason"):
        site.sql("UPDATE recipes SET error_message = NULL WHERE id = %s", failed)
    site.sql("UPDATE recipes SET error_message = 'gone' WHERE id = %s", failed)
    async with found(site, "workflow_contradicts_row"):
        site.sql("UPDATE recipes SET status = 'failed', error_code = 'x', error_message = 'y' WHERE id = %s", done)
    site.sql("UPDATE recipes SET status = 'succeeded', error_code = NULL, error_message = NULL WHERE id = %s", done)
    async with found(site, "succeeded_without_result"):
        site.sql("DELETE FROM recipe_ocr WHERE recipe_id = %s", done)
    async with found(site, "result_not_recorded"):
        site.sql("UPDATE recipes SET status = 'running' WHERE id = %s", done)
    assert (await site.repair())[0] == [("result_not_recorded", "done")]
    assert codes(await site.check()) == []
    async with found(site, "running_without_workflow"):
        site.repository.start(uuid4(), bucket="their-bucket", key="a photo.png", sha256="")
    # Textract no longer remembers the job by then, so reading again would be charged.
    assert ("running_without_workflow", "done") not in (await site.repair(timedelta(days=8)))[0]


async def test_check_repair_result_without_row_is_kept(site: Site) -> None:
    async with found(site, "result_without_row"):
        site.sql("DELETE FROM recipes WHERE id = %s", site.jobs[0])
    before = await site.dump()
    assert (await site.repair())[0] == []
    assert await site.dump() == before


async def test_check_repair_old_orphans_are_deleted(site: Site) -> None:
    unknown = uuid4()
    sound = await site.dump()
    for key, code in (
        (ORPHAN, "photo_without_row"),
        (ocr_key(unknown), "artifact_without_row"),
        (f"tags/{unknown}/rules v1+ü.json", "artifact_without_row"),
    ):
        async with found(site, code):
            site.put(key, b"an orphan")
        young = await site.check(timedelta())
        assert (codes(young), young.young) == ([], 1)
        steps, left = await site.repair()
        assert (steps, codes(left), codes(await site.check())) == ([(code, "done")], [], [])
        assert await site.dump() == sound
    for strange in ("artifacts/notes of mine.txt", f"artifacts/{str(unknown).upper()}/a.json", "raw/ünknown+name.png"):
        async with found(site, "name_unknown"):
            site.put(strange, b"a stranger")
        before = await site.dump()
        assert (await site.repair())[0] == []
        assert await site.dump() == before
        site.store.delete(site.bucket, strange)


async def test_check_repair_queued_without_workflow_is_started(site: Site) -> None:
    """The state that a process leaves if it dies between writing the row and starting the workflow."""
    job_id = uuid4()
    row = site.repository.get(site.jobs[0])
    assert row is not None
    async with found(site, "queued_without_workflow"):
        site.repository.queue(job_id, bucket=site.bucket, key=row.s3_raw_key, sha256=row.content_sha256)
    assert codes(await site.check(timedelta())) == []
    steps, left = await site.repair(timedelta(minutes=2))
    assert (steps, codes(left)) == ([("queued_without_workflow", "done")], [])
    assert (await site.repair(timedelta(minutes=2)))[0] == []
    async with site.harness.worker():
        report = await site.harness.service.wait(job_id)
    assert report.record.status == "succeeded"
    site.jobs.append(job_id)
    await eventually(site.all_closed)
    assert codes(await site.check()) == []


@pytest.mark.io_bound
@pytest.mark.parametrize("status", ["queued", "running"])
async def test_check_repair_job_without_workflow_is_restarted(site: Site, status: str) -> None:
    """The state after a workflow has ended without its row and the namespace's retention is over."""
    submitted = await site.harness.service.submit(Source(label="a", path=PHOTOS[0]), engine="recorded")
    job_id = submitted.job_id
    row = site.repository.get(job_id)
    assert row is not None
    if status == "running":
        site.repository.start(job_id, bucket=site.bucket, key=row.s3_raw_key, sha256=row.content_sha256)
    assert await site.orchestrator.erase(job_id)

    async def show(*options: str) -> tuple[int, str, str]:
        arguments = ["show", str(job_id), *options]
        ended = await asyncio.to_thread(CliRunner().invoke, cli.cli, arguments, env=site.harness.variables)
        return ended.exit_code, ended.stdout, ended.stderr

    # What another process sees while the job is being submitted.
    code, said, _ = await show()
    assert (code, status in said) == (0, True)
    site.age(job_id, timedelta(hours=1))
    code, said, told = await show()
    assert (code, said) == (1, "")
    assert "[job_without_workflow]" in told
    assert f"its row says {status} since" in told
    code, said, _ = await show("-o", "json")
    response = json.loads(said)
    assert (code, response["status"], response["error"]["code"]) == (1, "failed", "job_without_workflow")
    async with site.harness.worker():
        steps, left = await site.repair(timedelta())
        assert (steps, codes(left)) == ([(f"{status}_without_workflow", "done")], [])
        assert (await site.harness.service.wait(job_id)).record.status == "succeeded"
        site.jobs.append(job_id)
        await eventually(site.all_closed)
    assert (await show())[0] == 0
    assert codes(await site.check()) == []


async def test_check_repair_terminated_job_gets_reason(site: Site) -> None:
    submitted = await site.harness.service.submit(Source(label="a", path=PHOTOS[0]), engine="recorded")
    async with found(site, "job_stuck"):
        assert codes(await site.check(timedelta())) == []
    handle = site.harness.client.get_workflow_handle(str(submitted.job_id))
    async with found(site, "workflow_ended_without_row"):
        await handle.terminate(reason="the night shift said so")
    steps, left = await site.repair()
    assert (steps, codes(left), codes(await site.check())) == ([("workflow_ended_without_row", "done")], [], [])
    row = site.repository.get(submitted.job_id)
    assert row is not None
    assert (row.status, row.error_code) == ("failed", "terminated")
    assert "the night shift said so" in str(row.error_message)


async def test_check_workflow_without_row_is_found(site: Site) -> None:
    job_id = uuid4()

    async def visible() -> bool:
        return str(job_id) in [name async for name in site.orchestrator.open_workflows()]

    await site.orchestrator.start(
        IMAGE_PROCESSING.of(job_id), ImageProcessingInput(job_id=str(job_id), bucket=site.bucket, key="no/such.png")
    )
    await eventually(visible)
    async with found(site, "workflow_without_row"):
        assert codes(await site.check(timedelta())) == []


async def test_check_repair_traces_of_erased_job_are_erased(site: Site) -> None:
    job_id = site.jobs[0]
    async with found(site, "erased_traces"):
        site.repository.mark_erased(job_id)
    steps, left = await site.repair()
    assert (steps, codes(left), codes(await site.check())) == ([("erased_traces", "done")], [], [])
    assert (site.repository.get(job_id), await site.orchestrator.state(IMAGE_PROCESSING.of(job_id))) == (None, None)
    # A worker that was suspended during the erasure continues.
    async with found(site, "erased_traces"):
        site.put(ocr_key(job_id), b"{}")
    steps, left = await site.repair()
    assert (steps, codes(left)) == ([("erased_traces", "done")], [])
    async with site.survey() as scanner:
        alone = await scanner.scan_jobs([job_id])
    assert (alone.jobs, codes(alone)) == (1, [])


@pytest.mark.parametrize("hidden", [False, True], ids=["shown", "behind a delete marker"])
async def test_check_repair_copy_without_row_loses_all_versions(site: Site, s3_client: S3Client, hidden: bool) -> None:
    """The attempt was suspended before storing the copy, its job was erased, and it died after storing the copy."""
    s3_client.put_bucket_versioning(Bucket=site.bucket, VersioningConfiguration={"Status": "Enabled"})
    job_id, key = uuid4(), "inbox/photo.heic"
    request = LocateAssetInput(bucket=site.bucket, key=key, job_id=str(job_id))

    class Paused(documents.InlineDecoder):
        def convert(self, content: bytes, kind: str, name: str) -> bytes:
            site.repository.mark_erased(job_id)
            site.repository.delete(job_id)
            return super().convert(content, kind, name)

    class Died(BaseException):
        pass

    def die(point: CrashPoint, phase: Phase) -> None:
        if (point, phase) == (CrashPoint.COPY_STORED, Phase.AFTER):
            raise Died

    activities = AssetActivities(site.store, site.repository, Paused(), site.bucket)
    s3_client.put_object(Bucket=site.bucket, Key=key, Body=documents.heic("turned"), ContentType="image/heic")
    with armed(die), pytest.raises(Died):
        await asyncio.to_thread(ActivityEnvironment().run, activities.verify_and_locate_asset, request)
    [copy] = [entry.key for entry in site.store.list(site.bucket, "converted/")]
    async with found(site, "copy_without_row"):
        if hidden:
            s3_client.delete_object(Bucket=site.bucket, Key=copy)
    steps, left = await site.repair()
    assert (steps, codes(left)) == ([("copy_without_row", "done")], [])
    versions = s3_client.list_object_versions(Bucket=site.bucket, Prefix="converted/")
    assert (versions.get("Versions", []), versions.get("DeleteMarkers", [])) == ([], [])


async def test_check_queue_without_worker_is_found(harness: Harness) -> None:
    site = Site(harness)
    await harness.service.submit(Source(label="a", path=PHOTOS[0]), engine="recorded")

    async def backlog() -> bool:
        return (await site.orchestrator.queue_state()).backlog > 0

    await eventually(backlog)
    report = await site.check(timedelta())
    assert codes(report) == ["queue_without_worker"]
    assert harness.settings.temporal_task_queue in report.findings[0].where
    steps, _ = await site.repair(timedelta())
    assert steps == []


@pytest.mark.io_bound
async def test_check_during_running_jobs_has_no_findings(harness: Harness) -> None:
    """Check repeatedly while jobs are submitted, processed, cancelled and erased."""
    site = Site(harness)
    checks = 0

    async def submit(number: int) -> None:
        photo = PHOTOS[number % len(PHOTOS)]
        submitted = await harness.service.submit(Source(label=photo.name, path=photo), engine="recorded")
        if number % 5 == 3:
            await site.orchestrator.cancel(IMAGE_PROCESSING.of(submitted.job_id))
        await harness.service.wait(submitted.job_id)
        if number % 5 == 4:
            erasure = Erasure(site.store, site.repository, site.orchestrator, site.bucket)
            await erasure.erase(submitted.job_id)

    async with harness.worker():
        work = asyncio.gather(*(submit(number) for number in range(10)))
        try:
            ports = InspectionPorts(site.store, site.repository, site.orchestrator, site.bucket)
            while not work.done() or not checks:
                async with open_scanner(ports, InspectionConfig(now=lambda: datetime.now(UTC), parallel=4)) as scanner:
                    report = await scanner.scan_all()
                assert codes(report) == [], [found.problem for found in report.findings]
                checks += 1
            await work
        finally:
            work.cancel()
    final = await site.check(timedelta())
    assert (codes(final), final.jobs) == ([], 8)
