"""Kill single services of a stack with SIGKILL and restart them alone."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time

import psutil

from photo_worker.devkit.processes import ProcessId
from photo_worker.devkit.service import Service
from photo_worker.devkit.service_registry import default_services
from photo_worker.devkit.stack import Stack
from photo_worker.devkit.state import Processes, StackRecord
from tests.crash.real.processes import Child, Forkserver

NAMES = tuple(service.name for service in default_services())

_PATIENCE_SECONDS = 60.0


class Services:
    """Restarts services of a running stack.

    ``Stack.up`` would restart all of them. Here the others continue, as in a crash; a restarted service is a child of
    the fork server and ends with it.
    """

    def __init__(self, stack: Stack, forkserver: Forkserver) -> None:
        record = StackRecord.load(stack.paths)
        if record is None:
            raise RuntimeError(f"the stack {stack.name} does not run")
        self._record = record
        self._stack = stack
        self._forkserver = forkserver
        self._services = {service.name: service for service in default_services()}
        self._restarted: dict[str, Child] = {}

    async def restart(self, name: str) -> float:
        """Kill a service, restart it on its data, and return the seconds until it responded."""
        service = self._services[name]
        began = time.monotonic()
        await self._kill(name)
        await self._start(service, began)
        return time.monotonic() - began

    async def close(self) -> None:
        """End the restarted services; the supervisor ends the others."""
        await asyncio.gather(*(child.kill() for child in self._restarted.values() if child.alive))

    async def _kill(self, name: str) -> None:
        child = self._restarted.pop(name, None)
        if child is not None:
            await child.kill()
            return
        entry = Processes.load(self._stack.paths).services[name]
        assert entry.pid is not None
        assert entry.started is not None
        process = ProcessId(entry.pid, entry.started).process()
        if process is None:
            raise RuntimeError(f"{name} does not run")
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
        # Its parent, the supervisor, reaps it and ends the rest of its group.
        await asyncio.to_thread(psutil.wait_procs, [process], _PATIENCE_SECONDS)

    async def _start(self, service: Service, began: float) -> None:
        plan = await asyncio.to_thread(service.plan, self._record, self._stack.paths)
        child = await self._forkserver.program(plan)
        while not await asyncio.to_thread(service.is_alive, self._record):
            if not child.alive:
                # Postgres' child processes outlive their parent for a moment, and hold the data.
                child = await self._forkserver.program(plan)
            if time.monotonic() - began > _PATIENCE_SECONDS:
                raise TimeoutError(f"{service.name} does not respond after it was killed: {child.output()[-2000:]}")
            await asyncio.sleep(0.05)
        self._restarted[service.name] = child
