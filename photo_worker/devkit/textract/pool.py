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

from photo_worker.devkit.textract.reading_child import NotBegun, ProcessEnded, ReaderUnavailable, ReadingChild
from photo_worker.devkit.textract.spawning import Bounds

logger = logging.getLogger(__name__)

# A machine that ends every process at once has no use for more of them.
_MOST_LOSSES = 3

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
        waiting = self._turns.get(work.turn)
        if waiting is None or work not in waiting:
            return
        waiting.remove(work)
        if not waiting:
            del self._turns[work.turn]
        work.urgent = True
        self._urgent.append(work)


class Pool:
    """Keeps at most ``bounds.processes`` processes of a reader. Its methods belong to one event loop.

    Where all of them read pages that are not urgent, which may take until the bound of time, one more is
    started for those that are.
    The first process is started by ``__init__``, which needs no loop, so that it loads while the server does, or is
    ``first``, where ``spawn`` has started it for this reader.
    """

    def __init__(self, reader: str, bounds: Bounds, first: subprocess.Popen[bytes] | None = None) -> None:
        self._reader, self.bounds = reader, bounds
        self._queue = _Queue()
        self._idle: list[ReadingChild] = []
        self._busy: dict[asyncio.Task[None], tuple[ReadingChild, Work]] = {}
        self._starting: dict[asyncio.Task[None], ReadingChild] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
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
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

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

    async def close(self) -> None:
        """End all processes. Who waits is told that there is none."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        children = self._children()
        tasks: list[asyncio.Task[None]] = [*self._busy, *self._starting]
        for task in tasks:
            task.cancel()
        if tasks or self._ending:
            await asyncio.wait([*tasks, *self._ending])
        await asyncio.gather(*(child.end() for child in children))
        self._idle.clear()
        self._first = None
        self._fail_all(ReaderUnavailable("the server ends"))

    def _children(self) -> list[ReadingChild]:
        first = [] if self._first is None else [self._first]
        return [*first, *self._idle, *(child for child, _ in self._busy.values()), *self._starting.values()]

    def _pump(self) -> None:
        """Give work to who is free, and start another process where all have work."""
        self._bury()
        while self._idle and (work := self._queue.take(urgent_only=self._full)) is not None:
            if work.done.cancelled():
                continue
            # The last to fall idle: its caches are warm, and the others may be let go.
            child = self._idle.pop()
            task = asyncio.get_running_loop().create_task(self._serve(child, work))
            self._busy[task] = child, work
            task.add_done_callback(self._served)
        while self._wanted() > len(self._children()):
            if not self._spawn():
                break

    @property
    def _full(self) -> bool:
        return len(self._busy) >= self.bounds.processes

    def _wanted(self) -> int:
        """Return how many processes there should be for the work that waits."""
        if self._full and self._queue.urgent and not any(work.urgent for _, work in self._busy.values()):
            return self.bounds.processes + 1
        return min(len(self._busy) + len(self._queue), self.bounds.processes)

    def _bury(self) -> None:
        """Drop the processes that were ended from outside while they had nothing to do."""
        for child in [child for child in self._idle if not child.alive]:
            logger.warning("process %d is gone while nothing was asked of it", child.pid)
            self._idle.remove(child)
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
        except asyncio.CancelledError:
            if not work.done.done():
                work.done.set_exception(ReaderUnavailable("the server ends"))
            raise
        if not work.done.done():
            work.done.set_result(answer)
        if child.memory > self.bounds.retire_bytes:
            await child.end()
        else:
            self._idle.append(child)

    def _served(self, task: asyncio.Task[None]) -> None:
        del self._busy[task]
        self._after(task)

    def _after(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("the pool has a defect", exc_info=error)
        self._changed.set()
        if self._keeper is None or self._keeper.done():
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

    def _fail_all(self, error: ReaderUnavailable) -> None:
        while (work := self._queue.take()) is not None:
            if not work.done.done():
                work.done.set_exception(error)

    async def _keep(self) -> None:
        """Let processes go that nobody needs, and those that grew while nobody asks for anything."""
        while True:
            await asyncio.sleep(min(self.bounds.idle_seconds / 4, 1.0))
            self._bury()
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
