"""Options and code that a check cannot use: the exit code, and what each report says."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from gate_support.histories import GOOD
from photo_worker.cli import run
from temporal_replay_gate.errors import ReplayNothingFound
from temporal_replay_gate.gate import GateReport


class TestReports:
    @pytest.mark.parametrize("kind", ["json", "junit"])
    def test_report_is_written_when_code_has_import_error(self, tmp_path: Path, kind: str) -> None:
        (tmp_path / "broken_import.py").write_text("1 / 0\n", encoding="utf-8")
        target = tmp_path / "report"
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            arguments = ["replay", "check", str(GOOD), "--workflows", "broken_import:W", "--format", f"{kind}={target}"]
            assert run(arguments) == 1
        assert "replay_target_broken" in target.read_text(encoding="utf-8")


@pytest.mark.parametrize("option", ["--workflows", "--converter"])
def test_check_from_server_wrong_dotted_path_exits_2(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TEMPORAL_TARGET", "127.0.0.1:1")
    assert run(["replay", "check", "--from-server", option, "nowhere:X"]) == 2
    assert "replay_target_invalid" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ((str(GOOD), "--workflows", "nowhere:X"), "replay_target_invalid"),
        ((str(GOOD), "--allow", "nowhere.toml"), "replay_allow_list_invalid"),
        (("--from-server", "--workflows", "nowhere:X"), "replay_target_invalid"),
        (("--from-server", "--cap-of", "nothing=3"), "replay_server_option_invalid"),
    ],
)
def test_check_wrong_option_is_in_each_report(
    tmp_path: Path,
    arguments: tuple[str, ...],
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TEMPORAL_TARGET", "127.0.0.1:1")
    junit = tmp_path / "report.xml"
    assert run(["replay", "check", *arguments, "--format", "json", "--format", f"junit={junit}"]) == 2
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert (report["status"], report["error"]["code"]) == ("failed", kind)
    assert [finding["code"] for finding in report["data"]["findings"]] == [kind]
    assert f'<failure type="{kind}"' in junit.read_text(encoding="utf-8")
    assert kind in said.err


def test_check_error_during_signal_is_printed_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*given: Any) -> GateReport:
        given[-1].ended_by = signal.SIGTERM
        raise ReplayNothingFound(asked="any type")

    monkeypatch.setattr("temporal_replay_gate.cli_check._report_of", refused)
    assert run(["replay", "check", str(GOOD)]) == 128 + signal.SIGTERM
    said = capsys.readouterr().err
    assert "replay_nothing_found" in said
    assert "ended by SIGTERM" in said
