"""The cost of an emulator before it is used: memory while idle, and the time to the first response.

It is started alone, by the command that its users type. Memory is that of all its processes, with shared
pages counted once (PSS) if the system reports that, as Linux does.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil

from benchmarks.cached import Connection
from benchmarks.cleanup import ended_in_any_case

ROOT = Path(__file__).resolve().parents[1]
PAGE = "photos/clean-print.png"
STARTS = 5
IDLE_BAR_MB = 250
FIRST_RESPONSE_BAR_SECONDS = 3.0
# After a page, a process releases memory that it has kept within this time.
SETTLING_SECONDS = 25
DEADLINE_SECONDS = 60


@contextmanager
def started(*arguments: str) -> Iterator[tuple[psutil.Process, str, float]]:
    """Start an emulator on a free port; yield its process, its address, and the time of the start."""
    with ended_in_any_case() as ending, tempfile.TemporaryDirectory(prefix="photo-worker-bench-") as directory:
        log = Path(directory) / "log"
        began = time.perf_counter()
        with log.open("wb") as output:
            command = [sys.executable, "-m", "textract_local.server", "--port", "0", *arguments]
            process = psutil.Popen(command, stdout=output, stderr=output, cwd=ROOT)
        ending.register("process", str(process.pid), str(process.create_time()))
        try:
            yield process, _address(process, log), began
        finally:
            process.terminate()
            process.wait(10)


def _address(process: psutil.Process, log: Path) -> str:
    while True:
        text = log.read_text("utf-8")
        found = re.search(r"listening on (127\.0\.0\.1:\d+)", text)
        if found:
            return f"http://{found[1]}"
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            raise RuntimeError(text)
        time.sleep(0.002)


def is_ready(url: str) -> bool:
    # The address is that of an emulator on this machine.
    with urlopen(f"{url}/_emulator/health", timeout=30) as response:  # noqa: S310
        return bool(json.load(response)["ready"])


def memory_mb(process: psutil.Process) -> tuple[float, str]:
    """Return the MB of a process and its descendants, and the name of the measure."""
    family = [process, *process.children(recursive=True)]
    details = [member.memory_full_info() for member in family]
    if all(hasattr(detail, "pss") for detail in details):
        return sum(detail.pss for detail in details) / 1e6, "PSS"
    return sum(detail.uss for detail in details) / 1e6, "USS"


def first_response_seconds(document: bytes) -> float:
    """Return the seconds from the start of the process to the first page's blocks."""
    with started() as (_, url, began):
        client = Connection(url, document)
        blocks = json.loads(client.ask())["Blocks"]
        spent = time.perf_counter() - began
        client.close()
    assert any(block["BlockType"] == "WORD" for block in blocks)
    return spent


def measure_idle(document: bytes, settling_seconds: float = SETTLING_SECONDS) -> dict[str, float | str]:
    """Return the memory when the emulator is ready, and some time after it has read a page."""
    with started() as (process, url, _):
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not is_ready(url):
            assert time.monotonic() < deadline, "the emulator does not get ready"
            time.sleep(0.1)
        client = Connection(url, document)
        fresh, measure = least_memory(process, 3)
        client.ask()
        used, _ = memory_mb(process)
        settled, _ = least_memory(process, settling_seconds)
        client.close()
    return {"measure": measure, "ready": round(fresh), "just_used": round(used), "idle_again": round(settled)}


def least_memory(process: psutil.Process, seconds: float) -> tuple[float, str]:
    """Return the least memory measured within ``seconds``, as an estimate of the idle state."""
    deadline = time.monotonic() + seconds
    least, measure = memory_mb(process)
    while time.monotonic() < deadline:
        time.sleep(0.5)
        try:
            least = min(least, memory_mb(process)[0])
        except psutil.NoSuchProcess:
            # A reading process ended during the measurement; try again.
            continue
    return least, measure


def run(*, starts: int = STARTS, settling_seconds: float = SETTLING_SECONDS) -> dict[str, Any]:
    """Start emulators one after the other and measure them."""
    document = (ROOT / "fixtures" / PAGE).read_bytes()
    times = [first_response_seconds(document) for _ in range(starts)]
    first = statistics.median(times)
    idle = measure_idle(document, settling_seconds)
    worst = max(float(idle["ready"]), float(idle["idle_again"]))
    return {
        "first_answer_seconds": round(first, 2),
        "first_answers": [round(seconds, 2) for seconds in times],
        "idle_mb": idle,
        "ratio": {"first_answer": round(first / FIRST_RESPONSE_BAR_SECONDS, 2), "idle": round(worst / IDLE_BAR_MB, 2)},
        "bar": {"first_answer_seconds": FIRST_RESPONSE_BAR_SECONDS, "idle_mb": IDLE_BAR_MB},
        "met": first <= FIRST_RESPONSE_BAR_SECONDS and worst <= IDLE_BAR_MB,
    }


def table(result: dict[str, Any]) -> Sequence[tuple[str, str]]:
    """Return the lines to show."""
    idle = result["idle_mb"]
    return [
        (
            "start to first page read, s",
            f"{result['first_answer_seconds']} (bar {FIRST_RESPONSE_BAR_SECONDS}; {result['first_answers']})",
        ),
        (f"memory when ready, MB ({idle['measure']})", f"{idle['ready']} (bar {IDLE_BAR_MB})"),
        ("memory right after a page, MB", str(idle["just_used"])),
        ("memory idle again, MB", f"{idle['idle_again']} (bar {IDLE_BAR_MB})"),
    ]
