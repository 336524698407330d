"""When a worker takes more work: not while what it needs is away, and less where attempt after attempt fails.

A job is never lost by what is wrong with a service or a worker, so a worker that goes on polling then would only
pull the whole backlog into attempts that fail, and keep it from workers that are set up rightly.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

from temporalio.worker import (
    CustomSlotSupplier,
    SlotMarkUsedContext,
    SlotPermit,
    SlotReleaseContext,
    SlotReserveContext,
)

from photo_worker.errors import PhotoWorkerError

logger = logging.getLogger(__name__)

# A raised check says that something the worker needs is away or refuses it.
Check: TypeAlias = Callable[[], None]

# Between two looks at a service that is away: soon at first, then rarely enough to leave it alone.
FIRST_LOOK_SECONDS = 1.0
LONGEST_LOOK_SECONDS = 15.0

# Single failures are ordinary, such as a throttled call. This many in a row, with no success in between, are not.
MOST_IN_A_ROW = 3
LONGEST_PAUSE_SECONDS = 60.0


class Admission:
    """Whether the worker may take another activity. Belongs to one event loop.

    ``checks`` look at what every job needs; they run in a thread, the first that raises counts. ``clock`` tells
    seconds that only grow.
    """

    def __init__(self, checks: Sequence[Check], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._checks = checks
        self._clock = clock
        self._in_a_row: Counter[str] = Counter()
        self._until = 0.0
        self._open = asyncio.Event()
        self._doubt = asyncio.Event()
        self.away: PhotoWorkerError | None = None
        """What keeps the worker from taking work."""

    def heard(self, activity_type: str, error: PhotoWorkerError | None) -> None:
        """Take note of how an attempt ended: with what a service or the worker is at fault for, or not."""
        if error is None:
            self._in_a_row.pop(activity_type, None)
            if not self._in_a_row:
                self._until = 0.0
            return
        self._in_a_row[activity_type] += 1
        times = self._in_a_row[activity_type]
        if times >= MOST_IN_A_ROW:
            pause = min(2.0 ** (times - MOST_IN_A_ROW), LONGEST_PAUSE_SECONDS)
            self._until = max(self._until, self._clock() + pause)
        if times == MOST_IN_A_ROW:
            logger.warning(
                "worker takes less work: %s fails again and again: %s",
                activity_type,
                error.message,
                extra={"photo": {"code": error.code, "hint": error.hint}},
            )
        self._doubt.set()

    async def first_look(self) -> None:
        """Wait until everything that the worker needs is there, and open."""
        await self._recover(await self._look())
        self._open.set()

    async def watch(self) -> None:
        """Look whenever an attempt failed by what is wrong with a service or the worker; runs until cancelled."""
        while True:
            await self._doubt.wait()
            self._doubt.clear()
            found = await self._look()
            if found is None:
                # The attempt met something of its own, such as one refused object.
                await asyncio.sleep(FIRST_LOOK_SECONDS)
                continue
            self._open.clear()
            await self._recover(found)
            self._open.set()

    async def admitted(self) -> None:
        """Wait until the worker may take another activity."""
        while not self.is_open:
            await self._open.wait()
            left = self._until - self._clock()
            if left > 0:
                # A success meanwhile opens earlier.
                await asyncio.sleep(min(left, FIRST_LOOK_SECONDS))

    @property
    def is_open(self) -> bool:
        """Tell whether the worker may take another activity now."""
        return self._open.is_set() and self._clock() >= self._until

    async def _recover(self, found: PhotoWorkerError | None) -> None:
        """Say once what is away, wait until it is back, and say that once too."""
        began = self._clock()
        seconds = FIRST_LOOK_SECONDS
        said = ""
        while found is not None:
            self.away = found
            if found.code != said:
                level = logging.ERROR if found.fault == "worker" else logging.WARNING
                logger.log(
                    level,
                    "worker takes no work: %s",
                    found.message,
                    extra={"photo": {"code": found.code, "hint": found.hint}},
                )
                said = found.code
            await asyncio.sleep(seconds)
            seconds = min(seconds * 2, LONGEST_LOOK_SECONDS)
            found = await self._look()
        if self.away is not None:
            self.away = None
            logger.info("worker takes work again", extra={"photo": {"seconds": round(self._clock() - began, 1)}})

    async def _look(self) -> PhotoWorkerError | None:
        return await asyncio.to_thread(first_failure, self._checks)


def first_failure(checks: Sequence[Check]) -> PhotoWorkerError | None:
    """Return what the first failing check raises."""
    for check in checks:
        try:
            check()
        except PhotoWorkerError as error:
            return error
    return None


class AdmittedSlots(CustomSlotSupplier):
    """As many slots for activities as the worker has threads, given out while ``admission`` is open.

    Temporal's pollers reserve a slot before they ask for a task, so that a worker without admission does not poll;
    what was asked for before still comes, once.
    """

    def __init__(self, admission: Admission, slots: int) -> None:
        self._admission = admission
        self._free = threading.Semaphore(slots)
        self._freed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
        """Wait for admission and a slot."""
        while True:
            await self._admission.admitted()
            self._freed.clear()
            if self._free.acquire(blocking=False):
                return SlotPermit()
            await self._freed.wait()

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:
        """Return a slot for an activity that is offered together with a workflow task, if one is free."""
        if self._admission.is_open and self._free.acquire(blocking=False):
            return SlotPermit()
        return None

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None:
        """Do nothing: a slot is taken from its reservation on."""

    def release_slot(self, ctx: SlotReleaseContext) -> None:
        """Give a slot back. The SDK calls this from threads of its own."""
        self._free.release()
        # The loop is closed where the process is about to end.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._freed.set)
