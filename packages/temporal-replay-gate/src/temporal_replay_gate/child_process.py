"""One child process that responds in JSON lines and can be ended at any moment, with all its forked processes.

A process that the code under test forks keeps the pipes open, so that they never reach end of file. It is
therefore ended with the child's process group, and every wait in this module has a limit.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from temporal_replay_gate.printable import cut

_T = TypeVar("_T")

# How much of the end of a child's output is kept: enough for a traceback, and bounded.
LOG_BYTES = 8000

# How often the reader checks whether a silent child is still running.
_LOOK_SECONDS = 0.2

# How long a killed process may take to exit on a busy machine.
_END_SECONDS = 10.0

_CHUNK = 65536


class ChildGone(Exception):
    """The child died, or had to be ended. ``said`` holds its exit status or signal, and the last line of its output."""

    def __init__(self, timed_out: bool, said: str) -> None:
        super().__init__(said)
        self.timed_out = timed_out
        self.said = said


class ChildProcess:
    """The child, in a session and process group of its own. ``done`` counts the histories it has replayed."""

    def __init__(self, about: dict[str, Any], path: tuple[str, ...], hash_seed: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "temporal_replay_gate.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # The order of a set depends on the seed; with a random seed, the result could vary from run to run.
            env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
            # Ctrl-C in a terminal must reach only the parent, which ends its children.
            start_new_session=True,
        )
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._log = b""
        self._stop = threading.Event()
        self.done = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._send(about | {"sys_path": [str(Path(entry).resolve()) for entry in (*path, *sys.path)]})

    def _read(self) -> None:
        responses, log = self._process.stdout, self._process.stderr
        if responses is None or log is None:
            return
        rest = b""
        with selectors.DefaultSelector() as waiting:
            for stream in (responses, log):
                waiting.register(stream, selectors.EVENT_READ)
            while waiting.get_map() and not self._stop.is_set():
                # Looked up before the wait: a child may write its last response and exit between the two.
                exited = self._process.poll() is not None
                ready = waiting.select(_LOOK_SECONDS)
                if not ready and exited:
                    break
                for key, _ in ready:
                    chunk = os.read(key.fd, _CHUNK)
                    if not chunk:
                        waiting.unregister(key.fileobj)
                    elif key.fileobj is log:
                        self._log = (self._log + chunk)[-LOG_BYTES:]
                    else:
                        *lines, rest = (rest + chunk).split(b"\n")
                        for line in lines:
                            self._lines.put(line)
        self._lines.put(None)

    def _send(self, message: dict[str, Any]) -> None:
        stdin = self._process.stdin
        try:
            if stdin is not None:
                stdin.write(json.dumps(message).encode() + b"\n")
                stdin.flush()
        except (OSError, ValueError) as error:
            raise self._gone(False) from error

    def receive(self, limit: float, read: Callable[[Any], _T]) -> _T:
        """Return the next response, converted by ``read``.

        Raises ``ChildGone`` after ``limit`` seconds, if the child dies, or if the response is malformed.
        """
        try:
            line = self._lines.get(timeout=max(0.0, limit))
        except queue.Empty:
            raise self._gone(True) from None
        if line is None:
            raise self._gone(False)
        try:
            return read(json.loads(line))
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            self.end()
            raise ChildGone(
                False, f"it answered with what is none: {cut(line.decode('utf-8', 'replace'))!r}"
            ) from error

    def request(self, message: dict[str, Any], limit: float, read: Callable[[Any], _T]) -> _T:
        """Send a request and return its response as ``receive`` does. Raises ``ChildGone``."""
        self._send(message)
        return self.receive(limit, read)

    def _gone(self, timed_out: bool) -> ChildGone:
        if not timed_out:
            # The child closed its pipes; wait briefly for its exit status.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
        self.end()
        status = self._process.returncode
        how = "" if timed_out or status is None else f"exit status {status}" if status >= 0 else f"signal {-status}"
        return ChildGone(timed_out, "; ".join(part for part in (how, self._last_words()) if part))

    def _last_words(self) -> str:
        lines = self._log.decode("utf-8", "replace").strip().splitlines()
        telling = [line for line in lines if "panicked" in line or "Error" in line]
        return (telling or lines or [""])[-1][:500]

    def kill(self) -> None:
        """Kill the process group without waiting until its processes have exited."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        """Kill the process group, and wait at most some seconds until the child has exited."""
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        self._stop.set()
        self._reader.join(_END_SECONDS)
        if self._reader.is_alive():
            return
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                # Closing flushes data that no process reads any more.
                with contextlib.suppress(OSError):
                    stream.close()
