"""A pool of reading processes and its queue: one process stays warm, more are started on demand."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from textract_local.server.reading_parent import (
    WATCH_SECONDS,
    NotBegun,
    ProcessEnded,
    ReaderUnavailable,
    ReadingChild,
)
from textract_local.server.spawning import ReadingLimits

logger = logging.getLogger(__name__)

# If the machine ends every process at once, more of them do not help.
_MOST_LOSSES = 3

# How often the total memory is checked while a single process cannot exceed it.
_IDLE_WATCH_SECONDS = 0.5

Response = tuple[dict[str, Any], bytes]


@dataclass(eq=False)
class Work:
    """One request to a process, and the future of its response."""

    request: Mapping[str, Any]
    turn: str
    urgent: bool
    done: asyncio.Future[Response]
    losses: int = 0
    """How often the process had ended before it began."""
    began: float | None = None
    """When a process received it, by ``time.monotonic``; None while it is queued."""
    child: ReadingChild | None = None
    """The last process that received it."""
    before: float = 0.0
    """The CPU seconds of this process before the work began."""
    is_preempted: bool = False
    """Whether its process is being ended for lack of memory; the work is then queued again."""

    @property
    def processor_seconds(self) -> float:
        """CPU seconds spent on it; 0 if it is queued, or its process has ended."""
        if self.child is None or self.began is None:
            return 0.0
        return max(self.child.processor_seconds - self.before, 0.0)


class _Queue:
    """A queue: urgent work first, in order of arrival, then the other work, one page of each ``turn`` in rotation."""

    def __init__(self) -> None:
        self._urgent: deque[Work] = deque()
        self._turns: OrderedDict[str, deque[Work]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._urgent) + sum(map(len, self._turns.values()))

    def put_back(self, work: Work) -> None:
        """Queue work in front of all other: it had its turn, but its process had ended."""
        work.urgent = True
        self._urgent.appendleft(work)

    def put_first(self, work: Work) -> None:
        """Queue work in front of all other of the same urgency."""
        if work.urgent:
            self._urgent.appendleft(work)
            return
        self._turns.setdefault(work.turn, deque()).appendleft(work)
        self._turns.move_to_end(work.turn, last=False)

    def put(self, work: Work) -> None:
        if work.urgent:
            self._urgent.append(work)
        else:
            self._turns.setdefault(work.turn, deque()).append(work)

    @property
    def urgent(self) -> int:
        return len(self._urgent)

    def take(self, *, urgent_only: bool = False) -> Work | None:
        if self._urgent:
            return self._urgent.popleft()
        if not self._turns or urgent_only:
            return None
        turn, waiting = self._turns.popitem(last=False)
        work = waiting.popleft()
        if waiting:
            self._turns[turn] = waiting
        return work

    def make_urgent(self, work: Work) -> None:
        if self._leave_turn(work):
            work.urgent = True
            self._urgent.append(work)

    def remove(self, work: Work) -> bool:
        """Remove work, and return whether it was queued."""
        if work in self._urgent:
            self._urgent.remove(work)
            return True
        return self._leave_turn(work)

    def _leave_turn(self, work: Work) -> bool:
        waiting = self._turns.get(work.turn)
        if waiting is None or work not in waiting:
            return False
        waiting.remove(work)
        if not waiting:
            del self._turns[work.turn]
        return True


class ReadingPool:
    """Keeps at most ``bounds.processes`` processes of a reader. Its methods must be called in one event loop.

    If each of them reads a page that is not urgent, or has read one for ``bounds.slow_seconds``, one more process is
    started for urgent pages. Together they use no more memory than ``bounds.total_bytes``: a page waits until there is
    room, and if the processes grow, the one whose page began last is ended and its page is queued again.
    ``__init__`` starts the first process without an event loop, so that it loads while the server does, or takes
    ``first``, a process that ``spawn`` has started for this reader.
    """

    def __init__(self, reader: str, bounds: ReadingLimits, first: subprocess.Popen[bytes] | None = None) -> None:
        self._reader, self.bounds = reader, bounds
        self._queue = _Queue()
        self._idle: list[ReadingChild] = []
        self._busy: dict[asyncio.Task[None], tuple[ReadingChild, Work]] = {}
        self._starting: dict[asyncio.Task[None], ReadingChild] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._keepers: list[asyncio.Task[None]] = []
        self.identity: Mapping[str, str] = {}
        """``engine``, ``version`` and ``form`` of the reader; empty until a process has reported them."""
        self.problem: ReaderUnavailable | None = None
        """Why the last process could not start; None if it did."""
        try:
            self._first: ReadingChild | None = ReadingChild(reader, bounds, first)
        except ReaderUnavailable as error:
            self._first, self.problem = None, error

    @property
    def pids(self) -> list[int]:
        """The ids of all processes."""
        return [child.pid for child in self._children()]

    @property
    def busy(self) -> int:
        """How many processes are reading."""
        return len(self._busy)

    @property
    def waiting(self) -> int:
        """How many pages are queued."""
        return len(self._queue)

    @property
    def ready(self) -> bool:
        """Whether a process is idle or reading."""
        return bool(self._idle or self._busy)

    def start(self) -> None:
        """Start the pool's tasks in the running event loop."""
        if self._first is not None:
            self._await(self._first)
            self._first = None
        loop = asyncio.get_running_loop()
        self._keepers = [loop.create_task(self._keep()), loop.create_task(self._watch())]

    async def wait_until_ready(self) -> None:
        """Wait until a process can read. Raises ``ReaderUnavailable``."""
        tried = bool(self._starting)
        while not self.ready:
            if not self._starting and ((tried and self.problem) or not self._spawn()):
                raise self.problem or ReaderUnavailable("no process can be started")
            tried = True
            self._changed.clear()
            await self._changed.wait()

    def submit(self, request: Mapping[str, Any], *, turn: str, urgent: bool) -> Work:
        """Queue a request. Its ``done`` returns the response, or raises ``ProcessEnded`` or ``ReaderUnavailable``.

        Work that is not urgent alternates with that of another ``turn``.
        """
        work = Work(request, turn, urgent, asyncio.get_running_loop().create_future())
        self._queue.put(work)
        self._dispatch()
        return work

    def make_urgent(self, work: Work) -> None:
        """Make queued work urgent."""
        self._queue.make_urgent(work)

    def drop(self, work: Work) -> None:
        """Cancel work whose response is not needed any more; if a process is reading it, end that process."""
        work.done.cancel()
        if self._queue.remove(work):
            return
        for task, (_, other) in self._busy.items():
            if other is work:
                task.cancel()

    async def close(self) -> None:
        """End all processes. Queued work fails with ``ReaderUnavailable``."""
        for keeper in self._keepers:
            keeper.cancel()
        if self._keepers:
            await asyncio.wait(self._keepers)
        children = self._children()
        tasks: list[asyncio.Task[None]] = [*self._busy, *self._starting]
        for task in tasks:
            task.cancel()
        if tasks or self._ending:
            await asyncio.wait([*tasks, *self._ending])
        await asyncio.gather(*(child.end() for child in children))
        if self._ending:
            await asyncio.wait(self._ending)
        self._idle.clear()
        self._first = None
        self._fail_all(ReaderUnavailable("the server ends"))

    def _children(self) -> list[ReadingChild]:
        first = [] if self._first is None else [self._first]
        return [*first, *self._idle, *(child for child, _ in self._busy.values()), *self._starting.values()]

    def _dispatch(self) -> None:
        """Give work to idle processes, and start another process if all are busy."""
        self._bury()
        while self._idle and self._has_room(self._idle[-1]):
            work = self._queue.take(urgent_only=self._full)
            if work is None:
                break
            if work.done.cancelled():
                continue
            # The process that became idle last: its caches are warm, and the others may be ended.
            child = self._idle.pop()
            work.began, work.child, work.before = time.monotonic(), child, child.processor_seconds
            task = asyncio.get_running_loop().create_task(self._serve(child, work))
            self._busy[task] = child, work
            task.add_done_callback(self._served)
        while self._wanted() > len(self._children()) and self._has_room(None):
            if not self._spawn():
                break
        if self._queue and len(self._idle) > 1 and not self._has_room(self._idle[-1]):
            # The memory that idle processes keep from earlier pages prevents the next page.
            self._let_go(self._idle.pop(0))

    @property
    def _full(self) -> bool:
        return len(self._busy) >= self.bounds.processes

    def _wanted(self) -> int:
        """Return how many processes the queued work needs."""
        slow = time.monotonic() - self.bounds.slow_seconds
        if (
            self._full
            and self._queue.urgent
            and not any(work.urgent and (work.began or slow) > slow for _, work in self._busy.values())
        ):
            return self.bounds.processes + 1
        return min(len(self._busy) + len(self._queue), self.bounds.processes)

    def _has_room(self, child: ReadingChild | None) -> bool:
        """Return whether there is memory for one more page in ``child``, or in a new process if that is None."""
        if not self._busy:
            # A single page is always read, regardless of the limit.
            return True
        others = sum(other.memory for other in self._children() if other is not child)
        return others + self.bounds.usual_bytes <= self.bounds.total_bytes

    def _bury(self) -> None:
        """Remove idle processes that were killed from outside."""
        for child in [child for child in self._idle if not child.alive]:
            logger.warning("process %d is gone while nothing was asked of it", child.pid)
            self._idle.remove(child)
            self._let_go(child)

    def _let_go(self, child: ReadingChild) -> None:
        task = asyncio.get_running_loop().create_task(child.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _spawn(self) -> bool:
        try:
            child = ReadingChild(self._reader, self.bounds)
        except ReaderUnavailable as error:
            self._broken(error)
            return False
        self._await(child)
        return True

    def _await(self, child: ReadingChild) -> None:
        task = asyncio.get_running_loop().create_task(self._bring_up(child))
        self._starting[task] = child
        task.add_done_callback(self._brought_up)

    async def _bring_up(self, child: ReadingChild) -> None:
        try:
            await child.ready()
        except ReaderUnavailable as error:
            self.identity = child.identity or self.identity
            self._broken(error)
            return
        self.identity, self.problem = child.identity, None
        self._idle.append(child)

    def _brought_up(self, task: asyncio.Task[None]) -> None:
        del self._starting[task]
        self._after(task)

    async def _serve(self, child: ReadingChild, work: Work) -> None:
        try:
            response = await child.ask(work.request)
        except NotBegun as error:
            work.losses += 1
            logger.warning("process %d was gone before it read %r: %s", child.pid, work.request.get("name"), error)
            if work.losses < _MOST_LOSSES:
                self._queue.put_back(work)
            elif not work.done.done():
                work.done.set_exception(error)
            return
        except ProcessEnded as error:
            logger.warning("process %d is gone: reading %r %s", child.pid, work.request.get("name"), error)
            if not work.done.done():
                work.done.set_exception(error)
            return
        if not work.done.done():
            work.done.set_result(response)
        if child.memory > self.bounds.retire_bytes:
            await child.end()
        else:
            self._idle.append(child)

    def _served(self, task: asyncio.Task[None]) -> None:
        child, work = self._busy.pop(task)
        if task.cancelled():
            self._take_back(child, work)
        self._after(task)

    def _take_back(self, child: ReadingChild, work: Work) -> None:
        """End a process whose task was cancelled, possibly before its first step, and queue or fail its work."""
        self._let_go(child)
        if work.is_preempted:
            work.is_preempted, work.began = False, None
            self._queue.put_first(work)
        elif not work.done.done():
            work.done.set_exception(ReaderUnavailable("the server ends"))

    def _after(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("the pool has a defect", exc_info=error)
        self._changed.set()
        if not self._keepers or any(keeper.done() for keeper in self._keepers):
            return
        if not self._children() and self.problem is None:
            self._spawn()
        self._dispatch()

    def _broken(self, error: ReaderUnavailable) -> None:
        logger.error("[%s] %s %s", error.code, error.problem, error.hint or error.trace)
        self.problem = error
        if not self.ready:
            self._fail_all(error)
        self._changed.set()

    async def _watch(self) -> None:
        """Keep the total memory of the processes within the limit."""
        while True:
            several = len(self._busy) + len(self._idle) > 1
            await asyncio.sleep(WATCH_SECONDS if several and self._busy else _IDLE_WATCH_SECONDS)
            if not self._busy or sum(child.memory for child in self._children()) <= self.bounds.total_bytes:
                continue
            if self._idle:
                self._let_go(self._idle.pop(0))
                continue
            self._preempt()

    def _preempt(self) -> None:
        """End the process whose page began last; the page that began first continues in any case."""
        serving = [(task, work) for task, (_, work) in self._busy.items() if not task.done()]
        task, work = max(serving, key=lambda each: each[1].began or 0.0)
        if len(serving) > 1 and not work.is_preempted:
            logger.warning("reading %r is begun again later: memory is short", work.request.get("name"))
            work.is_preempted = True
            task.cancel()

    def _fail_all(self, error: ReaderUnavailable) -> None:
        while (work := self._queue.take()) is not None:
            if not work.done.done():
                work.done.set_exception(error)

    async def _keep(self) -> None:
        """End idle processes that are not needed, and replace the last one if it has grown."""
        while True:
            await asyncio.sleep(min(self.bounds.idle_seconds / 4, 1.0))
            # Queued work may only need that a page counts as slow by now, or that memory was freed.
            self._dispatch()
            if not self._children() and self.problem is None:
                self._spawn()
            rested = time.monotonic() - self.bounds.idle_seconds
            for child in [child for child in self._idle if child.idle_since <= rested]:
                others = len(self._children()) - 1
                if child not in self._idle or not (others or child.grown):
                    continue
                self._idle.remove(child)
                if not others:
                    self._spawn()
                await child.end()
