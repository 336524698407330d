"""A product in which every job fails is red in the model and in the enumeration, whatever the error.

A comparison with a run of the same product would be green; so each layer must know itself how jobs may end.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.mutants import Mutants
from tests.crash.report import DIRECTORY_VARIABLE
from tests.support.mutation import Mutation

_WORKFLOW = "photo_worker/workflows/image.py"
_PERSIST = "photo_worker/activities/results.py"
_OCR = "photo_worker/activities/ocr.py"
_VERIFY = "photo_worker/activities/assets.py"

# An unexpected error: the workflow gives up after its attempts.
_UNEXPECTED = Mutation(
    _PERSIST,
    "ResultActivities.persist_artifacts",
    """
    with heartbeating(also_cancelled=True):
        ...
    """,
    """
    raise RuntimeError("always")
    with heartbeating():
        ...
    """,
)
# A defect with its own error code, which is not retried.
_FINAL = Mutation(
    _OCR,
    "OcrActivities._read",
    "$info = activity.info()",
    """
    from photo_worker.errors import StepFailed
    raise StepFailed(step="ocr", reason="always")
    $info = activity.info()
    """,
)
# An error that only a document may cause.
_DAMAGED = Mutation(
    _VERIFY,
    "AssetActivities._verified",
    "$content_type = check_content($info, ...)",
    """
    from photo_worker.errors import UnreadableDocument
    raise UnreadableDocument(name=request.key, reason="always")
    $content_type = check_content($info, ...)
    """,
)
_CANCELS = Mutation(
    _WORKFLOW,
    "ImageProcessingWorkflow.run",
    "return await self._process($request)",
    """
    raise asyncio.CancelledError
    return await self._process($request)
    """,
)
# Attempts are counted, so that an outage ends a job.
_IMPATIENT = Mutation("photo_worker/workflows/_support.py", "lasting", "maximum_attempts=0", "maximum_attempts=5")

_PRODUCTS = {
    "unexpected": _UNEXPECTED,
    "final": _FINAL,
    "damaged": _DAMAGED,
    "cancels": _CANCELS,
    "impatient": _IMPATIENT,
}
_ENUMERATION = "tests/crash/test_enumeration.py::test_enumeration_single_fault_ends_as_without_fault"
_MODEL = "tests/crash/test_model.py::test_model_any_sequence_of_events_ends_every_job"


@pytest.fixture(scope="module")
def mutants() -> Iterator[Mutants]:
    with Mutants() as made:
        yield made


@pytest.mark.timeout(240)
@pytest.mark.parametrize("layer", ["enumeration", "model"])
@pytest.mark.parametrize("product", _PRODUCTS)
def test_layers_with_failing_product_are_red(product: str, layer: str, mutants: Mutants, tmp_path: Path) -> None:
    test = _ENUMERATION + "[photo]" if layer == "enumeration" else _MODEL
    environment = {DIRECTORY_VARIABLE: str(tmp_path), "PHOTO_WORKER_MODEL_SHRINK": "0"}
    found = mutants.run([_PRODUCTS[product]], [test], environment=environment, limit_seconds=90)
    assert found.red, f"{product}: {found.errors}\n{found.output}"
    assert "invariant 2" in "".join(found.failures), found.failures


@pytest.mark.parametrize("usage", ["erased", "absent", "refused", "cancelled", "replaced"])
def test_enumeration_of_usage_without_success_is_red(usage: str, mutants: Mutants, tmp_path: Path) -> None:
    """None of these usages ends with a success: an erasure leaves nothing, and the others must fail."""
    environment = {DIRECTORY_VARIABLE: str(tmp_path)}
    found = mutants.run(
        [_DAMAGED if usage != "absent" else _CANCELS], [f"{_ENUMERATION}[{usage}]"], environment=environment
    )
    assert found.red, f"{usage}: {found.errors}\n{found.output}"
    assert "invariant 2" in "".join(found.failures), found.failures
