"""Drift: the comparison, the values that the server fills in, and payloads that a codec encodes."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import WorkflowExecutionStartedEventAttributes
from temporalio.bridge.proto.workflow_commands import WorkflowCommand
from temporalio.worker._workflow_instance import _WorkflowInstanceImpl

from gate_support.histories import GOOD
from temporal_replay_gate.commands import Command, IssuedCommands, failure_value
from temporal_replay_gate.divergence import diagnose
from temporal_replay_gate.drift import compare
from temporal_replay_gate.gate import GateOptions, check
from temporal_replay_gate.replay_pool import CodeUnderTest
from temporal_replay_gate.trace import IssuedCommand, Trace


def activity(name: str = "cut", key: str = "1", **fields: Any) -> Command:
    return Command("activity", key, name, fields, event_id=5, event_type="ActivityTaskScheduled", source="w.py:3")


class TestCompare:
    def test_compare_equal_commands_finds_nothing(self) -> None:
        assert compare([activity(arguments=[1])], [activity(arguments=[1])], "W") == []

    @pytest.mark.parametrize(
        ("old", "new"), [([1], [2]), ([1], [1, 2]), ([1], ["1"]), ([True], [1]), ([{"a": 1}], [{"a": 1, "b": None}])]
    )
    def test_compare_changed_arguments_is_drift(self, old: list[Any], new: list[Any]) -> None:
        (finding,) = compare([activity(arguments=old)], [activity(arguments=new)], "W")
        assert (finding.code, finding.where, finding.recorded, finding.issued) == (
            "drift_arguments",
            "activity:cut arguments",
            old,
            new,
        )
        assert (finding.event_id, finding.source) == (5, "w.py:3")
        assert 'where = "activity:cut"' in finding.fix

    def test_compare_large_argument_shows_changed_field_only(self) -> None:
        old, new = {"kept": "x" * 50, "size": 1}, {"kept": "x" * 50, "size": 2}
        (finding,) = compare([activity(arguments=[old])], [activity(arguments=[new])], "W")
        assert "xxx" not in finding.what
        assert '{"size": 1}' in finding.what

    def test_compare_each_changed_field_is_a_finding(self) -> None:
        old = replace(activity(), fields={"task_queue": "a", "cron": 1, "retry_policy.backoff": 3})
        new = replace(activity(), fields={"task_queue": "b", "cron": 2, "retry_policy.backoff": 4})
        found = {finding.code for finding in compare([old], [new], "W")}
        assert found == {"drift_task_queue", "drift_cron", "drift_retry_policy"}

    def test_compare_renamed_activity_is_drift_type(self) -> None:
        (finding,) = compare([activity("cut")], [activity("slice")], "W")
        assert finding.code == "drift_type"

    def test_compare_missing_command_is_drift_not_issued(self) -> None:
        (finding,) = compare([activity()], [], "W")
        assert finding.code == "drift_not_issued"

    def test_compare_extra_command_in_completed_task_reported_once(self) -> None:
        old = Command("signal", "other", "ring", {"arguments": []}, event_id=5, task=4)
        (finding,) = compare([old], [replace(old, event_id=None), replace(old, event_id=None)], "W")
        assert (finding.code, finding.where, finding.event_id) == ("drift_not_recorded", "signal:ring presence", 4)

    def test_compare_unrecorded_local_activity_or_patch_is_allowed(self) -> None:
        assert compare([], [Command(kind, "1", "cut", task=4) for kind in ("local_activity", "patch")], "W") == []

    def test_compare_commands_after_open_history_are_allowed(self) -> None:
        assert compare([activity()], [activity(), activity("bake", "2")], "W") == []


def issued(*commands: WorkflowCommand, run_timeout: int = 0) -> list[Command]:
    started = WorkflowExecutionStartedEventAttributes(workflow_run_timeout=Duration(seconds=run_timeout))
    started.task_queue.name = "own"
    trace = Trace([IssuedCommand(command, 1, None) for command in commands], task_queue="replay-None")
    return IssuedCommands(trace, started).commands()


def schedule(**seconds: int) -> WorkflowCommand:
    command = WorkflowCommand()
    command.schedule_activity.seq = 1
    command.schedule_activity.activity_id = "1"
    command.schedule_activity.task_queue = "replay-None"
    for name, value in seconds.items():
        getattr(command.schedule_activity, name).CopyFrom(Duration(seconds=value))
    return command


class TestServerRules:
    """The expected values are those that a Temporal server (1.30) wrote for such commands."""

    def test_issued_schedule_to_close_fills_other_timeouts(self) -> None:
        (step,) = issued(schedule(schedule_to_close_timeout=20))
        assert step.fields["schedule_to_start_timeout"] == 20
        assert step.fields["start_to_close_timeout"] == 20

    def test_issued_start_to_close_leaves_schedule_to_close_zero(self) -> None:
        (step,) = issued(schedule(start_to_close_timeout=30, heartbeat_timeout=5))
        assert step.fields["schedule_to_close_timeout"] == 0
        assert step.fields["heartbeat_timeout"] == 5

    def test_issued_timeouts_are_capped_by_run_timeout(self) -> None:
        (step,) = issued(schedule(start_to_close_timeout=30), run_timeout=10)
        assert step.fields["start_to_close_timeout"] == 10
        assert step.fields["schedule_to_close_timeout"] == 10

    def test_issued_retry_policy_is_filled_with_defaults(self) -> None:
        (step,) = issued(schedule(start_to_close_timeout=30))
        assert step.fields["retry_policy.initial_interval"] == 1
        assert step.fields["retry_policy.maximum_interval"] == 100

    def test_issued_task_queue_is_the_workflows_own(self) -> None:
        (step,) = issued(schedule(start_to_close_timeout=30))
        assert step.fields["task_queue"] == "own"

    def test_issued_timer_cancelled_in_same_task_is_dropped(self) -> None:
        started, cancelled = WorkflowCommand(), WorkflowCommand()
        started.start_timer.seq = cancelled.cancel_timer.seq = 4
        assert issued(started, cancelled) == []

    @pytest.mark.parametrize(
        ("reached", "task"), [(3, 4), (4, 4), (7, 8), (8, 8), (9, None)], ids=["3", "4", "7", "8", "9"]
    )
    def test_issued_command_is_assigned_to_its_workflow_task(self, reached: int, task: int | None) -> None:
        started = WorkflowExecutionStartedEventAttributes()
        trace = Trace([IssuedCommand(schedule(start_to_close_timeout=30), reached, None)])
        (step,) = IssuedCommands(trace, started, [4, 8]).commands()
        assert step.task == task


class TestDiagnosis:
    def codes(self, old: list[Command], new: list[Command]) -> str:
        return diagnose("Nondeterminism", old, new, "W", closed=True).code

    END = Command("complete", "", "", {}, event_id=9)

    def test_diagnose_names_each_kind_of_divergence(self) -> None:
        cut, bake, end = activity("cut", "1"), activity("bake", "2"), self.END
        patch = Command("patch", "p", "p", {}, event_id=4)
        assert self.codes([patch, cut, end], [cut, bake]) == "patch_removed"
        assert self.codes([cut, end], [end]) == "ends_early_complete"
        assert self.codes([cut, end], [cut, replace(end, kind="fail")]) == "end_changed"
        assert self.codes([cut, end], [cut, bake]) == "command_added"
        assert self.codes([cut, end], []) == "command_removed"
        assert self.codes([cut, bake, end], [bake, cut]) == "command_reordered"
        assert self.codes([cut, end], [activity("slice", "1")]) == "command_replaced"
        assert self.codes([Command("child", "a", "Oven")], [Command("child", "b", "Oven")]) == "command_id_changed"

    def test_diagnose_fix_has_patch_and_record_command(self) -> None:
        finding = diagnose("Nondeterminism", [activity("cut")], [activity("slice")], "W", closed=True)
        assert 'workflow.patched("' in finding.fix
        assert "shop replay record" in finding.for_command("shop replay").fix
        assert (finding.event_id, finding.source) == (5, "w.py:3")


def test_sdk_has_methods_that_trace_patches() -> None:
    assert callable(_WorkflowInstanceImpl._add_command)
    assert callable(_WorkflowInstanceImpl.workflow_patch)


class TestCodec:
    """A history whose worker had an encrypting codec."""

    MODULE = (
        "from temporalio.api.common.v1 import Payload\n"
        "from temporalio.converter import DataConverter, PayloadCodec\n"
        "class Codec(PayloadCodec):\n"
        "    async def encode(self, payloads):\n"
        "        return [Payload(metadata={'encoding': b'binary/xor'}, data=bytes(b ^ 7 for b in "
        "p.SerializeToString())) for p in payloads]\n"
        "    async def decode(self, payloads):\n"
        "        return [Payload.FromString(bytes(b ^ 7 for b in p.data)) "
        "if p.metadata.get('encoding') == b'binary/xor' else p for p in payloads]\n"
        "converter = DataConverter(payload_codec=Codec())\n"
    )

    def encrypted(self, directory: Path) -> Path:
        def walk(value: Any) -> Any:
            if isinstance(value, list):
                return [walk(entry) for entry in value]
            if not isinstance(value, dict):
                return value
            if isinstance(value.get("metadata"), dict) and "encoding" in value["metadata"]:
                metadata = {name: base64.b64decode(entry) for name, entry in value["metadata"].items()}
                plain = Payload(metadata=metadata, data=base64.b64decode(value.get("data", "")))
                hidden = base64.b64encode(bytes(byte ^ 7 for byte in plain.SerializeToString())).decode()
                return {"metadata": {"encoding": base64.b64encode(b"binary/xor").decode()}, "data": hidden}
            # Markers of the SDK's core and search attributes are never encoded.
            core = {"patch-data", "searchAttributes", "data"}
            return {name: entry if name in core else walk(entry) for name, entry in value.items()}

        path = directory / "encrypted.json"
        path.write_text(json.dumps(walk(json.loads(GOOD.read_text(encoding="utf-8")))), encoding="utf-8")
        (directory / "xor_converter.py").write_text(self.MODULE, encoding="utf-8")
        return path

    def test_codec_encrypted_history_is_compared_decoded(self, tmp_path: Path) -> None:
        path = self.encrypted(tmp_path)
        assert b"leek" not in base64.b64decode(path.read_text(encoding="utf-8").split('"data": "')[1].split('"')[0])
        code = CodeUnderTest("gate_support.kitchen:Kitchen", "xor_converter:converter", (str(tmp_path),))
        report = check(GateOptions((path,), code))
        assert report.green, report.findings
        assert report.controls["planted_kitchen"] == {"command": True, "drift": True}

    def test_codec_encrypted_history_without_converter_is_red(self, tmp_path: Path) -> None:
        report = check(GateOptions((self.encrypted(tmp_path),), CodeUnderTest("gate_support.kitchen:Kitchen")))
        assert not report.green


def test_failure_value_encoded_ignores_stack_trace() -> None:
    def encoded(trace: str, message: str) -> Failure:
        said = json.dumps({"message": message, "stack_trace": trace}).encode()
        failure = Failure(message="Encoded failure")
        failure.encoded_attributes.CopyFrom(Payload(metadata={"encoding": b"json/plain"}, data=said))
        return failure

    assert failure_value(encoded("line 3", "burnt")) == failure_value(encoded("line 4", "burnt"))
    assert failure_value(encoded("line 3", "burnt")) != failure_value(encoded("line 3", "raw"))
