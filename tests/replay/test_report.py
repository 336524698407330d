"""The report as text, JSON, JUnit and GitHub annotations; and the command's exit codes."""

from __future__ import annotations

import io
import json
import signal
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

import pytest
from rich.console import Console

from gate_support.histories import GOOD, copy
from photo_worker.cli import run
from temporal_replay_gate.clock import RunClock
from temporal_replay_gate.coverage import Coverage
from temporal_replay_gate.findings import Finding
from temporal_replay_gate.gate import CheckedHistory, GateOptions, GateReport, check
from temporal_replay_gate.preflight import inspect
from temporal_replay_gate.report import as_dict, print_text
from temporal_replay_gate.report_ci import to_github, to_junit
from tests.replay.product import product_code

TARGET = ["--workflows", "gate_support.kitchen:Kitchen"]

DRIFT = Finding(
    "drift",
    "drift_arguments",
    "arguments of the activity 'cut' were [red]1[/red] and are now 50%.\x00",
    "WHY, it matters",
    "DO this:\nphoto-worker replay record",
    file=str(GOOD),
    workflow_type="planted_kitchen",
    workflow_id="kitchen-1",
    run_id="run-1",
    event_id=7,
    event_type="ActivityTaskScheduled",
    source="shop/a,b.py:12",
)
MISSING = Finding("coverage", "coverage_missing", "No failure.", "WHY", "DO", workflow_type="planted_kitchen")


@pytest.fixture
def red() -> GateReport:
    history, _ = inspect(GOOD)
    return GateReport(
        checked=[CheckedHistory(GOOD, history, (DRIFT,), (), True, 9, 0.5)],
        findings=[DRIFT, MISSING],
        coverage=[Coverage("planted_kitchen", {"success": 1}, {"finer": 1}, {"finer": 0})],
        controls={"planted_kitchen": {"command": True, "drift": False}},
        seconds=1.25,
    )


def junit(text: str) -> Element:
    """Return the one suite of a document that the gate itself wrote."""
    (suite,) = fromstring(text)  # noqa: S314
    return suite


def text_of(report: GateReport) -> str:
    out = io.StringIO()
    print_text(report, Console(file=out, width=120))
    return out.getvalue()


class TestText:
    def test_text_says_what_where_why_and_fix(self, red: GateReport) -> None:
        text = text_of(red)
        for part in (DRIFT.why, "photo-worker replay record", "drift_arguments", "event 7 ActivityTaskScheduled"):
            assert part in text
        assert "planted_kitchen (workflow kitchen-1, run run-1), event 7" in text
        assert "shop/a,b.py:12" in text
        assert "[red]1[/red]" in text
        assert "1 failed" in text.splitlines()[-1]
        assert "1 of 2 planted faults caught" in text.splitlines()[-1]

    def test_text_shows_coverage(self, red: GateReport) -> None:
        assert "finer 1/0" in text_of(red)


class TestJson:
    def test_json_has_each_fact(self, red: GateReport) -> None:
        data = json.loads(json.dumps(as_dict(red)))
        assert data["green"] is False
        assert data["histories"][0]["findings"] == ["drift_arguments"]
        assert data["findings"][0]["source"] == "shop/a,b.py:12"
        assert data["coverage"][0]["unpatched"] == {"finer": 0}
        assert data["controls"]["planted_kitchen"]["drift"] is False


class TestJunit:
    def test_junit_counts_and_names_failures(self, red: GateReport) -> None:
        suite = junit(to_junit(red))
        cases = {case.get("name"): case for case in suite}
        assert suite.get("tests") == str(len(cases)) == "4"
        assert suite.get("failures") == "3"
        (failure,) = cases[str(GOOD.relative_to(Path.cwd()))] if GOOD.is_relative_to(Path.cwd()) else cases[str(GOOD)]
        assert failure.get("type") == "drift_arguments"
        assert "shop/a,b.py:12" in (failure.text or "")
        assert cases["planted drift is caught"].find("failure") is not None
        assert cases["planted command is caught"].find("failure") is None

    def test_junit_history_not_reached_is_skipped(self, tmp_path: Path) -> None:
        copies = [copy(tmp_path, f"run{number}") for number in range(3)]
        # The run is over as soon as its first history has been replayed.
        clock = RunClock()
        options = GateOptions(tuple(copies), product_code(TARGET[1]), jobs=1, coverage=False, provenance=False)
        report = check(options, lambda done, total: clock.stop(signal.SIGTERM), clock)
        assert [entry.replayed for entry in report.checked] == [True, False, False]
        suite = junit(to_junit(report))
        cases = {case.get("name"): case for case in suite}
        found = [cases[str(each)].find("skipped") for each in copies]
        assert found[0] is None
        assert [each.get("message") for each in found[1:] if each is not None] == [
            "the run was over before it was replayed (run_interrupted)"
        ] * 2
        assert (suite.get("skipped"), suite.get("failures")) == ("2", "1")

    def test_junit_green_report_has_no_failures(self) -> None:
        suite = junit(to_junit(GateReport()))
        assert (suite.get("failures"), suite.findall(".//failure")) == ("0", [])


class TestGithub:
    def test_github_annotation_points_at_source_line(self, red: GateReport) -> None:
        first, second, last = to_github(red).splitlines()
        assert first.startswith("::error file=shop/a%2Cb.py,line=12,title=replay gate%3A drift_arguments::")
        assert "50%25" in first
        assert "%0A" in first
        assert second.startswith("::error title=replay gate%3A coverage_missing::No failure.")
        assert last.startswith("::error title=replay gate::red")

    def test_github_green_report_is_notice(self) -> None:
        assert to_github(GateReport()).startswith("::notice")


class TestCommand:
    def test_check_green_exits_0_and_writes_each_format(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        files = {name: tmp_path / name for name in ("json", "junit", "github")}
        formats = [word for name, file in files.items() for word in ("--format", f"{name}={file}")]
        assert run(["replay", "check", str(GOOD), *TARGET, "--format", "text", *formats]) == 0
        assert "green: 1 of 1 histories" in capsys.readouterr().out
        assert json.loads(files["json"].read_text(encoding="utf-8"))["status"] == "ok"
        assert junit(files["junit"].read_text(encoding="utf-8")).get("failures") == "0"
        assert files["github"].read_text(encoding="utf-8").startswith("::notice")

    def test_check_red_exits_1(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "empty.json").write_text("", encoding="utf-8")
        assert run(["replay", "check", str(tmp_path), *TARGET, "--no-coverage", "--format", "json"]) == 1
        document = json.loads(capsys.readouterr().out)
        assert document["status"] == "failed"
        assert [finding["code"] for finding in document["data"]["findings"]] == ["history_empty_file"]

    def test_check_empty_directory_exits_1(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["replay", "check", str(tmp_path), *TARGET, "--no-coverage"]) == 1
        assert "no_histories" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "arguments",
        [
            ["/nowhere/at/all"],
            ["--format", "yaml"],
            ["--format", "text", "--format", "json"],
            ["--format", "junit=/nowhere/at/all/report.xml"],
            ["--limit-seconds", "0"],
            ["--jobs", "0"],
            ["--workflows", "nowhere:X"],
            ["--converter", "json:dumps"],
            ["--allow", "/nowhere/allow.toml"],
        ],
    )
    def test_check_wrong_use_exits_2(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        paths = [] if arguments[0].startswith("/") else [str(GOOD)]
        target = [] if arguments[0] == "--workflows" else TARGET
        assert run(["replay", "check", *paths, *arguments, *target]) == 2
        assert capsys.readouterr().err

    def test_check_finds_allow_list_beside_directory(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        directory = tmp_path / "histories"
        directory.mkdir()
        (directory / "success.json").write_bytes(GOOD.read_bytes())
        (tmp_path / "allowed_drift.toml").write_text("[[drift]]\n", encoding="utf-8")
        assert run(["replay", "check", str(directory), *TARGET]) == 2
        assert "replay_allow_list_invalid" in capsys.readouterr().err

    def test_list_names_each_history_and_each_fault(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "good.json").write_bytes(GOOD.read_bytes())
        (tmp_path / "bad.json").write_text("[]", encoding="utf-8")
        assert run(["replay", "list", str(tmp_path), "-o", "json"]) == 0
        data = json.loads(capsys.readouterr().out)["data"]
        assert [row["exit"] for row in data["histories"]] == ["success"]
        assert data["coverage"][0]["patched"] == {"finer": 1}
        assert [fault["code"] for fault in data["faults"]] == ["history_not_an_object"]

    def test_show_decodes_payloads(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["replay", "show", str(GOOD)]) == 0
        out = capsys.readouterr().out
        assert "TimerStarted" in out
        assert '"dish": "leek"' in out
        assert run(["replay", "show", str(GOOD), "-o", "json"]) == 0
        rows = json.loads(capsys.readouterr().out)["data"]["events"]
        assert rows[0]["details"]["workflowType"] == "planted_kitchen"

    def test_show_broken_file_exits_1_with_fault(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "bad.json"
        path.write_text("[]", encoding="utf-8")
        assert run(["replay", "show", str(path)]) == 1
        assert "history_not_an_object" in capsys.readouterr().err


def test_report_escapes_control_sequences_in_names() -> None:
    """An escape sequence in a file's name could clear the screen or overwrite findings."""
    finding = Finding("preflight", "file_not_read", "It is \x1b[2Jnone.", "why", "fix", file="runs/a\x1b[31m\n.json")
    text = text_of(GateReport(findings=[finding]))
    assert "\x1b" not in text
    assert "a\\x1b[31m" in text
    annotations = to_github(GateReport(findings=[finding]))
    assert "\x1b" not in annotations
    assert "a\\x1b[31m%0A.json" in annotations
