"""What `submit` and `demo` print about a photo: the job's id in any case, and errors of single files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Protocol
from uuid import UUID

import pytest
from click.testing import Result

from photo_worker.adapters.memory.job_repository import MemoryJobRepository
from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.bootstrap import Application
from photo_worker.cli.demo import _job_id
from photo_worker.config import Settings
from photo_worker.errors import TemporalUnavailable
from photo_worker.services.binding import bind
from photo_worker.sources import Source
from tests.support.cli_calls import invoke_with
from tests.unit.test_jobs import BODY, Starts

BUCKET = "photo-worker"
AWAY = TemporalUnavailable(target="temporal.example.com:7233", reason="the connection was cut")


class Submit(Protocol):
    """Runs ``submit`` for a source, by default a photo."""

    def __call__(self, *arguments: str, source: str = "pie.png") -> Result: ...


@pytest.fixture
def temporal() -> Starts:
    return Starts()


@pytest.fixture
def submit(temporal: Starts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Submit:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PHOTO_WORKER_HOME", str(tmp_path / "stacks"))
    monkeypatch.setenv("DATABASE_URL", "postgresql://nowhere.invalid/db")
    made = Application(Settings(), MemoryObjectStore(), MemoryJobRepository(), connected=temporal)
    made.store.ensure_bucket(BUCKET)
    bind(made.store, made.repository, BUCKET)
    (tmp_path / "pie.png").write_bytes(BODY)

    def run(*arguments: str, source: str = "pie.png") -> Result:
        return invoke_with(made, "submit", source, *arguments)

    return run


@pytest.mark.parametrize("source", ["s3:///pie.png", f"s3://{'b' * 300}/pie.png"])
def test_submit_invalid_bucket_is_usage_error(temporal: Starts, submit: Submit, source: str) -> None:
    ended = submit(source=source)
    assert (ended.exit_code, "[bucket_invalid]" in ended.stderr) == (2, True), ended.output
    assert temporal.states == {}


def test_submit_wait_failure_prints_job_id(temporal: Starts, submit: Submit) -> None:
    """Without its id the user can neither show nor join the job, and another submission would be charged."""
    temporal.failure = AWAY
    said = submit("--wait")
    (job_id,) = temporal.states
    assert said.exit_code == 1
    assert f"submitted        -      -           -  {job_id}" in said.stdout
    assert f"[temporal_unavailable] {AWAY.message}" in said.stdout
    assert f"hint: {AWAY.hint}" in said.stdout


def test_submit_wait_failure_json_has_job_id(temporal: Starts, submit: Submit) -> None:
    temporal.failure = AWAY
    said = submit("--wait", "-o", "json")
    envelope = json.loads(said.stdout)
    (job,) = envelope["data"]["jobs"]
    assert (said.exit_code, envelope["status"]) == (1, "failed")
    assert [job["job_id"]] == list(temporal.states)
    assert job["error"] == {"code": "temporal_unavailable", "message": AWAY.message}


def test_submit_not_started_json_has_error(temporal: Starts, submit: Submit) -> None:
    def away(job_id: UUID) -> None:
        raise AWAY

    temporal.before = away
    said = submit("-o", "json")
    assert (said.exit_code, json.loads(said.stdout)["error"]["code"]) == (1, "temporal_unavailable")


@pytest.mark.timeout(30)
def test_demo_job_id_of_unreadable_file_is_generated(tmp_path: Path) -> None:
    """Its submission reports the error; without an id other files would not be submitted, or the command would hang."""
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    for name in ("pipe.png", "gone.png"):
        assert isinstance(_job_id(Source(name, path=tmp_path / name)), UUID)
