"""Write docs/reference/safeguards.md from the crash tests' table. `nox -s docs` runs it; a test compares."""

from __future__ import annotations

from pathlib import Path

from tests.crash.safeguards import CHAPTERS, SAFEGUARDS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "safeguards.md"


def page() -> str:
    """Return the text of the page."""
    lines = [
        "# Safeguards",
        "",
        "Each line is one thing that the product does so that nothing is lost, doubled or charged twice. The crash",
        "tests switch each of them off, one at a time, in a copy of the source that only exists in memory, and run the",
        "test named here: it must fail. So a safeguard that was removed, or that no test would miss, ends CI with",
        "its name. Numbers are those of the [invariants](../explanation/crash-safety.md#invariants).",
        "",
        f"{len(SAFEGUARDS)} safeguards. `python3 dev.py nox --session crash -- tests/crash/test_safeguards.py` runs",
        "them; with `-k NAME` one of them.",
    ]
    for chapter, safeguards in CHAPTERS.items():
        lines += ["", f"## {chapter}", ""]
        lines += [
            "| safeguard | without it | invariants | switched off | must go red |",
            "| --- | --- | --- | --- | --- |",
        ]
        for found in safeguards:
            files = ", ".join(dict.fromkeys(f"`{edit.file.removeprefix('photo_worker/')}`" for edit in found.edits))
            cells = (
                f"`{found.name}`: {found.title}",
                found.otherwise,
                ", ".join(map(str, found.invariants)),
                f"{found.off} ({files})",
                "<br>".join(f"`{test.removeprefix('tests/')}`" for test in found.tests),
            )
            lines.append(f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"
