"""Worker processes that do not obey."""

from __future__ import annotations

import signal
import subprocess
import sys

# A worker that says so when it is asked to stop, and runs on until its input ends; and the program that runs it. One
# write a line: two processes share the output.
STUBBORN = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"asked\\n"))
os.write(1, b"up\\n")
sys.stdin.read()
"""
PROGRAM = f"""
import asyncio, os, sys
from photo_worker.cli.worker_processes import WorkerProcess, run_processes
sys.exit(asyncio.run(run_processes([WorkerProcess([sys.executable, "-c", {STUBBORN!r}], os.environ)] * 2)))
"""


def test_run_processes_second_signal_kills() -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        try:
            for line in ("up", "asked"):
                assert [program.stdout.readline() for _ in range(2)] == [f"{line}\n"] * 2
                program.send_signal(signal.SIGTERM)
            assert program.wait(60) == 0
        finally:
            program.kill()
