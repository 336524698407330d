"""The static check accepts the product's workflows."""

from __future__ import annotations

from photo_worker.bootstrap import workflow_classes
from temporal_replay_gate.static import check_workflows


def test_product_workflows_have_no_static_findings() -> None:
    report = check_workflows(workflow_classes())
    assert report.findings == ()
    assert {"image.py", "boundary.py", "base.py"} <= {path.name for path in report.files}
    assert report.functions >= 10
