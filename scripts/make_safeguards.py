"""Writes docs/reference/safeguards.md from the crash tests' table. A test compares the file with it.

python scripts/make_safeguards.py            write the page
python scripts/make_safeguards.py --check    end with 1 where it is not up to date
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "safeguards.md"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 where the page differs")
    check = parser.parse_args().check
    text = page()
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    if not check:
        PAGE.write_text(text, encoding="utf-8")
    print(f"{'stale' if check else 'written'}: {PAGE.relative_to(ROOT)}")
    return 1 if check else 0


def page() -> str:
    """Return the text of the page."""
    # The tests are found from the repository's root, which is not on the path of a program in this folder.
    sys.path.insert(0, str(ROOT))
    from tests.crash.safeguards import CHAPTERS, SAFEGUARDS

    lines = [
        "# Safeguards",
        "",
        "Each line is one thing that the product does so that nothing is lost, doubled or charged twice. The crash",
        "tests switch each of them off, one at a time, in a copy of the source that only exists in memory, and run the",
        "test named here: it must fail. So a safeguard that somebody removes, or that no test would miss, ends CI with",
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


if __name__ == "__main__":
    sys.exit(main())
