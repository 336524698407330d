"""``photo-worker check`` on a real deployment: its output, its repairs, and what prevents a scan."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from photo_worker.adapters.postgres.job_repository import PostgresJobRepository, make_pool
from photo_worker.adapters.s3.object_store import BotoObjectStore
from photo_worker.adapters.temporal.connection import connect
from photo_worker.adapters.temporal.orchestrator import TemporalOrchestrator
from photo_worker.config import load_settings, read_environment
from photo_worker.contracts.image import ImageProcessingInput
from photo_worker.contracts.keys import raw_key
from photo_worker.pipelines import workflow_types
from tests.integration.test_commands import worker_process
from tests.support.command_runs import Run
from tests.support.harness import FIXTURES, eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.stack

PHOTOS = sorted(path for path in (FIXTURES / "photos").iterdir() if path.suffix in {".png", ".jpg", ".jpeg"})
ORPHAN = raw_key("ab" * 32, ".png")


def test_check_command_prints_text_and_json(run_command: Run, bucket: str, s3_client: S3Client) -> None:
    sound = run_command("check")
    assert (sound.returncode, sound.stderr) == (0, "")
    assert sound.stdout.startswith("0 jobs and 0 objects checked in ")
    assert sound.stdout.endswith("all is sound.\n")

    for number in range(12):
        BotoObjectStore(s3_client).put(bucket, raw_key(f"{number:064x}"), b"x", content_type="image/png")
    young = run_command("check")
    assert (young.returncode, "12 young objects without a job left out" in young.stdout) == (0, True)

    damaged = run_command("check", "--grace", "0s")
    assert damaged.returncode == 1
    assert "photo_without_row  warning         12  An uploaded photo is some row's, or is young" in damaged.stdout
    assert damaged.stdout.count("warning [photo_without_row]") == 10
    assert "... and 2 more of photo_without_row; -o json shows all" in damaged.stdout
    assert (
        "--repair would delete the photo, or the copy of one, unless somebody submits it at this moment."
        in damaged.stdout
    )

    response = json.loads(run_command("check", "--grace", "0s", "-o", "json").stdout)
    assert (response["command"], response["status"], response["error"]) == ("check", "failed", None)
    assert (response["data"]["sound"], len(response["data"]["findings"]), response["data"]["repairs"]) == (
        False,
        12,
        [],
    )
    assert all(found["todo"] and found["job_id"] is None for found in response["data"]["findings"])

    refused = run_command("check", "--grace", "0s", "--repair")
    assert refused.returncode == 1
    assert refused.stdout.count("check S3_BUCKET and DATABASE_URL") == 12
    assert len(list(BotoObjectStore(s3_client).list(bucket, "raw/"))) == 12


def test_check_command_repairs(
    run_command: Run, bucket: str, s3_client: S3Client, stack_variables: dict[str, str]
) -> None:
    submitted = run_command("submit", str(PHOTOS[0]), "-o", "json")
    (job,) = json.loads(submitted.stdout)["data"]["jobs"]
    BotoObjectStore(s3_client).put(bucket, ORPHAN, b"x", content_type="image/png")
    repaired = run_command("check", "--grace", "0s", "--repair")
    lines = repaired.stdout.splitlines()
    assert lines[0].startswith("begun     photo_without_row, s3://")
    assert lines[1].endswith(": deleted")
    # The job itself waits, because no worker runs.
    assert repaired.returncode == 1
    assert "error [queue_without_worker]" in repaired.stdout
    response = json.loads(run_command("check", "--job", job["job_id"], "-o", "json").stdout)
    assert (response["data"]["jobs"], [found["code"] for found in response["data"]["findings"]]) == (
        1,
        ["queue_without_worker"],
    )


def test_check_repair_started_job_has_configured_lifetime(
    run_command: Run, stack_variables: dict[str, str], bucket: str, tmp_path: Path
) -> None:
    job_id = uuid4()
    settings = load_settings(read_environment(stack_variables, None))
    with psycopg.connect(settings.require_database_url(), autocommit=True) as connection:
        with make_pool(settings.require_database_url(), max_size=1) as pool:
            PostgresJobRepository(pool).queue(job_id, bucket=bucket, key="no/such.png", sha256="")
        connection.execute("ALTER TABLE recipes DISABLE TRIGGER USER")
        connection.execute("UPDATE recipes SET updated_at = now() - interval '1 hour' WHERE id = %s", [job_id])

    async def polled() -> bool:
        return await TemporalOrchestrator(
            await connect(settings, stack_variables),
            settings.temporal_task_queue,
            types=workflow_types(),
        ).has_worker()

    async def lifetime() -> int | None:
        client = await connect(settings, stack_variables)
        first = await anext(client.get_workflow_handle(str(job_id)).fetch_history_events(page_size=1))
        payloads = first.workflow_execution_started_event_attributes.input.payloads
        (request,) = await client.data_converter.decode(payloads, [ImageProcessingInput])
        assert isinstance(request, ImageProcessingInput)
        return request.lifetime_seconds

    with worker_process(stack_variables, tmp_path / "worker.log"):
        asyncio.run(eventually(polled))
        repaired = run_command("check", "--repair", "--job", str(job_id), JOB_LIFETIME_SECONDS="3600")
    assert "begun     queued_without_workflow" in repaired.stdout
    assert asyncio.run(lifetime()) == 3600, "the job waits for services for another time than the setting says"


@pytest.mark.parametrize(
    ("arguments", "changes", "code", "status"),
    [
        (("--job", "42"), {}, "job_id_invalid", 2),
        (("--job", str(uuid4())), {}, "job_missing", 1),
        ((), {"S3_BUCKET": "no-such-bucket-of-ours"}, "bucket_missing", 1),
        (("--job", str(uuid4())), {"S3_BUCKET": "no-such-bucket-of-ours"}, "bucket_missing", 1),
        ((), {"DATABASE_URL": ""}, "config_invalid", 1),
        (("--grace", "soon"), {}, "", 2),
    ],
)
def test_check_command_names_what_prevents_the_scan(
    run_command: Run, arguments: tuple[str, ...], changes: dict[str, str], code: str, status: int
) -> None:
    ended = run_command("check", *arguments, **changes)
    assert ended.returncode == status
    assert (f"error [{code}]" if code else "is not a duration such as 90s, 30m, 1h or 2d") in ended.stderr
    assert "Traceback" not in ended.stderr


def test_check_command_without_schema_fails(
    run_command: Run, stack_variables: dict[str, str], empty_database_url: str
) -> None:
    name = conninfo_to_dict(empty_database_url)["dbname"]
    server, _, _ = stack_variables["DATABASE_URL"].rpartition("/")
    ended = run_command("check", DATABASE_URL=f"{server}/{name}")
    assert ended.returncode == 1
    assert "error [schema_missing]" in ended.stderr
    assert "photo-worker migrate" in ended.stderr
