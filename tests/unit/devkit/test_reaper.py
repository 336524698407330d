from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from photo_worker.devkit import reaper

SLEEP = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]


@pytest.fixture
def sleepers() -> Iterator[list[subprocess.Popen[bytes]]]:
    started = [subprocess.Popen(SLEEP, start_new_session=True) for _ in range(3)]
    yield started
    for process in started:
        process.kill()
        process.wait()


def test_reaper_on_closed_pipe_ends_only_listed_groups(
    sleepers: list[subprocess.Popen[bytes]],
) -> None:
    listed, ended, gone = sleepers
    gone.kill()
    gone.wait()
    lines = [f"+{listed.pid} {int(signal.SIGTERM)}", f"+{ended.pid} 15", f"+{gone.pid} 15", f"-{ended.pid}", "?"]
    net = subprocess.Popen([sys.executable, "-I", "-S", str(Path(reaper.__file__))], stdin=subprocess.PIPE)
    assert net.stdin is not None
    net.stdin.write("".join(f"{line}\n" for line in lines).encode())
    net.stdin.flush()
    assert net.poll() is None
    net.stdin.close()
    # Until its parent has reaped it, an ended process still counts as running.
    assert listed.wait(timeout=30) == -signal.SIGTERM
    assert net.wait(timeout=30) == 0
    assert ended.poll() is None


def test_signal_group_reports_whether_group_exists(sleepers: list[subprocess.Popen[bytes]]) -> None:
    first, second, _ = sleepers
    assert reaper.signal_group(first.pid, 0)
    second.kill()
    second.wait()
    assert not reaper.signal_group(second.pid, 0)
