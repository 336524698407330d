"""Run moto's server from the clients' environment on a free port of this machine."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts import make_clients

DEADLINE_SECONDS = 60


def programs() -> Path:
    """Return the clients' environment; make it if the variable names none."""
    named = os.environ.get("PHOTO_WORKER_CLIENTS")
    directory = Path(named) if named else make_clients.DEFAULT
    if not named:
        make_clients.make(directory)
    return directory


def version(directory: Path) -> str:
    """Return the version of moto in an environment."""
    command = [str(directory / "bin" / "python"), "-c", "import moto; print(moto.__version__)"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def running(directory: Path) -> Iterator[str]:
    """Run the server on a port that the system assigns and yield its address."""
    with tempfile.TemporaryFile("w+b") as log:
        process = subprocess.Popen(
            [str(directory / "bin" / "moto_server"), "-H", "127.0.0.1", "-p", "0"], stdout=log, stderr=log
        )
        try:
            yield _address(process, log.fileno())
        finally:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen[bytes], log: int) -> str:
    deadline = time.monotonic() + DEADLINE_SECONDS
    written = b""
    while time.monotonic() < deadline and process.poll() is None:
        written = os.pread(log, 64 * 1024, 0)
        found = re.search(rb"Running on (http://127\.0\.0\.1:\d+)", written)
        if found:
            return found[1].decode()
        time.sleep(0.05)
    raise RuntimeError(f"moto's server does not start: {written.decode(errors='replace')}")
