"""What a child process is told to do to itself at a crash point, and how it does it."""

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
    """A test asked for this error."""


@dataclass(frozen=True)
class Arm:
    """What is to happen: at the ``nth`` time that a process passes a point's phase, and only then.

    ``marker`` is a file that is there from the moment before it happens.
    """

    point: str
    phase: str
    mode: str
    marker: str
    nth: int = 1

    def as_variables(self) -> dict[str, str]:
        """Return the variable that carries it to a child."""
        return {VARIABLE: json.dumps(asdict(self))}


class Tripwire:
    """Does at a crash point what its ``Arm`` says; to be given to ``crash_points.armed``."""

    def __init__(self, arm: Arm) -> None:
        if arm.mode not in MODES:
            raise ValueError(f"there is no mode {arm.mode!r}")
        self._point, self._phase = CrashPoint(arm.point), Phase(arm.phase)
        self._arm = arm
        self._lock = threading.Lock()
        self._passed = 0

    def __call__(self, point: CrashPoint, phase: Phase) -> None:
        """Act where this is the point, the phase and the time."""
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
        # To this thread: of a signal to the process another thread may hear first, and this one goes on for a moment.
        signal.pthread_kill(threading.get_ident(), signal.SIGKILL if self._arm.mode == KILL else signal.SIGSTOP)


def tripwire_of(variables: dict[str, str]) -> Tripwire | None:
    """Return the tripwire that a child's variables ask for, if they ask for one."""
    text = variables.get(VARIABLE)
    return Tripwire(Arm(**json.loads(text))) if text else None
