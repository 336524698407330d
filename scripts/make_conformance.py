"""Write docs/reference/textract-conformance.md from the conformance suite. `nox -s docs` runs it; a test compares."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from pathlib import Path

from tests.conformance.expectations import EXPECTATIONS
from textract_support.observed_responses import BLOCKS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "textract-conformance.md"

_MEANINGS = {
    "D": "AWS's documentation or botocore's service model",
    "O": "seen in recorded responses of the real service, or quoted from it",
    "C": "what AWS services that speak JSON do; not seen of Textract itself",
    "?": "nothing is known; the simplest sane choice",
    "E": "the emulator's own interface",
}
_CHAPTERS = {
    "wire": "The wire",
    "request": "Requests",
    "document": "Documents",
    "block": "Blocks",
    "counter": "Counters",
    "analysis": "Analysis",
    "job": "Jobs",
    "control": "Controls",
}


def page() -> str:
    """Return the text of the page."""
    order = list(_CHAPTERS)
    rows = sorted(EXPECTATIONS, key=lambda row: order.index(row.chapter))
    counted = Counter(row.basis.value for row in rows)
    lines = [
        "# Textract conformance",
        "",
        "What the conformance suite expects of Amazon Textract, and holds the emulator to. How to run it, also against",
        "the real service: [conformance.md](../how-to/conformance.md).",
        "",
        "| basis | what it means | rows |",
        "| --- | --- | --- |",
        *(f"| {basis} | {meaning} | {counted[basis]} |" for basis, meaning in _MEANINGS.items()),
        "",
        "Against the real service, rows of the bases C and ? are reported and not asserted; those in the last table's",
        "column *only the emulator* are left out, for the reason given.",
    ]
    for chapter, group in groupby(rows, key=lambda row: row.chapter):
        lines += ["", f"## {_CHAPTERS[chapter]}", ""]
        lines += ["| id | basis | sent | expected | only the emulator |", "| --- | --- | --- | --- | --- |"]
        for row in group:
            cells = (f"`{row.id}`", row.basis.value, row.sent, row.expected, row.emulator_only)
            lines.append(f"| {' | '.join(map(_cell, cells))} |")
    lines += [
        "",
        "## The shape of every response",
        "",
        "Each response that a client of the test suite gets is held to the service's model (types, enumerations,",
        "ranges, patterns, no unknown field, no null) and to what recorded responses show: the keys of each kind of",
        "block in this order, those in brackets not in every block; in jobs' responses `Page` besides. Boxes are the",
        "envelopes of their polygons, within the page; ids are unique and lead to blocks of the response; `LINE.Text`",
        "is its words, its Confidence their mean.",
        "",
        "| block | basis | keys | relationships |",
        "| --- | --- | --- | --- |",
    ]
    for kind, seen in BLOCKS.items():
        relations = "; ".join(f"{name}: {', '.join(sorted(kinds))}" for name, kinds in seen.children.items())
        lines.append(f"| `{kind}` | {seen.basis} | {seen.keys} | {relations} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
