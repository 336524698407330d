"""``replay check`` accepts additive fields, waiting runs and reordered sets, and refuses similar wrong changes."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from gate_support import added_fields as added
from gate_support.changed_code import changed
from gate_support.command import check, head, reported
from gate_support.histories import GOOD, copy


def test_check_added_field_default_is_note_other_value_is_drift(tmp_path: Path) -> None:
    history = added.recorded(tmp_path, added.OLD_PLAIN)
    way = ("added_kitchen:Kitchen", "--converter", added.PYDANTIC_CONVERTER)
    added.kitchen(tmp_path, added.plain())
    code, data = check(tmp_path, history, *way)
    assert (code, reported(data), reported(data, "notes")) == (0, [], ["additive_arguments"])
    added.kitchen(tmp_path, added.plain(", hot=True"))
    code, data = check(tmp_path, history, *way)
    assert (code, reported(data)) == (1, ["drift_arguments"])
    assert "hot" in data["findings"][0]["what"]


@pytest.mark.parametrize("seed", ["0", "1", "7"])
def test_check_set_in_payload_is_note_for_each_hash_seed(
    tmp_path: Path, seed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(added, "MODELS", added.MODELS + added.BAG)
    added.kitchen(tmp_path, added.SET)
    way = ("added_kitchen:Kitchen", "--converter", added.PYDANTIC_CONVERTER)
    code, data = check(tmp_path, added.recorded(tmp_path, {"names": ["plum", "pea", "leek", "fig"]}), *way, seed=seed)
    assert (code, reported(data), reported(data, "notes")) == (0, [], ["order"])
    code, data = check(tmp_path, added.recorded(tmp_path, {"names": ["plum", "pea", "leek", "beet"]}), *way, seed=seed)
    assert (code, reported(data)) == (1, ["drift_arguments"])


SCHEDULED = {
    "eventType": "EVENT_TYPE_WORKFLOW_TASK_SCHEDULED",
    "workflowTaskScheduledEventAttributes": {"taskQueue": {"name": "kitchen"}, "attempt": 1},
}
STARTED = {
    "eventType": "EVENT_TYPE_WORKFLOW_TASK_STARTED",
    "workflowTaskStartedEventAttributes": {"scheduledEventId": "6", "identity": "scrubbed"},
}
COMPLETED = {
    "eventType": "EVENT_TYPE_WORKFLOW_TASK_COMPLETED",
    "workflowTaskCompletedEventAttributes": {"scheduledEventId": "6", "startedEventId": "7"},
}
UNHEARD_SIGNAL = {
    "eventType": "EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED",
    "workflowExecutionSignaledEventAttributes": {"signalName": "unheard", "input": {}, "identity": "scrubbed"},
}
WAITS = """
from temporalio import workflow

@workflow.defn(name="waits")
class Waits:
    @workflow.signal
    def unheard(self) -> None:
        pass

    @workflow.run
    async def run(self) -> None:
        {first}
        await workflow.wait_condition(lambda: False)
"""


def test_check_waiting_runs_is_green_unless_code_fails(tmp_path: Path) -> None:
    history = head(tmp_path / "open.json", "waits", UNHEARD_SIGNAL, SCHEDULED, STARTED, COMPLETED)
    (tmp_path / "waits_code.py").write_text(WAITS.format(first="pass"), encoding="utf-8")
    code, data = check(tmp_path, history, "waits_code:Waits")
    assert (code, reported(data)) == (0, [])
    assert (reported(data, "notes"), data["controls"]) == (["control_left_out_drift"], {"waits": {"command": True}})
    (tmp_path / "waits_code.py").write_text(WAITS.format(first="1 / 0"), encoding="utf-8")
    code, data = check(tmp_path, history, "waits_code:Waits")
    assert (code, reported(data)) == (1, ["workflow_task_failed"])


BURNS = """
from temporalio import workflow
from temporalio.exceptions import ApplicationError

@workflow.defn(name="burns")
class Burns:
    @workflow.run
    async def run(self) -> None:
{more}        raise ApplicationError("{said}", non_retryable=True)
"""
ENCODES = """
from dataclasses import replace
from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes
converter = replace(DataConverter.default, failure_converter_class=DefaultFailureConverterWithEncodedAttributes)
"""


def test_check_encoded_failure_ignores_line_numbers(tmp_path: Path) -> None:
    said = {"message": "burnt", "stack_trace": '  File "burns_code.py", line 9, in run\n'}
    payload = {
        "metadata": {"encoding": base64.b64encode(b"json/plain").decode()},
        "data": base64.b64encode(json.dumps(said).encode()).decode(),
    }
    failed = {
        "eventType": "EVENT_TYPE_WORKFLOW_EXECUTION_FAILED",
        "workflowExecutionFailedEventAttributes": {
            "failure": {
                "message": "Encoded failure",
                "encodedAttributes": payload,
                "applicationFailureInfo": {"nonRetryable": True},
            },
            "retryState": "RETRY_STATE_RETRY_POLICY_NOT_SET",
            "workflowTaskCompletedEventId": "4",
        },
    }
    history = head(tmp_path / "failed.json", "burns", failed)
    (tmp_path / "burns_converter.py").write_text(ENCODES, encoding="utf-8")
    way = ("burns_code:Burns", "--converter", "burns_converter:converter")
    for more in ("", "        # One line more.\n"):
        (tmp_path / "burns_code.py").write_text(BURNS.format(said="burnt", more=more), encoding="utf-8")
        code, data = check(tmp_path, history, *way)
        assert (code, reported(data)) == (0, []), data["findings"]
    (tmp_path / "burns_code.py").write_text(BURNS.format(said="raw", more=""), encoding="utf-8")
    code, data = check(tmp_path, history, *way)
    assert (code, reported(data)) == (1, ["drift_failure"])


@pytest.mark.parametrize("ended", [True, False], ids=["closed", "open"])
@pytest.mark.parametrize("change", ["renamed", "deleted"])
def test_check_renamed_or_deleted_workflow_type_is_unknown(tmp_path: Path, change: str, ended: bool) -> None:
    history = copy(tmp_path, "run")
    if not ended:
        document = json.loads(history.read_text(encoding="utf-8"))
        # The end of the run, and the completion of the task that issued it.
        del document["events"][-2:]
        history.write_text(json.dumps(document), encoding="utf-8")
    text = GOOD.with_name("kitchen.py").read_text(encoding="utf-8") + "\n\nWORKFLOWS = [Kitchen, Oven]\n"
    (tmp_path / "own_kitchen.py").write_text(text, encoding="utf-8")
    code, data = check(tmp_path, history, "own_kitchen:WORKFLOWS")
    assert (code, reported(data)) == (0, [])
    old, new = {
        "renamed": ("'planted_kitchen'", "'planted_kitchen_run'"),
        "deleted": ("[Kitchen, Oven]", "[Oven]"),
    }[change]
    (tmp_path / "own_kitchen.py").write_text(changed(text, old, new), encoding="utf-8")
    code, data = check(tmp_path, history, "own_kitchen:WORKFLOWS")
    assert (code, reported(data)) == (1, ["workflow_type_unknown"])
    assert "No workflow class has the type 'planted_kitchen'" in data["findings"][0]["what"]
    assert "Bring the class back under its recorded name" in data["findings"][0]["fix"]
