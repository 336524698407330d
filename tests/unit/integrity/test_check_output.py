"""The output of ``photo-worker check``, without a deployment."""

from __future__ import annotations

import sys

import pytest

from photo_worker.cli import check
from photo_worker.services.consistency.finding import IntegrityFinding, Severity
from photo_worker.services.consistency.scan import ScanProgress, ScanReport


def test_check_progress_on_terminal_shows_percentage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with check._progress() as progress:
        for stage in ("jobs", "photos", "erases"):
            progress(ScanProgress(stage, 0.25, 1234))
    said = capsys.readouterr()
    assert (said.out, "25%" in said.err, "1,234 erases that may still run" in said.err) == ("", True, True)


def test_check_progress_without_terminal_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with check._progress() as progress:
        progress(ScanProgress("jobs", 0.25, 1234))
    assert capsys.readouterr() == ("", "")


def test_check_summary_counts_findings_by_severity() -> None:
    severities = (Severity.NOTICE, Severity.ERROR, Severity.WARNING, Severity.ERROR)
    findings = [IntegrityFinding("code", severity, None, "where", "problem", "why", "todo") for severity in severities]
    report = ScanReport(findings=findings, jobs=1234, objects=2, young=1, hashed_bytes=1_500_000)
    assert check._summary(report, 2.0) == (
        "1,234 jobs and 2 objects checked in 2.0 s; 1.5 MB of photos hashed; 1 young objects without a job left out: "
        "2 errors, 1 warning, 1 notice."
    )
