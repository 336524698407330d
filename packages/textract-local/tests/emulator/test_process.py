"""The process: its start, its health report and its shutdown."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

import textract_local
from textract_support import scripted_reader
from textract_support.clients import DETECT, EMULATED, call, send, sent
from textract_support.emulator import DEADLINE_SECONDS, RunningEmulator, document, running, until

END_SECONDS = 2.0


def seconds_to_end(started: RunningEmulator, number: signal.Signals) -> float:
    began = time.monotonic()
    started.process.send_signal(number)
    started.process.wait(timeout=DEADLINE_SECONDS)
    return time.monotonic() - began


def test_health_names_engine_and_operations(emulator: RunningEmulator) -> None:
    until(lambda: bool(send(emulator.port, "GET", "/_emulator/health").json["ready"]))
    assert send(emulator.port, "GET", "/_emulator/health").json == {
        "service": "textract",
        "version": textract_local.__version__,
        "engine": "obedient",
        "engine_version": "1",
        "ready": True,
        "processes": 2,
        "operations": list(EMULATED),
    }


def test_health_engine_unavailable_is_503_and_logged(tmp_path: Path) -> None:
    with running(tmp_path, {scripted_reader.BROKEN: "1"}) as started:
        until(lambda: send(started.port, "GET", "/_emulator/health").status == 503)
        told = send(started.port, "GET", "/_emulator/health").json
        assert (told["ready"], "its weights are missing" in told["problem"]) == (False, True)
        assert "engine_unavailable" in started.log.read_text("utf-8")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_with_idle_connection_ends_server(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path, {}) as started, socket.create_connection(("127.0.0.1", started.port)) as idle:
        idle.sendall(b"GET /_emulator/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(4096).startswith(b"HTTP/1.1 200")
        assert seconds_to_end(started, number) < END_SECONDS
        assert started.process.returncode == 0


def test_signal_during_read_ends_server(tmp_path: Path) -> None:
    with running(tmp_path, {}) as started, ThreadPoolExecutor(3) as threads:
        body = sent(document(wait_for=str(tmp_path / "never")))
        reading = threads.submit(call, started.port, DETECT, body)
        until(lambda: bool(send(started.port, "GET", "/_emulator/counters").json["documents"]))
        assert seconds_to_end(started, signal.SIGTERM) < END_SECONDS
        assert started.process.returncode == 0
        # The call gets no response, or an error.
        error = reading.exception(timeout=DEADLINE_SECONDS)
        assert error is not None or reading.result().status == 500
    assert not psutil.pid_exists(started.process.pid)


def test_module_port_in_use_is_refused(tmp_path: Path, emulator: RunningEmulator) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "textract_local.server", "--port", str(emulator.port)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{emulator.port}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [["--port", "x"], ["--port", "65536"], ["--port", "0", "--processes", "0"], ["--threads", "2"]]
)
def test_module_wrong_arguments_exit_with_status_2(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "textract_local.server", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "usage:" in done.stderr
