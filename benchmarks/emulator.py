"""Pages per second through the Textract emulator, compared with its reader alone in as many processes.

Both read every photo again in every round: the emulator's cache is cleared. The difference of the two
numbers is the client, HTTP, base64, JSON, the files between the emulator's processes and the validation
of each response against the service's model.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from benchmarks.footprint import started

ROOT = Path(__file__).resolve().parents[1]
PAGES = 12
CHUNK = 4
ROUNDS = 3
BAR = 0.9
# No round begins after this: on a busy machine, one or two must be enough.
BUDGET_SECONDS = 100


def photos() -> list[bytes]:
    """Return the content of the first fixture photos."""
    index = json.loads((ROOT / "fixtures" / "index.json").read_text("utf-8"))["fixtures"]
    assert len(index) >= PAGES
    return [(ROOT / "fixtures" / entry["file"]).read_bytes() for entry in index[:PAGES]]


def control(url: str, path: str, method: str) -> Any:
    """Call one of the emulator's control endpoints."""
    # The address is that of a stack on this machine.
    with urlopen(Request(f"{url}/_emulator/{path}", method=method), timeout=10) as response:  # noqa: S310
        return json.load(response)


@lru_cache(maxsize=1)
def _reader() -> Any:
    from textract_local import DocumentReader

    return DocumentReader(threads=1)


def bare(content: bytes) -> None:
    """Read a photo in this process, which loads the OCR engine once."""
    _reader().read(content, "photo")


def seconds(read: Callable[[bytes], Any], documents: Sequence[bytes], pool: Executor) -> float:
    """Return the seconds that the pool takes to read the documents."""
    began = time.perf_counter()
    list(pool.map(read, documents))
    return time.perf_counter() - began


def measure(url: str, *, pages: int = PAGES, rounds: int = ROUNDS) -> dict[str, Any]:
    """Read the photos both ways in turn, up to ``rounds`` times each, and return medians and ratios."""
    import boto3
    from botocore.config import Config

    processes = int(control(url, "health", "GET")["processes"])
    client = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name="us-east-1").client(  # noqa: S106
        "textract",
        endpoint_url=url,
        config=Config(max_pool_connections=processes, read_timeout=90, retries={"total_max_attempts": 1}),
    )
    documents = photos()[:pages]
    began = time.perf_counter()

    def emulated(content: bytes) -> None:
        client.detect_document_text(Document={"Bytes": content})

    rates: dict[str, list[float]] = {"bare": [], "emulator": []}
    with (
        ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as alone,
        ThreadPoolExecutor(processes) as asking,
    ):
        readers: list[tuple[str, Callable[[bytes], None], Executor]] = [
            ("bare", bare, alone),
            ("emulator", emulated, asking),
        ]
        for _, read, pool in readers:
            # As many at once as there are processes, more than once, so that each has loaded its engine.
            list(pool.map(read, documents[: 2 * processes]))
        for done in range(rounds):
            if done and time.perf_counter() - began > BUDGET_SECONDS:
                break
            control(url, "reset", "POST")
            spent = {"bare": 0.0, "emulator": 0.0}
            # In small rounds, alternating which goes first, so that other load on the machine slows both down.
            for start in range(0, len(documents), CHUNK):
                readers.reverse()
                for name, read, pool in readers:
                    spent[name] += seconds(read, documents[start : start + CHUNK], pool)
            tallies = control(url, "counters", "GET")["documents"].values()
            assert sum(tally["recognised"] for tally in tallies) == len(documents), "a response was not a reading"
            for name, total in spent.items():
                rates[name].append(len(documents) / total)
    client.close()
    pairs = [ours / other for ours, other in zip(rates["emulator"], rates["bare"], strict=True)]
    return {
        "pages": len(documents),
        "rounds": len(pairs),
        "processes": processes,
        "pages_per_second": {name: round(statistics.median(values), 3) for name, values in rates.items()},
        "ratio": round(statistics.median(pairs), 3),
        "ratio_by_round": [round(pair, 3) for pair in pairs],
        "bar": BAR,
        "met": statistics.median(pairs) >= BAR,
    }


def run(*, pages: int = PAGES, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure a temporary emulator, which needs no other service for inline documents."""
    with started() as (_, url, _):
        return measure(url, pages=pages, rounds=rounds)


def table(result: dict[str, Any]) -> Sequence[tuple[str, str]]:
    """Return the lines to show."""
    rates = result["pages_per_second"]
    return [
        ("emulator, pages/s", f"{rates['emulator']} ({result['processes']} processes)"),
        ("bare reader, pages/s", str(rates["bare"])),
        ("emulator / bare reader", f"{result['ratio']} (bar {BAR}; by round {result['ratio_by_round']})"),
    ]
