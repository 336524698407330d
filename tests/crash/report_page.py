"""The crash report as one page that needs nothing else."""

from __future__ import annotations

from tests.crash.report import Report


def as_html(report: Report) -> str:
    """Return the page."""
    return f"<!doctype html><title>{report.version}</title>"
