"""The gate reports files among the histories that it does not read, and lost files; also links and resets."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from gate_support.histories import codes, copy, loose, sign
from temporal_replay_gate.gate import check
from temporal_replay_gate.histories import search
from temporal_replay_gate.mutations import can_reveal
from temporal_replay_gate.preflight import duplicates, inspect


class TestFiles:
    def test_search_linked_directory_once(self, tmp_path: Path) -> None:
        history = copy(tmp_path / "elsewhere", "a")
        corpus = tmp_path / "corpus"
        corpus.mkdir()
        (corpus / "linked").symlink_to(history.parent)
        (history.parent / "loop").symlink_to(corpus)
        assert search([corpus]).histories == [corpus / "linked" / "a.json"]

    @pytest.mark.parametrize("name", ["b.jsonl", "b.json.gz", "B.JSON", "events"])
    def test_check_file_with_other_suffix_is_red(self, tmp_path: Path, name: str) -> None:
        copy(tmp_path, "a")
        (tmp_path / name).write_text("{}", encoding="utf-8")
        found = [(finding.code, finding.file) for finding in check(loose(tmp_path)).findings]
        assert found == [("file_not_read", str(tmp_path / name))]

    @pytest.mark.parametrize("name", ["b.py", "b.md", "b.txt", "b.toml", "b.pyc", ".gitkeep"])
    def test_check_history_under_skipped_suffix_is_red(self, tmp_path: Path, name: str) -> None:
        copy(tmp_path, "a")
        renamed = copy(tmp_path, "b").rename(tmp_path / name)
        found = [(finding.code, finding.file) for finding in check(loose(tmp_path)).findings]
        assert found == [("file_not_read", str(renamed))]

    def test_check_renamed_history_and_provenance_are_red(self, tmp_path: Path) -> None:
        kept, lost = copy(tmp_path, "kept"), copy(tmp_path, "lost")
        for path in (kept, lost):
            sign(path)
        for suffix in ("", ".provenance"):
            (tmp_path / f"lost{suffix}.json").rename(tmp_path / f"lost{suffix}.py")
        found = sorted((finding.code, Path(finding.file or "").name) for finding in check(loose(tmp_path)).findings)
        assert found == [("file_not_read", "lost.provenance.py"), ("file_not_read", "lost.py")]

    def test_search_skips_notes_allow_lists_and_code(self, tmp_path: Path) -> None:
        history = copy(tmp_path, "a")
        (tmp_path / "README.md").write_text('# Runs\n\nEach holds `{"events": [` and more.\n', encoding="utf-8")
        (tmp_path / "shape.py").write_text('{"a": 1}\n', encoding="utf-8")
        (tmp_path / "allowed.toml").write_text("", encoding="utf-8")
        os.mkfifo(tmp_path / "pipe.txt")
        found = search([tmp_path])
        assert (found.histories, found.left_out) == ([history], [])

    def test_check_history_lost_beside_provenance_is_red(self, tmp_path: Path) -> None:
        kept, lost = copy(tmp_path, "kept"), copy(tmp_path, "lost")
        for path in (kept, lost):
            sign(path)
        lost.unlink()
        assert codes(check(loose(tmp_path))) == {"history_lost"}


def reset(path: Path, directory: Path) -> Path:
    """Write the history as a reset leaves it: with the same head, and a task that failed because of the reset."""
    document = json.loads(path.read_text(encoding="utf-8"))
    events = document["events"]
    failed = next(index for index, event in enumerate(events) if "workflowTaskCompletedEventAttributes" in event)
    again = {
        "eventId": events[failed]["eventId"],
        "eventTime": events[failed]["eventTime"],
        "eventType": "EVENT_TYPE_WORKFLOW_TASK_FAILED",
        "workflowTaskFailedEventAttributes": {
            "cause": "WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW",
            "baseRunId": str(uuid4()),
            "newRunId": str(uuid4()),
        },
    }
    head = [events[0], *events[1:failed], again]
    moved = json.loads(json.dumps([*events[1:failed], events[failed]]))
    for number, event in enumerate(moved, start=len(head) + 1):
        event["eventId"] = str(number)
    document["events"] = head + moved
    target = directory / "reset.json"
    target.write_text(json.dumps(document), encoding="utf-8")
    return target


def test_duplicates_ignores_run_made_by_reset(tmp_path: Path) -> None:
    first = copy(tmp_path, "first")
    histories = [inspect(path)[0] for path in (first, reset(first, tmp_path))]
    readable = [history for history in histories if history is not None]
    assert len(readable) == 2
    assert duplicates(readable) == []


def test_check_type_with_waiting_runs_only_is_green(tmp_path: Path) -> None:
    path = copy(tmp_path, "open")
    document = json.loads(path.read_text(encoding="utf-8"))
    document["events"] = document["events"][:4]
    document["events"][0]["workflowExecutionStartedEventAttributes"]["workflowType"]["name"] = "planted_bell"
    del document["events"][0]["workflowExecutionStartedEventAttributes"]["input"]
    path.write_text(json.dumps(document), encoding="utf-8")
    history, _ = inspect(path)
    assert history is not None
    assert not can_reveal(history, "drift")
    options = loose(path)
    report = check(replace(options, code=replace(options.code, workflows="gate_support.kitchen:Bell")))
    assert report.green, report.findings
    assert report.controls == {"planted_bell": {"command": True}}
    assert [note.code for note in report.notes] == ["control_left_out_drift"]
    assert str(path) in report.notes[0].what
