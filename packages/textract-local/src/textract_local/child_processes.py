"""The parent's side of processes that parse hostile files: their number, their peak memory, and how they ended."""

from __future__ import annotations

import contextlib
import math
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from textract_local.errors import DecoderUnavailable

T = TypeVar("T")

# How often a parent checks whether its attempt goes on.
LOOK_SECONDS = 0.5

# Bytes that are kept from the end of a process's standard error.
_KEPT_BYTES = 1024

# Signals by which the system or a person ends a process; its document is not the cause.
EXTERNAL_SIGNALS = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGALRM, signal.SIGHUP, signal.SIGINT})

_FINE_LOOK_SECONDS = 0.01

# Share of the limit from which the memory counts as used up: the system counts in pages, and libraries that are mapped
# for reading are part of the peak and not of the limit.
_FULL_SHARE = 0.9
_PEAK_UNIT = 1 if sys.platform == "darwin" else 1024

# Memory that is left to the calling process and the system.
_OTHERS_BYTES = 512 * 1024**2


def max_processes(memory_bytes: int, root: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many processes with this memory limit may run at once, at least one.

    It is the number of processors that this process may use, or less if memory is short: the machine's, and on Linux
    what the control groups allow (version 2, which container engines use today). ``root`` is their file system.
    """
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for directory in _control_groups(root):
        quota = _words(directory / "cpu.max")
        if len(quota) == 2 and quota[0].isdigit() and quota[1].isdigit() and int(quota[1]):
            processors = min(processors, math.ceil(int(quota[0]) / int(quota[1])))
        most = _words(directory / "memory.max")
        if most and most[0].isdigit():
            memory = min(memory, int(most[0]))
    return max(1, min(processors, (memory - _OTHERS_BYTES) // memory_bytes))


def _control_groups(root: Path) -> list[Path]:
    """Return the directories of this process's control group and of all its ancestors."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    own = next((line.removeprefix("0::").strip("/") for line in lines if line.startswith("0::")), "")
    place = root / own
    return [place, *(each for each in place.parents if each.is_relative_to(root))]


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return []


class LimitedProcess(subprocess.Popen[bytes]):
    """A process with limits that records its peak memory, which tells whether it used all that it may have."""

    peak_bytes = 0
    """Peak memory; set when ``wait`` without a timeout has reaped the process."""

    def __init__(self, args: Sequence[str], **options: Any) -> None:
        # Linux reports this process's peak as the child's until the child's own peak is higher.
        self._inherited_bytes = 0 if sys.platform == "darwin" else _peak_bytes(resource.RUSAGE_SELF)
        self._seen_bytes = 0
        self._reaping = threading.Lock()
        super().__init__(args, **options)

    def look_seconds(self, memory_bytes: int, usual: float) -> float:
        """Return the seconds between calls of ``look``: few if the final peak cannot show whether the limit was hit."""
        return _FINE_LOOK_SECONDS if self._inherited_bytes >= memory_bytes * _FULL_SHARE else usual

    def look(self) -> None:
        """Record the peak memory of the process so far."""
        with contextlib.suppress(OSError, ValueError, StopIteration):
            status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii", errors="replace")
            line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
            self._seen_bytes = max(self._seen_bytes, int(line.split()[1]) * 1024)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit status. The call that reaps the process records its peak memory."""
        if timeout is None:
            # Popen takes a process that another thread has reaped, and not noted yet, for one that ended with 0.
            with self._reaping:
                self._reap()
        return super().wait(timeout)

    def _reap(self) -> None:
        if self.returncode is None:
            with contextlib.suppress(ChildProcessError):
                _, status, usage = os.wait4(self.pid, 0)
                peak_bytes = usage.ru_maxrss * _PEAK_UNIT
                self.peak_bytes = peak_bytes if peak_bytes > self._inherited_bytes else self._seen_bytes
                self.returncode = os.waitstatus_to_exitcode(status)

    def has_filled(self, memory_bytes: int) -> bool:
        """Tell whether the process used all memory that it may have: native libraries abort when they get no more."""
        return self.peak_bytes >= memory_bytes * _FULL_SHARE


def _peak_bytes(of: int) -> int:
    return resource.getrusage(of).ru_maxrss * _PEAK_UNIT


class ThreadedCall(threading.Thread, Generic[T]):
    """Runs a blocking call to a process in a thread. ``does`` is the verb for the error message, such as "opens"."""

    def __init__(self, call: Callable[[], T], does: str) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._does = does
        self._outcome: list[T] = []
        self._error: Exception | None = None

    def run(self) -> None:
        """Run the call and keep its result or error."""
        try:
            self._outcome.append(self._call())
        except Exception as error:
            self._error = error

    def result(self) -> T:
        """Return the call's result. Raises ``DecoderUnavailable`` if it failed: no document is parsed on this side."""
        if self._error is not None:
            reason = f"the process that {self._does} documents cannot be talked to: {self._error!r}"
            raise DecoderUnavailable(reason=reason) from self._error
        return self._outcome[0]


def read_tail(descriptor: int) -> bytes:
    """Read a pipe to its end and return the last bytes."""
    kept = b""
    with open(descriptor, "rb", buffering=0) as file:
        while piece := file.read(_KEPT_BYTES):
            kept = (kept + piece)[-_KEPT_BYTES:]
    return kept


def describe_exit(status: int) -> str:
    """Return how a process ended, worded to follow "was"."""
    if status < 0:
        return f"ended by signal {-status}"
    return f"ended with status {status}" if status else "ended without a response"
