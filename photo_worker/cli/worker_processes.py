"""Several workers on one machine: Python code of one process uses one processor core."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click

# A process that ends with an error this soon after the first start would do so again: its settings are wrong, or
# Temporal does not respond.
_FIRST_SECONDS = 15.0

# The pause before a process is started again; it doubles as long as processes do not live long.
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_LONG_LIFE_SECONDS = 60.0


@dataclass(frozen=True)
class WorkerProcess:
    """The command of a worker's process and its variables. It must stop on SIGTERM and at the end of its input."""

    command: Sequence[str]
    variables: Mapping[str, str]


async def run_processes(processes: Sequence[WorkerProcess]) -> int:
    """Run worker processes until SIGTERM or SIGINT, which stops all of them; a second signal kills them.

    One that ends by itself is started again. If one ends with an error right after its first start, all are stopped.
    Returns the exit code: 0 after a signal, otherwise that of the process for which all were stopped.
    """
    stop = asyncio.Event()
    running: set[asyncio.subprocess.Process] = set()

    def on_signal() -> None:
        if stop.is_set():
            for process in running:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    codes = await asyncio.gather(*(_keep(process, stop, running) for process in processes))
    return next((code for code in codes if code), 0)


async def _keep(told: WorkerProcess, stop: asyncio.Event, running: set[asyncio.subprocess.Process]) -> int:
    """Run a process again and again until ``stop`` is set; return the exit code for which it was given up, or 0."""
    pause, is_first = 0.0, True
    while not stop.is_set():
        began = time.monotonic()
        code = await _run(told, stop, running)
        if stop.is_set():
            return 0
        lived = time.monotonic() - began
        if is_first and code > 0 and lived < _FIRST_SECONDS:
            click.echo(f"a worker's process ended with code {code} right after its start; all are stopped", err=True)
            stop.set()
            return code
        is_first = False
        grown = 0.0 if lived > _LONG_LIFE_SECONDS else pause * 2
        pause = min(max(grown, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
        click.echo(f"a worker's process ended with code {code}; starting another in {pause:g} s", err=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause)
    return 0


async def _run(told: WorkerProcess, stop: asyncio.Event, running: set[asyncio.subprocess.Process]) -> int:
    """Run a process until it ends, and end it if ``stop`` is set; return its exit code."""
    process = await asyncio.create_subprocess_exec(
        *told.command,
        # A pipe that closes when this process ends, even if it is killed.
        stdin=subprocess.PIPE,
        env=dict(told.variables),
        # This process alone receives Ctrl-C from the terminal: for a worker, a second signal is the order to give up.
        start_new_session=True,
    )
    running.add(process)
    ending, stopping = asyncio.create_task(process.wait()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({ending, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        return await ending
    finally:
        stopping.cancel()
        running.discard(process)
