"""The gate's report for people, and as JSON for programs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from temporal_replay_gate.coverage import REQUIRED_EXITS, Coverage
from temporal_replay_gate.findings import Finding
from temporal_replay_gate.gate import GateReport
from temporal_replay_gate.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

_TITLES = {
    "preflight": "broken file",
    "replay": "does not replay",
    "drift": "drift",
    "coverage": "not covered",
    "control": "mutation check failed",
    "static": "nondeterministic code",
    "gate": "check failed",
    "additive": "additive change",
    "note": "note",
}

# Findings of the kind ``preflight`` that tell of something other than broken contents of a file.
_TITLES_OF_CODES = {
    "workflow_type_unknown": "unknown workflow type",
    "open_runs_of_unknown_type": "unknown workflow type",
    "run_id_duplicate": "copied run",
    "history_lost": "lost history",
    "file_not_read": "not read",
    "folder_not_read": "not read",
    "payload_undecodable": "cannot be decoded",
    "provenance_missing": "provenance",
    "provenance_invalid": "provenance",
    "provenance_mismatch": "provenance",
}


def title_of(finding: Finding) -> str:
    """Return the words that head a finding in the report."""
    return _TITLES_OF_CODES.get(finding.code, _TITLES[finding.kind])


def short(path: str) -> str:
    """Return a path relative to the current directory if it lies below it, else as it is."""
    here = f"{Path.cwd()}{os.sep}"
    return path.removeprefix(here)


def as_dict(report: GateReport) -> dict[str, Any]:
    """Return the report in the form of the JSON output; every key is always present."""
    return {
        "green": report.green,
        "seconds": round(report.seconds, 3),
        "summary": summary(report),
        "histories": [
            {
                "file": str(entry.path),
                "state": entry.state,
                "workflow_type": entry.history.workflow_type if entry.history else None,
                "workflow_id": entry.history.workflow_id if entry.history else None,
                "run_id": entry.history.run_id if entry.history else None,
                "exit": entry.history.exit if entry.history else None,
                "events": len(entry.history.events) if entry.history else None,
                "commands": entry.commands,
                "seconds": round(entry.seconds, 4),
                "findings": [finding.code for finding in entry.findings],
                "allowed": [finding.code for finding in entry.allowed],
            }
            for entry in report.checked
        ],
        "findings": [finding.as_dict() for finding in report.findings],
        "allowed": [finding.as_dict() for finding in report.allowed],
        "notes": [finding.as_dict() for finding in report.notes],
        "coverage": [row.as_dict() for row in report.coverage],
        "controls": report.controls,
    }


def summary(report: GateReport) -> str:
    """Return the result in one line."""
    states = [entry.state for entry in report.checked]
    parts = [f"{states.count('ok')} of {len(states)} histories replayed alike"]
    if partly := states.count("partly checked"):
        parts.append(f"{partly} open ones partly checked")
    if failed := states.count("failed"):
        parts.append(f"{failed} failed")
    caught = sum(caught for mutations in report.controls.values() for caught in mutations.values())
    applied = sum(len(mutations) for mutations in report.controls.values())
    parts.append(f"{caught} of {applied} planted faults caught")
    if report.allowed:
        parts.append(f"{len(report.allowed)} findings allowed")
    if added := sum(note.kind == "additive" for note in report.notes):
        parts.append(f"{added} additions with a default")
    return f"{'green' if report.green else 'red'}: {', '.join(parts)}, {report.seconds:.1f} s"


def print_text(report: GateReport, console: Console) -> None:
    """Print the findings, the notes, the coverage table and the summary line."""
    from rich.markup import escape as literal

    def escape(text: str) -> str:
        return literal(printable(text, keep="\n"))

    for finding in report.findings:
        console.print(f"[red]{title_of(finding)}[/red] {escape(f'[{finding.code}]')} {escape(_place(finding))}")
        for name, value in (
            ("", finding.what),
            ("at: ", _where(finding)),
            ("why it matters: ", finding.why),
            ("do: ", finding.fix),
        ):
            if value:
                console.print(f"  {escape(name + value)}", soft_wrap=True)
        console.print()
    for entry in report.checked:
        if entry.state == "partly checked":
            console.print(f"[yellow]partly checked[/yellow] {escape(short(str(entry.path)))}: the run is still open")
    for note, count in grouped(report.notes):
        place = note.workflow_type or short(note.file or "")
        times = f" ({count} times)" if count > 1 else ""
        about = f"{place}: " if place else ""
        said = f"{_TITLES[note.kind]}[/yellow] {escape(f'{about}{note.what}{times}')}"
        console.print(f"[yellow]{said}", soft_wrap=True)
    if report.coverage:
        console.print(coverage_table(report.coverage))
    style = "green" if report.green else "red"
    console.print(f"[{style}]{escape(summary(report))}[/{style}]", soft_wrap=True)


def grouped(notes: Sequence[Finding]) -> list[tuple[Finding, int]]:
    """Merge notes with the same text about the same workflow type; return each with its count."""
    first: dict[tuple[str | None, str], Finding] = {}
    counts: dict[tuple[str | None, str], int] = {}
    for note in notes:
        key = (note.workflow_type, note.what)
        first.setdefault(key, note)
        counts[key] = counts.get(key, 0) + 1
    return [(note, counts[key]) for key, note in first.items()]


def _place(finding: Finding) -> str:
    if finding.file:
        return short(finding.file)
    return short(finding.source or "") if finding.kind == "static" else finding.workflow_type or ""


def _where(finding: Finding) -> str:
    parts = []
    if finding.workflow_type:
        run = f" (workflow {finding.workflow_id}, run {finding.run_id})" if finding.workflow_id else ""
        parts.append(f"{finding.workflow_type}{run}")
    if finding.event_id is not None:
        parts.append(f"event {finding.event_id} {finding.event_type or ''}".strip())
    if finding.source:
        parts.append(short(finding.source))
    return ", ".join(parts) if len(parts) > 1 or finding.source else ""


def coverage_table(rows: Sequence[Coverage]) -> Any:
    """Return the coverage as a rich table."""

    def cells(row: Coverage) -> tuple[str, ...]:
        other = ", ".join(f"{name} {count}" for name, count in sorted(row.exits.items()) if name not in REQUIRED_EXITS)
        patches = ", ".join(
            f"{name} {count}/{row.unpatched.get(name, 0)}" for name, count in sorted(row.patched.items())
        )
        exits = (str(row.exits.get(name, 0)) for name in REQUIRED_EXITS)
        return row.workflow_type, *exits, other or "-", patches or "-", str(row.chains or "-")

    columns = ("workflow", *REQUIRED_EXITS, "other exits", "patched / not", "chains")
    return table(columns, map(cells, rows), title="coverage")


def table(columns: Iterable[str], rows: Iterable[Iterable[str]], title: str | None = None) -> Any:
    """Return a rich table. Cells are escaped: types and patch ids of a history may contain brackets."""
    from rich.markup import escape
    from rich.table import Table

    made = Table(title=title, title_justify="left")
    for name in columns:
        made.add_column(name, overflow="fold")
    for row in rows:
        made.add_row(*(escape(printable(cell)) for cell in row))
    return made
