"""Services that are held in the middle of whatever they do: which, since when, and how they go on.

A stopped process handles no signal but SIGKILL, so whoever ends a service has to let it go on first.
What is stopped is therefore noted in the stack's ``run`` directory, where the supervisor and its reaper
look as well: children of Postgres lead process groups of their own, and would stay stopped for ever.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from photo_worker.devkit.layout import StackPaths
from photo_worker.devkit.state import read_json, write_private
from photo_worker.errors import StackError

if TYPE_CHECKING:
    from psutil import Process

# The reaper, which has the standard library alone, knows this name too.
FILE = "paused.json"
_STOP_SECONDS = 2.0


@dataclass(frozen=True)
class Paused:
    """A service that was stopped: when (ISO 8601, UTC), and its processes by number and start time, the first first."""

    since: str
    processes: list[tuple[int, float]]


def pause(paths: StackPaths, service: str, pid: int) -> None:
    """Stop a service's first process and all below it; no error where it is stopped already.

    Raises ``DataUnwritable``, and ``StackError`` where the process has ended.
    """
    import psutil

    noted = _noted(paths)
    began = noted[service].since if service in noted else _now()
    stopped: dict[tuple[int, float], Process] = {}
    try:
        first = psutil.Process(pid)
        # The first is stopped first: from then on nothing but its children can start anything.
        while new := {
            identity: process for identity, process in _process_tree(first).items() if identity not in stopped
        }:
            stopped |= new
            # Noted before it is done: killed in between, this leaves nothing stopped that nobody knows of.
            _save(paths, {**noted, service: Paused(began, list(stopped))})
            for process in new.values():
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
        deadline = time.monotonic() + _STOP_SECONDS
        while first.status() != psutil.STATUS_STOPPED and time.monotonic() < deadline:
            time.sleep(0.002)
    except psutil.NoSuchProcess as error:
        raise StackError(reason=f"{service} has just ended") from error


def record_paused(paths: StackPaths, service: str) -> None:
    """Note that a service is paused from now on, for whoever pauses it by other means. Raises ``DataUnwritable``."""
    _save(paths, {**_noted(paths), service: Paused(_now(), [])})


def paused_since(paths: StackPaths) -> dict[str, str]:
    """Return since when each service is paused, as noted: whether it still is, this does not ask."""
    return {name: entry.since for name, entry in _noted(paths).items()}


def resume(paths: StackPaths, service: str | None = None) -> None:
    """Let a service go on, or all of them; no error where none is stopped. Raises ``DataUnwritable``."""
    noted = _noted(paths)
    chosen = [name for name in noted if service in {None, name}]
    if not chosen:
        return
    resume_processes(paths, service)
    _save(paths, {name: entry for name, entry in noted.items() if name not in chosen})


def resume_processes(paths: StackPaths, service: str | None = None) -> None:
    """Continue the processes of a service, or of all, and leave the list as it is: for whoever is about to end them."""
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
    """Continue a process that is stopped, and all below it."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        # Looking for children asks every process of the machine.
        if first.status() == psutil.STATUS_STOPPED:
            for process in _process_tree(first).values():
                with suppress(psutil.NoSuchProcess):
                    process.resume()


def paused(paths: StackPaths) -> dict[str, str]:
    """Return since when each service is stopped, by its name; only of those whose first process really is."""
    return {name: entry.since for name, entry in _noted(paths).items() if _is_stopped(entry)}


def _is_stopped(entry: Paused) -> bool:
    import psutil

    from photo_worker.devkit.processes import ProcessId

    process = ProcessId(*entry.processes[0]).process() if entry.processes else None
    with suppress(psutil.Error):
        return process is not None and process.status() == psutil.STATUS_STOPPED
    return False


def _process_tree(first: Process) -> dict[tuple[int, float], Process]:
    """Return a process and all below it, the first first; raises ``psutil.NoSuchProcess`` where that has ended."""
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
    """Read the list. One that is damaged counts as empty: it is a hint, and deleted at the next start."""
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
        # Of no use any more, and of no harm: what it names is not stopped.
        with suppress(OSError):
            _file(paths).unlink(missing_ok=True)
        return
    values = {name: {"since": entry.since, "processes": entry.processes} for name, entry in entries.items()}
    write_private(_file(paths), values)
