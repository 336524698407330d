"""Broken history files: the gate reports each with its fault, and still checks the good files beside it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from uuid import uuid4

import pytest

from gate_support.broken import BROKEN, GOOD, Broken, good
from temporal_replay_gate.gate import GateOptions, GateReport, check
from temporal_replay_gate.replay_pool import CodeUnderTest

CODE = CodeUnderTest("gate_support.kitchen:Kitchen")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> GateReport:
    """Run the gate once over all broken files, with good ones before, between and after them."""
    directory = tmp_path_factory.mktemp("broken")
    for number, broken in enumerate(BROKEN):
        broken.make(directory / f"{number:02}-{broken.name.replace(' ', '-')}.json")
    text = GOOD.read_text(encoding="utf-8")
    run_id = good()["events"][0]["workflowExecutionStartedEventAttributes"]["originalExecutionRunId"]
    (directory / "00-good.json").write_text(text, encoding="utf-8")
    for name in ("15-good", "99-good"):
        (directory / f"{name}.json").write_text(text.replace(run_id, str(uuid4())), encoding="utf-8")
    return check(GateOptions((directory,), CODE, limit_seconds=8, coverage=False, provenance=False))


@pytest.mark.parametrize("broken", [pytest.param(each, id=each.name.replace(" ", "-")) for each in BROKEN])
def test_broken_file_reports_its_fault(report: GateReport, broken: Broken) -> None:
    (checked,) = [each for each in report.checked if each.path.stem[3:] == broken.name.replace(" ", "-")]
    assert checked.state == "failed"
    (finding,) = checked.findings
    assert finding.code == broken.code
    assert broken.says in f"{finding.what} {finding.why}"
    assert finding.file == str(checked.path)
    assert finding.why
    assert finding.fix
    assert finding in report.findings


def test_good_file_beside_broken_files_is_checked(report: GateReport) -> None:
    states = {each.path.name: each.state for each in report.checked if each.path.stem.endswith("good")}
    assert states == {"00-good.json": "ok", "15-good.json": "ok", "99-good.json": "ok"}


def test_broken_files_cover_at_least_15_codes() -> None:
    assert len(BROKEN) >= 15
    assert len({broken.code for broken in BROKEN}) >= 15


def test_truncated_history_is_partly_checked(tmp_path: Path) -> None:
    document = good()
    del document["events"][-8:]
    (tmp_path / "cut.json").write_text(json.dumps(document), encoding="utf-8")
    report = check(GateOptions((tmp_path / "cut.json",), CODE))
    assert [each.state for each in report.checked] == ["partly checked"]


def test_endless_replay_is_stopped_and_reported_as_hang(tmp_path: Path) -> None:
    """The only kind of broken file that passes the preflight and makes the SDK wait for ever."""
    bad, fine = tmp_path / "0-bad.json", tmp_path / "1-good.json"
    next(broken for broken in BROKEN if broken.code == "replay_hang").make(bad)
    fine.write_text(GOOD.read_text(encoding="utf-8"), encoding="utf-8")
    began = time.monotonic()
    report = check(GateOptions((bad, fine), CODE, limit_seconds=3, jobs=1))
    # Twice the limit, plus the start of three processes on a busy machine.
    assert time.monotonic() - began < 60
    found = {each.path.name: [finding.code for finding in each.findings] for each in report.checked}
    assert found == {"0-bad.json": ["replay_hang"], "1-good.json": []}
