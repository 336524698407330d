"""A workflow that docs/how-to/add-a-workflow.md adds to a copy of the repository is recorded and replayed."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests.unit.project.guides import Copy, read_guide

pytestmark = [pytest.mark.stack, pytest.mark.single_python]

SCENARIOS = ("review-approved", "review-expired", "review-cancelled", "review-of-missing-job")


@pytest.mark.timeout(400)
def test_added_workflow_is_recorded_and_replayed(stack_variables: dict[str, str], tmp_path: Path) -> None:
    copy = Copy(tmp_path / "copy")
    for block in read_guide("add-a-workflow").blocks:
        copy.apply(block)
    copy.variables = stack_variables
    cli, histories = ("-m", "photo_worker.cli"), tmp_path / "histories"
    copy.must(*cli, "replay", "record", *SCENARIOS, "--to", str(histories))
    found = sorted(histories.rglob("*.json"))
    recorded = [path for path in found if not path.name.endswith(".provenance.json")]
    assert {path.stem for path in recorded} == set(SCENARIOS)
    assert {path.parent.parent.name for path in recorded} == {"review_workflow"}
    # The gate requires a success, a failure and a cancellation of the type, and makes a mutation that it must find.
    copy.must(*cli, "replay", "check", str(histories), "--workflow", "review_workflow")
    approved = json.loads(next(path for path in recorded if path.stem == "review-approved").read_text("utf-8"))
    (result,) = approved["events"][-1]["workflowExecutionCompletedEventAttributes"]["result"]["payloads"]
    assert json.loads(base64.b64decode(result["data"]))["outcome"] == "approved"
