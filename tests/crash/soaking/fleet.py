"""The worker processes of a soak: a constant number, in spite of kills and pauses."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

from tests.crash.real.processes import Child
from tests.crash.real.worker import AWAY

_START_SECONDS = 60.0
# The number of characters of an ended worker's log that errors show.
_TAIL = 1000


class Fleet:
    """Slots with one worker each; a killed worker is replaced at once."""

    def __init__(self, hire: Callable[[], Awaitable[Child]], size: int) -> None:
        self._hire = hire
        self._slots: list[Child | None] = [None] * size
        self._resuming: set[asyncio.Task[None]] = set()
        self.kills = 0
        self.pauses = 0
        self.turned_away = 0
        self._killed: set[int] = set()
        self.unexpected: list[str] = []

    async def start(self) -> None:
        """Fill every slot, and wait until each worker takes work: faults begin after that.

        Raises ``RuntimeError`` with the end of a worker's log if it ends instead.
        """
        for slot in range(len(self._slots)):
            child = self._slots[slot] = await self._hire()
            async with asyncio.timeout(_START_SECONDS):
                while "worker polls" not in child.output():
                    if not child.alive:
                        said = child.output()[-_TAIL:]
                        raise RuntimeError(f"a worker ended with {child.status} before it took work: {said}")
                    await asyncio.sleep(0.05)

    async def kill(self, slot: int) -> None:
        """Kill a slot's worker, even a paused one, and start another in its place."""
        child = self._at(slot)
        self.kills += 1
        self._killed.add(child.pid)
        await child.kill()
        self._slots[slot] = await self._hire()

    def pause(self, slot: int, seconds: float) -> None:
        """Pause a slot's worker with SIGSTOP and resume it after ``seconds``, unless it is killed before."""
        child = self._at(slot)
        self.pauses += 1
        child.signal(signal.SIGSTOP)

        async def resume() -> None:
            await asyncio.sleep(seconds)
            child.signal(signal.SIGCONT)

        task = asyncio.create_task(resume())
        self._resuming.add(task)
        task.add_done_callback(self._resuming.discard)

    async def repair(self) -> None:
        """Replace workers that have ended by themselves.

        A worker that starts while a service is away ends, and its supervisor restarts it; no other worker should end.
        """
        for slot, child in enumerate(self._slots):
            if child is None or child.alive or child.pid in self._killed:
                continue
            if child.status == AWAY:
                self.turned_away += 1
            else:
                self.unexpected.append(f"a worker ended by itself with {child.status}: {child.output()[-_TAIL:]}")
            self._slots[slot] = await self._hire()

    async def drain(self, seconds: float) -> None:
        """Resume all workers and let them finish."""
        await asyncio.gather(*self._resuming)
        await self.repair()
        await asyncio.gather(*(child.drain(seconds) for child in self._slots if child is not None))

    def _at(self, slot: int) -> Child:
        child = self._slots[slot]
        if child is None:
            raise RuntimeError("the fleet has not started")
        return child
