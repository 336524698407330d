"""Starting, stopping and looking at a stack. The command line and the tests both use ``Stack``."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from photo_worker.devkit import disk, logs, pausing, ports
from photo_worker.devkit.environment import environment_of
from photo_worker.devkit.layout import (
    DEFAULT_NAME,
    StackPaths,
    check_name,
    delete_tree,
    discard_tree,
    exclusive,
    is_locked,
    uninterrupted,
)
from photo_worker.devkit.services import SERVICES, Service
from photo_worker.devkit.start import Start
from photo_worker.devkit.state import Processes, StackRecord
from photo_worker.devkit.timeline import Timeline
from photo_worker.errors import (
    FaultNotSet,
    ServiceFailed,
    ServiceUnknown,
    StackError,
    StackMoved,
    StackNotReady,
    StackNotRunning,
)

if TYPE_CHECKING:
    from photo_worker.devkit.snapshots import Snapshot

# Two stages, each asked and then killed within the supervisor's own limits.
_STOP_SECONDS = 25.0
_GRACE_SECONDS = 5.0
_LIST_SECONDS = 3.0
_SUPERVISOR = "photo_worker.devkit.supervisor"
_POLL_SECONDS = 0.1
_SHOWN_LINES = 20


@dataclass(frozen=True)
class ServiceStatus:
    """One line of ``photo-worker status``."""

    name: str
    state: str
    """running, starting, paused, silent (its process lives but does not answer), exited or stopped."""
    version: str | None
    url: str
    port: int
    pid: int | None
    uptime_seconds: float | None
    exit_code: int | None


@dataclass(frozen=True)
class StackStatus:
    """A stack as it is now."""

    name: str
    directory: Path
    running: bool
    """Whether every service answers."""
    services: list[ServiceStatus]
    problem: str | None = None
    """What is wrong with the stack itself, for people: its supervisor was killed, its files are damaged."""


@dataclass(frozen=True)
class UpReport:
    """What ``up`` did."""

    status: StackStatus
    started: bool
    """False where the stack ran already."""
    seconds: float
    timeline: Timeline = field(repr=False)


class Stack:
    """One stack: a directory below ``home`` and the processes that belong to it.

    ``base_port`` is the first of its ten ports: None for the ones it had, or those that its path
    and name give; 0 for a free block, kept from then on. ``durable=False`` trades safety against
    power cuts for speed, for tests. ``timeout`` (seconds) bounds each service's start. Methods may
    be called from several processes at once; they take turns.
    """

    def __init__(
        self,
        home: Path,
        name: str = DEFAULT_NAME,
        *,
        base_port: int | None = None,
        durable: bool = True,
        timeout: float = 90.0,
        services: Sequence[Service] = SERVICES,
    ) -> None:
        self.paths = StackPaths(home.expanduser().absolute(), check_name(name))
        self._base_port = base_port
        self._durable = durable
        self._timeout = timeout
        self._services = tuple(services)

    @property
    def name(self) -> str:
        """The stack's name."""
        return self.paths.name

    @property
    def services(self) -> tuple[str, ...]:
        """The names of its services."""
        return tuple(service.name for service in self._services)

    def up(self) -> UpReport:
        """Start what does not run and wait until all of it is usable.

        Raises ``StackError``. ``ServiceFailed`` leaves the other services up; after an interrupt
        nothing stays.
        """
        timeline = Timeline()
        with self._alone("up"):
            return self._up(timeline)

    def down(self) -> bool:
        """Stop the stack; false where nothing ran. Its data stays. Bounded by about a minute."""
        if not self.paths.root.exists():
            return self._end_without_directory()
        with self._alone("down", seconds=_STOP_SECONDS):
            return self._down()

    def reset(self) -> UpReport:
        """Delete the stack's data and logs, and leave it running; its ports and its password stay.

        Services that run are emptied, which takes a third of the time of starting them on no data.
        They are started on no data where one does not run, or does not let itself be emptied whole.
        """
        timeline = Timeline()
        with self._alone("reset"):
            known = self._known_record()
            if known is not None and self._emptied(known, timeline):
                return UpReport(self.status(), started=True, seconds=timeline.elapsed(), timeline=timeline)
            with timeline.span("stack", "stop and delete"):
                self._down()
                self._delete_contents()
            if known is not None:
                known.save(self.paths)
            return self._up(timeline)

    def delete(self) -> None:
        """Stop the stack and remove all of it, its directory included."""
        if not self.paths.root.exists():
            return
        with self._alone("delete"):
            self._down()
            self._delete_contents()
            delete_tree(self.paths.root)

    def env(self) -> dict[str, str]:
        """Return the variables that point at the stack; raises ``StackNotRunning``."""
        record = StackRecord.load(self.paths)
        if record is None or not is_locked(self.paths.supervisor_lock):
            raise StackNotRunning(name=self.name)
        return environment_of(record)

    def status(self) -> StackStatus:
        """Ask every service; takes at most some 200 ms."""
        from concurrent.futures import ThreadPoolExecutor

        record = StackRecord.load(self.paths)
        processes = Processes.load(self.paths)
        if record is None:
            record = StackRecord.new(self.name, self._fresh_base(), durable=self._durable)
        known = record
        held = self.paused()
        with ThreadPoolExecutor(max(1, len(self._services))) as pool:
            lines = list(pool.map(lambda service: _status_of(service, known, processes, held), self._services))
        running = processes.alive and all(line.state == "running" for line in lines)
        return StackStatus(self.name, self.paths.root, running, lines, _problem_of(processes))

    def save_snapshot(self, name: str) -> Snapshot:
        """Copy what the stack stores. A stack that runs is stopped for it, and started again whatever comes of it.

        Raises ``SnapshotExists``, ``InvalidSnapshotName``, and ``StackError`` where it stores nothing yet.
        """
        from photo_worker.devkit import snapshots

        snapshots.require_new(self.paths, name)
        record = StackRecord.load(self.paths)
        if record is None:
            raise StackError(reason=f"{self.name} has nothing to save: it was never started, or was reset")
        with self._alone("snapshot save"):
            ran = self._settled().alive
            try:
                self._down()
                return snapshots.save(self.paths, record, name)
            finally:
                if ran:
                    self._up(Timeline())

    def load_snapshot(self, name: str) -> UpReport:
        """Put a snapshot in the place of what the stack stores, and start it. Its ports stay.

        The snapshot is copied before the stack is stopped, so that a full disk costs nothing. Raises
        ``SnapshotMissing``, and ``DataMismatch`` for one that this version cannot use.
        """
        from photo_worker.devkit import snapshots

        timeline = Timeline()
        snapshot = snapshots.require(self.paths, name)
        with self._alone("snapshot load"):
            try:
                with timeline.span("stack", "copy"):
                    snapshots.stage(self.paths, name)
                with timeline.span("stack", "stop"):
                    self._down()
                # The password first: it is of no use without the data, and the data none without it.
                record = self._new_record(self._known_record()).with_(password=snapshot.password)
                with uninterrupted():
                    record.save(self.paths)
                    snapshots.swap_in(self.paths)
            finally:
                snapshots.unstage(self.paths)
            return self._up(timeline)

    def wait(self, seconds: float) -> StackStatus:
        """Wait until the stack is usable: every service answers, and no command is still at work on it.

        Starts nothing. Raises ``StackNotReady`` after ``seconds``, and at once ``ServiceFailed`` where a service
        has ended and nobody is starting it.
        """
        deadline = time.monotonic() + seconds
        while True:
            processes = Processes.load(self.paths)
            # `up` keeps the supervisor when all is made and usable; a reset empties what runs and is kept.
            busy = is_locked(self.paths.command_lock)
            settled = processes.alive and processes.phase == "kept" and not busy
            status = self.status()
            if settled and status.running:
                return status
            ended = [service for service in status.services if service.state == "exited"]
            if settled and ended:
                lines = logs.tail(self.paths.log(ended[0].name), _SHOWN_LINES)
                log = "".join(f"\n  {ended[0].name} | {line}" for line in lines)
                raise ServiceFailed(service=ended[0].name, reason=f"it ended with code {ended[0].exit_code}", log=log)
            if time.monotonic() > deadline:
                raise StackNotReady(
                    name=self.name, seconds=seconds, reason=status.problem or _what_is_missing(status, busy=busy)
                )
            time.sleep(_POLL_SECONDS)

    def pause(self, service: str) -> None:
        """Stop a service in the middle of whatever it does, its processes whole, until ``resume`` or the next command.

        ``up``, ``down``, ``reset`` and the snapshot commands let it go on. Raises ``ServiceUnknown``,
        ``StackNotRunning``, and ``FaultNotSet`` where the service itself does not run.
        """
        self._require(service)
        with self._alone("faults set"):
            known = self._settled()
            if not known.alive:
                raise StackNotRunning(name=self.name)
            entry = known.services.get(service)
            if entry is None or entry.pid is None or entry.state != "running":
                state = "not there" if entry is None else entry.state
                raise FaultNotSet(service=service, reason=f"it is {state}")
            pausing.pause(self.paths, service, entry.pid)

    def resume(self, service: str) -> None:
        """Let a paused service go on; no error where it is not paused. Raises ``ServiceUnknown``."""
        self._require(service)
        if self.paths.root.exists():
            with self._alone("faults clear"):
                pausing.resume(self.paths, service)

    def paused(self) -> dict[str, str]:
        """Return since when (ISO 8601, UTC) each paused service is paused, by its name."""
        return pausing.paused(self.paths)

    def _require(self, service: str) -> None:
        if service not in self.services:
            raise ServiceUnknown(name=self.name, service=service, known=", ".join(self.services))

    def tail(self, service: str, lines: int) -> list[str]:
        """Return the last lines of a service's log."""
        return logs.tail(self.paths.log(service), lines)

    def follow(self, services: Sequence[str], stop: Callable[[], bool]) -> Iterator[tuple[str, str]]:
        """Yield (service, line) as the services write, until ``stop`` says so."""
        return logs.follow(self.paths, services, stop)

    @contextmanager
    def _alone(self, doing: str, *, seconds: float | None = None) -> Iterator[None]:
        """Keep other commands off this stack, after waiting for the one at work; by default as long as a start."""
        limit = self._timeout + _STOP_SECONDS if seconds is None else seconds
        try:
            with exclusive(self.paths.command_lock, timeout=limit, doing=doing, prepare=self.paths.create):
                yield
        except (OSError, StackError) as error:
            cause = disk.explain(error, self.paths.root)
            if cause is error:
                raise
            raise cause from error

    def _emptied(self, record: StackRecord, timeline: Timeline) -> bool:
        """Empty the services that run and make what the stack needs in them; false where they have to start anew."""
        from photo_worker.devkit.readiness import NotEmptied

        processes = self._settled()
        pausing.resume(self.paths)
        as_it_would_start = self._new_record(record)
        if not processes.alive or not self._all_run(processes) or record != as_it_would_start:
            return False
        try:
            with timeline.span("stack", "start anew"):
                self._renew(processes)
            for entry in self.paths.data.iterdir():
                if entry.name.partition("-")[0] not in self.services:
                    delete_tree(entry) if entry.is_dir() else entry.unlink()
            logs.erase(self.paths.logs, ("supervisor", *self.services))
            self._start(record, timeline).empty_and_make_ready()
        except (NotEmptied, OSError, StackError) as error:
            timeline.add("stack", f"not emptied: {error}", timeline.elapsed(), 0.0)
            return False
        return True

    def _renew(self, known: Processes) -> None:
        """Have the supervisor start those services without data that cannot be emptied; raises ``NotEmptied``."""
        from photo_worker.devkit import processes as system
        from photo_worker.devkit.readiness import NotEmptied
        from photo_worker.devkit.supervisor import RENEW

        supervisor = system.find(known.pid, _SUPERVISOR, str(self.paths.root))
        if supervisor is None or known.renewals is None:
            raise NotEmptied("the supervisor is of another version")
        supervisor.send_signal(RENEW)
        deadline = time.monotonic() + _GRACE_SECONDS
        while Processes.load(self.paths).renewals == known.renewals:
            if time.monotonic() > deadline:
                raise NotEmptied("the supervisor does not answer")
            time.sleep(0.005)

    def _delete_contents(self) -> None:
        from photo_worker.devkit import postgres, snapshots

        snapshots.unstage(self.paths)
        for directory in postgres.shared_data(self.paths):
            discard_tree(directory)
        # The password for what was deleted goes last.
        self.paths.delete_contents()

    def _delete_leftovers(self) -> None:
        """Delete what an interrupted reset or load has left."""
        from photo_worker.devkit import snapshots

        snapshots.unstage(self.paths)

    def _up(self, timeline: Timeline) -> UpReport:
        processes = self._settled()
        record = StackRecord.load(self.paths)
        if processes.alive and record is not None:
            self._end_faults(record)
            if self._base_port and self._base_port != record.base_port:
                raise StackMoved(name=self.name, base_port=record.base_port, asked=self._base_port)
            if self._all_run(processes):
                try:
                    self._start(record, timeline).make_ready()
                except ServiceFailed:
                    # The supervisor may have learnt of a death only now.
                    if self._all_run(Processes.load(self.paths)):
                        raise
                else:
                    return UpReport(self.status(), started=False, seconds=timeline.elapsed(), timeline=timeline)
        # A stack of which a part has died starts as a whole: what one service lost, another may rely on.
        self._down()
        self._delete_leftovers()
        record = self._new_record(record)
        record.save(self.paths)
        uses = {use: service.name for service in self._services for use in service.uses}
        ports.require_free(record.ports, uses)
        start = self._start(record, timeline)
        start.launch_and_make_ready()
        return UpReport(self.status(), started=True, seconds=timeline.elapsed(), timeline=timeline)

    def _end_faults(self, record: StackRecord) -> None:
        """Let paused services go on and Textract work as it should: ``up`` is about to use them."""
        from photo_worker.devkit import fault_rules

        pausing.resume(self.paths)
        if "textract" in self.services:
            fault_rules.end_rules(environment_of(record)["AWS_ENDPOINT_URL_TEXTRACT"])

    def _all_run(self, processes: Processes) -> bool:
        return set(self.services) <= {entry.name for entry in processes.services.values() if entry.state == "running"}

    def _start(self, record: StackRecord, timeline: Timeline) -> Start:
        return Start(self.paths, record, self._services, timeline, self._timeout)

    def _settled(self) -> Processes:
        """Return the processes once a supervisor that nobody waits for has ended by itself."""
        began = time.monotonic()
        while True:
            processes = Processes.load(self.paths)
            # A supervisor writes its list within a moment; one that is not there by now is lost or damaged.
            limit = _STOP_SECONDS if processes.pid is not None else _LIST_SECONDS
            # We hold the command lock: whoever started a supervisor that is not kept is gone.
            if not processes.alive or processes.phase == "kept" or time.monotonic() > began + limit:
                return processes
            time.sleep(0.05)

    def _new_record(self, known: StackRecord | None) -> StackRecord:
        chosen = self._base_port or (known.base_port if known else self._fresh_base())
        record = known or StackRecord.new(self.name, chosen, durable=self._durable)
        versions = {service.name: service.version() for service in self._services}
        return record.with_(base_port=chosen, durable=self._durable, versions=versions)

    def _known_record(self) -> StackRecord | None:
        """Return what to keep over a reset; None where the record is missing or of no use any more."""
        with suppress(StackError):
            return StackRecord.load(self.paths)
        return None

    def _fresh_base(self) -> int:
        if self._base_port == 0:
            return ports.free_base()
        return self._base_port or ports.derived_base(self.paths.home, self.name)

    def _end_without_directory(self) -> bool:
        """End a supervisor whose directory was deleted while it ran."""
        from photo_worker.devkit import processes as system

        supervisors = system.search(_SUPERVISOR, str(self.paths.root))
        for supervisor in supervisors:
            system.end_politely(supervisor, timeout=_STOP_SECONDS)
        return bool(supervisors)

    def _down(self) -> bool:
        """End the supervisor and, should it have been killed, what it left."""
        from photo_worker.devkit import processes as system

        known = self._settled()
        pausing.resume(self.paths)
        directory = str(self.paths.root)
        # Looked for by name too: its files may have been deleted or damaged while it ran.
        named = system.find(known.pid, _SUPERVISOR, *([] if known.alive else [directory]))
        supervisors = [named] if named is not None else system.search(_SUPERVISOR, directory)
        for supervisor in supervisors:
            system.end_politely(supervisor, timeout=_STOP_SECONDS)
        # After a killed supervisor, its reaper ends the services one last time and then itself.
        reaper = system.find(known.reaper, directory)
        if reaper is not None:
            system.wait_gone(reaper, timeout=_STOP_SECONDS)
        left = [
            process
            for entry in Processes.load(self.paths).services.values()
            if entry.pid is not None and entry.started is not None
            if (process := system.ProcessId(entry.pid, entry.started).process()) is not None
        ]
        ended = system.end(left, grace=_GRACE_SECONDS)
        if is_locked(self.paths.supervisor_lock):
            raise StackError(reason=f"its supervisor (process {known.pid}) does not end")
        return known.alive or bool(supervisors) or bool(ended)


def _problem_of(processes: Processes) -> str | None:
    if processes.alive and processes.pid is None:
        return "the list of its processes is missing or damaged; `photo-worker up` starts it anew, with its data"
    if not processes.alive and processes.phase != "ended":
        return (
            f"its supervisor (process {processes.pid}) was killed, or the machine restarted; "
            "`photo-worker up` starts it again, with its data"
        )
    return None


def _what_is_missing(status: StackStatus, *, busy: bool) -> str:
    missing = [f"{service.name} is {service.state}" for service in status.services if service.state != "running"]
    if len(missing) == len(status.services) and not busy:
        return "nothing has started it"
    return ", ".join(missing) or "a command is still at work on it"


def _status_of(service: Service, record: StackRecord, processes: Processes, held: Container[str]) -> ServiceStatus:
    entry = processes.services.get(service.name) if processes.alive else None
    state = (
        "stopped"
        if entry is None
        else {"failed": "exited", "waiting": "starting", "preparing": "starting"}.get(entry.state, entry.state)
    )
    if processes.alive and processes.pid is None and service.answers(record):
        # Nothing is known of its process, and it runs all the same.
        state = "running"
    elif state == "running" and service.name in held:
        state = "paused"
    elif state == "running" and not service.answers(record):
        state = "silent" if processes.phase == "kept" else "starting"
    alive = entry is not None and state not in {"exited", "stopped"}
    return ServiceStatus(
        name=service.name,
        state=state,
        version=record.versions.get(service.name),
        url=service.url(record),
        port=record.ports[service.uses[0]],
        pid=entry.pid if entry is not None and alive else None,
        uptime_seconds=round(time.time() - entry.started, 1) if entry and entry.started and alive else None,
        exit_code=None if entry is None else entry.exit_code,
    )
