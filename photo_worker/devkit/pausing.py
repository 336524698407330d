"""Pausing and resuming services, with a list of the paused ones.

A stopped process handles no signal but SIGKILL, so a service has to be resumed before it is ended. The
stopped processes are therefore listed in the stack's ``run`` directory, which the supervisor and its reaper
read as well: children of Postgres lead process groups of their own, and would stay stopped for ever.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from photo_worker.devkit.errors import StackError
from photo_worker.devkit.layout import StackPaths
from photo_worker.devkit.state import read_json, write_private

if TYPE_CHECKING:
    from psutil import Process

# The reaper, which uses the standard library only, repeats this name.
FILE = "paused.json"
_STOP_SECONDS = 2.0


@dataclass(frozen=True)
class Paused:
    """A paused service: since when (ISO 8601, UTC), and its processes by pid and start time, its main process first."""

    since: str
    processes: list[tuple[int, float]]


def pause(paths: StackPaths, service: str, pid: int) -> None:
    """Stop a service's main process and all its descendants; no error if they are stopped already.

    Raises ``DataUnwritable``, and ``StackError`` if the process has ended.
    """
    import psutil

    noted = _noted(paths)
    began = noted[service].since if service in noted else _now()
    stopped: dict[tuple[int, float], Process] = {}
    try:
        first = psutil.Process(pid)
        # The main process is stopped first: from then on only its descendants can start new processes.
        while new := {
            identity: process for identity, process in _process_tree(first).items() if identity not in stopped
        }:
            stopped |= new
            # Saved before the processes are stopped: if this process is killed in between, every stopped one is listed.
            _save(paths, {**noted, service: Paused(began, list(stopped))})
            for process in new.values():
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
        deadline = time.monotonic() + _STOP_SECONDS
        # A signal takes effect when the kernel next runs the process, which takes its time on a loaded machine.
        while not all(map(_has_stopped, stopped.values())) and time.monotonic() < deadline:
            time.sleep(0.002)
        # Raises if the main process has ended meanwhile.
        first.status()
    except psutil.NoSuchProcess as error:
        raise StackError(reason=f"{service} has just ended") from error


def record_paused(paths: StackPaths, service: str) -> None:
    """Record a service as paused now, for callers that pause it by other means. Raises ``DataUnwritable``."""
    _save(paths, {**_noted(paths), service: Paused(_now(), [])})


def paused_since(paths: StackPaths) -> dict[str, str]:
    """Return since when each service is paused according to the list, without checking its processes."""
    return {name: entry.since for name, entry in _noted(paths).items()}


def resume(paths: StackPaths, service: str | None = None) -> None:
    """Resume one service, or all, and update the list; no error if none is paused. Raises ``DataUnwritable``."""
    noted = _noted(paths)
    chosen = [name for name in noted if service in {None, name}]
    if not chosen:
        return
    resume_processes(paths, service)
    _save(paths, {name: entry for name, entry in noted.items() if name not in chosen})


def resume_processes(paths: StackPaths, service: str | None = None) -> None:
    """Resume the processes of one service, or of all, and keep the list: for callers that are about to end them."""
    from photo_worker.devkit.processes import ProcessId

    for name, entry in _noted(paths).items():
        if service not in {None, name}:
            continue
        for pid, started in entry.processes:
            process = ProcessId(pid, started).process()
            if process is not None:
                import psutil

                with suppress(psutil.NoSuchProcess):
                    process.resume()


def resume_process_tree(pid: int) -> None:
    """Resume a stopped process and all its descendants."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        # Finding descendants reads every process of the machine, so do it only if needed.
        if first.status() == psutil.STATUS_STOPPED:
            for process in _process_tree(first).values():
                with suppress(psutil.NoSuchProcess):
                    process.resume()


def paused(paths: StackPaths) -> dict[str, str]:
    """Return since when each paused service is paused, by name; only if its main process is really stopped."""
    return {name: entry.since for name, entry in _noted(paths).items() if _is_stopped(entry)}


def _has_stopped(process: Process) -> bool:
    import psutil

    with suppress(psutil.NoSuchProcess):
        return process.status() in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}
    return True


def _is_stopped(entry: Paused) -> bool:
    import psutil

    from photo_worker.devkit.processes import ProcessId

    process = ProcessId(*entry.processes[0]).process() if entry.processes else None
    with suppress(psutil.Error):
        return process is not None and process.status() == psutil.STATUS_STOPPED
    return False


def _process_tree(first: Process) -> dict[tuple[int, float], Process]:
    """Return a process and its descendants, itself first; raises ``psutil.NoSuchProcess`` if it has ended."""
    import psutil

    family = {(first.pid, first.create_time()): first}
    for child in first.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            family[(child.pid, child.create_time())] = child
    return family


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _file(paths: StackPaths) -> Path:
    return paths.run / FILE


def _noted(paths: StackPaths) -> dict[str, Paused]:
    """Read the list. A damaged one counts as empty: it is only a hint, and deleted at the next start."""
    with suppress(StackError):
        return dict(_entries(read_json(_file(paths))))
    return {}


def _entries(values: object) -> Iterator[tuple[str, Paused]]:
    if not isinstance(values, dict):
        return
    for name, entry in values.items():
        with suppress(KeyError, TypeError, ValueError):
            yield str(name), Paused(str(entry["since"]), [(int(pid), float(at)) for pid, at in entry["processes"]])


def _save(paths: StackPaths, entries: dict[str, Paused]) -> None:
    if not entries:
        # If the file cannot be deleted, it does no harm: the processes it names are not stopped.
        with suppress(OSError):
            _file(paths).unlink(missing_ok=True)
        return
    values = {name: {"since": entry.since, "processes": entry.processes} for name, entry in entries.items()}
    write_private(_file(paths), values)
