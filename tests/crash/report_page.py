"""The crash report as one self-contained page, without external scripts, styles or fonts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

from tests.crash.report import NOT_REACHED, RED, SOAK_FIGURES, Cell, LayerRun, Report, SafeguardOutcome, totals

_LAYERS = {
    "model": ("Layer 1: model", "Random interleavings of whole jobs, every invariant after every step."),
    "enumeration": (
        "Layer 2: every port call",
        "One run for each call of the fault-free run, mode and side of the effect; then cells with another worker, "
        "release or deployment beside.",
    ),
    "pairs": ("Layer 2: pairs", "Two crashes in one run."),
    "real": ("Layer 3: real processes", "Workers killed and stopped at the named points, on the native stack."),
    "soak": ("Layer 4: soak", "Seeded faults in many processes at once."),
}
_PHASES = ("before", "inside", "after", "acknowledged")
# First faults of a process, then those of a service, then those from outside.
_MODES = (
    *("die", "kill", "pause", "stop", "raise", "lost", "reply lost", "double", "twice"),
    *("away", "silent", "slow", "throttle", "throttle-long", "read-only", "refuse"),
    *("replace", "replace-back", "intrude"),
)

_STYLE = """
:root { --ok: #d7f0dc; --ok-ink: #135d28; --bad: #b3121d; --idle: #eef0f2; --ink: #1c2126; --soft: #5d6770;
  --line: #d9dee3; --edge: #fff; }
* { box-sizing: border-box; }
body { font: 14px/1.45 system-ui, sans-serif; color: var(--ink); margin: 0 auto; padding: 24px 24px 96px;
  max-width: 1400px; background: #fff; }
h1 { font-size: 22px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 32px 0 2px; } h3 { font-size: 14px; }
p { margin: 2px 0 10px; } .soft { color: var(--soft); } code { font: 12px/1.5 ui-monospace, monospace; }
.verdict { border-radius: 6px; padding: 12px 16px; margin: 14px 0; font-size: 18px; font-weight: 600; }
.verdict.ok { background: var(--ok); color: var(--ok-ink); } .verdict.bad { background: var(--bad); color: #fff; }
.tiles { display: flex; flex-wrap: wrap; gap: 8px; margin: 0 0 8px; padding: 0; list-style: none; }
.tiles li { border: 1px solid var(--line); border-radius: 6px; padding: 6px 14px; min-width: 96px; }
.tiles b { display: block; font-size: 20px; font-variant-numeric: tabular-nums; }
table { border-collapse: separate; border-spacing: 0; margin: 6px 0 16px; }
th, td { padding: 2px 8px; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { position: sticky; top: 0; background: #fff; font-weight: 600; }
th.mode { border-left: 2px solid var(--line); }
.matrix td.cell { text-align: center; cursor: pointer; min-width: 52px; border: 1px solid var(--edge);
  vertical-align: middle; }
.matrix th[scope=row] { font-weight: 400; white-space: nowrap; } .matrix tbody tr:hover th { background: #f4f6f8; }
td.ok { background: var(--ok); color: var(--ok-ink); } td.bad { background: var(--bad); color: #fff; font-weight: 700; }
td.idle { background: var(--idle); color: var(--soft); } td.number { text-align: right; color: var(--soft); }
details { margin: 4px 0; } summary { cursor: pointer; padding: 3px 0; } .badge { border-radius: 4px; padding: 0 6px; }
.badge.ok { background: var(--ok); color: var(--ok-ink); } .badge.bad { background: var(--bad); color: #fff; }
.faults li { margin-bottom: 8px; white-space: pre-line; overflow-wrap: anywhere; } .scroll { overflow-x: auto; }
#again { position: fixed; inset: auto 0 0 0; background: var(--ink); color: #fff; padding: 10px 24px; }
#again code { user-select: all; } #again:empty { display: none; }
"""

# A cell's tooltip has everything, but text cannot be copied from a tooltip.
_SCRIPT = """
document.addEventListener("click", function (event) {
  var cell = event.target.closest("[data-command]"), again = document.getElementById("again");
  again.textContent = "";
  if (!cell) return;
  var said = document.createElement("div"), command = document.createElement("code");
  said.textContent = cell.title;
  command.textContent = cell.dataset.command;
  again.append(said, command);
});
"""


def as_html(report: Report) -> str:
    """Return the page."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{'Sound' if report.holds else 'Broken'}: photo-worker {escape(report.version)}, crash report</title>",
        f"<style>{_STYLE}</style></head><body>",
        *_head(report),
        *_faults(report),
        *(part for layer in _layers(report) for part in _layer(report, layer)),
        *_soak(report.soak),
        *_safeguards(report.safeguards),
        '<div id="again" role="status"></div>',
        f"<script>{_SCRIPT}</script>",
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _head(report: Report) -> Iterator[str]:
    figures = totals(report)
    revision = f", commit {report.revision}" if report.revision else ""
    yield "<h1>Crash report</h1>"
    yield (
        f'<p class="soft">photo-worker {escape(report.version)}{escape(revision)}, Python {escape(report.python)} on '
        f"{escape(report.system)}, {escape(report.written_at)}</p>"
    )
    yield f'<div class="verdict {"ok" if report.holds else "bad"}">{escape(_verdict(report))}</div>'
    tiles = [
        (figures["cells"], "cells"),
        (figures["places"], "places to crash"),
        (figures["usages"], "usages"),
        (figures["violations"], "violations"),
        (f"{figures['safeguards_red']} / {figures['safeguards']}", "safeguards off, test red"),
    ]
    if report.soak is not None:
        tiles += [(report.soak[name], f"soak {name}") for name in SOAK_FIGURES[:4] if name in report.soak]
    yield '<ul class="tiles">'
    yield from (f"<li><b>{escape(str(value))}</b>{escape(name)}</li>" for value, name in tiles)
    yield '</ul><p class="soft">Click a cell for the command that runs it again.</p>'
    if figures["torn_lines"]:
        yield f"<p>{figures['torn_lines']} outcomes are missing: the processes that wrote them were killed.</p>"


def _verdict(report: Report) -> str:
    if report.holds:
        if not report.cells and not report.safeguards:
            return "Nothing was run."
        return (
            "Whatever died, every invariant held."
            if report.cells
            else "Every safeguard that was switched off turned its test red."
        )
    wrong = []
    if report.violations:
        wrong.append(f"cells that broke an invariant: {len(report.violations)}")
    if report.soak_violations:
        wrong.append(f"violations in the soak: {report.soak_violations}")
    if report.survivors:
        wrong.append(f"safeguards whose test did not go red: {len(report.survivors)}")
    return "; ".join(wrong) + "."


def _faults(report: Report) -> Iterator[str]:
    """List the red results, each with the command that reproduces it."""
    if report.holds:
        return
    yield '<h2>What is red</h2><ul class="faults">'
    for cell in report.violations:
        place = f"{cell.layer} / {cell.usage} / {cell.number} {cell.call}, {cell.mode} {cell.phase}"
        yield (
            f"<li><b>{escape(place)}</b> <span class=soft>{escape(cell.source)}</span><br>"
            f"{escape(cell.detail or cell.outcome)}<br><code>{escape(cell.command)}</code></li>"
        )
    for found in report.survivors:
        yield (
            f"<li><b>safeguard {escape(found.name)}</b>: {escape(found.protects)} ({escape(found.outcome)})<br>"
            f"{escape(found.detail)}<br><code>{escape(found.command)}</code></li>"
        )
    soak = (report.soak or {}).get("violations")
    if isinstance(soak, list):
        yield from (f"<li><b>soak</b>: {escape(str(text))}</li>" for text in soak)
    yield "</ul>"


def _layers(report: Report) -> list[str]:
    known = [*report.layers, *(run.layer for run in report.runs)]
    order = list(_LAYERS)
    return sorted(dict.fromkeys(known), key=lambda name: (order.index(name) if name in order else len(order), name))


def _layer(report: Report, layer: str) -> Iterator[str]:
    title, about = _LAYERS.get(layer, (f"Layer: {layer}", ""))
    cells = [cell for cell in report.cells if cell.layer == layer]
    yield f"<h2>{escape(title)}</h2><p class=soft>{escape(about)}</p>"
    for run in report.runs:
        if run.layer == layer:
            yield _run(run)
    for usage, group in groupby(cells, key=lambda cell: cell.usage):
        yield from _matrix(usage, list(group))


def _run(run: LayerRun) -> str:
    figures = ", ".join(f"{value:g} {name.replace('_', ' ')}" for name, value in run.figures.items())
    seed = f"seed {run.seed}" if run.seed else ""
    said = "; ".join(part for part in (figures, seed) if part)
    return f"<p>{escape(said)}: <code>{escape(run.command)}</code></p>"


def _matrix(usage: str, cells: Sequence[Cell]) -> Iterator[str]:
    """Yield the table of one usage: a row per call in the order of the run, a column per mode and phase."""
    columns = sorted({(cell.mode, cell.phase) for cell in cells}, key=_column)
    rows = sorted({(cell.number, cell.call, cell.source) for cell in cells})
    found = {(cell.number, cell.call, cell.source, cell.mode, cell.phase): cell for cell in cells}
    broken = sum(not cell.holds for cell in cells)
    badge = f'<span class="badge bad">{broken} violated</span>' if broken else '<span class="badge ok">all hold</span>'
    yield f"<details{' open' if broken or len(rows) <= 60 else ''}><summary><b>{escape(usage)}</b>: "
    yield f"{len(cells)} cells at {len(rows)} places {badge}</summary>"
    yield '<div class="scroll"><table class="matrix"><thead><tr><th colspan="3"></th>'
    for mode, group in groupby(columns, key=lambda column: column[0]):
        yield f'<th class="mode" colspan="{len(list(group))}">{escape(mode)}</th>'
    yield "</tr><tr><th></th><th>call</th><th>line</th>"
    yield "".join(f"<th>{escape(phase)}</th>" for _, phase in columns) + "</tr></thead><tbody>"
    for row in rows:
        number, call, source = row
        yield (
            f'<tr><td class="number">{number}</td><th scope="row"><code>{escape(call)}</code></th>'
            f'<td class="soft"><code>{escape(source)}</code></td>'
            + "".join(_cell(found.get((*row, *column))) for column in columns)
            + "</tr>"
        )
    yield "</tbody></table></div></details>"


def _column(column: tuple[str, str]) -> tuple[int, str, int, str]:
    mode, phase = column
    at = _MODES.index(mode) if mode in _MODES else len(_MODES)
    return (at, mode, _PHASES.index(phase) if phase in _PHASES else len(_PHASES), phase)


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "<td></td>"
    kind, sign = ("idle", "·") if cell.outcome == NOT_REACHED else ("ok", "✓") if cell.holds else ("bad", "✗")
    said = f"{cell.mode} {cell.phase} {cell.call}: {cell.outcome}, {cell.seconds:.3g} s"
    if cell.detail:
        said += f"\n{cell.detail}"
    return (
        f'<td class="cell {kind}" title="{escape(said)}\n{escape(cell.command)}" '
        f'data-command="{escape(cell.command)}">{sign}</td>'
    )


def _soak(soak: Mapping[str, Any] | None) -> Iterator[str]:
    if soak is None:
        return
    title, about = _LAYERS["soak"]
    yield f"<h2>{title}</h2><p class=soft>{about}</p><table><tbody>"
    for name, value in soak.items():
        if isinstance(value, (str, int, float)):
            shown = f"{value:g}" if isinstance(value, float) else str(value)
            text = f"<code>{escape(shown)}</code>" if name == "command" else escape(shown)
            yield f"<tr><th scope=row>{escape(name.replace('_', ' '))}</th><td>{text}</td></tr>"
        elif isinstance(value, (list, dict)):
            yield f"<tr><th scope=row>{escape(name.replace('_', ' '))}</th><td>{escape(_short(value))}</td></tr>"
    yield "</tbody></table>"


def _short(value: list[Any] | dict[str, Any]) -> str:
    words: Iterable[str] = map(str, value) if isinstance(value, list) else (f"{key} {of}" for key, of in value.items())
    return ", ".join(words) or "none"


def _safeguards(safeguards: Sequence[SafeguardOutcome]) -> Iterator[str]:
    if not safeguards:
        return
    yield "<h2>Layer 5: safeguards</h2><p class=soft>Each was switched off; its test has to go red.</p>"
    yield '<div class="scroll"><table><thead><tr><th>safeguard</th><th>invariants</th><th>line</th><th>its test</th>'
    yield "<th>went</th></tr></thead><tbody>"
    for found in safeguards:
        title = f"{found.outcome}, {found.seconds:.3g} s\n{found.detail}\n{found.command}"
        yield (
            f"<tr><td><b>{escape(found.name)}</b><br>{escape(found.protects)}</td><td>{escape(found.invariant)}</td>"
            f"<td><code>{escape(found.where)}</code></td><td><code>{escape(found.test)}</code></td>"
            f'<td class="cell {"ok" if found.outcome == RED else "bad"}" title="{escape(title)}" '
            f'data-command="{escape(found.command)}">{escape(found.outcome)}</td></tr>'
        )
    yield "</tbody></table></div>"
