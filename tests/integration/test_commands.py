"""The job commands as users run them: as processes on the real stack."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from uuid import uuid4

import psycopg
import pytest
from mypy_boto3_s3 import S3Client

from photo_worker.adapters.temporal.connection import connect
from photo_worker.config import load_settings, read_environment
from tests.support.grpc_errors import refusing
from tests.support.harness import FIXTURES, eventually

pytestmark = pytest.mark.stack

PHOTO = sorted((FIXTURES / "photos").glob("*.png"))[0]


def photo_worker(
    *arguments: str | Path, variables: dict[str, str], cwd: Path, timeout: float = 100
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end with a minimal environment."""
    return subprocess.run(
        [sys.executable, "-m", "photo_worker.cli", *map(str, arguments)],
        env=clean(variables),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def clean(variables: dict[str, str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return kept | {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull} | variables


def documents_asked_for(variables: dict[str, str]) -> dict[str, Any]:
    """Return the emulator's counters by the sha256 of each document that it was asked to read."""
    with urlopen(f"{variables['AWS_ENDPOINT_URL_TEXTRACT']}/_emulator/counters", timeout=10) as response:  # noqa: S310
        documents: dict[str, Any] = json.load(response)["documents"]
    return documents


@contextmanager
def worker_process(variables: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "photo_worker.cli", "worker"],
            env=clean(variables),
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(20)


def test_submit_wait_and_show_report_same_result(stack_variables: dict[str, str], tmp_path: Path) -> None:
    with worker_process(stack_variables, tmp_path / "worker.log"):
        submitted = photo_worker(
            *("submit", PHOTO, "--engine", "recorded", "--wait", "-o", "json"), variables=stack_variables, cwd=tmp_path
        )
        assert submitted.returncode == 0, submitted.stderr
        response = json.loads(submitted.stdout)
        (job,) = response["data"]["jobs"]
        assert (response["status"], job["report"]["status"], job["joined"]) == ("ok", "succeeded", False)
        assert job["links"]["workflow"].startswith("http://127.0.0.1:")

        text = photo_worker("show", job["job_id"], variables=stack_variables, cwd=tmp_path)
        assert text.returncode == 0, text.stderr
        for line in job["report"]["lines"]:
            assert line in text.stdout

        again = photo_worker(
            *("submit", PHOTO, "--job-id", job["job_id"], "--wait", "-o", "json"),
            variables=stack_variables,
            cwd=tmp_path,
        )
        (reported,) = json.loads(again.stdout)["data"]["jobs"]
        assert reported["joined"]
        assert reported["report"] == job["report"]


def test_submit_without_worker_warns(stack_variables: dict[str, str], tmp_path: Path) -> None:
    alone = photo_worker("submit", PHOTO, "--engine", "recorded", variables=stack_variables, cwd=tmp_path)
    assert alone.returncode == 0
    assert "no worker polls" in alone.stderr
    with worker_process(stack_variables, tmp_path / "worker.log"):
        first = photo_worker("submit", PHOTO, "--engine", "recorded", "--wait", variables=stack_variables, cwd=tmp_path)
        assert first.returncode == 0, first.stderr
        again = photo_worker("submit", PHOTO, "--engine", "recorded", variables=stack_variables, cwd=tmp_path)
    assert "no worker polls" not in again.stderr


def test_show_when_temporal_refuses_prints_row(stack_variables: dict[str, str], tmp_path: Path) -> None:
    submitted = photo_worker("submit", PHOTO, "-o", "json", variables=stack_variables, cwd=tmp_path)
    (job,) = json.loads(submitted.stdout)["data"]["jobs"]
    with refusing(16, "the key has expired", but=()) as target:
        for changed, code in (
            ({"TEMPORAL_TARGET": target}, "temporal_unauthenticated"),
            ({"TEMPORAL_NAMESPACE": f"none-{uuid4().hex[:8]}"}, "temporal_namespace_missing"),
            ({"TEMPORAL_PROFILE": "none"}, "config_invalid"),
        ):
            shown = photo_worker(
                *("show", job["job_id"], "-o", "json"), variables=stack_variables | changed, cwd=tmp_path
            )
            assert shown.returncode == 0, shown.stderr
            assert f"[{code}]" in shown.stderr
            facts = json.loads(shown.stdout)["data"]["job"]
            assert (facts["status"], facts["workflow"]) == ("queued", None)


def test_submit_many_sources_prints_one_table(stack_variables: dict[str, str], tmp_path: Path) -> None:
    photos = tmp_path / "photos of ünïcode + plus"
    photos.mkdir()
    for index in range(3):
        (photos / f"photo {index}.png").write_bytes(PHOTO.read_bytes())
    (photos / "notes.txt").write_text("no photo at all")
    with worker_process(stack_variables, tmp_path / "worker.log"):
        done = photo_worker(
            *("submit", f"{photos}/*.png", photos / "notes.txt", "--engine", "recorded", "--wait"),
            variables=stack_variables,
            cwd=tmp_path,
        )
    assert done.returncode == 1
    assert done.stdout.count("succeeded") == 3
    assert "[document_unsupported]" in done.stdout
    assert "4/4" in done.stderr


def test_submit_job_id_of_other_asset_is_refused(stack_variables: dict[str, str], tmp_path: Path) -> None:
    job_id = str(uuid4())
    other = tmp_path / "other.png"
    other.write_bytes(PHOTO.read_bytes() + b"\0")
    first = photo_worker("submit", PHOTO, "--job-id", job_id, variables=stack_variables, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    second = photo_worker("submit", other, "--job-id", job_id, "-o", "json", variables=stack_variables, cwd=tmp_path)
    assert second.returncode == 1
    assert json.loads(second.stdout)["error"]["code"] == "job_conflict"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("submit", "absent.png"), "source_missing"),
        (("submit", "s3://bucket/a/../b.png"), "key_invalid"),
        (("submit", "s3://bucket"), "key_invalid"),
        (("submit", str(PHOTO), "--job-id", "42"), "job_id_invalid"),
        (("show", "not-a-uuid"), "job_id_invalid"),
        (("show", str(uuid4())), "job_missing"),
        (("show", str(uuid4()), "--name", "no-such-stack"), "stack_not_running"),
    ],
)
def test_commands_invalid_argument_prints_one_error_with_code(
    stack_variables: dict[str, str], tmp_path: Path, arguments: tuple[str, ...], code: str
) -> None:
    done = photo_worker(*arguments, "-o", "json", variables=stack_variables, cwd=tmp_path)
    assert done.returncode == (1 if code in {"job_missing", "stack_not_running"} else 2)
    error = json.loads(done.stdout)["error"]
    assert error["code"] == code
    assert error["hint"]
    assert done.stderr.splitlines()[0] == f"error [{code}]: {error['message']}"
    assert "Traceback" not in done.stderr


UNREACHABLE = "127.0.0.1:9"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"TEMPORAL_TARGET": UNREACHABLE}, "temporal_unavailable"),
        ({"DATABASE_URL": f"postgresql://user:hunter2@{UNREACHABLE}/photos"}, "database_unavailable"),
        ({"AWS_ENDPOINT_URL_S3": f"http://{UNREACHABLE}"}, "storage_unavailable"),
        ({"DATABASE_URL": ""}, "config_invalid"),
        ({"MAX_ACTIVITIES": "many"}, "config_invalid"),
        ({"TEMPORAL_PROFILE": "no-such-profile"}, "config_invalid"),
        ({"S3_BUCKET": "no-such-bucket-here"}, "bucket_missing"),
        ({"TEMPORAL_NAMESPACE": "no-such-namespace"}, "temporal_namespace_missing"),
    ],
)
def test_submit_names_faulty_service_or_setting(
    stack_variables: dict[str, str], tmp_path: Path, change: dict[str, str], code: str
) -> None:
    done = photo_worker("submit", PHOTO, "-o", "json", variables=stack_variables | change, cwd=tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == code, done.stdout
    assert "hunter2" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_commands_take_no_session_variables_of_the_process(stack_variables: dict[str, str], tmp_path: Path) -> None:
    """libpq would send them to the server, which refuses each connection for a time zone that it does not know."""
    variables = stack_variables | {"PGTZ": "nonsense", "PGDATESTYLE": "nonsense", "PGGEQO": "nonsense"}
    submitted = photo_worker("submit", PHOTO, "-o", "json", variables=variables, cwd=tmp_path)
    assert submitted.returncode == 0, submitted.stderr


def test_worker_without_temporal_exits_1(stack_variables: dict[str, str], tmp_path: Path) -> None:
    done = photo_worker("worker", variables=stack_variables | {"TEMPORAL_TARGET": UNREACHABLE}, cwd=tmp_path)
    assert done.returncode == 1
    assert "error [temporal_unavailable]" in done.stderr


def test_worker_with_unknown_namespace_exits_1(stack_variables: dict[str, str], tmp_path: Path) -> None:
    done = photo_worker("worker", variables=stack_variables | {"TEMPORAL_NAMESPACE": "no-such-one"}, cwd=tmp_path)
    assert done.returncode == 1
    assert "error [temporal_namespace_missing]" in done.stderr
    assert "no-such-one" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("engine", ["e" * 300, "", "Text ract"])
def test_submit_invalid_engine_writes_nothing(
    stack_variables: dict[str, str], tmp_path: Path, s3_client: S3Client, engine: str
) -> None:
    done = photo_worker("submit", PHOTO, "--engine", engine, "-o", "json", variables=stack_variables, cwd=tmp_path)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "engine_invalid"
    # The message describes the form, and does not suggest waiting for another worker.
    assert "the name of an engine is a-z, then at most 63 of a-z, 0-9, '-' and '_'" in done.stderr
    assert "such as textract" in done.stderr
    assert "wait" not in done.stderr
    assert "Traceback" not in done.stderr
    assert s3_client.list_objects_v2(Bucket=stack_variables["S3_BUCKET"], Prefix="raw/")["KeyCount"] == 0
    with psycopg.connect(stack_variables["DATABASE_URL"]) as connection:
        assert connection.execute("SELECT count(*) FROM recipes").fetchone() == (0,)


def test_worker_bad_env_file_is_named(stack_variables: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LOG_LEVEL=INFO\nMAX_ACTIVITIES=lots\n")
    done = photo_worker("worker", variables=stack_variables | {"MAX_ACTIVITIES": ""}, cwd=tmp_path)
    assert done.returncode == 1
    assert "MAX_ACTIVITIES" in done.stderr
    assert ".env" in done.stderr


async def test_worker_sigterm_finishes_running_activity(stack_variables: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    # A document that was never read before: a cached response would come too fast to be interrupted.
    photo = tmp_path / "photo.png"
    photo.write_bytes((FIXTURES / "photos" / "clean-print.png").read_bytes() + uuid4().bytes)
    submitted = photo_worker("submit", photo, "-o", "json", variables=stack_variables, cwd=tmp_path)
    (job,) = json.loads(submitted.stdout)["data"]["jobs"]
    settings = load_settings(read_environment(stack_variables, None))
    client = await connect(settings, stack_variables)
    handle = client.get_workflow_handle(job["job_id"])

    digest = hashlib.sha256(photo.read_bytes()).hexdigest()

    async def textract_reads() -> bool:
        # Temporal's dispatch of the activity does not prove that the worker has it yet; a request at Textract does.
        return digest in await asyncio.to_thread(documents_asked_for, stack_variables)

    # Long enough for the read on a loaded machine.
    patient = stack_variables | {"GRACEFUL_SHUTDOWN_SECONDS": "60"}
    with worker_process(patient, log) as process:
        await eventually(textract_reads, seconds=60)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 70) == 0

    async def ocr_attempts() -> list[int]:
        history = await handle.fetch_history()
        done = [event for event in history.events if event.HasField("activity_task_completed_event_attributes")]
        return [len(done)] if len(done) >= 2 else []

    # The running activity's result was delivered, so the photo is not read again.
    assert await eventually(ocr_attempts) == [2]
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert records[-1]["event"] == "worker stopped"


async def test_worker_logs_are_json_with_ids(stack_variables: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    missing = f"s3://{stack_variables['S3_BUCKET']}/absent.png"
    with worker_process(stack_variables, log):
        done = photo_worker("submit", missing, "--wait", "-o", "json", variables=stack_variables, cwd=tmp_path)
    (job,) = json.loads(done.stdout)["data"]["jobs"]
    assert job["error"]["code"] == "object_missing"
    records: list[dict[str, Any]] = [json.loads(line) for line in log.read_text().splitlines()]
    failed = [record for record in records if record.get("photo", {}).get("code") == "object_missing"]
    assert failed
    assert failed[0]["workflow_id"] == job["job_id"]
    assert failed[0]["run_id"]
    assert failed[0]["activity_id"]
    secret = stack_variables["DATABASE_URL"].split("@")[0].rsplit(":", 1)[-1]
    assert secret not in log.read_text()
