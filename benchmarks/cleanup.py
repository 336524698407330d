"""Ends what a measurement started where the measurement itself is killed and cannot.

`python -m benchmarks.cleanup` reads ``stack FOLDER`` and ``process PID CREATED`` from standard input until that closes,
and then deletes the stacks in the folders and ends the processes. Where the measurement ended well nothing is left.
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
    """A process that outlives this one, also SIGKILL, for as long as it takes to end the rest."""

    def __init__(self) -> None:
        # In a session of its own: what is sent to all of a terminal's processes must not end it first.
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
        # Whoever measures seconds is not to measure its start.
        self._process.stdout.readline()

    def knows(self, *what: str) -> None:
        """Tell it what to end."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(what) + "\n")

    def close(self) -> None:
        """Let it end what is left, and wait for that."""
        self._process.communicate()


@contextmanager
def ended_in_any_case() -> Iterator[Ending]:
    """Give what ends the rest where this process does not come to the end of the block."""
    ending = Ending()
    try:
        yield ending
    finally:
        ending.close()


def exit_on_signals() -> None:
    """Let SIGTERM end this process as Ctrl-C does, with what every block has to do at its end."""

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
            case ["stack", folder] if Path(folder).exists():
                from photo_worker.devkit.stack import Stack

                # Beside the stacks lies the file that keeps them out of version control.
                for stack in filter(Path.is_dir, Path(folder).iterdir()):
                    Stack(Path(folder), stack.name).delete()
                shutil.rmtree(folder, ignore_errors=True)
            case ["process", pid, created]:
                with suppress(psutil.NoSuchProcess):
                    process = psutil.Process(int(pid))
                    # Another process may have the number by now.
                    if process.create_time() == float(created):
                        process.terminate()


if __name__ == "__main__":
    main()
