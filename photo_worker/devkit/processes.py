"""Finding and ending processes, safe against pids that the system has reused."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import psutil

# Setting the clock while the stack runs slightly shifts the start times that Linux reports.
_CLOCK_SLACK = 2.0


@dataclass(frozen=True)
class ProcessId:
    """A process by pid and start time (seconds since 1970)."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """Identify a process that runs now; raises ``psutil.NoSuchProcess``."""
        return cls(pid, psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """Return the process if it still runs and is the recorded one, else None."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < _CLOCK_SLACK
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


def find(pid: int | None, *arguments: str) -> psutil.Process | None:
    """Return the process of a pid if it runs and its command line has all of these arguments, else None.

    Unlike a start time, a command line does not depend on the clock.
    """
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        return process if set(arguments) <= set(process.cmdline()) else None
    except psutil.Error:
        return None


def search(*arguments: str) -> list[psutil.Process]:
    """Return this user's processes whose command line has all of these arguments."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if set(arguments) <= set(process.cmdline()) and process.uids().effective == os.geteuid():
                found.append(process)
    return found


def terminate(process: psutil.Process, *, timeout: float) -> None:
    """Terminate a process, and kill it if it has not ended after ``timeout`` seconds; no error if it is gone."""
    with suppress(psutil.NoSuchProcess):
        process.terminate()
        if not wait_gone(process, timeout=timeout):
            process.kill()


def end(processes: Iterable[psutil.Process], *, grace: float) -> list[int]:
    """End processes and their descendants: SIGTERM, then SIGKILL after ``grace`` seconds.

    Returns the sorted pids of all of them.
    """
    family: dict[int, psutil.Process] = {}
    for process in processes:
        family[process.pid] = process
        try:
            family.update({child.pid: child for child in process.children(recursive=True)})
        except psutil.Error:
            continue
    for process in family.values():
        _signal(process, kill=False)
    _, alive = psutil.wait_procs(list(family.values()), timeout=grace)
    for process in alive:
        _signal(process, kill=True)
    psutil.wait_procs(alive, timeout=grace)
    return sorted(family)


def wait_gone(process: psutil.Process, *, timeout: float) -> bool:
    """Wait until a process has ended; returns False if it still runs after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while _runs(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _signal(process: psutil.Process, *, kill: bool) -> None:
    try:
        process.kill() if kill else process.terminate()
    except psutil.NoSuchProcess:
        return
