"""Runs the rest of a program in a forked process, and does not let it exit with 0 without the gate's own result.

Code of the project that runs inside the program's process, such as hooks and scenarios, can end it at any moment
without a trace: by ``os._exit(0)``, by ``os.execv``, or in a thread or an exit handler that it left behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterable

from temporal_replay_gate.errors import EndedEarly

# Ctrl-C reaches only the supervisor, because the forked process has a session of its own.
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_BEGUN, _ENDED = "begun", "ended"


class _Reports:
    """What the forked process reports of its commands: lines that begin with a token that only the gate knows."""

    def __init__(self) -> None:
        self._token = os.urandom(16).hex()
        self._source, self._sink = os.pipe()
        self._owner = 0
        self.running = False

    def send(self, *words: object) -> None:
        """Report to the supervisor; nothing in processes that the code has forked."""
        if os.getpid() == self._owner:
            # Without a report the supervisor does not exit with 0.
            with contextlib.suppress(OSError):
                os.write(self._sink, (" ".join(map(str, (self._token, *words))) + "\n").encode())

    def open_for_writing(self) -> None:
        os.close(self._source)
        self._owner = os.getpid()

    def open_for_reading(self) -> None:
        os.close(self._sink)
        # Processes that the code has forked may keep the other end open.
        os.set_blocking(self._source, False)

    def received(self) -> list[list[str]]:
        """Return the words of each report."""
        content = b""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._source, 65536):
                content += chunk
        lines = [line.split() for line in content.decode("utf-8", "replace").splitlines()]
        return [words[1:] for words in lines if words[:1] == [self._token]]


# One in a process that has a supervisor, none in others.
_reports: list[_Reports] = []


def supervise() -> None:
    """Continue as a forked process, while the original process waits for it and exits with its exit status.

    The original process exits with 1 in place of 0 if a command of the gate has begun in the forked process and has
    not come to its end there, and if one has failed. Call it first in a program, before it starts threads.
    """
    reports = _Reports()
    gone, alive = os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    child = os.fork()
    if child == 0:
        os.setsid()
        os.close(alive)
        reports.open_for_writing()
        _reports.append(reports)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        threading.Thread(target=_end_with_supervisor, args=(gone,), daemon=True).start()
        return
    os.close(gone)
    reports.open_for_reading()
    # This process never returns to its caller: what the caller cleans up is the forked process's to clean up.
    code = 1
    try:
        code = _wait(child, reports, before)
    finally:
        os._exit(code)


def _end_with_supervisor(gone: int) -> None:
    # The pipe has no other writer and nothing is ever written to it, so a read returns when the supervisor is gone.
    with contextlib.suppress(OSError):
        if not os.read(gone, 1):
            os._exit(1)


def _wait(child: int, reports: _Reports, mask: Iterable[signal.Signals | int]) -> int:
    forwarded: list[int] = []

    def forward(number: int, _frame: object) -> None:
        forwarded.append(number)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for each in _FORWARDED:
        # An ignored signal is ignored by the forked process as well.
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, forward)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    received = reports.received()
    codes = [int(words[1]) for words in received if words[0] == _ENDED]
    early = len(codes) != sum(words[0] == _BEGUN for words in received)
    if early and (status == 0 or (status < 0 and -status not in forwarded)):
        _tell(EndedEarly(reason=f"signal {-status} ended its process" if status else "its process exited with 0"))
    if status < 0:
        with contextlib.suppress(OSError):
            # SIGKILL has no handler.
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status or max([*codes, int(early)])


def _tell(error: EndedEarly) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"error [{error.code}]: {error.message}\nhint: {error.hint}\n".encode())


def begun() -> None:
    """Report that a command has begun: from now on the program must not exit with 0 before ``ended``."""
    for reports in _reports:
        if not reports.running:
            reports.running = True
            reports.send(_BEGUN)


def ended(code: int) -> None:
    """Report that a command has come to its end, and its exit code."""
    for reports in _reports:
        if reports.running:
            reports.running = False
            reports.send(_ENDED, code)
