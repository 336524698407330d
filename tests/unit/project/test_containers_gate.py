"""The gate on containers is not green if its tests were skipped."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from e2e_compose import Ran, counted, described, run_tests
from standins.recipes import ROOT
from tests.compose import support

SKIPS = "import pytest\n\ndef test_a():\n    pytest.skip('no engine')\n"
PASSES = "def test_b():\n    pass\n"


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("source", "code", "failed"), [(SKIPS, 0, True), (SKIPS + PASSES, 0, False)])
def test_run_with_all_tests_skipped_is_failed(tmp_path: Path, source: str, code: int, *, failed: bool) -> None:
    file = tmp_path / "test_it.py"
    file.write_text(source, encoding="utf-8")
    what = f"test-{uuid.uuid4().hex}"
    try:
        done = run_tests(what, [str(file)], [], {})
    finally:
        (ROOT / ".reports" / f"e2e-compose-{what}.xml").unlink(missing_ok=True)
    assert (done.code, done.is_failed, done.counts["skipped"]) == (code, failed, 1)


@pytest.mark.parametrize(("code", "failed"), [(0, True), (1, True), (2, True), (5, False)])
def test_run_without_report_is_failed_unless_nothing_was_selected(tmp_path: Path, code: int, *, failed: bool) -> None:
    counts = counted(tmp_path / "missing.xml")
    assert described(counts) == "no report of any test"
    assert Ran("localstack", code, 1.0, counts).is_failed is failed


@pytest.mark.parametrize(
    ("variable", "outcome"),
    [
        (None, pytest.skip.Exception),
        ("postgres", pytest.skip.Exception),
        ("temporal postgres aws", pytest.fail.Exception),
    ],
)
def test_require_engine_without_engine_fails_if_services_are_required(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str | None, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nowhere.sock")
    monkeypatch.delenv(support.REQUIRED_VARIABLE, raising=False)
    if variable is not None:
        monkeypatch.setenv(support.REQUIRED_VARIABLE, variable)
    with pytest.raises(outcome):
        support.require_engine("temporal", "postgres")
