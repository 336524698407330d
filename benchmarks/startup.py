"""The time of `photo-worker --help`, compared with an interpreter that does nothing."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

ROUNDS = 15
# 300 ms if the bare interpreter takes 20.
BAR = 15.0


def _seconds(*arguments: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def run(rounds: int = ROUNDS) -> dict[str, Any]:
    """Run both in turn, and return medians and their ratio."""
    bare, command = [], []
    for _ in range(rounds):
        bare.append(_seconds("-c", "pass"))
        command.append(_seconds("-m", "photo_worker.cli", "--help"))
    ratio = statistics.median(command) / statistics.median(bare)
    return {
        "bare_seconds": round(statistics.median(bare), 4),
        "help_seconds": round(statistics.median(command), 4),
        "ratio": round(ratio, 2),
        "bar": BAR,
        "met": ratio <= BAR,
    }


def table(result: dict[str, Any]) -> Sequence[tuple[str, str]]:
    """Return the lines to show."""
    return [
        ("python -c pass, ms", f"{result['bare_seconds'] * 1000:.0f}"),
        ("photo-worker --help, ms", f"{result['help_seconds'] * 1000:.0f}"),
        ("--help / bare", f"{result['ratio']} (bar {BAR})"),
    ]
