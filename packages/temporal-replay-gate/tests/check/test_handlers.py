"""Signals and updates of a history for which the workflow has no handler any more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gate_support.command import head
from gate_support.histories import loose
from temporal_replay_gate.findings import Finding
from temporal_replay_gate.gate import GateReport, check
from temporal_replay_gate.replay_pool import CodeUnderTest

HANDLER, OTHER_HANDLER = (
    f"@workflow.signal\n    def {name}(self, *given: str) -> None:\n        pass\n" for name in ("note", "note2")
)
DYNAMIC = (
    "@workflow.signal(dynamic=True)\n"
    "    def any_signal(self, name: str, given: Sequence[RawValue]) -> None:\n        pass\n"
)
UPDATE, OTHER_UPDATE = (
    f"@workflow.update\n    async def {name}(self) -> None:\n        pass\n" for name in ("add", "add2")
)
MODULE = """
from collections.abc import Sequence
from temporalio import workflow
from temporalio.common import RawValue
from temporalio.workflow import set_signal_handler as listen
from handlers_app.helper import install

def nothing(*given):
    pass

def every(name: str, given: Sequence[RawValue]) -> None:
    pass

@workflow.defn(name="waits")
class Waits:
    {handlers}

    @workflow.run
    async def run(self) -> None:
        {begin}
        await workflow.wait_condition(lambda: False)
        {later}

@workflow.defn(name="other")
class Other:
    @workflow.run
    async def run(self) -> None:
        workflow.set_dynamic_signal_handler(every)

WORKFLOWS = [Waits, Other]
"""
HELPER = "from temporalio import workflow\n\ndef install():\n    workflow.set_signal_handler('note', print)\n"


def signal(name: str) -> dict[str, Any]:
    return {
        "eventType": "EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED",
        "workflowExecutionSignaledEventAttributes": {"signalName": name, "input": {}, "identity": "scrubbed"},
    }


def task(first: int) -> list[dict[str, Any]]:
    """Return a completed workflow task whose first event has the id ``first``."""
    return [
        {
            "eventType": "EVENT_TYPE_WORKFLOW_TASK_SCHEDULED",
            "workflowTaskScheduledEventAttributes": {"taskQueue": {"name": "kitchen"}, "attempt": 1},
        },
        {
            "eventType": "EVENT_TYPE_WORKFLOW_TASK_STARTED",
            "workflowTaskStartedEventAttributes": {"scheduledEventId": str(first), "identity": "scrubbed"},
        },
        {
            "eventType": "EVENT_TYPE_WORKFLOW_TASK_COMPLETED",
            "workflowTaskCompletedEventAttributes": {"scheduledEventId": str(first), "startedEventId": str(first + 1)},
        },
    ]


UPDATED: list[dict[str, Any]] = [
    *task(5),
    {
        "eventType": "EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED",
        "workflowExecutionUpdateAcceptedEventAttributes": {
            "protocolInstanceId": "u1",
            "acceptedRequestMessageId": "u1/request",
            "acceptedRequestSequencingEventId": "5",
            "acceptedRequest": {"meta": {"updateId": "u1", "identity": "scrubbed"}, "input": {"name": "add"}},
        },
    },
    {
        "eventType": "EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED",
        "workflowExecutionUpdateCompletedEventAttributes": {
            "meta": {"updateId": "u1", "identity": "scrubbed"},
            "acceptedEventId": "8",
            "outcome": {"success": {"payloads": [{"metadata": {"encoding": "YmluYXJ5L251bGw="}}]}},
        },
    },
]


def run(
    directory: Path,
    *events: dict[str, Any],
    handlers: str = "",
    begin: str = "pass",
    later: str = "pass",
    allow: str = "",
) -> GateReport:
    package = directory / "handlers_app"
    package.mkdir(exist_ok=True)
    code = MODULE.format(handlers=handlers, begin=begin, later=later)
    for name, text in (("__init__", ""), ("code", code), ("helper", HELPER)):
        (package / f"{name}.py").write_text(text, encoding="utf-8")
    options = loose(
        head(directory / "run.json", "waits", *events),
        code=CodeUnderTest("handlers_app.code:WORKFLOWS", path=(str(directory),)),
    )
    (directory / "allowed.toml").write_text(allow, encoding="utf-8")
    return check(replace(options, static=False, allow=directory / "allowed.toml"))


def found(report: GateReport) -> list[tuple[str, str, int | None]]:
    return [(each.kind, each.code, each.event_id) for each in report.findings]


NOTE = [signal("note"), *task(6)]
MISSING = [("drift", "drift_signal_unhandled", 5)]


@pytest.mark.parametrize("handlers", [HANDLER, OTHER_HANDLER, ""])
def test_signal_whose_handler_is_renamed_or_deleted_is_red(tmp_path: Path, handlers: str) -> None:
    report = run(tmp_path, *NOTE, signal("note"), handlers=handlers)
    assert found(report) == ([] if handlers == HANDLER else MISSING)
    for finding in report.findings:
        assert "signal 'note' (2 times), and the workflow has no handler for it" in finding.what
        assert (finding.source or "").endswith("code.py:14")
        assert "Bring the handler back" in finding.fix


@pytest.mark.parametrize("events", [[signal("note")], [signal("note"), *task(6)[:2]]], ids=["no task", "open task"])
def test_signal_at_the_end_of_an_open_run_is_red(tmp_path: Path, events: list[dict[str, Any]]) -> None:
    assert found(run(tmp_path, *events)) == MISSING


@pytest.mark.parametrize(
    "code",
    [
        {"handlers": DYNAMIC},
        {"begin": "workflow.set_signal_handler('note', nothing)"},
        {"begin": "workflow.set_dynamic_signal_handler(every)"},
        {"later": "workflow.set_signal_handler('note', nothing)"},
        {"later": "workflow.set_signal_handler(name='note', handler=nothing)"},
        {"later": "workflow.set_signal_handler(f'{id}', nothing)"},
        {"later": "workflow.set_dynamic_signal_handler(every)"},
        {"later": "listen('note', nothing)"},
        {"later": "install()"},
        {"later": "given = workflow.set_signal_handler"},
    ],
)
def test_signal_whose_handler_is_dynamic_or_set_at_run_time_is_green(tmp_path: Path, code: dict[str, str]) -> None:
    # The recorded run has not reached ``later``.
    assert found(run(tmp_path, *NOTE, **code)) == []


def test_signal_beside_handler_set_for_another_is_red(tmp_path: Path) -> None:
    assert found(run(tmp_path, *NOTE, later="workflow.set_signal_handler('other', nothing)")) == MISSING


def test_signal_of_the_sdk_itself_is_green(tmp_path: Path) -> None:
    assert found(run(tmp_path, signal("__temporal_wake"), *task(6))) == []


def test_signal_without_handler_in_the_allow_list_is_green(tmp_path: Path) -> None:
    (finding,) = run(tmp_path, *NOTE).findings
    entry = finding.fix.partition("\n\n")[2]
    report = run(tmp_path, *NOTE, allow=entry)
    assert (report.green, [each.code for each in report.allowed]) == (True, ["drift_signal_unhandled"])
    assert found(run(tmp_path, signal("other"), *task(6), allow=entry)) == MISSING


def test_signal_that_code_no_longer_waits_for_is_named_before_divergence(tmp_path: Path) -> None:
    timer = {
        "eventType": "EVENT_TYPE_TIMER_STARTED",
        "timerStartedEventAttributes": {
            "timerId": "1",
            "startToFireTimeout": "60s",
            "workflowTaskCompletedEventId": "8",
        },
    }
    sleeps = "@workflow.signal\n    async def note(self) -> None:\n        await workflow.sleep(60)\n"
    assert found(run(tmp_path, *NOTE, timer, handlers=sleeps)) == []
    assert found(run(tmp_path, *NOTE, timer)) == [*MISSING, ("replay", "command_removed", 9)]


@pytest.mark.parametrize("handlers", [UPDATE, OTHER_UPDATE, ""])
@pytest.mark.parametrize("more", [[], [*task(10)]], ids=["last task", "task in the middle"])
def test_update_whose_handler_is_renamed_or_deleted_is_named(
    tmp_path: Path, handlers: str, more: list[dict[str, Any]]
) -> None:
    report = run(tmp_path, *UPDATED, *more, handlers=handlers)
    if handlers == UPDATE:
        assert found(report) == []
        return
    finding: Finding = report.findings[0]
    assert (finding.kind, finding.code, finding.event_id) == ("replay", "update_handler_missing", 8)
    assert "update 'add', which was accepted, and the workflow has no handler for it" in finding.what
    assert "command_removed" not in {each.code for each in report.findings}
