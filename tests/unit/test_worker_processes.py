"""Worker processes that do not obey."""

from __future__ import annotations

import signal
import subprocess
import sys

# A worker that says so when it is asked to stop, and runs on; and the program that runs it.
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: print("asked", flush=True))
print("up", flush=True)
while True:
    time.sleep(600)
"""
PROGRAM = f"""
import asyncio, os, sys
from photo_worker.cli.worker_processes import WorkerProcess, run_processes
sys.exit(asyncio.run(run_processes([WorkerProcess([sys.executable, "-c", {STUBBORN!r}], os.environ)] * 2)))
"""


def test_run_processes_second_signal_kills() -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        for line in ("up", "asked"):
            assert [program.stdout.readline() for _ in range(2)] == [f"{line}\n"] * 2
            program.send_signal(signal.SIGTERM)
        assert program.wait(60) == 0
