"""An emulator process for tests.

Run as a program, this module serves with a reader that is controlled by the content of documents; the server and
its processes are the real ones. These tests check how documents and responses are transferred, so they need no OCR.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from textract_local.server.command import EmulatorOptions, run
from textract_local.server.spawning import ReadingLimits
from textract_support.scripted_reader import DEADLINE_SECONDS, FACTORY, MAGIC, document

__all__ = ["DEADLINE_SECONDS", "MAGIC", "ROOT", "RunningEmulator", "document", "running", "until"]

# Where programs and readers of the tests are imported from.
ROOT = Path(__file__).resolve().parents[1]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@dataclass(frozen=True)
class RunningEmulator:
    """A running emulator."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def running(directory: Path, variables: Mapping[str, str], *arguments: str) -> Iterator[RunningEmulator]:
    """Start an emulator on a free port, and kill it at the end of the block."""
    log = directory / f"emulator-{secrets.token_hex(4)}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *(arguments or ("-m", __name__))],
            env={
                **os.environ,
                "PYTHONUNBUFFERED": "1",
                # Reading processes do not import from their working directory.
                "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path.cwd())]),
                "TEXTRACT_TEST_DATA": str(directory / f"data-{secrets.token_hex(4)}"),
                **variables,
            },
            stdout=output,
            stderr=output,
        )
    try:
        yield RunningEmulator(process, _port(process, log), log)
    finally:
        process.kill()
        process.wait()


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"listening on \S+:(\d+)", log.read_text("utf-8"))
        if found:
            return int(found[1])
        time.sleep(0.02)
    raise AssertionError(log.read_text("utf-8"))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    # Processes that wait for a gate need time; tests with hanging processes set a lower limit.
    bounds = ReadingLimits(
        page_seconds=float(os.environ.get("TEXTRACT_TEST_PAGE_SECONDS", "60")),
        call_seconds=float(os.environ.get("TEXTRACT_TEST_CALL_SECONDS", "55")),
    )
    data, reader = Path(os.environ["TEXTRACT_TEST_DATA"]), os.environ.get("TEXTRACT_TEST_READER", FACTORY)
    run(EmulatorOptions(port=0, data=data, processes=2, reader=reader, bounds=bounds))
