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
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import photo_worker
from tests.crash.simulation.answers import Answer, Answers

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
    SILENT = "silent"
    """The service takes calls and never answers: each ends at its own limit. Before: it does nothing; after: it does
    everything, and nobody hears of it."""
    SLOW = "slow"
    """Every call takes nearly as long as its own limit allows, and then takes effect and is answered. Unlike with a
    pause its process goes on, heartbeats included, and late work comes while the next attempt is in the middle of its
    own."""
    THROTTLE = "throttle"
    """The service asks everybody to slow down and does not say for how long."""
    THROTTLE_LONG = "throttle-long"
    """The service asks everybody to slow down for longer than all counted attempts take."""
    READ_ONLY = "read-only"
    """The service refuses what writes and answers what reads."""
    REFUSE = "refuse"
    """From now on the service refuses this worker's credentials; another worker has the right ones."""
    REPLACE = "replace"
    """The owner of the source object writes another one over it."""
    REPLACE_BACK = "replace-back"
    """The owner replaces the source object and puts the first one back. Before: this call alone meets the other one;
    after: both are written before the next call."""
    INTRUDE = "intrude"
    """Another deployment whose settings name this one's bucket checks, repairs and erases."""


# These begin at a call and are every process's, until ``OUTAGE`` is over.
OUTAGES = frozenset({Mode.AWAY, Mode.SILENT, Mode.SLOW, Mode.THROTTLE, Mode.THROTTLE_LONG, Mode.READ_ONLY})
# Of the world outside: nothing happens to the process.
OUTSIDE = frozenset({Mode.REPLACE, Mode.REPLACE_BACK, Mode.INTRUDE})

# The budgets by count were 15 to 56 s, and the longest attempt may take 10 minutes.
OUTAGE = timedelta(minutes=12)
# A service that is asked again every few seconds has been asked more often than any count allows by then.
_OUTAGES = {Mode.THROTTLE: timedelta(minutes=4)}

# A slow service answers so many seconds before the caller's own limit.
_JUST_IN_TIME_SECONDS = 1.0

# As often as an attempt that waits sends a heartbeat.
BEAT = timedelta(seconds=5)


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
    modes: frozenset[Mode] = frozenset()
    """Which outages and refusals its service can answer with."""


@dataclass(frozen=True)
class Outage:
    """What is wrong with a service, on which side of effects, and until when."""

    mode: Mode
    phase: Phase
    until: datetime


class Process:
    """A process of the simulation: a worker, or a client's command."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.refused: dict[str, Answer] = {}
        """What the ports, or single methods of them such as ``rows.start``, say that refuse its credentials."""
        self.strands: list[Strand] = []

    def __repr__(self) -> str:
        return self.name


def _shut() -> threading.Lock:
    """Return a lock that waits for a release; of two threads that take turns, it costs a third of a semaphore."""
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(eq=False)
class Strand:
    """One thread of work in a process."""

    process: Process
    name: str
    go: threading.Lock = field(default_factory=_shut)
    stopped: threading.Lock = field(default_factory=_shut)
    until: datetime | None = None
    """Where it waits for a time."""
    done: bool = False
    error: BaseException | None = None
    at: str = ""
    beat: Callable[[], object] | None = None
    """Sends the heartbeat of an attempt that waits."""
    beaten: datetime | None = None

    def park(self) -> None:
        """Let the scheduler decide when this goes on."""
        self.stopped.release()
        self.go.acquire()


class Gate:
    """Counts port calls, records them, and injects faults."""

    def __init__(self, faults: tuple[Fault, ...] = (), *, now: Callable[[], datetime]) -> None:
        self._now = now
        self.outages: dict[str, Outage] = {}
        """What is wrong with the service behind each port."""
        self.on_refusal: Callable[[], object] = lambda: None
        """Called where a worker is refused from now on."""
        self.outside: dict[Mode, Callable[[], object]] = {}
        """What happens outside of the deployment."""
        self.faults = {(fault.number, fault.phase): fault.mode for fault in faults}
        self.met: set[tuple[int, Phase]] = set()
        self.answered: set[int] = set()
        """The calls that did not raise."""
        self.calls: list[Call] = []
        self.quiet = False
        """Whether calls pass without being counted: while a test looks at the end."""

    def call(
        self, name: str, effect: Callable[[], _T], *, answers: Answers | None = None, repeatable: bool = True
    ) -> _T:
        """Do ``effect`` when it is its turn. ``answers`` are the errors of a port that can fail."""
        if self.quiet:
            return effect()
        strand = _current.get()
        strand.at = name
        strand.park()
        _alive(strand)
        number = len(self.calls)
        port, _, method = name.partition(".")
        modes = _modes(answers, method, strand.process)
        self.calls.append(Call(number, name, _source(), strand.process.name, answers is not None, repeatable, modes))
        self._begin(strand, number, port, modes, answers)
        self._inject(strand, number, Phase.BEFORE, answers)
        refused = strand.process.refused
        refusal = refused.get(name, refused.get(port))
        if answers is not None and refusal is not None:
            raise refusal()
        result = self._served(strand, self.outages.get(port), modes, answers, lambda: self._done(number, effect))
        self.answered.add(number)
        self._inject(strand, number, Phase.AFTER, answers)
        return result

    def _done(self, number: int, effect: Callable[[], _T]) -> _T:
        if self.faults.get((number, Phase.AFTER)) is Mode.DOUBLE and self.calls[number].repeatable:
            self.met.add((number, Phase.AFTER))
            effect()
        try:
            return effect()
        finally:
            if self.faults.get((number, Phase.BEFORE)) is Mode.REPLACE_BACK:
                # This call alone has met the other object.
                self.outside[Mode.REPLACE]()

    def _begin(self, strand: Strand, number: int, port: str, modes: frozenset[Mode], answers: Answers | None) -> None:
        """Let a fault of a service begin that this call is the first to meet."""
        for phase in Phase:
            mode = self.faults.get((number, phase))
            if mode not in modes:
                continue
            if mode in OUTAGES:
                self.met.add((number, phase))
                self.outages[port] = Outage(mode, phase, self._now() + _OUTAGES.get(mode, OUTAGE))
            elif mode is Mode.REFUSE and answers is not None and answers.refused is not None:
                self.met.add((number, phase))
                strand.process.refused[port] = answers.refused
                self.on_refusal()

    def _served(
        self,
        strand: Strand,
        outage: Outage | None,
        modes: frozenset[Mode],
        answers: Answers | None,
        effect: Callable[[], _T],
    ) -> _T:
        """Do the effect as a service does that has this outage."""
        if outage is None or answers is None or outage.mode not in modes or self._now() >= outage.until:
            return effect()
        match outage.mode:
            case Mode.SILENT:
                self._silent(strand, outage.phase, answers, effect)
                raise answers.silent()
            case Mode.SLOW:
                self.until(strand, self._now() + timedelta(seconds=answers.limit - _JUST_IN_TIME_SECONDS))
                return effect()
            case mode:
                raise _error_of(answers, mode)()

    def _silent(self, strand: Strand, phase: Phase, answers: Answers, effect: Callable[[], object]) -> None:
        # What the service makes of the call is not heard of, be it an error.
        with suppress(Exception):
            if phase is Phase.AFTER:
                effect()
        self.until(strand, self._now() + timedelta(seconds=answers.limit))

    def _inject(self, strand: Strand, number: int, phase: Phase, answers: Answers | None) -> None:
        mode = self.faults.get((number, phase))
        if mode is None or mode is Mode.DOUBLE or mode is Mode.REFUSE or mode in OUTAGES:
            return
        self.met.add((number, phase))
        if mode in OUTSIDE:
            self._happen(mode, phase)
        elif mode is Mode.DIE:
            strand.process.alive = False
            raise Died
        elif mode is Mode.RAISE:
            if answers is not None:
                raise answers.away()
        else:
            strand.process.paused = True
            strand.park()
            _alive(strand)

    def _happen(self, mode: Mode, phase: Phase) -> None:
        """Let something happen outside; an object that is replaced before a call is put back behind it."""
        if mode is not Mode.REPLACE_BACK:
            self.outside[mode]()
            return
        self.outside[Mode.REPLACE]()
        if phase is Phase.AFTER:
            self.outside[Mode.REPLACE]()

    def until(self, strand: Strand, when: datetime) -> None:
        """Wait for a time; an attempt that sends heartbeats goes on doing so."""
        while True:
            strand.until = when if strand.beat is None else min(when, self._now() + BEAT)
            strand.park()
            strand.until = None
            _alive(strand)
            if strand.beat is not None and (strand.beaten is None or self._now() >= strand.beaten + BEAT):
                strand.beat()
                strand.beaten = self._now()
            if self._now() >= when:
                return


def _modes(answers: Answers | None, method: str, process: Process) -> frozenset[Mode]:
    """Return which faults of its service mean something at a call."""
    if answers is None:
        return frozenset()
    found = {Mode.AWAY, Mode.SILENT, Mode.SLOW}
    if answers.throttled is not None:
        found.add(Mode.THROTTLE)
    if answers.throttled_long is not None:
        found.add(Mode.THROTTLE_LONG)
    if answers.read_only is not None and method in answers.writes:
        found.add(Mode.READ_ONLY)
    if answers.refused is not None and process.name.startswith("worker"):
        found.add(Mode.REFUSE)
    return frozenset(found)


def _error_of(answers: Answers, mode: Mode) -> Answer:
    found = {
        Mode.AWAY: answers.away,
        Mode.THROTTLE: answers.throttled,
        Mode.THROTTLE_LONG: answers.throttled_long,
        Mode.READ_ONLY: answers.read_only,
    }[mode]
    if found is None:
        raise AssertionError(f"this service is never {mode}")
    return found


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
        answers: Answers,
        unrepeatable: frozenset[str] = frozenset(),
    ) -> None:
        self._gate, self._name, self._unrepeatable = gate, name, unrepeatable
        self._answers = answers
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
                answers=self._answers,
            )

        return call


class GatedStore(Gated):
    """An object store; what it streams and lists is one call each, made when it is asked for."""

    def open(self, bucket: str, key: str, *, version_id: str = "") -> Any:
        return self._gate.call("store.open", lambda: self._opened(bucket, key, version_id), answers=self._answers)

    @contextmanager
    def _held(self, found: Any) -> Iterator[Any]:
        yield found

    def _opened(self, bucket: str, key: str, version_id: str) -> Any:
        # The request is the call: what is there then is what is streamed.
        with self._inner.open(bucket, key, version_id=version_id) as (info, chunks):
            return self._held((info, iter([*chunks])))

    def list(self, bucket: str, prefix: str) -> Iterator[Any]:
        found = self._gate.call("store.list", lambda: [*self._inner.list(bucket, prefix)], answers=self._answers)
        return iter(found)

    def list_hidden(self, bucket: str, prefix: str) -> Iterator[Any]:
        found = self._gate.call(
            "store.list_hidden", lambda: [*self._inner.list_hidden(bucket, prefix)], answers=self._answers
        )
        return iter(found)


class GatedRepository(Gated):
    """A repository; the lock of ``sole_user`` is taken and let go in a call each."""

    def all(self, *, page: int = 1000) -> Iterator[Any]:
        return iter(self._gate.call("rows.all", lambda: [*self._inner.all(page=page)], answers=self._answers))

    @contextmanager
    def sole_user(self, job_id: Any, *, bucket: str, key: str, sha256: str = "") -> Iterator[bool]:
        manager = self._inner.sole_user(job_id, bucket=bucket, key=key, sha256=sha256)
        entered: list[bool] = []
        try:
            self._gate.call(
                "rows.sole_user",
                lambda: entered.append(manager.__enter__()),
                repeatable=False,
                answers=self._answers,
            )
            yield entered[0]
        finally:
            # A process that dies, or hears nothing more of its connection, has lost its lock.
            if entered:
                manager.__exit__(None, None, None)
