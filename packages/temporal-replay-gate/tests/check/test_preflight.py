"""The preflight reports each fault of a file with a code of its own and a fix."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gate_support.histories import GOOD
from temporal_replay_gate.histories import Provenance, discover, exit_of, provenance_path, sha256_of
from temporal_replay_gate.preflight import duplicates, inspect, unknown_type, unknown_type_notes

Events = list[dict[str, Any]]


def written(tmp_path: Path, edit: Callable[[Events], Any]) -> Path:
    document = json.loads(GOOD.read_text(encoding="utf-8"))
    events = copy.deepcopy(document["events"])
    edit(events)
    path = tmp_path / "edited.json"
    path.write_text(json.dumps({"events": events}), encoding="utf-8")
    return path


def started(events: Events) -> dict[str, Any]:
    found: dict[str, Any] = events[0]["workflowExecutionStartedEventAttributes"]
    return found


def without_flags(events: Events) -> None:
    for event in events:
        event.get("workflowTaskCompletedEventAttributes", {}).pop("sdkMetadata", None)


def fault(path: Path, **options: Any) -> str:
    history, faults = inspect(path, **options)
    (found,) = faults
    assert found.file == str(path)
    assert found.what
    assert found.why
    assert found.fix
    assert history is None or found.code.startswith("provenance")
    return found.code


def test_inspect_good_file_has_no_faults() -> None:
    history, faults = inspect(GOOD)
    assert faults == []
    assert history is not None
    assert (history.workflow_type, history.exit, history.patch_ids) == ("planted_kitchen", "success", ("finer",))
    assert 1 in history.core_flags


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda events: events.clear(), "history_without_events"),
        (lambda events: events.insert(0, "x"), "event_malformed"),
        (lambda events: events[3].pop("eventType"), "event_malformed"),
        (lambda events: events.pop(0), "history_head_missing"),
        (lambda events: events[0].update(eventType="EVENT_TYPE_TIMER_STARTED"), "history_head_missing"),
        (lambda events: events.pop(5), "event_id_gap"),
        (lambda events: events.insert(5, events[5]), "event_id_gap"),
        (lambda events: events.reverse(), "history_head_missing"),
        (lambda events: events[2].update(eventId="three"), "event_id_gap"),
        (lambda events: events[2].update(eventId=True), "event_id_gap"),
        (lambda events: events.append(events[0] | {"eventId": str(len(events) + 1)}), "history_of_two_runs"),
        (lambda events: events.__delitem__(slice(1, None)), "history_without_task"),
        (without_flags, "core_flag_missing"),
        (lambda events: started(events).pop("workflowType"), "workflow_type_missing"),
        (lambda events: started(events).pop("originalExecutionRunId"), "run_id_missing"),
        (lambda events: started(events).update(input={"payloads": [{"dish": "leek"}]}), "payload_not_base64"),
        (lambda events: started(events).update(input={"payloads": "leek"}), "payload_not_base64"),
        (lambda events: started(events)["input"]["payloads"][0].update(data={"dish": 1}), "payload_not_base64"),
        (lambda events: started(events)["input"]["payloads"][0].update(data="leek!"), "payload_not_base64"),
        (
            lambda events: started(events)["input"]["payloads"][0].update(metadata={"encoding": "json/plain"}),
            "payload_not_base64",
        ),
    ],
)
def test_inspect_malformed_events_has_fault(tmp_path: Path, edit: Callable[[Events], Any], code: str) -> None:
    assert fault(written(tmp_path, edit)) == code


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "history_empty_file"),
        (b" \n", "history_empty_file"),
        (b"\xff\xd8\xff\xe0 a photo", "history_not_text"),
        (GOOD.read_bytes()[:-40], "history_not_json"),
        (b"[" * 100_000, "history_not_json"),
        (b"[]", "history_not_an_object"),
        (b"null", "history_not_an_object"),
        (b"{}", "history_without_events"),
        (b'{"events": {}}', "history_without_events"),
    ],
)
def test_inspect_content_that_is_not_history_has_fault(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    assert fault(path) == code


def test_inspect_missing_file_is_unreadable(tmp_path: Path) -> None:
    assert fault(tmp_path / "absent.json") == "history_unreadable"


def test_inspect_directory_is_not_a_file(tmp_path: Path) -> None:
    assert fault(tmp_path) == "history_not_a_file"


def test_inspect_file_over_size_limit_is_too_large() -> None:
    assert fault(GOOD, limit_bytes=GOOD.stat().st_size - 1) == "history_too_large"


def test_inspect_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "bom.json"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.read_bytes())
    assert inspect(path)[1] == []


def test_inspect_event_types_without_prefix_are_accepted(tmp_path: Path) -> None:
    def shorten(events: Events) -> None:
        for event in events:
            words = str(event["eventType"]).removeprefix("EVENT_TYPE_").split("_")
            event["eventType"] = "".join(word.capitalize() for word in words)

    history, faults = inspect(written(tmp_path, shorten))
    assert faults == []
    assert history is not None
    assert history.exit == "success"


def test_duplicates_and_unknown_type_are_reported() -> None:
    history, _ = inspect(GOOD)
    assert history is not None
    assert [found.code for found in duplicates([history, replace(history)])] == ["run_id_duplicate"]
    assert duplicates([history]) == []
    assert unknown_type(history, ["planted_kitchen"]) is None
    found = unknown_type(history, ["other"])
    assert found is not None
    assert found.code == "workflow_type_unknown"


class TestProvenance:
    def signed(self, tmp_path: Path, **changed: Any) -> Path:
        path = tmp_path / "success.json"
        path.write_bytes(GOOD.read_bytes())
        history, _ = inspect(path)
        assert history is not None
        facts: dict[str, Any] = {
            "sha256": sha256_of(GOOD.read_bytes()),
            "sdk_version": "1.35.0",
            "core_flags": history.core_flags,
            "patch_ids": history.patch_ids,
            "app_version": "0.1.0",
            "recorded_at": "2026-11-22T22:00:00Z",
            "scenario": "success",
            "exit": exit_of(history.events),
            "scrubbed": True,
        }
        provenance_path(path).write_text(Provenance(**facts | changed).to_json(), encoding="utf-8")
        return path

    def test_provenance_of_its_history_is_accepted(self, tmp_path: Path) -> None:
        path = self.signed(tmp_path)
        history, faults = inspect(path, need_provenance=True)
        assert faults == []
        assert history is not None
        assert history.provenance is not None
        assert history.provenance.app_version == "0.1.0"
        assert discover([tmp_path]) == [path]

    @pytest.mark.parametrize(
        "changed", [{"sha256": "0" * 64}, {"core_flags": (2,)}, {"patch_ids": ()}, {"exit": "failure"}]
    )
    def test_provenance_of_another_history_is_mismatch(self, tmp_path: Path, changed: dict[str, Any]) -> None:
        path = self.signed(tmp_path, **changed)
        assert fault(path) == "provenance_mismatch"
        assert next(iter(changed)) in inspect(path)[1][0].what

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"sha256": 1}'])
    def test_provenance_without_facts_is_invalid(self, tmp_path: Path, text: str) -> None:
        path = self.signed(tmp_path)
        provenance_path(path).write_text(text, encoding="utf-8")
        assert fault(path) == "provenance_invalid"

    @pytest.mark.parametrize("changed", [{"core_flags": (1, "a")}, {"patch_ids": ({}, "a")}])
    def test_provenance_with_entries_of_wrong_type_is_invalid(self, tmp_path: Path, changed: dict[str, Any]) -> None:
        assert fault(self.signed(tmp_path, **changed)) == "provenance_invalid"

    def test_provenance_nested_too_deeply_is_reported(self, tmp_path: Path) -> None:
        path = self.signed(tmp_path)
        provenance_path(path).write_text("[" * 100_000, encoding="utf-8")
        assert "its JSON is nested too deeply" in inspect(path)[1][0].what

    @pytest.mark.timeout(20)
    @pytest.mark.parametrize("kind", ["pipe", "device"])
    def test_provenance_pipe_or_device_is_invalid(self, tmp_path: Path, kind: str) -> None:
        path = self.signed(tmp_path)
        provenance_path(path).unlink()
        if kind == "pipe":
            os.mkfifo(provenance_path(path))
        else:
            provenance_path(path).symlink_to("/dev/zero")
        assert fault(path) == "provenance_invalid"
        assert "a pipe, a socket or a device" in inspect(path)[1][0].what

    def test_provenance_missing_is_reported_if_needed(self, tmp_path: Path) -> None:
        assert fault(GOOD, need_provenance=True) == "provenance_missing"


@pytest.mark.parametrize(("limit", "says"), [(9, "8 open runs in"), (8, "8 open runs or more in")])
def test_unknown_type_notes_at_limit_say_or_more(limit: int, says: str) -> None:
    _, note = unknown_type_notes(["own"], {("Ours", "a"): 3, ("Theirs", "b"): 5}, "shared", limit)
    assert note.code == "open_runs_on_other_queues"
    assert note.what.startswith(f"Not checked: {says}")
    assert note.what.endswith("'Theirs' on b (5), 'Ours' on a (3).")
