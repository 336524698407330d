"""The replay gate over 200 histories, compared with the SDK's Replayer alone on the same files.

Both are separate processes, measured from the start of the interpreter. The Replayer reads the files
and replays them, sandboxed, and does nothing else: it does not check the files first, detects no
drift, and would not recover from a broken one. The input is copies of the committed histories, each
with its own run id.

The gate replays each history twice, under two orders of sets. Measured in full on two cores it took
1.37 to 1.55 times as long as the Replayer, which leaves a part of the second core idle, and 2.17 times
in one replaying process at a time. The bar is the worst of these rounds and a tenth.
"""

from __future__ import annotations

import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import psutil

from temporal_replay_gate.histories import Provenance, provenance_path, sha256_of

ROOT = Path(__file__).resolve().parents[1]
HISTORIES = ROOT / "tests" / "replay" / "histories" / "image_processing_workflow"
COUNT = 200
ROUNDS = 3
# The worst round that was measured, and a tenth.
RATIO_BAR = 1.7
SECONDS_BAR = 60.0
# CI runners have several times that.
MEMORY_BAR_MB = 1024

BARE = """
import asyncio, os, sys
from pathlib import Path
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer
from photo_worker.bootstrap import workflow_classes
from photo_worker.adapters.temporal.converter import data_converter

async def histories():
    for path in sorted(Path(sys.argv[1]).rglob("*.json")):
        if path.name.endswith(".provenance.json"):
            continue
        yield WorkflowHistory.from_json(path.stem, path.read_text(encoding="utf-8"))

async def main():
    replayer = Replayer(workflows=workflow_classes(), data_converter=data_converter)
    count = 0
    async with replayer.workflow_replay_iterator(histories()) as results:
        async for result in results:
            if result.replay_failure:
                raise result.replay_failure
            count += 1
    print(count, flush=True)

asyncio.run(main())
os._exit(0)
"""


def originals() -> list[Path]:
    """Return the committed histories; raises ``RuntimeError`` if there are none."""
    found = [path for path in sorted(HISTORIES.rglob("*.json")) if not path.name.endswith(".provenance.json")]
    if not found:
        raise RuntimeError(f"there are no histories in {HISTORIES}")
    return found


def copies(directory: Path, count: int) -> int:
    """Fill ``directory`` with ``count`` histories, each with its own run id; return their size in bytes.

    Files next to the committed ones, such as the list of allowed drift, are copied too, for the gate to find them.
    ``count`` is at least the number of committed histories, or an entry of that list would match nothing.
    """
    size = 0
    directory.mkdir(parents=True)
    for beside in HISTORIES.parents[1].iterdir():
        if beside.is_file() and beside.suffix != ".py":
            shutil.copy2(beside, directory.parent)
    for number, path in enumerate(itertools.islice(itertools.cycle(originals()), count)):
        text = path.read_text(encoding="utf-8")
        started = json.loads(text)["events"][0]["workflowExecutionStartedEventAttributes"]
        run_id = started["originalExecutionRunId"]
        text = text.replace(run_id, str(uuid5(NAMESPACE_OID, f"{run_id}-{number}")))
        target = directory / "image_processing_workflow" / "copies" / f"{number:03}-{path.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        provenance = Provenance.from_json(provenance_path(path).read_text(encoding="utf-8"))
        kept = replace(provenance, sha256=sha256_of(target.read_bytes()))
        provenance_path(target).write_text(kept.to_json(), encoding="utf-8")
        size += len(text)
    return size


class _Peak:
    """Samples the memory of a process and its children until it ends; shared pages count in each."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._process = psutil.Process(pid)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while True:
            total = 0
            try:
                for process in (self._process, *self._process.children(recursive=True)):
                    total += process.memory_info().rss
            except psutil.NoSuchProcess:
                if not self._process.is_running():
                    return
                continue
            self.bytes = max(self.bytes, total)
            time.sleep(0.05)


def timed(arguments: Sequence[str]) -> tuple[float, int, str]:
    """Run a program; return its seconds, its peak memory in bytes and its output. Raises if it fails."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    peak = _Peak(process.pid)
    output, errors = process.communicate(timeout=600)
    seconds = time.perf_counter() - began
    if process.returncode != 0:
        raise RuntimeError(f"{arguments[0]} ended with {process.returncode}:\n{output[-2000:]}\n{errors[-2000:]}")
    return seconds, peak.bytes, output


def _gate(directory: Path, count: int, *options: str) -> tuple[float, int]:
    command = ["-m", "photo_worker.cli", "replay", "check", str(directory), "--format", "json", *options]
    seconds, peak, output = timed(command)
    checked = sum(each["state"] == "ok" for each in json.loads(output)["data"]["histories"])
    if checked != count:
        raise RuntimeError(f"the gate saw {checked} histories, not {count}")
    return seconds, peak


def run(*, count: int = COUNT, rounds: int = ROUNDS) -> dict[str, Any]:
    """Run all in turn, ``rounds`` times; return medians, ratios and the memory.

    The ``count`` histories include each committed one; if there are more of those, all of them are used.
    """
    count = max(count, len(originals()))
    bare, gate, alone, memory = [], [], [], {"bare": 0, "gate": 0}
    with tempfile.TemporaryDirectory(prefix="photo-worker-bench-") as name:
        directory = Path(name) / "histories"
        size = copies(directory, count)
        for _ in range(rounds):
            seconds, peak, output = timed(["-c", BARE, str(directory)])
            if int(output) != count:
                raise RuntimeError(f"the Replayer saw {output.strip()} histories, not {count}")
            bare.append(seconds)
            memory["bare"] = max(memory["bare"], peak)
            seconds, peak = _gate(directory, count)
            gate.append(seconds)
            memory["gate"] = max(memory["gate"], peak)
            alone.append(_gate(directory, count, "--jobs", "1")[0])
    pairs = [ours / theirs for ours, theirs in zip(gate, bare, strict=True)]
    ratio = statistics.median(pairs)
    megabytes = memory["gate"] / 1e6
    return {
        "histories": count,
        "history_bytes": size,
        "rounds": rounds,
        "bare_seconds": round(statistics.median(bare), 2),
        "gate_seconds": round(statistics.median(gate), 2),
        "ratio": round(ratio, 2),
        "ratio_by_round": [round(pair, 2) for pair in pairs],
        "one_process_seconds": round(statistics.median(alone), 2),
        "one_process_ratio": round(statistics.median(a / b for a, b in zip(alone, bare, strict=True)), 2),
        "bar": RATIO_BAR,
        "bare_peak_mb": round(memory["bare"] / 1e6),
        "gate_peak_mb": round(megabytes),
        "memory_bar_mb": MEMORY_BAR_MB,
        "met": ratio <= RATIO_BAR and statistics.median(gate) <= SECONDS_BAR and megabytes <= MEMORY_BAR_MB,
    }


def table(result: dict[str, Any]) -> Sequence[tuple[str, str]]:
    """Return the lines to show."""
    return [
        ("bare Replayer, s", str(result["bare_seconds"])),
        ("the whole gate, s", f"{result['gate_seconds']} (bar {SECONDS_BAR:.0f})"),
        ("gate / bare", f"{result['ratio']} (bar {RATIO_BAR}; by round {result['ratio_by_round']})"),
        (
            "gate with one replaying process / bare",
            f"{result['one_process_ratio']} ({result['one_process_seconds']} s)",
        ),
        ("peak memory of the bare Replayer, MB", str(result["bare_peak_mb"])),
        ("peak memory of the gate, MB", f"{result['gate_peak_mb']} (bar {MEMORY_BAR_MB})"),
    ]
