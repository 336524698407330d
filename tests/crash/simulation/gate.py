"""Port calls as the only moments at which anything happens: each waits for its turn, and can be made to go wrong.

Every piece of work runs in a thread of its own, of which one runs at a time: it stops in front of each port call until
the scheduler lets it go on. So a seed decides the order, and a process can die or stand still between any two calls.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import photo_worker

_T = TypeVar("_T")

_PACKAGE = str(Path(photo_worker.__file__).parent)
_current: contextvars.ContextVar[Strand] = contextvars.ContextVar("strand")


class Died(BaseException):
    """The process of this work is gone. No handler of the product's catches it, as none runs after SIGKILL."""


class Mode(StrEnum):
    """What goes wrong at a port call."""

    DIE = "die"
    PAUSE = "pause"
    RAISE = "raise"
    """Before: the call never arrives. After: it was done, and its reply is lost."""
    DOUBLE = "double"
    AWAY = "away"
    """The service answers no process any more, for longer than any step is tried by count."""
    REFUSE = "refuse"
    """From now on the service refuses this worker's credentials; another worker has the right ones."""


# The budgets by count were 15 to 56 s, and the longest attempt may take 10 minutes.
OUTAGE = timedelta(minutes=30)


class Phase(StrEnum):
    """On which side of the call's effect."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True)
class Fault:
    """What goes wrong at the call of this number."""

    number: int
    phase: Phase
    mode: Mode


@dataclass(frozen=True)
class Call:
    """One port call of a run."""

    number: int
    name: str
    source: str
    process: str
    fallible: bool
    """Whether the port can raise something of its own, so that the caller gets an answer."""
    repeatable: bool


class Process:
    """A process of the simulation: a worker, or a client's command."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.refused: set[str] = set()
        """The ports that refuse its credentials."""
        self.strands: list[Strand] = []

    def __repr__(self) -> str:
        return self.name


@dataclass(eq=False)
class Strand:
    """One thread of work in a process."""

    process: Process
    name: str
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    stopped: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    until: datetime | None = None
    """Where it waits for a time."""
    done: bool = False
    error: BaseException | None = None
    at: str = ""

    def park(self) -> None:
        """Let the scheduler decide when this goes on."""
        self.stopped.release()
        self.go.acquire()


class Gate:
    """Counts port calls, records them, and injects faults."""

    def __init__(self, faults: tuple[Fault, ...] = (), *, now: Callable[[], datetime]) -> None:
        self._now = now
        self.away: dict[str, datetime] = {}
        """Until when each port is away."""
        self.on_refusal: Callable[[], object] = lambda: None
        """Called where a worker is refused from now on."""
        self.faults = {(fault.number, fault.phase): fault.mode for fault in faults}
        self.met: set[tuple[int, Phase]] = set()
        self.answered: set[int] = set()
        """The calls that did not raise."""
        self.calls: list[Call] = []
        self.quiet = False
        """Whether calls pass without being counted: while a test looks at the end."""

    def call(
        self,
        name: str,
        effect: Callable[[], _T],
        *,
        broken: Callable[[], Exception] | None = None,
        refused: Callable[[], Exception] | None = None,
        repeatable: bool = True,
    ) -> _T:
        """Do ``effect`` when it is its turn.

        ``broken`` makes the error of a port that does not answer, ``refused`` that of one that takes no credentials.
        """
        if self.quiet:
            return effect()
        strand = _current.get()
        strand.at = name
        strand.park()
        _alive(strand)
        number = len(self.calls)
        self.calls.append(Call(number, name, _source(), strand.process.name, broken is not None, repeatable))
        self._inject(strand, number, Phase.BEFORE, broken)
        port = name.partition(".")[0]
        if broken is not None and (self.faults.get((number, Phase.BEFORE)) is Mode.AWAY):
            self.away[port] = self._now() + OUTAGE
        if refused is not None and (self.faults.get((number, Phase.BEFORE)) is Mode.REFUSE):
            strand.process.refused.add(port)
            self.on_refusal()
        if broken is not None and port in self.away and self._now() < self.away[port]:
            raise broken()
        if refused is not None and port in strand.process.refused:
            raise refused()
        if repeatable and self.faults.get((number, Phase.AFTER)) is Mode.DOUBLE:
            self.met.add((number, Phase.AFTER))
            effect()
        result = effect()
        self.answered.add(number)
        self._inject(strand, number, Phase.AFTER, broken)
        return result

    def _inject(self, strand: Strand, number: int, phase: Phase, broken: Callable[[], Exception] | None) -> None:
        mode = self.faults.get((number, phase))
        if mode is None or mode is Mode.DOUBLE:
            return
        self.met.add((number, phase))
        if mode in {Mode.AWAY, Mode.REFUSE}:
            return
        if mode is Mode.DIE:
            strand.process.alive = False
            raise Died
        if mode is Mode.RAISE:
            if broken is not None:
                raise broken()
            return
        strand.process.paused = True
        strand.park()
        _alive(strand)

    def until(self, strand: Strand, when: datetime) -> None:
        """Wait for a time."""
        strand.until = when
        strand.park()
        strand.until = None
        _alive(strand)


def current() -> Strand:
    """Return the work that this thread does."""
    return _current.get()


class Inline(ThreadPoolExecutor):
    """An event loop's executor that does the work at once, in the thread that asks for it.

    So the product's own frame is on the stack of its port calls, and no thread of a pool outlives a process that died.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def run_async(work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run what a client's command does, all of it in this thread."""

    async def inline() -> _T:
        asyncio.get_running_loop().set_default_executor(Inline(1))
        return await work()

    return asyncio.run(inline())


def _alive(strand: Strand) -> None:
    if not strand.process.alive:
        raise Died


def begin(strand: Strand, work: Callable[[], object]) -> threading.Thread:
    """Start a thread that stands still until the scheduler lets it go."""

    def run() -> None:
        _current.set(strand)
        strand.go.acquire()
        try:
            _alive(strand)
            work()
        except Died:
            pass
        except BaseException as error:
            strand.error = error
        finally:
            strand.done = True
            strand.stopped.release()

    strand.process.strands.append(strand)
    thread = threading.Thread(target=run, name=strand.name, daemon=True)
    thread.start()
    return thread


def _source() -> str:
    """Return where the product makes the call: file and line of the nearest frame in the package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_PACKAGE):
            return f"{Path(file).relative_to(Path(_PACKAGE).parent)}:{frame.f_lineno}"
        frame = frame.f_back
    return "temporal"


class Gated:
    """Any object, each of whose public methods is one port call."""

    def __init__(
        self,
        gate: Gate,
        name: str,
        inner: object,
        broken: Callable[[], Exception],
        refused: Callable[[], Exception],
        unrepeatable: frozenset[str] = frozenset(),
    ) -> None:
        self._gate, self._name, self._unrepeatable = gate, name, unrepeatable
        self._broken, self._refused = broken, refused
        self._inner: Any = inner

    def __getattr__(self, method: str) -> Any:
        found = getattr(self._inner, method)
        if not callable(found) or method == "describe":
            return found

        def call(*args: Any, **named: Any) -> Any:
            repeatable = method not in self._unrepeatable
            return self._gate.call(
                f"{self._name}.{method}",
                lambda: found(*args, **named),
                repeatable=repeatable,
                broken=self._broken,
                refused=self._refused,
            )

        return call


class GatedStore(Gated):
    """An object store; what it streams and lists is one call each, made when it is asked for."""

    def open(self, bucket: str, key: str, *, version_id: str = "") -> Any:
        return self._gate.call(
            "store.open",
            lambda: self._inner.open(bucket, key, version_id=version_id),
            broken=self._broken,
            refused=self._refused,
        )

    def list(self, bucket: str, prefix: str) -> Iterator[Any]:
        found = self._gate.call(
            "store.list", lambda: [*self._inner.list(bucket, prefix)], broken=self._broken, refused=self._refused
        )
        return iter(found)


class GatedRepository(Gated):
    """A repository; the lock of ``sole_user`` is taken and let go in a call each."""

    def all(self, *, page: int = 1000) -> Iterator[Any]:
        return iter(
            self._gate.call(
                "rows.all", lambda: [*self._inner.all(page=page)], broken=self._broken, refused=self._refused
            )
        )

    @contextmanager
    def sole_user(self, job_id: Any, *, bucket: str, key: str, sha256: str = "") -> Iterator[bool]:
        manager = self._inner.sole_user(job_id, bucket=bucket, key=key, sha256=sha256)
        entered: list[bool] = []
        try:
            self._gate.call(
                "rows.sole_user",
                lambda: entered.append(manager.__enter__()),
                repeatable=False,
                broken=self._broken,
                refused=self._refused,
            )
            yield entered[0]
        finally:
            # A process that dies, or hears nothing more of its connection, has lost its lock.
            if entered:
                manager.__exit__(None, None, None)
