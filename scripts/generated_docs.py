"""Write every page of the documentation that is generated from the program, its tests and its recordings.

    python -m scripts.generated_docs            write the pages
    python -m scripts.generated_docs --check    exit with 1 if a page is not up to date

Each page names its source. Tests compare all of them with the output of this script.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from scripts import make_command_pages, make_conformance, make_reference, make_s3_page, make_safeguards

ROOT = Path(__file__).resolve().parents[1]


def texts() -> dict[Path, str]:
    """Return the text of each generated page by its path."""
    pages = {module.PAGE: module.page() for module in (make_conformance, make_s3_page, make_safeguards)}
    for directory in (make_command_pages, make_reference):
        pages |= {directory.PAGES / name: text for name, text in directory.pages().items()}
    return pages


def stale(made: Mapping[Path, str]) -> list[Path]:
    """Return the pages that are missing or out of date, and those of commands that no longer exist."""
    wrong = [path for path, text in made.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    return sorted([*wrong, *(path for path in make_command_pages.PAGES.glob("*") if path not in made)])


def update(path: Path, made: Mapping[Path, str]) -> str:
    """Write a page, or delete it if its command no longer exists; return which was done."""
    if path not in made:
        path.unlink()
        return "deleted"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(made[path], encoding="utf-8")
    return "written"


def main() -> int:
    """Parse the options, and write or check; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 where a page differs")
    check = parser.parse_args().check
    made = texts()
    wrong = stale(made)
    for path in wrong:
        print(f"{'stale' if check else update(path, made)}: {path.relative_to(ROOT)}")
    return 1 if check and wrong else 0


if __name__ == "__main__":
    sys.exit(main())
