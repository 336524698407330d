"""Fields of signals, cancellations and ends that the SDK does not compare: a change of any single one is red."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gate_support.command import head
from temporal_replay_gate.findings import Finding
from temporal_replay_gate.replay_pool import CodeUnderTest, ReplayPool, ReplayTask
from tests.replay.corpora import FEATURES
from tests.replay.product import product_code
from tests.support.mutation import Mutation, mutated, unparsed

_SOURCE = "tests/replay/features/workflows.py"
_STARTER = 'workflow.get_external_workflow_handle_for(CourseWorkflow.run, f"{$parent}-starter")'
_OTHER_RUN = 'workflow.get_external_workflow_handle_for(CourseWorkflow.run, f"{$parent}-starter", run_id="other")'
_BY_ID = 'workflow.get_external_workflow_handle_for(CourseWorkflow.run, f"{parent}-main")'
_BURNT = 'type="Burnt", non_retryable=True'
_BENIGN = '__import__("temporalio").exceptions.ApplicationErrorCategory.BENIGN'
_AGAIN = "workflow.continue_as_new($order)"

# History, the definition, its old and new code, the finding's code, and the new value.
CHANGES = [
    ("menu-success", "MenuWorkflow.run", _STARTER, _OTHER_RUN, "drift_run_id", '"other"'),
    ("menu-success", "MenuWorkflow.run", "$children[1]", _BY_ID, "drift_child_only", "false"),
    (
        "batch-success-run1",
        "BatchWorkflow.run",
        _AGAIN,
        "workflow.continue_as_new($order, backoff_start_interval=timedelta(hours=1))",
        "drift_backoff_start_interval",
        "3600.0",
    ),
    (
        "batch-failure-run2",
        "BatchWorkflow.run",
        _BURNT,
        f"{_BURNT}, next_retry_delay=_STEP",
        "drift_next_retry_delay",
        "30.0",
    ),
    ("batch-failure-run2", "BatchWorkflow.run", _BURNT, f"{_BURNT}, category={_BENIGN}", "drift_category", '"BENIGN"'),
]


def replayed(code: CodeUnderTest, path: Path) -> Sequence[Finding]:
    with ReplayPool(code, limit_seconds=60.0) as engine:
        engine.types()
        return engine.run([ReplayTask(path)])[0].findings


def changed(directory: Path, mutation: Mutation) -> CodeUnderTest:
    text = unparsed(mutated([mutation]))[mutation.file]
    (directory / "changed_code.py").write_text(text, encoding="utf-8")
    return product_code("changed_code:WORKFLOWS", path=(str(directory),))


def recorded(name: str) -> Path:
    (path,) = [path for path in FEATURES.files() if path.stem == name]
    return path


@pytest.mark.parametrize(("name", "within", "old", "new", "code", "now"), CHANGES, ids=[each[4] for each in CHANGES])
def test_changed_field_is_drift(
    tmp_path: Path, name: str, within: str, old: str, new: str, code: str, now: str
) -> None:
    found = replayed(changed(tmp_path, Mutation(_SOURCE, within, old, new)), recorded(name))
    assert [(finding.code, finding.now) for finding in found] == [(code, now)]


CANCELS = """
from temporalio import workflow

@workflow.defn(name="cancels")
class Cancels:
    @workflow.run
    async def run(self) -> None:
        await workflow.get_external_workflow_handle({target}).cancel()
        await workflow.wait_condition(lambda: False)
"""


def cancels(run: Path, target: str) -> CodeUnderTest:
    (run.parent / "cancels_code.py").write_text(CANCELS.format(target=target), encoding="utf-8")
    return product_code("cancels_code:Cancels", path=(str(run.parent),))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Write the history of a run that has cancelled another workflow and waits."""
    about: dict[str, Any] = {"namespace": "default", "workflowExecution": {"workflowId": "one"}}
    initiated = {
        "eventType": "EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED",
        "requestCancelExternalWorkflowExecutionInitiatedEventAttributes": {
            **about,
            "workflowTaskCompletedEventId": "4",
        },
    }
    requested = {
        "eventType": "EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED",
        "externalWorkflowExecutionCancelRequestedEventAttributes": {**about, "initiatedEventId": "5"},
    }
    return head(tmp_path / "cancels.json", "cancels", initiated, requested)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("'one'", []),
        ("'one', run_id='other'", ["drift_run_id"]),
        ("'two'", ["drift_not_issued", "drift_not_recorded"]),
    ],
)
def test_cancelled_workflow_id_or_run_id_changed_is_drift(run: Path, target: str, expected: list[str]) -> None:
    assert sorted(finding.code for finding in replayed(cancels(run, target), run)) == expected
