"""Arm a child process to kill, stop or fail itself at a crash point."""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from photo_worker.crash_points import CrashPoint, Phase

VARIABLE = "PHOTO_WORKER_TEST_CRASH"

KILL, STOP, RAISE = "kill", "stop", "raise"
MODES = (KILL, STOP, RAISE)


class InjectedFault(Exception):
    """The error that an armed process raises at its crash point."""


@dataclass(frozen=True)
class Arm:
    """The fault of a process: injected when it passes a point's phase for the ``nth`` time, and only then.

    ``marker`` is a file that the process creates just before.
    """

    point: str
    phase: str
    mode: str
    marker: str
    nth: int = 1

    def as_variables(self) -> dict[str, str]:
        """Return the environment variable that passes it to a child."""
        return {VARIABLE: json.dumps(asdict(self))}


class Tripwire:
    """Injects the fault of an ``Arm`` at its crash point; passed to ``crash_points.armed``."""

    def __init__(self, arm: Arm) -> None:
        if arm.mode not in MODES:
            raise ValueError(f"there is no mode {arm.mode!r}")
        self._point, self._phase = CrashPoint(arm.point), Phase(arm.phase)
        self._arm = arm
        self._lock = threading.Lock()
        self._passed = 0

    def __call__(self, point: CrashPoint, phase: Phase) -> None:
        """Inject the fault if point, phase and count match."""
        if point is not self._point or phase is not self._phase:
            return
        with self._lock:
            self._passed += 1
            due = self._passed == self._arm.nth
        if due:
            Path(self._arm.marker).write_text(f"{os.getpid()}\n", encoding="utf-8")
            self._act()

    def _act(self) -> None:
        if self._arm.mode == RAISE:
            raise InjectedFault(f"{self._phase.value} {self._point.value}")
        # Sent to this thread: another thread may receive a signal to the process, while this one runs on for a moment.
        signal.pthread_kill(threading.get_ident(), signal.SIGKILL if self._arm.mode == KILL else signal.SIGSTOP)


def tripwire_of(variables: dict[str, str]) -> Tripwire | None:
    """Return the tripwire of a child's environment variables, None without one."""
    text = variables.get(VARIABLE)
    return Tripwire(Arm(**json.loads(text))) if text else None
