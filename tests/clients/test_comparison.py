"""The comparison in the documentation says what the emulators do, and every promise in it is kept here."""

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
    """What the table says, by emulator and promise."""
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in PAGE.read_text("utf-8").splitlines()
        if line.startswith("| ")
    ]
    start = next(number for number, row in enumerate(rows) if row[0] == "promise")
    names, lines = rows[start][1:], rows[start + 2 :]
    return {name: {line[0]: line[column] for line in lines} for column, name in enumerate(names, 1)}


@pytest.mark.timeout(300)
def test_the_table_says_what_this_emulator_and_moto_do(clients: Clients, client_programs: Path) -> None:
    # In a process of its own: the check of answers that all clients of a test process go through is for ours.
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
