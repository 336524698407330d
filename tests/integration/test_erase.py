"""After an erasure nothing of the job is left, whenever it runs and whichever process continues afterwards."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from mypy_boto3_s3 import S3Client
from psycopg import sql

from photo_worker.adapters.temporal.orchestrator import TemporalOrchestrator
from photo_worker.contracts.image import IMAGE_PROCESSING, ImageProcessingInput
from photo_worker.contracts.keys import manifest_key, ocr_key
from photo_worker.crash_points import CrashPoint, Phase, armed
from photo_worker.errors import JobErased
from photo_worker.pipelines import workflow_types
from photo_worker.services.binding import MARKER_KEY
from photo_worker.services.erasure import Erasure, ErasureStep, Part
from photo_worker.sources import Source
from tests.integration.test_commands import clean, photo_worker
from tests.support.harness import FIXTURES, Harness, eventually

pytestmark = pytest.mark.stack

PHOTOS = sorted((FIXTURES / "photos").glob("*.png")) + sorted((FIXTURES / "photos").glob("*.jpg"))


def orchestrator_of(harness: Harness) -> TemporalOrchestrator:
    return TemporalOrchestrator(
        harness.client, harness.settings.temporal_task_queue, erase_seconds=90, types=workflow_types()
    )


def erasure_of(harness: Harness) -> Erasure:
    application = harness.application
    return Erasure(application.store, application.repository, orchestrator_of(harness), harness.settings.s3_bucket)


async def everything(harness: Harness, s3_client: S3Client) -> bytes:
    """Return all that S3, Postgres and Temporal hold of this deployment: names, bodies, metadata, old versions."""
    found: list[bytes] = []
    bucket = harness.settings.s3_bucket
    for page in s3_client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        found += [marker["Key"].encode() for marker in page.get("DeleteMarkers", [])]
        for version in page.get("Versions", []):
            response = s3_client.get_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])
            found += [version["Key"].encode(), repr(response["Metadata"]).encode(), response["Body"].read()]
    with psycopg.connect(harness.settings.require_database_url()) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (table,) in tables:
            for row in connection.execute(sql.SQL("SELECT t::text FROM {} AS t").format(sql.Identifier(table))):
                found.append(row[0].encode())
    query = f"TaskQueue = '{harness.settings.temporal_task_queue}'"
    async for run in harness.client.list_workflows(query):
        found += [run.id.encode(), run.raw_info.SerializeToString()]
        handle = harness.client.get_workflow_handle(run.id, run_id=run.run_id)
        found += [event.SerializeToString() async for event in handle.fetch_history_events()]
    return b"\n".join(found)


async def left_of(harness: Harness, s3_client: S3Client, *needles: str) -> list[str]:
    haystack = await everything(harness, s3_client)
    return [needle for needle in needles if needle.encode() in haystack]


def names_of(job_id: UUID) -> tuple[str, str]:
    return str(job_id), job_id.hex


def left_by(steps: list[ErasureStep]) -> list[Part]:
    return [step.part for step in steps if step.left]


@contextmanager
def held_at(point: CrashPoint, phase: Phase) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Block the first caller that reaches a crash point until the second event is set; the first event reports it."""
    reached, released = threading.Event(), threading.Event()
    taken = threading.Lock()

    def hold(at: CrashPoint, when: Phase) -> None:
        if (at, when) == (point, phase) and taken.acquire(blocking=False):
            reached.set()
            assert released.wait(60)

    with armed(hold):
        try:
            yield reached, released
        finally:
            released.set()


@pytest.mark.io_bound
async def test_erase_ended_jobs_leaves_no_traces(harness: Harness, s3_client: S3Client, tmp_path: Path) -> None:
    """One job finished in a bucket that keeps versions, one failed, and two have the same photo."""
    s3_client.put_bucket_versioning(Bucket=harness.settings.s3_bucket, VersioningConfiguration={"Status": "Enabled"})
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(PHOTOS[0].read_bytes()[:2000])
    sources = [PHOTOS[0], damaged, PHOTOS[1], PHOTOS[1]]
    shas = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sources]
    async with harness.worker():
        jobs = [
            (await harness.service.submit(Source(path.name, path=path), engine="recorded")).job_id for path in sources
        ]
        reports = await asyncio.gather(*(harness.service.wait(job_id) for job_id in jobs))
    finished, failed, one, other = jobs
    assert [report.record.status for report in reports] == ["succeeded", "failed", "succeeded", "succeeded"]
    text = max(reports[0].lines, key=len)
    # The artifact was deleted by hand: its text is still stored behind a delete marker.
    s3_client.delete_object(Bucket=harness.settings.s3_bucket, Key=ocr_key(finished))
    needles = [*names_of(finished)[:1], text, shas[0], str(failed), shas[1], str(one), shas[2]]
    assert await left_of(harness, s3_client, *needles) == needles

    erasure = erasure_of(harness)
    done = await asyncio.gather(*(erasure.erase(job_id) for job_id in (finished, failed, one)))
    assert [left_by(steps) for steps in done] == [[], [], [Part.PHOTO]]
    needles = [*names_of(finished), text, shas[0], *names_of(failed), shas[1], *names_of(one)]
    assert await left_of(harness, s3_client, *needles) == []

    # The other job with the photo is intact.
    assert harness.service.report(other) == reports[3]
    assert left_by(await erasure.erase(other)) == []
    assert await left_of(harness, s3_client, *names_of(other), shas[2], max(reports[3].lines, key=len)) == []
    left = [entry.key for entry in harness.application.store.list(harness.settings.s3_bucket, "")]
    assert left == [MARKER_KEY]
    with psycopg.connect(harness.settings.require_database_url()) as connection:
        marks = connection.execute("SELECT encode(job_digest, 'hex') FROM erasures").fetchall()
    assert {mark for (mark,) in marks} == {hashlib.sha256(str(job).encode()).hexdigest() for job in jobs}


async def test_erase_queued_job_leaves_no_traces(harness: Harness, s3_client: S3Client) -> None:
    job_id = (await harness.service.submit(Source("pie", path=PHOTOS[0]))).job_id
    sha256 = hashlib.sha256(PHOTOS[0].read_bytes()).hexdigest()
    assert left_by(await erasure_of(harness).erase(job_id)) == []
    assert await left_of(harness, s3_client, *names_of(job_id), sha256) == []


@pytest.mark.parametrize(
    ("point", "phase"),
    [
        (CrashPoint.JOB_CLAIMED, Phase.BEFORE),
        (CrashPoint.HASH_RECORDED, Phase.AFTER),
        (CrashPoint.TEXTRACT_STARTED, Phase.AFTER),
        (CrashPoint.RESULT_OBJECT_STORED, Phase.BEFORE),
        (CrashPoint.RESULT_OBJECT_STORED, Phase.AFTER),
        (CrashPoint.MANIFEST_STORED, Phase.BEFORE),
        (CrashPoint.MANIFEST_STORED, Phase.AFTER),
    ],
)
async def test_erase_during_attempt_leaves_no_traces(
    harness: Harness, s3_client: S3Client, point: CrashPoint, phase: Phase
) -> None:
    """The attempt was suspended in the middle of its work, and does not know that its job was erased."""
    path = PHOTOS[0]
    engine = "textract" if point is CrashPoint.TEXTRACT_STARTED else "recorded"
    with held_at(point, phase) as (reached, released):
        async with harness.worker():
            job_id = (await harness.service.submit(Source(path.name, path=path), engine=engine)).job_id
            assert await asyncio.to_thread(reached.wait, 60)
            waiting = asyncio.create_task(harness.service.wait(job_id))
            assert left_by(await erasure_of(harness).erase(job_id)) == []
            with pytest.raises(JobErased):
                await waiting
            released.set()
    needles = [*names_of(job_id), hashlib.sha256(path.read_bytes()).hexdigest()]
    assert await left_of(harness, s3_client, *needles) == []


async def test_erase_during_submission_leaves_no_traces(harness: Harness, s3_client: S3Client) -> None:
    """The erasure found no workflow; the one that is started afterwards is deleted as well."""
    job_id = uuid4()
    with held_at(CrashPoint.WORKFLOW_STARTED, Phase.BEFORE) as (reached, released):
        # The submission blocks an event loop, so it runs in one of its own.
        submitting = asyncio.create_task(asyncio.to_thread(_submit, harness.variables, job_id))
        assert await asyncio.to_thread(reached.wait, 60)
        await erasure_of(harness).erase(job_id)
        released.set()
        with pytest.raises(JobErased):
            await submitting
    sha256 = hashlib.sha256(PHOTOS[0].read_bytes()).hexdigest()
    assert await left_of(harness, s3_client, *names_of(job_id), sha256) == []


def _submit(variables: dict[str, str], job_id: UUID) -> None:
    from photo_worker.bootstrap import build_application
    from photo_worker.config import load_settings, read_environment

    async def submit() -> None:
        with build_application(load_settings(read_environment(variables, None))) as application:
            await application.connect()
            await application.jobs().submit(Source("pie", path=PHOTOS[0]), job_id=job_id)

    asyncio.run(submit())


@pytest.mark.io_bound
async def test_erase_before_workflow_start_ends_workflow(harness: Harness, s3_client: S3Client) -> None:
    job_id = uuid4()
    harness.application.repository.mark_erased(job_id)
    orchestrator = orchestrator_of(harness)
    async with harness.worker():
        await orchestrator.start(
            IMAGE_PROCESSING.of(job_id),
            ImageProcessingInput(job_id=str(job_id), bucket=harness.settings.s3_bucket, key="raw/pie.png"),
        )

        async def ended() -> bool:
            state = await orchestrator.state(IMAGE_PROCESSING.of(job_id))
            return state is not None and not state.is_open

        await eventually(ended)
    state = await orchestrator.state(IMAGE_PROCESSING.of(job_id))
    assert state is not None
    assert (state.status, state.reason_code) == ("failed", "job_erased")
    assert harness.application.repository.get(job_id) is None
    await erasure_of(harness).erase(job_id)
    assert await left_of(harness, s3_client, *names_of(job_id)) == []


async def test_erase_command_requires_confirmation(harness: Harness, tmp_path: Path) -> None:
    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return photo_worker(*arguments, variables=harness.variables, cwd=tmp_path)

    job_id = (await harness.service.submit(Source("pie", path=PHOTOS[0]))).job_id
    refused = run("erase", str(job_id))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"error [confirmation_required]: This deletes every trace of job {job_id}" in refused.stderr
    assert harness.service.report(job_id).record.status == "queued"

    done = run("erase", str(job_id), "--yes", "-o", "json")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)["data"]
    assert (data["job_id"], data["left"]) == (str(job_id), [])
    assert [step["part"] for step in data["steps"]] == [part.value for part in Part]

    # Nothing is left to delete, so no confirmation is required.
    again = run("erase", str(job_id))
    assert again.returncode == 0, again.stderr
    assert f"Job {job_id} is erased." in again.stdout

    told = run("submit", PHOTOS[0], "--job-id", str(job_id))
    assert told.returncode == 1
    assert f"error [job_erased]: Job {job_id} has been erased." in told.stderr
    unknown = run("erase", str(uuid4()), "--yes")
    assert unknown.returncode == 1
    assert "error [job_missing]" in unknown.stderr


async def test_erase_command_on_terminal_asks(harness: Harness, tmp_path: Path) -> None:
    source = Source("pie", bucket=harness.settings.s3_bucket, key="inbox/pie.png")
    job_id = (await harness.service.submit(source)).job_id

    def erase(response: bytes) -> subprocess.CompletedProcess[str]:
        terminal, other = pty.openpty()
        try:
            os.write(terminal, response)
            return subprocess.run(
                [sys.executable, "-m", "photo_worker.cli", "erase", str(job_id)],
                env=clean(harness.variables),
                cwd=tmp_path,
                stdin=other,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        finally:
            os.close(terminal)
            os.close(other)

    asked = erase(b"n\n")
    assert asked.returncode == 130
    assert f"photo     s3://{source.bucket}/{source.key} (stays: it was not uploaded by a submission)" in asked.stderr
    assert "workflow  running" in asked.stderr
    assert harness.service.report(job_id).record.status == "queued"
    assert erase(b"y\n").returncode == 0
    with pytest.raises(JobErased):
        harness.service.report(job_id)


def test_artifact_keys_contain_job_id() -> None:
    """The searches above rely on it: they look for the id alone."""
    job_id = uuid4()
    assert str(job_id) in ocr_key(job_id)
    assert str(job_id) in manifest_key(job_id)
