"""When a worker takes more work: not while what it needs is away, and less of a step that fails again and again.

A job is never lost by what is wrong with a service or a worker, so a worker that goes on polling then would only
pull the whole backlog into attempts that fail, and keep it from workers that are set up rightly. What concerns one job
alone, such as an object that it may not read, keeps no other job waiting.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import defaultdict
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

from photo_worker.errors import (
    BackendMissing,
    BucketForbidden,
    DecoderMissing,
    EngineUnavailable,
    LookFailed,
    ObjectArchived,
    ObjectForbidden,
    ObjectKeyUnusable,
    OcrRefused,
    PhotoWorkerError,
    RequestTokenTaken,
    StepHeldBack,
)

logger = logging.getLogger(__name__)

# A raised check says that something the worker needs is away or refuses it.
Check: TypeAlias = Callable[[], None]

# Between two looks at a service that is away: soon at first, then rarely enough to leave it alone.
FIRST_LOOK_SECONDS = 1.0
LONGEST_LOOK_SECONDS = 15.0

# Single failures are ordinary, such as a throttled call. This many in a row, with no success in between, are not.
MOST_IN_A_ROW = 3
LONGEST_PAUSE_SECONDS = 60.0

# Between two lines of one step that say that it fails. A service that throttles most calls lets some succeed.
SILENCE_SECONDS = 60.0

# Between two pauses so many attempts are let through of jobs that have failed before.
ATTEMPTS_BETWEEN = 16

# About one job's object, document or backend: that says nothing of other jobs, however many have the same.
_OF_ONE_JOB = (
    BucketForbidden,
    DecoderMissing,
    BackendMissing,
    EngineUnavailable,
    ObjectArchived,
    ObjectForbidden,
    ObjectKeyUnusable,
    OcrRefused,
    RequestTokenTaken,
)

# Jobs that have failed are kept in mind, the first of these forgotten first.
_REMEMBERED = 10_000


class Admission:
    """Whether the worker may take another activity. Belongs to one event loop.

    ``checks`` look at what every job needs; they run in a thread, the first that raises counts. ``clock`` tells
    seconds that only grow.
    """

    def __init__(self, checks: Sequence[Check], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._checks = checks
        self._clock = clock
        self._failing: defaultdict[str, _Failing] = defaultdict(_Failing)
        self._told_of: set[str] = set()
        """Steps of which was said that they fail, and not yet that they do not."""
        self._silent_until: defaultdict[str, float] = defaultdict(float)
        self._open = asyncio.Event()
        self._doubt = asyncio.Event()
        self._doubted: set[str] = set()
        self._cleared: set[str] = set()
        self._unforeseen = ""
        self.away: PhotoWorkerError | None = None
        """What keeps the worker from taking work."""

    def heard(self, activity_type: str, error: PhotoWorkerError | None) -> None:
        """Take note of how an attempt ended: with what a service or the worker is at fault for, or not."""
        if error is None:
            self._failing.pop(activity_type, None)
            if activity_type in self._told_of:
                self._told_of.remove(activity_type)
                logger.info("worker takes %s again", activity_type)
            return
        self._doubted.add(error.code)
        self._doubt.set()
        if isinstance(error, _OF_ONE_JOB):
            return
        failing = self._failing[activity_type]
        failing.count(error, self._clock())
        if failing.is_held_back and self._may_tell(activity_type):
            logger.warning(
                "worker takes less work: %s fails again and again: %s",
                activity_type,
                error.message,
                extra={"photo": {"code": error.code, "hint": error.hint}},
            )

    def _may_tell(self, activity_type: str) -> bool:
        """Tell whether to say that a step fails: until it succeeds once, and once a minute."""
        now = self._clock()
        if activity_type in self._told_of or now < self._silent_until[activity_type]:
            return False
        self._told_of.add(activity_type)
        self._silent_until[activity_type] = now + SILENCE_SECONDS
        return True

    def held_back(self, activity_type: str, job_id: str) -> StepHeldBack | None:
        """Return why an attempt is to be put back: its step fails again and again, whatever the checks say.

        None lets it through; ``ended`` is to be called then. Other steps go on meanwhile.
        """
        failing = self._failing.get(activity_type)
        if failing is None or failing.last is None or failing.admits(job_id, self._clock()):
            return None
        return StepHeldBack(step=activity_type, code=failing.last.code, reason=failing.last.message)

    def ended(self, activity_type: str, job_id: str, *, failed: bool) -> None:
        """Take note of which job's attempt has ended, and whether a service or the worker was at fault."""
        if failed:
            self._failing[activity_type].remember(job_id)
        if activity_type in self._failing:
            self._failing[activity_type].let_go(job_id)

    async def first_look(self) -> None:
        """Wait until everything that the worker needs is there, and open."""
        await self._recover(await self._look())
        self._open.set()

    async def watch(self) -> None:
        """Look whenever an attempt failed by what is wrong with a service or the worker; runs until cancelled."""
        seconds = FIRST_LOOK_SECONDS
        while True:
            if not self._doubt.is_set():
                seconds, self._cleared = FIRST_LOOK_SECONDS, set()
            await self._doubt.wait()
            self._doubt.clear()
            doubted, self._doubted = self._doubted, set()
            found = await self._look()
            if found is None:
                # The attempts met something of their own, such as one refused object, and will go on to meet it.
                seconds = min(seconds * 2, LONGEST_LOOK_SECONDS) if doubted <= self._cleared else FIRST_LOOK_SECONDS
                self._cleared |= doubted
                await self._rest(seconds)
                continue
            self._open.clear()
            await self._recover(found)
            self._open.set()

    async def _rest(self, seconds: float) -> None:
        """Let so many seconds pass, or fewer where an attempt meets what was not looked into yet."""
        for _ in range(max(1, round(seconds / FIRST_LOOK_SECONDS))):
            await asyncio.sleep(FIRST_LOOK_SECONDS)
            if not self._doubted <= self._cleared:
                return

    async def admitted(self) -> None:
        """Wait until the worker may take another activity."""
        await self._open.wait()

    @property
    def is_open(self) -> bool:
        """Tell whether the worker may take another activity now."""
        return self._open.is_set()

    async def _recover(self, found: PhotoWorkerError | None) -> None:
        """Say once of each code that it is away, wait until nothing is, and say that once too."""
        began = self._clock()
        seconds = FIRST_LOOK_SECONDS
        said: set[str] = set()
        while found is not None:
            self.away = found
            if found.code not in said:
                level = logging.ERROR if found.fault == "worker" else logging.WARNING
                logger.log(
                    level,
                    "worker takes no work: %s",
                    found.message,
                    extra={"photo": {"code": found.code, "hint": found.hint}},
                )
                said.add(found.code)
            await asyncio.sleep(seconds)
            seconds = min(seconds * 2, LONGEST_LOOK_SECONDS)
            found = await self._look()
        if self.away is not None:
            self.away = None
            # Attempts failed by what has passed.
            self._failing.clear()
            self._told_of.clear()
            logger.info("worker takes work again", extra={"photo": {"seconds": round(self._clock() - began, 1)}})

    async def _look(self) -> PhotoWorkerError | None:
        try:
            found = await asyncio.to_thread(first_failure, self._checks)
        except Exception as error:
            # A defect of a check, or a machine that has no thread to spare, is no reason never to look again.
            reason = f"{type(error).__name__}: {error}"
            if reason != self._unforeseen:
                logger.exception("look at services failed unexpectedly")
            self._unforeseen = reason
            return LookFailed(reason=reason)
        self._unforeseen = ""
        return found


class _Failing:
    """Attempts of one step that have failed in a row.

    While they do, jobs that have not failed here are tried one at a time, one a second: they tell soonest whether it is
    the service or other jobs' documents. Those that have failed are tried between pauses, which grow.
    """

    def __init__(self) -> None:
        self.in_a_row = 0
        self.last: PhotoWorkerError | None = None
        self._failed: dict[str, None] = {}
        self._tried: str | None = None
        self._next_at = 0.0
        self._pause = 0.5
        self._until = 0.0
        self._left = 0

    @property
    def is_held_back(self) -> bool:
        """Tell whether so many have failed that not every attempt is let through."""
        return self.in_a_row >= MOST_IN_A_ROW

    def count(self, error: PhotoWorkerError, now: float) -> None:
        """Count one more failure."""
        self.in_a_row += 1
        self.last = error
        if self.in_a_row == MOST_IN_A_ROW:
            self._begin_pause(now)

    def remember(self, job_id: str) -> None:
        """Keep in mind that this job has failed."""
        self._failed[job_id] = None
        if len(self._failed) > _REMEMBERED:
            self._failed.pop(next(iter(self._failed)))

    def let_go(self, job_id: str) -> None:
        """Let another job that has not failed yet be tried."""
        if self._tried == job_id:
            self._tried = None

    def admits(self, job_id: str, now: float) -> bool:
        """Tell whether this job's attempt is let through."""
        if not self.is_held_back:
            return True
        if job_id not in self._failed:
            if self._tried is not None or now < self._next_at:
                return False
            self._tried, self._next_at = job_id, now + FIRST_LOOK_SECONDS
            return True
        if now < self._until:
            return False
        self._left -= 1
        if self._left == 0:
            self._begin_pause(now)
        return True

    def _begin_pause(self, now: float) -> None:
        self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
        self._until = now + self._pause
        self._left = ATTEMPTS_BETWEEN


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
