"""Pages a second through the Textract emulator, against its reader alone in as many processes.

Both read every photo anew in every round: the emulator is told to forget them. Between the two
numbers lie the client, HTTP, base64, JSON, the files between the emulator's processes and the check of
each answer against the service's model.
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

ROOT = Path(__file__).resolve().parents[1]
PAGES = 20
CHUNK = 4
ROUNDS = 3
BAR = 0.9


def photos() -> list[bytes]:
    """Return the first fixture photos."""
    index = json.loads((ROOT / "fixtures" / "index.json").read_text("utf-8"))["fixtures"]
    assert len(index) >= PAGES
    return [(ROOT / "fixtures" / entry["file"]).read_bytes() for entry in index[:PAGES]]


def control(url: str, path: str, method: str) -> Any:
    """Use one of the emulator's own controls."""
    # The address is that of a stack on this machine.
    with urlopen(Request(f"{url}/_emulator/{path}", method=method), timeout=10) as answer:  # noqa: S310
        return json.load(answer)


@lru_cache(maxsize=1)
def _reader() -> Any:
    from photo_worker.ocr.reader import DocumentReader

    return DocumentReader(threads=1)


def bare(content: bytes) -> None:
    """Read a photo in this process; the engine is loaded once in each."""
    _reader().read(content, "photo")


def seconds(read: Callable[[bytes], Any], documents: Sequence[bytes], pool: Executor) -> float:
    """Return how long the pool takes to read documents."""
    began = time.perf_counter()
    list(pool.map(read, documents))
    return time.perf_counter() - began


def measure(variables: dict[str, str], *, rounds: int = ROUNDS) -> dict[str, Any]:
    """Read the photos by turns, ``rounds`` times each, and return medians and ratios."""
    import boto3

    from photo_worker.ocr.textract import make_client

    url = variables["AWS_ENDPOINT_URL_TEXTRACT"]
    session = boto3.Session(
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        region_name=variables["AWS_REGION"],
    )
    processes = int(control(url, "health", "GET")["processes"])
    client = make_client(session=session, max_pool_connections=processes)
    documents = photos()

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
            # As many at once as there are processes, more than once: each has loaded its engine then.
            list(pool.map(read, documents[: 4 * processes]))
        for _ in range(rounds):
            control(url, "reset", "POST")
            spent = {"bare": 0.0, "emulator": 0.0}
            # In small turns, each going first by turns: what else the machine does then slows both down.
            for start in range(0, len(documents), CHUNK):
                readers.reverse()
                for name, read, pool in readers:
                    spent[name] += seconds(read, documents[start : start + CHUNK], pool)
            tallies = control(url, "counters", "GET")["documents"].values()
            assert sum(tally["recognised"] for tally in tallies) == len(documents), "an answer was not a reading"
            for name, total in spent.items():
                rates[name].append(len(documents) / total)
    client.close()
    pairs = [ours / other for ours, other in zip(rates["emulator"], rates["bare"], strict=True)]
    return {
        "pages": len(documents),
        "rounds": rounds,
        "processes": processes,
        "pages_per_second": {name: round(statistics.median(values), 3) for name, values in rates.items()},
        "ratio": round(statistics.median(pairs), 3),
        "ratio_by_round": [round(pair, 3) for pair in pairs],
        "bar": BAR,
        "met": statistics.median(pairs) >= BAR,
    }


def run(variables: dict[str, str]) -> dict[str, Any]:
    """Measure on a stack that runs."""
    return measure(variables)


def table(result: dict[str, Any]) -> Sequence[tuple[str, str]]:
    """Return the lines to show."""
    rates = result["pages_per_second"]
    return [
        ("emulator, pages/s", f"{rates['emulator']} ({result['processes']} processes)"),
        ("bare reader, pages/s", str(rates["bare"])),
        ("emulator / bare reader", f"{result['ratio']} (bar {BAR}; by round {result['ratio_by_round']})"),
    ]
