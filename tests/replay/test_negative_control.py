"""The negative control works for every run: also for runs that only wait, and if the mutation takes effect late."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gate_support.command import head
from gate_support.histories import codes, loose
from temporal_replay_gate import replay_pool as engines
from temporal_replay_gate.findings import Finding
from temporal_replay_gate.gate import check
from temporal_replay_gate.mutations import MUTATIONS, can_reveal, caught
from temporal_replay_gate.preflight import inspect
from temporal_replay_gate.replay_pool import CodeUnderTest, ReplayOutcome, ReplayPool, ReplayTask
from tests.replay.corpora import FEATURES, PRODUCT
from tests.replay.product import product_code
from tests.replay.test_completed_tasks import signal, task

# A workflow that waits for ever.
CODE = """
import asyncio
from temporalio import workflow
from temporalio.exceptions import ApplicationError

@workflow.defn(name="{name}")
class Waits:
    @workflow.signal
    def unheard(self) -> None:
        pass

    @workflow.run
    async def run(self) -> None:
        {body}
        await workflow.wait_condition(lambda: False)
"""


def timer(task: int = 4) -> dict[str, Any]:
    return {
        "eventType": "EVENT_TYPE_TIMER_STARTED",
        "timerStartedEventAttributes": {
            "timerId": "1",
            "startToFireTimeout": "60s",
            "workflowTaskCompletedEventId": str(task),
        },
    }


def code(directory: Path, body: str = "pass", name: str = "waits") -> CodeUnderTest:
    (directory / f"{name}_code.py").write_text(CODE.format(name=name, body=body), encoding="utf-8")
    return product_code(f"{name}_code:Waits", path=(str(directory),))


RUNS: dict[str, tuple[str, list[dict[str, Any]], dict[str, bool]]] = {
    "nothing": ("pass", [], {"command": True}),
    "a signal": ("pass", [signal("unheard")], {"command": True}),
    "a signal, in the middle of a task": ("pass", [signal("unheard"), *task(6, None)], {"command": True}),
    "two tasks without an event between": ("pass", task(5), {"command": True}),
    "a timer": ("await asyncio.sleep(60)", [timer()], {"command": True, "drift": True}),
}


@pytest.mark.parametrize("name", RUNS)
def test_control_of_waiting_run_is_caught(tmp_path: Path, name: str) -> None:
    body, events, expected = RUNS[name]
    report = check(loose(head(tmp_path / "open.json", "waits", *events), code=code(tmp_path, body)))
    assert report.green, report.findings
    assert report.controls == {"waits": expected}


@pytest.mark.parametrize("name", RUNS)
def test_control_of_waiting_run_when_unseen_is_missed(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, events, expected = RUNS[name]
    run = ReplayPool.run

    def blind(
        self: ReplayPool, work: Sequence[ReplayTask], on_outcome: Callable[[ReplayOutcome], None] = lambda _: None
    ) -> object:
        return [replace(each, findings=()) for each in run(self, work, on_outcome)]

    monkeypatch.setattr(engines.ReplayPool, "run", blind)
    report = check(loose(head(tmp_path / "open.json", "waits", *events), code=code(tmp_path, body)))
    assert codes(report) == {f"control_missed_{mutation}" for mutation in expected}


def test_control_without_any_suitable_run_is_impossible(tmp_path: Path) -> None:
    """The SDK replays the only completed task as one with the next, which is open."""
    path = head(tmp_path / "first.json", "waits", *task(5, None))
    report = check(loose(path, code=code(tmp_path)))
    assert codes(report) == {"control_impossible"}
    assert {note.code for note in report.notes} == {"control_left_out_command", "control_left_out_drift"}
    assert all(str(path) in note.what for note in report.notes)
    beside = head(tmp_path / "second.json", "waits", signal("unheard"))
    report = check(loose(path, beside, code=code(tmp_path)))
    assert report.green, report.findings
    assert report.controls == {"waits": {"command": True}}


def test_control_prefers_run_with_commands(tmp_path: Path) -> None:
    """The terminated run ranks as more useful, but has no detail to change."""
    ended = {
        "eventType": "EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED",
        "workflowExecutionTerminatedEventAttributes": {"reason": "test"},
    }
    bodies = "if workflow.info().workflow_id == 'timed': await asyncio.sleep(60)"
    paths = [
        head(tmp_path / "ended.json", "waits", ended),
        head(tmp_path / "timed.json", "waits", timer()),
    ]
    document = json.loads(paths[1].read_text(encoding="utf-8"))
    document["events"][0]["workflowExecutionStartedEventAttributes"]["workflowId"] = "timed"
    paths[1].write_text(json.dumps(document), encoding="utf-8")
    report = check(loose(*paths, code=code(tmp_path, bodies)))
    assert report.green, report.findings
    assert report.controls == {"waits": {"command": True, "drift": True}}


def test_control_of_own_failure_type_is_caught(tmp_path: Path) -> None:
    failed = {
        "eventType": "EVENT_TYPE_WORKFLOW_EXECUTION_FAILED",
        "workflowExecutionFailedEventAttributes": {
            "failure": {"message": "burnt", "applicationFailureInfo": {"type": "ValueError"}},
            "retryState": "RETRY_STATE_RETRY_POLICY_NOT_SET",
            "workflowTaskCompletedEventId": "4",
        },
    }
    about = code(tmp_path, "raise ValueError('burnt')")
    module = tmp_path / "waits_code.py"
    own = module.read_text(encoding="utf-8").replace(
        'name="waits"', 'name="waits", failure_exception_types=[ValueError]'
    )
    module.write_text(own, encoding="utf-8")
    report = check(loose(head(tmp_path / "failed.json", "waits", failed), code=about))
    assert report.green, report.findings
    assert report.controls == {"waits": {"command": True, "drift": True}}


@pytest.mark.parametrize("begins", ["pass", "await asyncio.sleep(0)"])
def test_control_of_failure_in_signal_handler_is_caught(tmp_path: Path, begins: str) -> None:
    failed = {
        "eventType": "EVENT_TYPE_WORKFLOW_EXECUTION_FAILED",
        "workflowExecutionFailedEventAttributes": {
            "failure": {"message": "burnt", "applicationFailureInfo": {"type": "Burnt"}},
            "retryState": "RETRY_STATE_RETRY_POLICY_NOT_SET",
            "workflowTaskCompletedEventId": "8",
        },
    }
    about = code(tmp_path)
    module = tmp_path / "waits_code.py"
    handler = f"""
    @workflow.signal
    async def burn(self) -> None:
        {begins}
        raise ApplicationError("burnt", type="Burnt")
"""
    module.write_text(module.read_text(encoding="utf-8") + handler, encoding="utf-8")
    report = check(loose(head(tmp_path / "failed.json", "waits", signal("burn"), *task(6), failed), code=about))
    assert report.green, report.findings
    assert report.controls == {"waits": {"command": True, "drift": True}}


@pytest.mark.parametrize(
    ("corpus", "workflows"),
    [(FEATURES, "tests.replay.features.workflows:WORKFLOWS"), (PRODUCT, product_code().workflows)],
    ids=["features", "product"],
)
def test_can_reveal_agrees_with_caught_for_each_history(corpus: Any, workflows: str) -> None:
    """Checks every recorded run, and not only the one that the gate would choose."""
    with ReplayPool(product_code(workflows)) as engine:
        engine.types()
        without = {outcome.task.path: outcome for outcome in engine.run([ReplayTask(path) for path in corpus.files()])}
        wrong = []
        for outcome in engine.run([ReplayTask(path, mutation) for path in corpus.files() for mutation in MUTATIONS]):
            history, _ = inspect(outcome.task.path)
            assert history is not None
            assert outcome.task.mutation is not None
            seen = caught(outcome.task.mutation, outcome.findings, without[outcome.task.path].findings)
            if seen != (outcome.mutation_applied and can_reveal(history, outcome.task.mutation)):
                wrong.append((outcome.task, seen))
    assert wrong == []


def found(kind: Any, code: str, what: str = "what") -> Finding:
    return Finding(kind, code, what, "why", "fix")


class TestCaught:
    """Which findings count as a detected mutation."""

    @pytest.mark.parametrize("code", ["workflow_task_failed", "replay_hang", "replay_crash"])
    def test_caught_with_broken_replay_is_false(self, code: str) -> None:
        assert not caught("command", [found("replay", code)], [])
        assert not caught("drift", [found("replay", code)], [])

    def test_caught_ignores_findings_without_mutation(self) -> None:
        drift = found("drift", "drift_not_issued")
        assert not caught("drift", [drift], [drift])
        assert caught("drift", [drift, found("drift", "drift_task_queue")], [drift])
