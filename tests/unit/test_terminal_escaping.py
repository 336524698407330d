"""The content of rows, documents and other records reaches a terminal as plain text; JSON has it unchanged."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import CliRunner

from photo_worker.adapters.memory.job_repository import MemoryJobRepository
from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.bootstrap import Application
from photo_worker.cli import cli
from photo_worker.cli.output import emit, table
from photo_worker.config import Settings
from photo_worker.ports.job_repository import OcrRecord
from tests.support.cli_calls import invoke_with

BUCKET = "photo-worker"
HOSTILE = "no\x1b[2Jsuch\r\nstatus  succeeded\x9b31m\u202e"
OBEYED = set("\x1b\r\x9b\u202e")


@pytest.fixture
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Application:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PHOTO_WORKER_HOME", str(tmp_path / "stacks"))
    monkeypatch.setenv("DATABASE_URL", "postgresql://nowhere.invalid/db")
    made = Application(Settings(), MemoryObjectStore(), MemoryJobRepository())
    made.store.ensure_bucket(BUCKET)
    return made


def show(application: Application, *arguments: str) -> str:
    result = invoke_with(application, "show", *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_show_escapes_stored_error(application: Application) -> None:
    job_id = uuid4()
    application.repository.fail(job_id, bucket=BUCKET, key="pie\x1b[1m.png", code="step_failed", message=HOSTILE)
    shown = show(application, str(job_id))
    assert not OBEYED & set(shown)
    (line,) = (line for line in shown.splitlines() if line.startswith("error"))
    assert line.endswith(r"[step_failed] no\x1b[2Jsuch\r\nstatus  succeeded\x9b31m\u202e")
    assert "pie\\x1b[1m.png" in shown
    # No line can imitate one of the report's own.
    assert [line.split() for line in shown.splitlines() if line.startswith("status")] == [["status", "failed"]]
    job = json.loads(show(application, str(job_id), "-o", "json"))["data"]["job"]
    assert job["error"]["message"] == HOSTILE


def test_show_escapes_text_of_photo(application: Application) -> None:
    job_id = uuid4()
    lines = ["Käse\u3000200\xa0g \U0001f9c0", HOSTILE]
    blocks = [{"BlockType": "LINE", "Text": text, "Confidence": 99.0} for text in lines]
    response = {"DocumentMetadata": {"Pages": 1}, "Blocks": blocks}
    key = f"artifacts/{job_id}/textract.json"
    application.store.put(BUCKET, key, json.dumps(response).encode(), content_type="application/json")
    ocr = OcrRecord(BUCKET, key, f"artifacts/{job_id}/manifest.json", "textract", "1.0", 1)
    application.repository.succeed(job_id, bucket=BUCKET, key="raw/a.png", sha256="0" * 64, ocr=ocr)
    shown = show(application, str(job_id))
    assert not OBEYED & set(shown)
    # Spaces of other scripts are kept.
    assert lines[0] in shown.splitlines()
    assert json.loads(show(application, str(job_id), "-o", "json"))["data"]["job"]["lines"] == lines


def test_table_escapes_values(capsys: pytest.CaptureFixture[str]) -> None:
    heading, row = table([("NAME", "VALUE"), ("OCR_ENGINE", "a\x1b[2J\nb")])
    assert row == "OCR_ENGINE  a\\x1b[2J\\nb"
    assert heading == "NAME        VALUE"


def test_emit_keeps_lines_and_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    emit("any", "text", data={}, text="one\n\ttwo\x1b[2J")
    assert capsys.readouterr().out == "one\n\ttwo\\x1b[2J\n"


def test_doctor_escapes_setting(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1/")
    monkeypatch.setenv("TEMPORAL_TARGET", "no\x9b2Jwhere.invalid:1")
    said = CliRunner().invoke(cli, ["doctor"]).output
    assert "no\\x9b2jwhere.invalid:1" in said.lower()
    assert "\x9b" not in said


def test_doctor_invalid_host_name_is_not_reached(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1/")
    monkeypatch.setenv("TEMPORAL_TARGET", "temporal..example.com:7233")
    result = CliRunner().invoke(cli, ["doctor"])
    assert result.exit_code == 1
    assert "temporal..example.com:7233, of TEMPORAL_TARGET in the environment, cannot be reached" in result.output


def test_replay_show_escapes_failure_message(tmp_path: Path) -> None:
    recorded = Path(__file__).resolve().parents[1] / "replay/histories/image_processing_workflow/0.1.0"
    history = json.loads((recorded / "object-missing.json").read_text(encoding="utf-8"))
    for event in history["events"]:
        if about := event.get("workflowExecutionFailedEventAttributes"):
            about["failure"]["message"] = HOSTILE
    (tmp_path / "theirs.json").write_text(json.dumps(history), encoding="utf-8")
    result = CliRunner().invoke(cli, ["replay", "show", str(tmp_path / "theirs.json")])
    assert result.exit_code == 0, result.output
    assert "no\\x1b[2Jsuch" in result.stdout or "no\\u001b[2Jsuch" in result.stdout
    assert not OBEYED & set(result.stdout)


def test_table_right_column_is_aligned_to_its_heading() -> None:
    rows = [("rule", "findings", "text"), ("late", "1,204", "a"), ("orphan", "7", "")]
    assert table(rows, right=1) == ["rule    findings  text", "late       1,204  a", "orphan         7"]
