"""Ends what a benchmark started if the benchmark itself is killed.

`python -m benchmarks.cleanup` reads ``stack DIRECTORY`` and ``process PID CREATED`` from standard input until that
closes, and then deletes the stacks in the directories and ends the processes. After a normal end nothing is left.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import psutil

STACK = "bench"
_ROOT = Path(__file__).resolve().parents[1]


class Ending:
    """A process that outlives this one, even a SIGKILL, until it has ended the rest."""

    def __init__(self) -> None:
        # In its own session: a signal to all processes of a terminal must not end it first.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.cleanup"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_ROOT,
            start_new_session=True,
            text=True,
            bufsize=1,
        )
        assert self._process.stdout is not None
        # Its start must not be part of a measured time.
        self._process.stdout.readline()

    def register(self, *what: str) -> None:
        """Register stacks or processes to end, as ``stack DIRECTORY`` or ``process PID CREATED``."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(what) + "\n")

    def close(self) -> None:
        """Close its input, so that it ends what is left, and wait for that."""
        self._process.communicate()


@contextmanager
def ended_in_any_case() -> Iterator[Ending]:
    """Yield an ``Ending``, which cleans up even if this process is killed within the block."""
    ending = Ending()
    try:
        yield ending
    finally:
        ending.close()


def exit_on_signals() -> None:
    """Make SIGTERM end this process as Ctrl-C does, running all cleanups of blocks."""

    def leave(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)


def main() -> None:
    """Wait for the end of standard input, and clean up."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    print("ready", flush=True)
    for line in sys.stdin.readlines():
        match line.split():
            case ["stack", directory] if Path(directory).exists():
                from photo_worker.devkit.stack import Stack

                # The directory also has the file that keeps the stacks out of version control.
                for stack in filter(Path.is_dir, Path(directory).iterdir()):
                    Stack(Path(directory), stack.name).delete()
                shutil.rmtree(directory, ignore_errors=True)
            case ["process", pid, created]:
                with suppress(psutil.NoSuchProcess):
                    process = psutil.Process(int(pid))
                    # Another process may have the same pid by now.
                    if process.create_time() == float(created):
                        process.terminate()


if __name__ == "__main__":
    main()
