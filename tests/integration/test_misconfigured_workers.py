"""Misconfigured worker processes, alone and beside a correct one: they lose no job."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psycopg
import pytest
from click.testing import CliRunner
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from temporalio import workflow
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from photo_worker import health
from photo_worker.cli import cli
from photo_worker.errors import JobEndedWithoutRow
from photo_worker.services.binding import MARKER_KEY
from photo_worker.sources import Source
from tests.crash.real.outages import FORBIDDEN, POSTGRES, READ_ONLY, S3, TEXTRACT, reach_of, role_in
from tests.support.harness import FIXTURES, Harness, eventually, open_harness, waiting_for
from tests.support.workers import running

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.stack, pytest.mark.io_bound]


def a_photo() -> Source:
    path = FIXTURES / "photos" / "clean-print.png"
    return Source(label=path.name, path=path)


@dataclass
class WorkerProcess:
    """A worker process as operators start it."""

    process: asyncio.subprocess.Process
    log: Path

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    async def says(self, *texts: str) -> None:
        """Wait until its log has one of ``texts``."""

        async def probe() -> bool:
            assert self.process.returncode is None, self.output()
            return any(text in self.output() for text in texts)

        await eventually(probe, seconds=60)


@asynccontextmanager
async def worker_with(variables: dict[str, str], directory: Path) -> AsyncIterator[WorkerProcess]:
    """Run ``photo-worker worker`` with only these variables."""
    log = directory / f"worker-{uuid4().hex[:8]}.log"
    passed = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "photo_worker.cli", "worker"),
            env=passed | {"LOG_FORMAT": "json"} | variables,
            cwd=directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield WorkerProcess(process, log)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 30)
        if process.returncode is None:
            process.kill()
            await process.wait()


def with_password(variables: dict[str, str], user: str, password: str) -> dict[str, str]:
    url = urlsplit(variables["DATABASE_URL"])
    host = url.netloc.rpartition("@")[2]
    return variables | {"DATABASE_URL": url._replace(netloc=f"{user}:{password}@{host}").geturl()}


@pytest.mark.parametrize("wrong", ["password", "schema", "bucket", "engine", "recordings"])
async def test_worker_misconfigured_takes_no_job(
    harness: Harness, empty_database_url: str, tmp_path: Path, wrong: str
) -> None:
    url = urlsplit(harness.variables["DATABASE_URL"])
    unmigrated = url._replace(path=str(conninfo_to_dict(empty_database_url)["dbname"])).geturl()
    empty = tmp_path / "empty"
    empty.mkdir()
    variables, code = {
        "password": (with_password(harness.variables, url.username or "", "old"), "service_refused"),
        "schema": (harness.variables | {"DATABASE_URL": unmigrated}, "schema_missing"),
        "bucket": (harness.variables | {"S3_BUCKET": f"pw-none-{secrets.token_hex(6)}"}, "worker_bucket_missing"),
        "engine": (harness.variables | {"OCR_ENGINE": "textrct"}, "config_invalid"),
        "recordings": (
            harness.variables | {"OCR_ENGINE": "recorded", "OCR_RECORDED_DIR": str(empty)},
            "config_invalid",
        ),
    }[wrong]
    jobs = [await harness.service.submit(a_photo(), engine="recorded") for _ in range(4)]
    async with worker_with(variables, tmp_path) as process:
        await process.says(f'"{code}"')

        async def told() -> bool:
            return (await harness.application.orchestrator.queue_state()).waits_for == (code,)

        await eventually(told)
        assert not await health.check(variables, None, socket.gethostname()), "a restart would repair nothing"
        assert "worker polls" not in process.output()
        assert process.output().count("takes no work") == 1
        for job in jobs:
            row = harness.application.repository.get(job.job_id)
            assert row is not None
            assert row.status == "queued"
            # The job's lifetime begins with its first workflow task.
            history = await harness.client.get_workflow_handle(str(job.job_id)).fetch_history()
            assert len(history.events) == 2
        submitted = await asyncio.to_thread(
            CliRunner().invoke, cli, ["submit", str(a_photo().path), "--engine", "recorded"], env=harness.variables
        )
        assert f"takes no work at this moment, it waits: {code}" in submitted.stderr
        async with harness.worker():
            ended = [(await harness.service.wait(job.job_id)).record.status for job in jobs]
        assert ended == ["succeeded"] * 4


async def test_worker_with_unbound_bucket_stores_nothing_there(harness: Harness, other_bucket: str) -> None:
    """If both workers took activities of one job, its response would be in one bucket and its row name the other."""
    variables = harness.variables | {"S3_BUCKET": other_bucket}
    async with open_harness(variables) as wrong, wrong.admitted_worker() as admission, harness.worker():
        await anything(lambda: admission.is_open or admission.away)
        await none_is_scattered(harness, other_bucket)
        assert admission.away is not None
        assert admission.away.code == "bucket_not_bound"


async def test_worker_process_with_unbound_bucket_says_why(harness: Harness, other_bucket: str, tmp_path: Path) -> None:
    async with worker_with(harness.variables | {"S3_BUCKET": other_bucket}, tmp_path) as process, harness.worker():
        await process.says("worker polls", "worker takes no work")
        await none_is_scattered(harness, other_bucket)
        output = process.output()
        assert '"bucket_not_bound"' in output
        assert "photo-worker migrate --bind" in output, "it does not say what to do"
        assert output.count("takes no work") == 1


async def none_is_scattered(harness: Harness, other_bucket: str) -> None:
    """Process more jobs than the workers' slots, and check where their objects are."""
    jobs = [await harness.service.submit(a_photo(), engine="recorded") for _ in range(12)]
    ended = [(await harness.service.wait(job.job_id)).record.status for job in jobs]
    assert ended == ["succeeded"] * 12
    checked = await asyncio.to_thread(CliRunner().invoke, cli, ["check", "-o", "json"], env=harness.variables)
    findings = json.loads(checked.output)["data"]["findings"]
    assert {finding["code"] for finding in findings} == set(), "objects are where no row says"
    assert list(harness.application.store.list(other_bucket, "")) == []


async def anything(probe: Callable[[], object]) -> None:
    """Wait until ``probe`` returns a true value."""

    async def found() -> bool:
        return bool(probe())

    await eventually(found)


async def test_worker_with_restored_bucket_works_after_bind(
    harness: Harness, s3_client: S3Client, tmp_path: Path
) -> None:
    s3_client.delete_object(Bucket=harness.settings.s3_bucket, Key=MARKER_KEY)
    job = await harness.service.submit(a_photo(), engine="recorded")

    def migrate(*options: str) -> None:
        ended = CliRunner().invoke(cli, ["migrate", *options], env=harness.variables)
        assert ended.exit_code == 0, ended.output

    async with worker_with(harness.variables, tmp_path) as process:
        await process.says("photo-worker migrate --bind")
        # If S3_BUCKET were wrong, a plain migrate would make it the right one.
        await asyncio.to_thread(migrate)
        row = harness.application.repository.get(job.job_id)
        assert row is not None
        assert row.status == "queued"
        await asyncio.to_thread(migrate, "--bind")
        assert (await harness.service.wait(job.job_id)).record.status == "succeeded"
        assert "takes work again" in process.output()


async def test_worker_starts_before_binding(harness: Harness, s3_client: S3Client, tmp_path: Path) -> None:
    """The state if S3 was unavailable at the first migration, or after an older release that had no marker."""
    s3_client.delete_object(Bucket=harness.settings.s3_bucket, Key=MARKER_KEY)
    with psycopg.connect(harness.variables["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("DELETE FROM deployment")
    async with worker_with(harness.variables, tmp_path) as process:
        await process.says("worker polls")
        job = await harness.service.submit(a_photo(), engine="recorded")
        assert (await harness.service.wait(job.job_id)).record.status == "succeeded"


async def test_job_waits_for_worker_with_its_backend(harness: Harness) -> None:
    submitted = await asyncio.to_thread(
        CliRunner().invoke,
        cli,
        ["submit", str(FIXTURES / "photos" / "clean-print.png"), "--engine", "theirs", "-o", "json"],
        env=harness.variables,
    )
    assert submitted.exit_code == 0, submitted.output
    assert "no OCR backend 'theirs' is installed here (known are local, recorded, textract)" in submitted.stderr
    (job,) = json.loads(submitted.stdout)["data"]["jobs"]
    async with harness.worker():
        assert (await waiting_for(harness, UUID(job["job_id"]), 2)).code == "backend_missing"
    registry = harness.application.backends
    async with harness.worker(lambda engine: registry("recorded" if engine == "theirs" else engine)):
        assert (await harness.service.wait(UUID(job["job_id"]))).record.status == "succeeded"


async def test_worker_with_lost_password_fails_no_job(
    harness: Harness, stack_env: dict[str, str], tmp_path: Path
) -> None:
    role, password = f"pw_{secrets.token_hex(6)}", secrets.token_hex(8)
    admin = harness.variables["DATABASE_URL"]
    name = sql.Identifier(role)
    owner = sql.Identifier(urlsplit(admin).username or "postgres")

    def run(*statements: sql.Composed) -> None:
        with psycopg.connect(admin, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def set_password(word: str) -> sql.Composed:
        return sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, sql.Literal(word))

    cut = sql.SQL("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = {}").format(sql.Literal(role))
    run(
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(name, sql.Literal(password)),
        sql.SQL("GRANT {} TO {}").format(owner, name),
    )
    try:
        async with worker_with(with_password(harness.variables, role, password), tmp_path) as process:
            await process.says("worker polls")
            first = await harness.service.submit(a_photo(), engine="recorded")
            assert (await harness.service.wait(first.job_id)).record.status == "succeeded"
            run(set_password("another"), cut)
            jobs = [await harness.service.submit(a_photo(), engine="recorded") for _ in range(12)]
            await process.says("takes no work")
            rows = [harness.application.repository.get(job.job_id) for job in jobs]
            assert {row.status for row in rows if row} <= {"queued", "running"}
            run(set_password(password))
            await process.says("takes work again")
            ended = [(await harness.service.wait(job.job_id)).record.status for job in jobs]
            assert ended == ["succeeded"] * 12
            assert process.output().count("takes no work") == 1
    finally:
        run(cut, sql.SQL("DROP OWNED BY {}").format(name), sql.SQL("DROP ROLE {}").format(name))


async def test_worker_with_read_only_database_pauses(harness: Harness, tmp_path: Path) -> None:
    """The state after a failover, while the old address still leads to a standby."""
    admin = harness.variables["DATABASE_URL"]
    with role_in(admin) as role:
        variables = with_password(harness.variables, role.name, role.password)
        async with worker_with(variables, tmp_path) as process:
            await process.says("worker polls")
            first = await harness.service.submit(a_photo(), engine="recorded")
            assert (await harness.service.wait(first.job_id)).record.status == "succeeded"
            role.begin(READ_ONLY)
            jobs = [await harness.service.submit(a_photo(), engine="recorded") for _ in range(12)]
            await process.says("takes no work")
            said = lines_of(process, "takes no work")
            assert [(line["level"], line["photo"]["code"]) for line in said] == [("warning", "database_read_only")]
            assert "takes no writes" in said[0]["event"]
            assert "standby" in said[0]["photo"]["hint"]

            async def all_wait() -> bool:
                # A task that was already polled for comes once; after it fails, all tasks are in the backlog.
                queue = await harness.application.orchestrator.queue_state()
                return queue.waits_for == ("database_read_only",) and queue.backlog >= len(jobs)

            await eventually(all_wait, seconds=60)
            tried = len(lines_of(process, "activity failed"))
            jobs += [await harness.service.submit(a_photo(), engine="recorded") for _ in range(4)]
            await eventually(all_wait, seconds=60)
            assert len(lines_of(process, "activity failed")) == tried
            rows = [harness.application.repository.get(job.job_id) for job in jobs]
            assert {row.status for row in rows if row} == {"queued"}
            role.end(READ_ONLY)
            await process.says("takes work again")
            ended = [(await harness.service.wait(job.job_id)).record.status for job in jobs]
            assert ended == ["succeeded"] * 16
            assert len(lines_of(process, "takes no work")) == 1


async def test_worker_with_read_only_database_does_not_start(harness: Harness, tmp_path: Path) -> None:
    with role_in(harness.variables["DATABASE_URL"]) as role:
        role.begin(READ_ONLY)
        async with worker_with(with_password(harness.variables, role.name, role.password), tmp_path) as process:
            job = await harness.service.submit(a_photo(), engine="recorded")
            await process.says("worker takes no work", "worker polls")
            assert "worker polls" not in process.output()
            role.end(READ_ONLY)
            assert (await harness.service.wait(job.job_id)).record.status == "succeeded"


# A write or OCR permission that a worker lacks: the service, how the proxy or the role refuses it, its error code,
# and the OCR backend that needs it.
LACKS = {
    "select-only": (POSTGRES, FORBIDDEN, "database_forbidden", "recorded"),
    "no-put-object": (S3, READ_ONLY, "worker_bucket_forbidden", "textract"),
    "no-start": (TEXTRACT, FORBIDDEN, "service_refused", "textract"),
}


@pytest.mark.parametrize("lack", LACKS)
async def test_worker_without_write_permission_takes_no_job(harness: Harness, tmp_path: Path, lack: str) -> None:
    service, kind, code, engine = LACKS[lack]
    async with reach_of(harness.variables, service, 0) as reach:
        await asyncio.to_thread(reach.begin, kind)
        jobs = [await harness.service.submit(a_photo(), engine=engine) for _ in range(6)]
        async with worker_with(harness.variables | reach.variables, tmp_path) as process:
            await process.says("takes no work", "worker polls")
            for job in jobs:
                history = await harness.client.get_workflow_handle(str(job.job_id)).fetch_history()
                assert len(history.events) == 2
            async with harness.worker():
                ended = [(await harness.service.wait(job.job_id)).record.status for job in jobs]
            assert ended == ["succeeded"] * len(jobs)
            assert [line["photo"]["code"] for line in lines_of(process, "takes no work")] == [code]
            assert not lines_of(process, "worker polls")
            assert not lines_of(process, "activity failed")
            await asyncio.to_thread(reach.end, kind)
            await process.says("worker polls")
            late = await harness.service.submit(a_photo(), engine=engine)
            assert (await harness.service.wait(late.job_id)).record.status == "succeeded"


@pytest.mark.parametrize("lack", LACKS)
async def test_worker_losing_write_permission_pauses(harness: Harness, tmp_path: Path, lack: str) -> None:
    service, kind, code, engine = LACKS[lack]
    async with (
        reach_of(harness.variables, service, 0) as reach,
        worker_with(harness.variables | reach.variables | {"MAX_ACTIVITIES": "2"}, tmp_path) as process,
    ):
        await process.says("worker polls")
        first = await harness.service.submit(a_photo(), engine=engine)
        assert (await harness.service.wait(first.job_id)).record.status == "succeeded"
        await asyncio.to_thread(reach.begin, kind)
        jobs = [await harness.service.submit(a_photo(), engine=engine) for _ in range(12)]
        await process.says("takes no work")

        async def all_wait() -> bool:
            queue = await harness.application.orchestrator.queue_state()
            return queue.waits_for == (code,) and queue.backlog >= len(jobs)

        await eventually(all_wait, seconds=90)
        tried = len(lines_of(process, "activity failed"))
        # One attempt per slot, and those that were polled before the checks had run.
        assert 1 <= tried <= 8, "it pulls the backlog into attempts that fail"
        jobs += [await harness.service.submit(a_photo(), engine=engine) for _ in range(4)]
        await eventually(all_wait, seconds=90)
        assert len(lines_of(process, "activity failed")) == tried
        rows = [harness.application.repository.get(job.job_id) for job in jobs]
        assert {row.status for row in rows if row} <= {"queued", "running"}
        # A correct worker takes all jobs, and the misconfigured one does not interfere.
        async with harness.worker():
            ended = [(await harness.service.wait(job.job_id)).record.status for job in jobs]
        assert ended == ["succeeded"] * len(jobs)
        assert [line["photo"]["code"] for line in lines_of(process, "takes no work")] == [code]
        assert not lines_of(process, "takes work again")
        await asyncio.to_thread(reach.end, kind)
        late = await harness.service.submit(a_photo(), engine=engine)
        assert (await harness.service.wait(late.job_id)).record.status == "succeeded"
        assert lines_of(process, "takes work again")


def lines_of(process: WorkerProcess, text: str) -> list[dict[str, Any]]:
    """Return the lines of a worker's log whose event contains ``text``."""
    lines = [json.loads(line) for line in process.output().splitlines() if line.startswith("{")]
    return [line for line in lines if text in line["event"]]


async def test_check_repair_job_ended_without_row_is_restarted(harness: Harness) -> None:
    # The state that a worker with an old password left: the workflow failed, and the reason could not be written.
    job = await harness.service.submit(a_photo(), engine="recorded")
    handle = harness.client.get_workflow_handle(str(job.job_id))
    async with gives_up(harness):
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    with pytest.raises(JobEndedWithoutRow):
        await harness.service.submit(a_photo(), job_id=job.job_id, engine="recorded")
    arguments = ["check", "--repair", "--job", str(job.job_id)]
    async with harness.worker():
        shown = await asyncio.to_thread(CliRunner().invoke, cli, ["show", str(job.job_id)], env=harness.variables)
        assert shown.exit_code == 1
        assert "job_ended_without_row" in shown.output
        repaired = await asyncio.to_thread(CliRunner().invoke, cli, arguments, env=harness.variables)
        assert repaired.exit_code == 0, repaired.output
        assert (await harness.service.wait(job.job_id)).record.status == "succeeded"


@workflow.defn(name="image_processing_workflow", sandboxed=False)
class GivesUp:
    """The image workflow of an earlier release, which ended if its worker was refused."""

    @workflow.run
    async def run(self, request: dict[str, object]) -> None:
        raise ApplicationError("Postgres refuses the worker's credentials.", type="service_refused")


@asynccontextmanager
async def gives_up(harness: Harness) -> AsyncIterator[None]:
    """Run a worker of the earlier release."""
    queue = harness.settings.temporal_task_queue
    async with running(Worker(harness.client, task_queue=queue, workflows=[GivesUp])):
        yield
