"""Logs attempts that Temporal has given up while their thread still runs.

A thread cannot be ended from outside. If it waits for a service forever, it keeps its slot and the worker takes less
work, and nothing else would show that.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from temporalio import activity
from temporalio.worker import (
    ActivityInboundInterceptor,
    ActivityOutboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
)

logger = logging.getLogger(__name__)

# How often attempts are checked, and how long an attempt may take to notice that it is over.
LOOK_SECONDS = 5.0
GRACE_SECONDS = 5.0


class OverdueInterceptor(Interceptor):
    """Logs each attempt that goes on after its timeout or cancellation once, and again when its thread has ended."""

    def __init__(self, *, look_seconds: float = LOOK_SECONDS, grace_seconds: float = GRACE_SECONDS) -> None:
        self._look = look_seconds
        self._grace = grace_seconds

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wrap an activity's execution."""
        return _Watched(super().intercept_activity(next), self._look, self._grace)


class _Watched(ActivityInboundInterceptor):
    """Runs one attempt and checks it at intervals."""

    def __init__(self, next: ActivityInboundInterceptor, look_seconds: float, grace_seconds: float) -> None:
        super().__init__(next)
        self._look_seconds = look_seconds
        self._grace = grace_seconds
        self._began = self.beat = 0.0
        self._cancelled: float | None = None
        self._next_look: asyncio.TimerHandle | None = None
        self._told = False

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        super().init(_Beats(outbound, self))

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        loop = asyncio.get_running_loop()
        self._began = self.beat = loop.time()
        self._look_later(loop)
        try:
            return await super().execute_activity(input)
        finally:
            if self._next_look is not None:
                self._next_look.cancel()
            if self._told:
                self._log(logging.INFO, "an attempt that was given up has ended, and its slot is free", loop)

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        # The timer handle keeps the context variables, in which the SDK has stored the attempt.
        self._next_look = loop.call_later(self._look_seconds, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._next_look = None
        reason = self._reason(loop.time())
        if reason:
            self._told = True
            self._log(logging.WARNING, f"an attempt goes on though {reason}; its slot is blocked", loop)
        else:
            self._look_later(loop)

    def _reason(self, now: float) -> str:
        """Return why the attempt is over, or an empty string if it may still go on."""
        info = activity.info()
        if self._cancelled is None and activity.is_cancelled():
            self._cancelled = now
        limit, silence = info.start_to_close_timeout, info.heartbeat_timeout
        if limit is not None and now - self._began > limit.total_seconds() + self._grace:
            return f"its time of {limit.total_seconds():g} s is over"
        if silence is not None and now - self.beat > silence.total_seconds() + self._grace:
            return f"no heartbeat came for {silence.total_seconds():g} s"
        if self._cancelled is not None and now - self._cancelled > self._grace:
            return "it is cancelled"
        return ""

    def _log(self, level: int, message: str, loop: asyncio.AbstractEventLoop) -> None:
        info = activity.info()
        facts = {
            "activity_type": info.activity_type,
            "job_id": info.workflow_id,
            "attempt": info.attempt,
            "seconds": round(loop.time() - self._began, 1),
        }
        logger.log(level, message, extra={"photo": facts})


class _Beats(ActivityOutboundInterceptor):
    """Records the time of an attempt's last heartbeat."""

    def __init__(self, next: ActivityOutboundInterceptor, watched: _Watched) -> None:
        super().__init__(next)
        self._watched = watched
        self._loop = asyncio.get_running_loop()

    def heartbeat(self, *details: Any) -> None:
        self._watched.beat = self._loop.time()
        super().heartbeat(*details)
