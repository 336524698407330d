"""Admission of activities: a worker polls only while its services respond, and limits activities that keep failing.

A fault of a service or a worker never ends a job. A worker that kept polling during such a fault would pull the whole
backlog into failing attempts and keep it from workers that are configured correctly. A fault that concerns a single
job, such as an object that it may not read, delays no other job.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
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

# Raises a ``PhotoWorkerError`` if something that the worker needs is unavailable or refuses it.
Check: TypeAlias = Callable[[], None]

# Single failures are normal, such as a throttled call. This many in a row, without a success in between, are not.
MOST_IN_A_ROW = 3

# Time between two log lines that say that one activity type fails: a service that throttles most calls still lets some
# succeed, and each success ends the streak.
SILENCE_SECONDS = 60.0

# Attempts of previously failed jobs that are admitted between two pauses.
ATTEMPTS_BETWEEN = 16

# Errors about one job's object, document or backend. They say nothing about other jobs, however many fail alike.
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

# At most this many failed jobs are remembered; the oldest is forgotten first.
_REMEMBERED = 10_000


@dataclass(frozen=True)
class AdmissionTimes:
    """Seconds that an admission waits.

    Between two rounds of checks during an outage they grow from ``first_look`` to ``longest_look``: short at first,
    then long enough not to burden the service. ``longest_pause`` bounds those between attempts of failed jobs.
    """

    first_look: float = 1.0
    longest_look: float = 15.0
    longest_pause: float = 60.0


class Admission:
    """Decides whether the worker may take another activity. Belongs to one event loop.

    ``checks`` probe what every job needs. They run in a thread; the first one that raises decides. ``clock`` returns
    monotonic seconds. ``tell`` is called with the code of ``away`` whenever that changes.
    """

    def __init__(
        self,
        checks: Sequence[Check],
        *,
        clock: Callable[[], float] = time.monotonic,
        times: AdmissionTimes = AdmissionTimes(),
        tell: Callable[[str | None], object] = lambda code: None,
    ) -> None:
        self._checks = checks
        self._clock = clock
        self._times = times
        self._failing: defaultdict[str, _FailureStreak] = defaultdict(lambda: _FailureStreak(times))
        self._told_of: set[str] = set()
        """Activity types that were logged as failing and have not succeeded since."""
        self._silent_until: defaultdict[str, float] = defaultdict(float)
        self._open = asyncio.Event()
        self._doubt = asyncio.Event()
        self._doubted: set[str] = set()
        self._cleared: set[str] = set()
        self._unforeseen = ""
        self._tell = tell
        self.away: PhotoWorkerError | None = None
        """The error that keeps the worker from taking work, or None."""

    def record_outcome(self, activity_type: str, error: PhotoWorkerError | None) -> None:
        """Record the outcome of an attempt: ``error`` if a service or the worker is at fault, otherwise None."""
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
        """Tell whether to log that an activity type fails: once until it succeeds, and at most once a minute."""
        now = self._clock()
        if activity_type in self._told_of or now < self._silent_until[activity_type]:
            return False
        self._told_of.add(activity_type)
        self._silent_until[activity_type] = now + SILENCE_SECONDS
        return True

    def held_back(self, activity_type: str, job_id: str) -> StepHeldBack | None:
        """Return why an attempt must not run now: its activity type keeps failing although all checks pass.

        None admits the attempt; the caller then calls ``ended`` after it. Other activity types are not affected.
        """
        failing = self._failing.get(activity_type)
        if failing is None or failing.last is None or failing.admits(job_id, self._clock()):
            return None
        return StepHeldBack(step=activity_type, code=failing.last.code, reason=failing.last.message)

    def ended(self, activity_type: str, job_id: str, *, failed: bool) -> None:
        """Record that a job's attempt ended, and whether a service or the worker was at fault."""
        if failed:
            self._failing[activity_type].remember(job_id)
        if activity_type in self._failing:
            self._failing[activity_type].let_go(job_id)

    async def wait_until_ready(self) -> None:
        """Wait until every check passes, then open."""
        await self._recover(await self._look())
        self._open.set()

    async def watch(self) -> None:
        """Run the checks whenever an attempt fails by the fault of a service or the worker. Runs until cancelled."""
        seconds = self._times.first_look
        while True:
            if not self._doubt.is_set():
                seconds, self._cleared = self._times.first_look, set()
            await self._doubt.wait()
            self._doubt.clear()
            doubted, self._doubted = self._doubted, set()
            found = await self._look()
            if found is None:
                # The attempts failed for a reason of their own, such as a refused object, and will fail again.
                seconds = (
                    min(seconds * 2, self._times.longest_look) if doubted <= self._cleared else self._times.first_look
                )
                self._cleared |= doubted
                await self._rest(seconds)
                continue
            self._open.clear()
            await self._recover(found)
            self._open.set()

    async def _rest(self, seconds: float) -> None:
        """Sleep for so many seconds, or less if an attempt fails with a code that was not checked yet."""
        for _ in range(max(1, round(seconds / self._times.first_look))):
            await asyncio.sleep(self._times.first_look)
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
        """Log each error code of the outage once, wait until every check passes, and log that once."""
        began = self._clock()
        seconds = self._times.first_look
        said: set[str] = set()
        while found is not None:
            self.away = found
            self._tell(found.code)
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
            seconds = min(seconds * 2, self._times.longest_look)
            found = await self._look()
        if self.away is not None:
            self.away = None
            self._tell(None)
            # These attempts failed because of the outage that has ended.
            self._failing.clear()
            self._told_of.clear()
            logger.info("worker takes work again", extra={"photo": {"seconds": round(self._clock() - began, 1)}})

    async def _look(self) -> PhotoWorkerError | None:
        try:
            found = await asyncio.to_thread(first_failure, self._checks)
        except Exception as error:
            # After a defect in a check, or if the machine has no thread left, the checks still have to run again.
            reason = f"{type(error).__name__}: {error}"
            if reason != self._unforeseen:
                logger.exception("look at services failed unexpectedly")
            self._unforeseen = reason
            return LookFailed(reason=reason)
        self._unforeseen = ""
        return found


class _FailureStreak:
    """A streak of failed attempts of one activity type.

    During a streak, jobs that have not failed here are tried one at a time, one per second: they show soonest whether
    the service fails or only other jobs' documents. Jobs that have failed are tried between pauses of growing length.
    """

    def __init__(self, times: AdmissionTimes) -> None:
        self._times = times
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
        """Tell whether the streak is long enough to limit attempts."""
        return self.in_a_row >= MOST_IN_A_ROW

    def count(self, error: PhotoWorkerError, now: float) -> None:
        """Add one failure to the streak at ``now`` (seconds)."""
        self.in_a_row += 1
        self.last = error
        if self.in_a_row == MOST_IN_A_ROW:
            self._begin_pause(now)

    def remember(self, job_id: str) -> None:
        """Remember that this job has failed."""
        self._failed[job_id] = None
        if len(self._failed) > _REMEMBERED:
            self._failed.pop(next(iter(self._failed)))

    def let_go(self, job_id: str) -> None:
        """Allow the next job that has not failed to be tried after this one."""
        if self._tried == job_id:
            self._tried = None

    def admits(self, job_id: str, now: float) -> bool:
        """Tell whether this job's attempt may run at ``now`` (seconds)."""
        if not self.is_held_back:
            return True
        if job_id not in self._failed:
            if self._tried is not None or now < self._next_at:
                return False
            self._tried, self._next_at = job_id, now + self._times.first_look
            return True
        if now < self._until:
            return False
        self._left -= 1
        if self._left == 0:
            self._begin_pause(now)
        return True

    def _begin_pause(self, now: float) -> None:
        self._pause = min(self._pause * 2, self._times.longest_pause)
        self._until = now + self._pause
        self._left = ATTEMPTS_BETWEEN


def first_failure(checks: Sequence[Check]) -> PhotoWorkerError | None:
    """Return the error of the first failing check, or None if all pass."""
    for check in checks:
        try:
            check()
        except PhotoWorkerError as error:
            return error
    return None


class AdmittedSlots(CustomSlotSupplier):
    """One activity slot per thread of the worker, available while ``admission`` is open.

    Temporal's pollers reserve a slot before they ask for a task, so a worker without admission does not poll. A poll
    that was already under way may still return one task.
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
        """Return a slot for an activity that is dispatched with a workflow task, or None if no slot is free."""
        if self._admission.is_open and self._free.acquire(blocking=False):
            return SlotPermit()
        return None

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None:
        """Do nothing: a slot counts as taken from its reservation."""

    def release_slot(self, ctx: SlotReleaseContext) -> None:
        """Release a slot. The SDK calls this from its own threads."""
        self._free.release()
        # The loop is closed if the process is about to end.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._freed.set)
