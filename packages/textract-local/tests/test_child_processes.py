"""The parent's side of a limited process."""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pytest

from textract_local.child_processes import LimitedProcess


def test_wait_in_two_threads_returns_the_status_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    reaped, go_on, real = threading.Event(), threading.Event(), os.wait4

    def reap_slowly(pid: int, options: int) -> Any:
        found = real(pid, options)
        reaped.set()
        go_on.wait(30)
        return found

    monkeypatch.setattr(os, "wait4", reap_slowly)
    with (
        LimitedProcess([sys.executable, "-c", "import time; time.sleep(1000)"]) as process,
        ThreadPoolExecutor() as pool,
    ):
        try:
            first = pool.submit(process.wait)
            os.kill(process.pid, signal.SIGKILL)
            assert reaped.wait(30)
            second = pool.submit(process.wait)
            # The process is gone, and only the first thread knows how it ended.
            wait([second], timeout=0.2)
        finally:
            go_on.set()
        assert [first.result(30), second.result(30)] == [-signal.SIGKILL, -signal.SIGKILL]
