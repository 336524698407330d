"""The gate: a scheduler and fault injector that controls every port call.

Each strand of work has its own thread, and one runs at a time: it stops before each port call until the scheduler
resumes it. So a seed decides the order, and a process can die or pause between any two calls.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import photo_worker
from tests.crash.simulation.port_errors import ErrorFactory, PortErrors

_T = TypeVar("_T")

_PACKAGE = str(Path(photo_worker.__file__).parent)
_current: contextvars.ContextVar[Strand] = contextvars.ContextVar("strand")


class Died(BaseException):
    """The process of this strand has died. No handler of the product catches it, as none runs after SIGKILL."""


class Mode(StrEnum):
    """The fault at a port call."""

    DIE = "die"
    PAUSE = "pause"
    RAISE = "raise"
    """Before: the call never arrives. After: it took effect, and its reply is lost."""
    DOUBLE = "double"
    AWAY = "away"
    """The service responds to no process, for longer than all counted attempts of any activity."""
    SILENT = "silent"
    """The service accepts calls and never responds: each ends at its timeout. Before: the calls have no effect; after:
    they take effect, and the replies are lost."""
    SLOW = "slow"
    """Every call takes nearly as long as its timeout, and then takes effect and returns. Unlike with a pause the
    process continues, including heartbeats, and late work comes while the next attempt is in the middle of its own."""
    THROTTLE = "throttle"
    """The service throttles all callers and does not say for how long."""
    THROTTLE_LONG = "throttle-long"
    """The service throttles all callers for longer than all counted attempts."""
    READ_ONLY = "read-only"
    """The service refuses writes and executes reads."""
    REFUSE = "refuse"
    """From now on the service refuses this worker's credentials; another worker has valid ones."""
    REPLACE = "replace"
    """The owner of the source object overwrites it."""
    REPLACE_BACK = "replace-back"
    """The owner overwrites the source object and restores the first one. Before: this call alone meets the other one;
    after: both are written before the next call."""
    INTRUDE = "intrude"
    """Another deployment whose settings name this one's bucket checks, repairs and erases."""


# These begin at a call and affect every process until ``OUTAGE`` is over.
OUTAGES = frozenset({Mode.AWAY, Mode.SILENT, Mode.SLOW, Mode.THROTTLE, Mode.THROTTLE_LONG, Mode.READ_ONLY})
# Events outside of the deployment: the process is not affected.
OUTSIDE = frozenset({Mode.REPLACE, Mode.REPLACE_BACK, Mode.INTRUDE})

# Counted attempts took 15 to 56 s, and the longest attempt may take 10 minutes.
OUTAGE = timedelta(minutes=12)
# By then a client that retries every few seconds has made more attempts than any count allows.
_OUTAGES = {Mode.THROTTLE: timedelta(minutes=4)}

# A slow service responds this many seconds before the caller's timeout.
_JUST_IN_TIME_SECONDS = 1.0

# The interval of the heartbeats of a waiting attempt.
BEAT = timedelta(seconds=5)


class Phase(StrEnum):
    """Before or after the effect of the call."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True)
class Fault:
    """A fault at the call with this number."""

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
    """Whether the port can raise an error of its own that reaches the caller."""
    repeatable: bool
    modes: frozenset[Mode] = frozenset()
    """The outages and refusals that are possible at this call."""


@dataclass(frozen=True)
class Outage:
    """An outage of a service: mode, phase and end."""

    mode: Mode
    phase: Phase
    until: datetime


class Process:
    """A process of the simulation: a worker, or a client's command."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.refused: dict[str, ErrorFactory] = {}
        """The errors of ports, or of single methods such as ``rows.start``, that refuse its credentials."""
        self.strands: list[Strand] = []

    def __repr__(self) -> str:
        return self.name


def _shut() -> threading.Lock:
    """Return an acquired lock; for two threads that alternate, it costs a third of a semaphore."""
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
    """The time until which it sleeps."""
    ready: Callable[[], bool] | None = None
    """What it waits for, if anything but time."""
    done: bool = False
    error: BaseException | None = None
    at: str = ""
    beat: Callable[[], object] | None = None
    """Sends the heartbeat of a waiting attempt."""
    beaten: datetime | None = None

    def runnable(self, now: datetime) -> bool:
        """Return whether it waits neither for a time nor for an event."""
        if self.process.paused:
            return False
        if self.ready is not None and self.ready():
            return True
        return self.ready is None if self.until is None else self.until <= now

    def park(self) -> None:
        """Block until the scheduler resumes this strand."""
        self.stopped.release()
        self.go.acquire()


class Gate:
    """Counts port calls, records them, and injects faults."""

    def __init__(self, faults: tuple[Fault, ...] = (), *, now: Callable[[], datetime]) -> None:
        self._now = now
        self.outages: dict[str, Outage] = {}
        """The current outage by port."""
        self.on_refusal: Callable[[], object] = lambda: None
        """Called when a refusal of a worker begins."""
        self.outside: dict[Mode, Callable[[], object]] = {}
        """The events outside of the deployment by mode."""
        self.faults = {(fault.number, fault.phase): fault.mode for fault in faults}
        self.met: set[tuple[int, Phase]] = set()
        self.responded: set[int] = set()
        """The numbers of the calls that did not raise."""
        self.calls: list[Call] = []
        self.quiet = False
        """Whether calls are not counted, as while a test inspects the end state."""

    def call(
        self, name: str, effect: Callable[[], _T], *, errors: PortErrors | None = None, repeatable: bool = True
    ) -> _T:
        """Run ``effect`` when the scheduler allows it. ``errors`` are the errors of a port that can fail."""
        if self.quiet:
            return effect()
        strand = _current.get()
        strand.at = name
        strand.park()
        _alive(strand)
        number = len(self.calls)
        port, _, method = name.partition(".")
        modes = _modes(errors, method, strand.process)
        self.calls.append(Call(number, name, _source(), strand.process.name, errors is not None, repeatable, modes))
        self._begin(strand, number, port, modes, errors)
        self._inject(strand, number, Phase.BEFORE, errors)
        refused = strand.process.refused
        refusal = refused.get(name, refused.get(port))
        if errors is not None and refusal is not None:
            raise refusal()
        result = self._served(strand, self.outages.get(port), modes, errors, lambda: self._done(number, effect))
        self.responded.add(number)
        self._inject(strand, number, Phase.AFTER, errors)
        return result

    def _done(self, number: int, effect: Callable[[], _T]) -> _T:
        if self.faults.get((number, Phase.AFTER)) is Mode.DOUBLE and self.calls[number].repeatable:
            self.met.add((number, Phase.AFTER))
            effect()
        try:
            return effect()
        finally:
            if self.faults.get((number, Phase.BEFORE)) is Mode.REPLACE_BACK:
                # Only this call meets the other object.
                self.outside[Mode.REPLACE]()

    def _begin(self, strand: Strand, number: int, port: str, modes: frozenset[Mode], errors: PortErrors | None) -> None:
        """Begin an outage at this call."""
        for phase in Phase:
            mode = self.faults.get((number, phase))
            if mode not in modes:
                continue
            if mode in OUTAGES:
                self.met.add((number, phase))
                self.outages[port] = Outage(mode, phase, self._now() + _OUTAGES.get(mode, OUTAGE))
            elif mode is Mode.REFUSE and errors is not None and errors.refused is not None:
                self.met.add((number, phase))
                strand.process.refused[port] = errors.refused
                self.on_refusal()

    def _served(
        self,
        strand: Strand,
        outage: Outage | None,
        modes: frozenset[Mode],
        errors: PortErrors | None,
        effect: Callable[[], _T],
    ) -> _T:
        """Run the effect as a service with this outage does."""
        if outage is None or errors is None or outage.mode not in modes or self._now() >= outage.until:
            return effect()
        match outage.mode:
            case Mode.SILENT:
                self._silent(strand, outage.phase, errors, effect)
                raise errors.silent()
            case Mode.SLOW:
                self.until(strand, self._now() + timedelta(seconds=errors.limit - _JUST_IN_TIME_SECONDS))
                return effect()
            case mode:
                raise _error_of(errors, mode)()

    def _silent(self, strand: Strand, phase: Phase, errors: PortErrors, effect: Callable[[], object]) -> None:
        # The caller does not learn the result of the call, even if it is an error.
        with suppress(Exception):
            if phase is Phase.AFTER:
                effect()
        self.until(strand, self._now() + timedelta(seconds=errors.limit))

    def _inject(self, strand: Strand, number: int, phase: Phase, errors: PortErrors | None) -> None:
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
            if errors is not None:
                raise errors.away()
        else:
            strand.process.paused = True
            strand.park()
            _alive(strand)

    def _happen(self, mode: Mode, phase: Phase) -> None:
        """Run an event outside; an object that is replaced before a call is restored after it."""
        if mode is not Mode.REPLACE_BACK:
            self.outside[mode]()
            return
        self.outside[Mode.REPLACE]()
        if phase is Phase.AFTER:
            self.outside[Mode.REPLACE]()

    def wait(self, strand: Strand, ready: Callable[[], bool], until: datetime | None = None) -> bool:
        """Wait for an event, at most until a time; return whether it came."""
        while not ready():
            if until is not None and self._now() >= until:
                return False
            strand.ready, strand.until = ready, until
            strand.park()
            strand.ready = strand.until = None
            _alive(strand)
        return True

    def until(self, strand: Strand, when: datetime) -> None:
        """Sleep until a time; an attempt continues to send heartbeats."""
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


def _modes(errors: PortErrors | None, method: str, process: Process) -> frozenset[Mode]:
    """Return the modes of a service's faults that are possible at a call."""
    if errors is None:
        return frozenset()
    found = {Mode.AWAY, Mode.SILENT, Mode.SLOW}
    if errors.throttled is not None:
        found.add(Mode.THROTTLE)
    if errors.throttled_long is not None:
        found.add(Mode.THROTTLE_LONG)
    if errors.read_only is not None and method in errors.writes:
        found.add(Mode.READ_ONLY)
    if errors.refused is not None and process.name.startswith("worker"):
        found.add(Mode.REFUSE)
    return frozenset(found)


def _error_of(errors: PortErrors, mode: Mode) -> ErrorFactory:
    found = {
        Mode.AWAY: errors.away,
        Mode.THROTTLE: errors.throttled,
        Mode.THROTTLE_LONG: errors.throttled_long,
        Mode.READ_ONLY: errors.read_only,
    }[mode]
    if found is None:
        raise AssertionError(f"this service is never {mode}")
    return found


def current() -> Strand:
    """Return the strand of this thread."""
    return _current.get()


class Inline(ThreadPoolExecutor):
    """An executor for event loops that runs the work at once in the calling thread.

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
    """Run a client's command completely in this thread."""

    async def inline() -> _T:
        asyncio.get_running_loop().set_default_executor(Inline(1))
        return await work()

    return asyncio.run(inline())


def _alive(strand: Strand) -> None:
    if not strand.process.alive:
        raise Died


def begin(strand: Strand, work: Callable[[], object]) -> threading.Thread:
    """Start a thread that waits until the scheduler resumes it."""

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
    """Return the source of the call: file and line of the nearest frame in the package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_PACKAGE):
            return f"{Path(file).relative_to(Path(_PACKAGE).parent)}:{frame.f_lineno}"
        frame = frame.f_back
    return "temporal"
