"""Native stacks: start, stop, reset, status and snapshots. The command line and the tests both use ``Stack``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from photo_worker.devkit import disk, external, logs, pausing, ports
from photo_worker.devkit.environment import AWS_SERVICES, environment_of
from photo_worker.devkit.layout import (
    DEFAULT_NAME,
    StackPaths,
    block_signals,
    check_name,
    delete_tree,
    discard_tree,
    exclusive,
    is_locked,
)
from photo_worker.devkit.service import Service
from photo_worker.devkit.start import StackStart
from photo_worker.devkit.state import REGION, Processes, StackRecord
from photo_worker.devkit.status import StackStatus, UpReport, not_ready_reason, problem_of, status_of
from photo_worker.devkit.timeline import Timeline
from photo_worker.errors import StackError
from photo_worker.stack_errors import (
    FaultNotSet,
    ServiceFailed,
    ServiceUnknown,
    StackDiffers,
    StackMoved,
    StackNotReady,
    StackNotRunning,
    StackOfOtherKind,
)

if TYPE_CHECKING:
    from photo_worker.devkit.snapshots import Snapshot

# The supervisor stops two stages; in each it signals the services, then kills them, with a time limit for both.
_STOP_SECONDS = 25.0
_GRACE_SECONDS = 5.0
_LIST_SECONDS = 3.0
_SUPERVISOR = "photo_worker.devkit.supervisor"
_POLL_SECONDS = 0.1
_SHOWN_LINES = 20


class Stack:
    """One stack: a directory below ``home`` and the processes that belong to it.

    ``base_port`` is the first of its twenty ports: None for the recorded ones, or else those derived from
    path and name; 0 for a free block, kept from then on. ``s3`` and ``external`` are those recorded if
    None. ``durable=False`` trades safety against power cuts for speed, for tests. ``timeout`` (seconds)
    bounds each service's start, and ``services`` replaces those that follow from the other arguments.
    Several processes may call methods at once; the calls take turns.
    """

    def __init__(
        self,
        home: Path,
        name: str = DEFAULT_NAME,
        *,
        base_port: int | None = None,
        s3: str | None = None,
        external: Mapping[str, str] | None = None,
        offline: bool = False,
        durable: bool = True,
        timeout: float = 90.0,
        services: Sequence[Service] | None = None,
    ) -> None:
        self.paths = StackPaths(home.expanduser().absolute(), check_name(name))
        self._base_port = base_port
        self._s3 = s3
        self._external = None if external is None else parsed(external)
        self._offline = offline
        self._durable = durable
        self._timeout = timeout
        self._fixed = None if services is None else tuple(services)

    @property
    def name(self) -> str:
        """The stack's name in its home."""
        return self.paths.name

    @property
    def services(self) -> tuple[str, ...]:
        """The names of the services that the stack runs itself."""
        return tuple(service.name for service in self._services)

    @property
    def _services(self) -> tuple[Service, ...]:
        if self._fixed is not None:
            return self._fixed
        from photo_worker.devkit.service_registry import select_services

        return select_services("native", *self._choices(self._known_record()))

    def up(self) -> UpReport:
        """Start the stack unless it runs completely, and wait until every service is ready.

        Raises ``StackError``. After ``ServiceFailed`` the other services stay up; after an interrupt
        no process is left.
        """
        timeline = Timeline()
        with self._exclusive("up"):
            return self._up(timeline)

    def down(self) -> bool:
        """Stop the stack and keep its data; returns False if nothing ran. Takes at most about a minute."""
        if not self.paths.root.exists():
            return self._end_without_directory()
        with self._exclusive("down", seconds=_STOP_SECONDS):
            return self._down()

    def reset(self) -> UpReport:
        """Delete the stack's data and logs, and leave it running; its ports and its password stay.

        Running services are emptied, which takes a third of the time of a start without data. If one does
        not run, or cannot be emptied completely, all are restarted without data.
        """
        timeline = Timeline()
        with self._exclusive("reset"):
            known = self._known_record()
            if known is not None and self._try_reset_in_place(known, timeline):
                return UpReport(self.status(), started=True, seconds=timeline.elapsed(), timeline=timeline)
            with timeline.span("stack", "stop and delete"):
                self._down()
                self._delete_contents()
            if known is not None:
                known.save(self.paths)
            return self._up(timeline)

    def delete(self) -> None:
        """Stop the stack and delete all of it, its directory included."""
        if not self.paths.root.exists():
            return
        with self._exclusive("delete"):
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
        """Probe every service and return its state; takes at most some 200 ms."""
        from concurrent.futures import ThreadPoolExecutor

        record = StackRecord.load(self.paths)
        processes = Processes.load(self.paths)
        if record is None:
            s3, endpoints = self._choices(None)
            record = StackRecord.new(self.name, self._fresh_base(), durable=self._durable)
            record = record.with_(s3=s3, external=endpoints)
        known, services, externals = record, self._services, external.external_services(record)
        held = self.paused()
        with ThreadPoolExecutor(len(services) + len(externals) or 1) as pool:
            others = [pool.submit(one.status) for one in externals]
            lines = list(pool.map(lambda service: status_of(service, known, processes, held), services))
            lines += [other.result() for other in others]
        running = processes.alive and all(line.state == "running" for line in lines)
        return StackStatus(self.name, self.paths.root, running, lines, problem_of(processes))

    def save_snapshot(self, name: str) -> Snapshot:
        """Save a copy of the stack's data. A running stack is stopped for it, and restarted even if the copy fails.

        Raises ``SnapshotExists``, ``InvalidSnapshotName``, and ``StackError`` if there is no data yet.
        """
        from photo_worker.devkit import snapshots

        snapshots.require_new(self.paths, name)
        record = StackRecord.load(self.paths)
        if record is None:
            raise StackError(reason=f"{self.name} has nothing to save: it was never started, or was reset")
        with self._exclusive("snapshot save"):
            ran = self._settled().alive
            try:
                self._down()
                return snapshots.save(self.paths, record, name)
            finally:
                if ran:
                    self._up(Timeline())

    def load_snapshot(self, name: str) -> UpReport:
        """Replace the stack's data by a snapshot, and start the stack. Its ports stay.

        The snapshot is copied before the stack is stopped, so that a full disk does no harm. The stack then has
        the S3 server that the snapshot was made with. Raises ``SnapshotMissing``, and ``DataMismatch`` if this
        version cannot use the snapshot.
        """
        from photo_worker.devkit import snapshots

        timeline = Timeline()
        snapshot = snapshots.require(self.paths, name, kind="native")
        with self._exclusive("snapshot load"):
            self._require_server(snapshot.s3)
            try:
                with timeline.span("stack", "copy"):
                    snapshots.stage(self.paths, name)
                with timeline.span("stack", "stop"):
                    self._down()
                # The snapshot's password goes with its data: neither works without the other.
                record = self._new_record(self._known_record()).with_(password=snapshot.password, s3=snapshot.s3)
                with block_signals():
                    record.save(self.paths)
                    snapshots.swap_in(self.paths)
            finally:
                snapshots.unstage(self.paths)
            return self._up(timeline)

    def wait(self, seconds: float) -> StackStatus:
        """Wait until the stack is ready: every service responds, and no command is still at work on it.

        Starts nothing. Raises ``StackNotReady`` after ``seconds``, and ``ServiceFailed`` at once if a service
        has ended and no command is starting it.
        """
        deadline = time.monotonic() + seconds
        while True:
            processes = Processes.load(self.paths)
            # `up` tells the supervisor to stay ("kept") once all is ready; a reset empties services in that phase.
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
                    name=self.name, seconds=seconds, reason=status.problem or not_ready_reason(status, busy=busy)
                )
            time.sleep(_POLL_SECONDS)

    def pause(self, service: str) -> None:
        """Suspend all processes of a service until ``resume`` or the next command.

        ``up``, ``down``, ``reset`` and the snapshot commands resume it. Raises ``ServiceUnknown``,
        ``StackNotRunning``, and ``FaultNotSet`` if the service itself does not run.
        """
        self._require(service)
        with self._exclusive("faults set"):
            known = self._settled()
            if not known.alive:
                raise StackNotRunning(name=self.name)
            entry = known.services.get(service)
            if entry is None or entry.pid is None or entry.state != "running":
                state = "not there" if entry is None else entry.state
                raise FaultNotSet(service=service, reason=f"it is {state}")
            pausing.pause(self.paths, service, entry.pid)

    def resume(self, service: str) -> None:
        """Resume a paused service; no error if it is not paused. Raises ``ServiceUnknown``."""
        self._require(service)
        if self.paths.root.exists():
            with self._exclusive("faults clear"):
                pausing.resume(self.paths, service)

    def paused(self) -> dict[str, str]:
        """Return since when (ISO 8601, UTC) each paused service is paused, by name."""
        return pausing.paused(self.paths)

    def _require(self, service: str) -> None:
        if service not in self.services:
            raise ServiceUnknown(name=self.name, service=service, known=", ".join(self.services))

    def tail(self, service: str, lines: int) -> list[str]:
        """Return the last lines of a service's log."""
        return logs.tail(self.paths.log(service), lines)

    def follow(self, services: Sequence[str], stop: Callable[[], bool]) -> Iterator[tuple[str, str]]:
        """Yield (service, line) as the services write, until ``stop`` returns true."""
        return logs.follow(self.paths, services, stop)

    @contextmanager
    def _exclusive(self, doing: str, *, seconds: float | None = None) -> Iterator[None]:
        """Hold the stack's command lock, after waiting ``seconds`` for it; by default as long as a start may take."""
        limit = self._timeout + _STOP_SECONDS if seconds is None else seconds
        try:
            with exclusive(self.paths.command_lock, timeout=limit, doing=doing, prepare=self.paths.create):
                yield
        except (OSError, StackError) as error:
            cause = disk.explain(error, self.paths.root)
            if cause is error:
                raise
            raise cause from error

    def _try_reset_in_place(self, record: StackRecord, timeline: Timeline) -> bool:
        """Empty the running services and create what the stack needs; returns False if they must be restarted."""
        from photo_worker.devkit.readiness import ResetFailed

        processes = self._settled()
        pausing.resume(self.paths)
        as_it_would_start = self._new_record(record)
        if not processes.alive or not self._all_run(processes) or record != as_it_would_start:
            return False
        try:
            with timeline.span("stack", "start anew"):
                self._renew(processes)
            kept = {"s3-" + record.s3, *(name for name in self.services if name != "s3")}
            for entry in self.paths.data.iterdir():
                if not {entry.name, entry.name.partition("-")[0]} & kept:
                    delete_tree(entry) if entry.is_dir() else entry.unlink()
            logs.erase(self.paths.logs, ("supervisor", *self.services))
            self._start(record, timeline).empty_and_make_ready()
            self._finish(record, timeline)
        except (ResetFailed, OSError, StackError) as error:
            timeline.add("stack", f"not emptied: {error}", timeline.elapsed(), 0.0)
            return False
        return True

    def _renew(self, known: Processes) -> None:
        """Have the supervisor restart, without data, the services that cannot be emptied; raises ``ResetFailed``."""
        from photo_worker.devkit import processes as system
        from photo_worker.devkit.readiness import ResetFailed
        from photo_worker.devkit.supervisor import RENEW

        supervisor = system.find(known.pid, _SUPERVISOR, str(self.paths.root))
        if supervisor is None or known.renewals is None:
            raise ResetFailed("the supervisor is of another version")
        supervisor.send_signal(RENEW)
        deadline = time.monotonic() + _GRACE_SECONDS
        while Processes.load(self.paths).renewals == known.renewals:
            if time.monotonic() > deadline:
                raise ResetFailed("the supervisor does not answer")
            time.sleep(0.005)

    def _delete_contents(self) -> None:
        from photo_worker.devkit import postgres, snapshots

        snapshots.unstage(self.paths)
        for directory in postgres.shared_data(self.paths):
            discard_tree(directory)
        # This deletes the record, whose password belongs to the data, last.
        self.paths.delete_contents()

    def _delete_leftovers(self) -> None:
        """Delete what an interrupted reset or snapshot load has left."""
        from photo_worker.devkit import snapshots

        snapshots.unstage(self.paths)

    def _up(self, timeline: Timeline) -> UpReport:
        processes = self._settled()
        record = StackRecord.load(self.paths)
        self._refuse(record, running=processes.alive)
        if processes.alive and record is not None:
            self._end_faults(record)
            if self._base_port and self._base_port != record.base_port:
                raise StackMoved(name=self.name, base_port=record.base_port, asked=self._base_port)
            if self._all_run(processes):
                # The supervisor may not have noticed an exit yet; and a service may run without responding.
                try:
                    self._finish(self._start(record, timeline).make_ready(), timeline)
                    return UpReport(self.status(), started=False, seconds=timeline.elapsed(), timeline=timeline)
                except ServiceFailed as error:
                    # Restarting own services does not repair an external one, and loses what they hold in memory.
                    if error.context["service"] in record.external:
                        raise
        # Checked before anything is stopped; a running server needs no program any more.
        self._require_server(*self._choices(record))
        # If one service has died or hangs, all are restarted: another may rely on what that one lost.
        self._down()
        self._delete_leftovers()
        record = self._new_record(record)
        record.save(self.paths)
        uses = {use: service.name for service in self._services for use in service.uses}
        ports.require_free(record.ports, uses)
        start = self._start(record, timeline)
        self._finish(start.launch_and_make_ready(), timeline)
        return UpReport(self.status(), started=True, seconds=timeline.elapsed(), timeline=timeline)

    def _refuse(self, record: StackRecord | None, *, running: bool) -> None:
        """Raise if this start is impossible or conflicts with the running stack; starts and stops nothing."""
        from photo_worker.devkit.containers import is_up

        if record is not None and record.kind == "compose" and is_up(self.paths):
            raise StackOfOtherKind(name=self.name, kind="compose")
        s3, endpoints = self._choices(record)
        if self._offline:
            external.refuse_offline(endpoints)
        if running and record is not None and self._fixed is None and (s3, endpoints) != (record.s3, record.external):
            running_with, asked = (described(*choice) for choice in ((record.s3, record.external), (s3, endpoints)))
            raise StackDiffers(name=self.name, running=running_with, asked=asked)

    def _require_server(self, s3: str, endpoints: Collection[str] = ()) -> None:
        """Raise ``S3ServerUnfit`` or ``S3ServerMissing`` if this machine cannot run that S3 server."""
        from photo_worker.devkit.service_registry import require_programs

        if self._fixed is None:
            require_programs("native", s3, endpoints)

    def _finish(self, record: StackRecord, timeline: Timeline) -> None:
        """Save the names that external services chose, and bind the bucket to the database."""
        if record != StackRecord.load(self.paths):
            record.save(self.paths)
        if self._fixed is None:
            from photo_worker.devkit.binding import bind_bucket

            with timeline.span("stack", "bind the bucket"):
                bind_bucket(environment_of(record))

    def _choices(self, record: StackRecord | None) -> tuple[str, dict[str, str]]:
        """Return the S3 server and the external endpoints: as requested, else as recorded, else the defaults."""
        from photo_worker.devkit.service_registry import s3_servers

        known = record is not None and record.s3 in s3_servers("native")
        s3 = self._s3 or (record.s3 if record is not None and known else s3_servers("native")[0])
        endpoints = self._external if self._external is not None else record.external if record is not None else {}
        return s3, dict(endpoints)

    def _end_faults(self, record: StackRecord) -> None:
        """Resume paused services and delete Textract's fault rules, because ``up`` is about to probe them."""
        from photo_worker.devkit import fault_rules

        pausing.resume(self.paths)
        if "textract" in self.services:
            fault_rules.delete_rules(environment_of(record)["AWS_ENDPOINT_URL_TEXTRACT"])

    def _all_run(self, processes: Processes) -> bool:
        return set(self.services) <= {entry.name for entry in processes.services.values() if entry.state == "running"}

    def _start(self, record: StackRecord, timeline: Timeline) -> StackStart:
        return StackStart(self.paths, record, self._services, timeline, self._timeout)

    def _settled(self) -> Processes:
        """Return the processes, after an abandoned supervisor, if any, has ended by itself."""
        began = time.monotonic()
        while True:
            processes = Processes.load(self.paths)
            # A supervisor writes its list at once; if it is not there by now, it is lost or damaged.
            limit = _STOP_SECONDS if processes.pid is not None else _LIST_SECONDS
            # This process holds the command lock, so the `up` that started a supervisor that is not kept has ended.
            if not processes.alive or processes.phase == "kept" or time.monotonic() > began + limit:
                return processes
            time.sleep(0.05)

    def _new_record(self, known: StackRecord | None) -> StackRecord:
        chosen = self._base_port or (known.base_port if known else self._fresh_base())
        record = known or StackRecord.new(self.name, chosen, durable=self._durable)
        versions = {service.name: service.version() for service in self._services}
        s3, endpoints = self._choices(record)
        same = endpoints == record.external
        region = REGION
        if set(endpoints) & set(AWS_SERVICES):
            region = caller_region() or (record.region if same else REGION)
        return record.with_(
            base_port=chosen,
            durable=self._durable,
            versions=versions,
            kind="native",
            s3=s3,
            external=endpoints,
            region=region,
            found=record.found if same else {},
        )

    def _known_record(self) -> StackRecord | None:
        """Return the record to keep over a reset; None if it is missing or unusable."""
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
            system.terminate(supervisor, timeout=_STOP_SECONDS)
        return bool(supervisors)

    def _down(self) -> bool:
        """End the supervisor and, if it was killed, the processes that it left."""
        from photo_worker.devkit import processes as system

        known = self._settled()
        pausing.resume(self.paths)
        directory = str(self.paths.root)
        # Searched by command line too: its files may have been deleted or damaged while it ran.
        named = system.find(known.pid, _SUPERVISOR, *([] if known.alive else [directory]))
        supervisors = [named] if named is not None else system.search(_SUPERVISOR, directory)
        for supervisor in supervisors:
            system.terminate(supervisor, timeout=_STOP_SECONDS)
        # If the supervisor was killed, its reaper ends the services and then itself.
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


def parsed(endpoints: Mapping[str, str]) -> dict[str, str]:
    """Return external endpoints in the form used in variables; raises ``ExternalInvalid``."""
    external.require_sns_with_sqs(endpoints)
    return {service: external.parse(service, endpoint) for service, endpoint in endpoints.items()}


def described(s3: str, endpoints: Mapping[str, str]) -> str:
    """Describe a stack's S3 server and external services for a sentence."""
    return f"S3 by {s3} and {external.describe(endpoints) or 'nothing'} external"


def caller_region() -> str | None:
    """Return the AWS region of the caller's environment, or None."""
    given = (os.environ.get(name, "").strip() for name in ("AWS_REGION", "AWS_DEFAULT_REGION"))
    return next((region for region in given if region), None)
