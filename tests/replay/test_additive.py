"""Fields that are added to the product's contracts with a default are notes, not red."""

from __future__ import annotations

from pathlib import Path

from gate_support.added_fields import run
from photo_worker.workflows import image as image_workflow
from tests.replay.product import product_code
from tests.support.mutation import Mutation, mutated, unparsed

HERE = Path(__file__).parent / "code_mutations"
_CONTRACTS = "photo_worker/contracts/image.py"
# Each model, and the field that the new ones follow.
_ADDED = [
    Mutation(_CONTRACTS, model, last, f"{last}\nlanguage: Name | None = None\npages: int = 1")
    for model, last in (
        ("OcrInput", "size_bytes: int | None = None"),
        ("ImageProcessingResult", "s3_manifest_key: Key"),
    )
]


def test_product_contracts_with_optional_fields_are_additive(tmp_path: Path) -> None:
    (tmp_path / "own_contracts.py").write_text(unparsed(mutated(_ADDED))[_CONTRACTS], encoding="utf-8")
    text = Path(image_workflow.__file__).read_text(encoding="utf-8")
    assert "photo_worker.contracts.image" in text
    text = text.replace("photo_worker.contracts.image", "own_contracts")
    (tmp_path / "own_workflow.py").write_text(text, encoding="utf-8")
    code = product_code("own_workflow:ImageProcessingWorkflow", path=(str(tmp_path),))
    report = run(code, HERE / "success.json")
    assert not [finding for finding in report.findings if finding.where != "activity:ocr_textract heartbeat_timeout"]
    assert {note.where for note in report.notes} == {"activity:ocr_textract arguments", "complete result"}
    assert all(set(note.issued.values()) == {None, 1} for note in report.notes)
