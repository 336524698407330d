"""Processes that read pages: one warm, more as they are needed, and whose turn it is."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from photo_worker.devkit.textract.reading_child import (
    WATCH_SECONDS,
    NotBegun,
    ProcessEnded,
    ReaderUnavailable,
    ReadingChild,
)
from photo_worker.devkit.textract.spawning import ReadingLimits

logger = logging.getLogger(__name__)

# A machine that ends every process at once has no use for more of them.
_MOST_LOSSES = 3

# How often the memory of all is looked at while no second process could add to that of one that reads.
_IDLE_WATCH_SECONDS = 0.5

Answer = tuple[dict[str, Any], bytes]


@dataclass(eq=False)
class Work:
    """One request to a process, and who waits for its answer."""

    request: Mapping[str, Any]
    turn: str
    urgent: bool
    done: asyncio.Future[Answer]
    losses: int = 0
    """How often it was given to a process that was gone already."""
    began: float | None = None
    """When a process was given it, by ``time.monotonic``; None while it waits."""
    child: ReadingChild | None = None
    """The process that it was given last."""
    before: float = 0.0
    """What of processors this process had taken before, in seconds."""
    gives_way: bool = False
    """It is taken from its process, and begun again later."""

    @property
    def processor_seconds(self) -> float:
        """How long processors have worked for it; 0 where it waits, or its process is gone."""
        if self.child is None or self.began is None:
            return 0.0
        return max(self.child.processor_seconds - self.before, 0.0)


class _Queue:
    """Urgent work in the order it came, then the others by turns, each turn giving one page."""

    def __init__(self) -> None:
        self._urgent: deque[Work] = deque()
        self._turns: OrderedDict[str, deque[Work]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._urgent) + sum(map(len, self._turns.values()))

    def put_back(self, work: Work) -> None:
        """Queue work that has had its turn, and did not get it, in front of all other."""
        work.urgent = True
        self._urgent.appendleft(work)

    def put_first(self, work: Work) -> None:
        """Queue work in front of all other that is as urgent."""
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

    def hurry(self, work: Work) -> None:
        if self._leave_turn(work):
            work.urgent = True
            self._urgent.append(work)

    def remove(self, work: Work) -> bool:
        """Remove work, and tell whether it was here."""
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
    """Keeps at most ``bounds.processes`` processes of a reader. Its methods belong to one event loop.

    Where all of them read pages that are not urgent, or all have read one page for ``bounds.slow_seconds``, which may
    go on until the bound of time, one more is started for those that are. Together they hold no more memory than
    ``bounds.total_bytes``: a page waits for room, and where the others grow, the page that began last gives way to
    them and is begun again later.
    The first process is started by ``__init__``, which needs no loop, so that it loads while the server does, or is
    ``first``, where ``spawn`` has started it for this reader.
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
        """``engine``, ``version`` and ``form`` of the reader; empty until a process has said so."""
        self.problem: ReaderUnavailable | None = None
        """Why the last process could not start; None after one did."""
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
        """How many processes read now."""
        return len(self._busy)

    @property
    def waiting(self) -> int:
        """How many pages wait for a process."""
        return len(self._queue)

    @property
    def ready(self) -> bool:
        """Say whether a process can read, or reads."""
        return bool(self._idle or self._busy)

    def start(self) -> None:
        """Begin to serve."""
        if self._first is not None:
            self._await(self._first)
            self._first = None
        loop = asyncio.get_running_loop()
        self._keepers = [loop.create_task(self._keep()), loop.create_task(self._watch())]

    async def up(self) -> None:
        """Wait until a process can read. Raises ``ReaderUnavailable``."""
        tried = bool(self._starting)
        while not self.ready:
            if not self._starting and ((tried and self.problem) or not self._spawn()):
                raise self.problem or ReaderUnavailable("no process can be started")
            tried = True
            self._changed.clear()
            await self._changed.wait()

    def submit(self, request: Mapping[str, Any], *, turn: str, urgent: bool) -> Work:
        """Queue a request. Its ``done`` gives the answer, or raises ``ProcessEnded`` or ``ReaderUnavailable``.

        Work that is not urgent takes turns with that of other ``turn``.
        """
        work = Work(request, turn, urgent, asyncio.get_running_loop().create_future())
        self._queue.put(work)
        self._pump()
        return work

    def hurry(self, work: Work) -> None:
        """Make work urgent that still waits."""
        self._queue.hurry(work)

    def drop(self, work: Work) -> None:
        """Forget work whose answer has no use any more: if a process reads it, that process is ended."""
        work.done.cancel()
        if self._queue.remove(work):
            return
        for task, (_, other) in self._busy.items():
            if other is work:
                task.cancel()

    async def close(self) -> None:
        """End all processes. Who waits is told that there is none."""
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

    def _pump(self) -> None:
        """Give work to who is free, and start another process where all have work."""
        self._bury()
        while self._idle and self._has_room(self._idle[-1]):
            work = self._queue.take(urgent_only=self._full)
            if work is None:
                break
            if work.done.cancelled():
                continue
            # The last to fall idle: its caches are warm, and the others may be let go.
            child = self._idle.pop()
            work.began, work.child, work.before = time.monotonic(), child, child.processor_seconds
            task = asyncio.get_running_loop().create_task(self._serve(child, work))
            self._busy[task] = child, work
            task.add_done_callback(self._served)
        while self._wanted() > len(self._children()) and self._has_room(None):
            if not self._spawn():
                break
        if self._queue and len(self._idle) > 1 and not self._has_room(self._idle[-1]):
            # What the others keep of earlier pages is in the way.
            self._let_go(self._idle.pop(0))

    @property
    def _full(self) -> bool:
        return len(self._busy) >= self.bounds.processes

    def _wanted(self) -> int:
        """Return how many processes there should be for the work that waits."""
        slow = time.monotonic() - self.bounds.slow_seconds
        if (
            self._full
            and self._queue.urgent
            and not any(work.urgent and (work.began or slow) > slow for _, work in self._busy.values())
        ):
            return self.bounds.processes + 1
        return min(len(self._busy) + len(self._queue), self.bounds.processes)

    def _has_room(self, child: ReadingChild | None) -> bool:
        """Say whether there is memory for one more page, read by ``child`` or by a process that is started for it."""
        if not self._busy:
            # Whatever the bound, one page at a time is read.
            return True
        others = sum(other.memory for other in self._children() if other is not child)
        return others + self.bounds.usual_bytes <= self.bounds.total_bytes

    def _bury(self) -> None:
        """Drop the processes that were ended from outside while they had nothing to do."""
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
            answer = await child.ask(work.request)
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
            work.done.set_result(answer)
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
        """Do away with a process whose task was cancelled, which may have been before its first step."""
        self._let_go(child)
        if work.gives_way:
            work.gives_way, work.began = False, None
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
        self._pump()

    def _broken(self, error: ReaderUnavailable) -> None:
        logger.error("[%s] %s %s", error.code, error.problem, error.hint or error.trace)
        self.problem = error
        if not self.ready:
            self._fail_all(error)
        self._changed.set()

    async def _watch(self) -> None:
        """Keep all processes together within their memory."""
        while True:
            several = len(self._busy) + len(self._idle) > 1
            await asyncio.sleep(WATCH_SECONDS if several and self._busy else _IDLE_WATCH_SECONDS)
            if not self._busy or sum(child.memory for child in self._children()) <= self.bounds.total_bytes:
                continue
            if self._idle:
                self._let_go(self._idle.pop(0))
                continue
            self._make_way()

    def _make_way(self) -> None:
        """Take the page that began last from its process; the first goes on, whatever it needs."""
        serving = [(task, work) for task, (_, work) in self._busy.items() if not task.done()]
        task, work = max(serving, key=lambda each: each[1].began or 0.0)
        if len(serving) > 1 and not work.gives_way:
            logger.warning("reading %r is begun again later: memory is short", work.request.get("name"))
            work.gives_way = True
            task.cancel()

    def _fail_all(self, error: ReaderUnavailable) -> None:
        while (work := self._queue.take()) is not None:
            if not work.done.done():
                work.done.set_exception(error)

    async def _keep(self) -> None:
        """Let processes go that nobody needs, and those that grew while nobody asks for anything."""
        while True:
            await asyncio.sleep(min(self.bounds.idle_seconds / 4, 1.0))
            # Work may wait for no more than that a page has become a slow one, or that there is memory.
            self._pump()
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
