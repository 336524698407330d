"""The documentation's comparison matches measurements, and this emulator keeps all of its promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.conftest import CLIENTS, Clients

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "compared-with-others.md"
MEASURED = ("photo-worker", "moto 5.2.5")


def documented() -> dict[str, dict[str, str]]:
    """Return the cells of the table by emulator and promise."""
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in PAGE.read_text("utf-8").splitlines()
        if line.startswith("| ")
    ]
    start = next(number for number, row in enumerate(rows) if row[0] == "promise")
    names, lines = rows[start][1:], rows[start + 2 :]
    return {name: {line[0]: line[column] for line in lines} for column, name in enumerate(names, 1)}


@pytest.mark.timeout(300)
def test_comparison_table_matches_measured_emulators(clients: Clients, client_programs: Path) -> None:
    # In a separate process: the response check that is installed in the test process only fits our emulator.
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.compare_emulators", "--json"],
        cwd=ROOT,
        env={**clients.variables, CLIENTS: str(client_programs)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    table = documented()
    assert tuple(seen) == MEASURED
    for name in MEASURED:
        assert table[name] == seen[name], f"{name}: change {PAGE.name} or what changed"
    assert all(words.startswith("yes: ") for words in seen["photo-worker"].values())
