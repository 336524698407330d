"""Processes and stacks that a measurement started end with it, even if it is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from photo_worker.devkit.layout import StackPaths
from tests.unit.project.checkout import ROOT

# Starts a long-running process, registers and prints it, and waits for the end of its input.
_MEASUREMENT = """
import subprocess, sys, psutil
from benchmarks.cleanup import ended_in_any_case, exit_on_signals

exit_on_signals()
left = psutil.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
with ended_in_any_case() as ending:
    ending.register("process", str(left.pid), str(left.create_time()))
    print(left.pid, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, None])
def test_cleanup_ends_processes_when_measurement_ends(number: signal.Signals | None) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _MEASUREMENT], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as measurement:
        assert measurement.stdout is not None
        left = psutil.Process(int(measurement.stdout.readline()))
        if number is not None:
            measurement.send_signal(number)
        measurement.communicate(timeout=20)
        left.wait(20)
    assert measurement.returncode == {signal.SIGTERM: 143, signal.SIGKILL: -9, None: 0}[number]


def test_cleanup_leaves_process_with_reused_pid_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as other:
        told = f"process {other.pid} 1.0\n"
        subprocess.run([sys.executable, "-m", "benchmarks.cleanup"], input=told, text=True, check=True, cwd=ROOT)
        assert other.poll() is None


def test_cleanup_deletes_stack_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    StackPaths(home, "one").create()
    assert {path.name for path in home.iterdir()} == {"one", ".gitignore"}
    told = f"stack {home}\n"
    subprocess.run([sys.executable, "-m", "benchmarks.cleanup"], input=told, text=True, check=True, cwd=ROOT)
    assert not home.exists()
