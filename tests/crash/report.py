"""Collects the results of the crash tests: one line per cell while they run, a page and a JSON file at the end.

Tests of all processes call ``record``, ``record_run`` and ``record_safeguard``. ``python -m tests.crash.report``
merges the lines into ``.reports/crash.json`` and ``.reports/crash.html``, also after a failed run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import photo_worker

ROOT = Path(__file__).resolve().parents[2]

# Names another directory for a nested run, whose cells are not part of the report.
DIRECTORY_VARIABLE = "PHOTO_WORKER_CRASH_REPORTS"

SAME = "same as fault-free"
VIOLATED = "violated"
NOT_REACHED = "not reached"

# The figures of a soak that the summary shows.
SOAK_FIGURES = ("uploads", "kills", "pauses", "restarts", "throttles", "succeeded", "failed", "erased", "charges")

RED, SURVIVED, UNTESTED = "red", "survived", "not judged"


@dataclass(frozen=True)
class Cell:
    """One fault at one place of one usage, and its outcome.

    ``number`` is the place's position in the usage's trace, ``call`` the port call or the crash point there,
    ``source`` the line it stands in. Anything but ``SAME`` and ``NOT_REACHED`` counts as a violation.
    """

    layer: str
    usage: str
    number: int
    call: str
    source: str
    mode: str
    phase: str
    outcome: str
    seconds: float
    command: str
    detail: str = ""

    @property
    def holds(self) -> bool:
        """Return whether the invariants held."""
        return self.outcome in {SAME, NOT_REACHED}


@dataclass(frozen=True)
class LayerRun:
    """The figures of a layer besides its cells, its seed, and the command that repeats it."""

    layer: str
    seed: str
    command: str
    figures: Mapping[str, int | float] = field(default_factory=dict)


@dataclass(frozen=True)
class SafeguardOutcome:
    """A switched-off safeguard, the test that must fail then, and whether it did (``RED``)."""

    name: str
    protects: str
    invariant: str
    where: str
    test: str
    outcome: str
    seconds: float
    command: str
    detail: str = ""

    @property
    def holds(self) -> bool:
        """Return whether the test failed without the safeguard."""
        return self.outcome == RED


@dataclass(frozen=True)
class Report:
    """All results of one run of the crash tests."""

    version: str
    revision: str
    python: str
    system: str
    written_at: str
    cells: tuple[Cell, ...] = ()
    runs: tuple[LayerRun, ...] = ()
    safeguards: tuple[SafeguardOutcome, ...] = ()
    soak: Mapping[str, Any] | None = None
    torn: int = 0
    """The number of incomplete lines of killed processes: outcomes that are missing in the report."""

    @property
    def violations(self) -> tuple[Cell, ...]:
        """Return the cells in which an invariant did not hold."""
        return tuple(cell for cell in self.cells if not cell.holds)

    @property
    def survivors(self) -> tuple[SafeguardOutcome, ...]:
        """Return the safeguards without which their test passed or could not be judged."""
        return tuple(found for found in self.safeguards if not found.holds)

    @property
    def soak_violations(self) -> int:
        """Return the number of violations that the soak found."""
        found = (self.soak or {}).get("violations", 0)
        return len(found) if isinstance(found, list) else int(found)

    @property
    def holds(self) -> bool:
        """Return whether nothing in the report is red."""
        return not self.violations and not self.survivors and not self.soak_violations

    @property
    def layers(self) -> tuple[str, ...]:
        """Return the layers that have cells, in the order of their numbers."""
        names = dict.fromkeys(cell.layer for cell in self.cells)
        order = ("model", "enumeration", "pairs", "real", "soak")
        return tuple(sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name)))


def directory() -> Path:
    """Return the directory of this run's lines."""
    return Path(os.environ.get(DIRECTORY_VARIABLE) or ROOT / ".reports" / "crash")


def record(cell: Cell) -> None:
    """Add a cell to the report."""
    _append("cell", asdict(cell))


def record_run(layer: str, *, seed: object, command: str, **figures: float) -> None:
    """Add a layer's seed and figures to the report, such as ``examples=100, steps=3000``."""
    _append("run", asdict(LayerRun(layer, str(seed), command, figures)))


def record_safeguard(outcome: SafeguardOutcome) -> None:
    """Add a switched-off safeguard to the report."""
    _append("safeguard", asdict(outcome))


def _append(kind: str, values: dict[str, Any]) -> None:
    where = directory()
    where.mkdir(parents=True, exist_ok=True)
    # One write per line: a process that is killed here leaves an incomplete last line at worst.
    with (where / f"{os.getpid()}.jsonl").open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({"kind": kind, **values}, ensure_ascii=False) + "\n")


def collect(lines: Path, soak: Path) -> Report:
    """Return the report of the lines in the directory ``lines`` and of the soak's file ``soak``."""
    found: dict[str, list[dict[str, Any]]] = {"cell": [], "run": [], "safeguard": []}
    torn = 0
    for text in _lines(lines):
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            torn += 1
            continue
        found[line.pop("kind")].append(line)
    # A cell that ran twice and failed once counts as failed.
    ran = sorted((Cell(**values) for values in found["cell"]), key=lambda cell: cell.holds, reverse=True)
    cells = {_place(cell): cell for cell in ran}
    outcomes = {outcome.name: outcome for outcome in (SafeguardOutcome(**values) for values in found["safeguard"])}
    return Report(
        version=photo_worker.__version__,
        revision=_revision(),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        written_at=datetime.now(UTC).isoformat(timespec="seconds"),
        cells=tuple(cells[place] for place in sorted(cells)),
        runs=tuple(LayerRun(**values) for values in sorted(found["run"], key=lambda run: str(run["layer"]))),
        safeguards=tuple(outcomes.values()),
        soak=json.loads(soak.read_text(encoding="utf-8")) if soak.is_file() else None,
        torn=torn,
    )


def _place(cell: Cell) -> tuple[str, str, int, str, str, str]:
    return (cell.layer, cell.usage, cell.number, cell.call, cell.mode, cell.phase)


def _lines(where: Path) -> Iterator[str]:
    for path in sorted(where.glob("*.jsonl")):
        yield from path.read_text(encoding="utf-8", errors="replace").splitlines()


def _revision() -> str:
    """Return the commit, with a trailing plus if files differ from it; empty outside of a checkout."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        return ""
    asked = partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, check=False)
    changed = asked([git, "diff", "--quiet", "HEAD"]).returncode != 0
    return asked([git, "rev-parse", "--short=12", "HEAD"]).stdout.strip() + ("+" if changed else "")


def as_json(report: Report) -> str:
    """Return the report as JSON: the totals first, then everything."""
    return json.dumps({"totals": totals(report), **asdict(report)}, ensure_ascii=False, indent=1) + "\n"


def totals(report: Report) -> dict[str, Any]:
    """Return the totals that the summary and the page show first."""
    return {
        "holds": report.holds,
        "cells": len(report.cells),
        "cells_by_layer": {layer: sum(cell.layer == layer for cell in report.cells) for layer in report.layers},
        "usages": len({(cell.layer, cell.usage) for cell in report.cells}),
        "places": len({_place(cell)[:4] for cell in report.cells}),
        "not_reached": sum(cell.outcome == NOT_REACHED for cell in report.cells),
        "violations": len(report.violations) + report.soak_violations,
        "safeguards": len(report.safeguards),
        "safeguards_red": sum(found.holds for found in report.safeguards),
        "torn_lines": report.torn,
        "seconds": round(sum(cell.seconds for cell in report.cells), 3),
    }


def summary(report: Report, pages: Iterable[Path]) -> str:
    """Return the summary for the terminal at the end of a run."""
    figures = totals(report)
    lines = []
    for cell in report.violations:
        lines += [f"violated: {cell.layer}/{cell.usage}/{cell.number} {cell.call} {cell.mode} {cell.phase}"]
        lines += [f"    {cell.detail or cell.outcome}", f"    again: {cell.command}"]
    for found in report.survivors:
        lines += [f"safeguard {found.name!r}: {found.outcome} with {found.test}", f"    again: {found.command}"]
    by_layer = ", ".join(f"{number} {layer}" for layer, number in figures["cells_by_layer"].items())
    lines.append(
        f"crash report: {figures['cells']} cells ({by_layer or 'none'}) in {figures['usages']} usages, "
        f"{figures['violations']} violations; {figures['safeguards_red']} of {figures['safeguards']} safeguards turned"
        " their test red when they were switched off"
    )
    if report.soak is not None:
        counts = ", ".join(f"{report.soak[name]} {name}" for name in SOAK_FIGURES if name in report.soak)
        lines.append(f"soak: {counts}")
    lines += [str(page.relative_to(ROOT) if page.is_relative_to(ROOT) else page) for page in pages]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    from tests.crash.report_page import as_html

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=Path, default=ROOT / ".reports", help="folder of the lines and the report")
    parser.add_argument("--clean", action="store_true", help="only delete what earlier runs left")
    chosen = parser.parse_args(arguments)
    if chosen.clean:
        shutil.rmtree(chosen.reports / "crash", ignore_errors=True)
        (chosen.reports / "soak.json").unlink(missing_ok=True)
        return 0
    report = collect(chosen.reports / "crash", chosen.reports / "soak.json")
    chosen.reports.mkdir(parents=True, exist_ok=True)
    pages = {"crash.html": as_html(report), "crash.json": as_json(report)}
    for name, text in pages.items():
        (chosen.reports / name).write_text(text, encoding="utf-8")
    print(summary(report, [chosen.reports / name for name in pages]))  # noqa: T201
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())
