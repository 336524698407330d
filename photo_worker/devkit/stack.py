"""Stacks: start, stop, reset, status and snapshots. The command line and the tests both use ``Stack``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from photo_worker.devkit import disk, external, ports
from photo_worker.devkit.environment import AWS_SERVICES, direct_environment_of, environment_of
from photo_worker.devkit.errors import (
    ServiceFailed,
    ServiceUnknown,
    SnapshotImpossible,
    StackDiffers,
    StackError,
    StackMoved,
    StackNotReady,
    StackNotRunning,
)
from photo_worker.devkit.external import PATIENCE_SECONDS
from photo_worker.devkit.layout import DEFAULT_NAME, StackPaths, check_name, delete_tree, exclusive, is_locked
from photo_worker.devkit.logs import SHOWN_LINES
from photo_worker.devkit.runtime.protocol import Runtime
from photo_worker.devkit.service_registry import require_known, s3_servers, select_services
from photo_worker.devkit.stack_options import Kind
from photo_worker.devkit.state import REGION, StackRecord
from photo_worker.devkit.status import StackStatus, UpReport, not_ready_reason
from photo_worker.devkit.timeline import Timeline
from photo_worker.errors import PhotoWorkerError

if TYPE_CHECKING:
    from photo_worker.devkit.service import Service
    from photo_worker.devkit.snapshots import Snapshot

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class _Parts:
    """What a stack consists of: its S3 server, its external services and its optional ones."""

    s3: str
    external: dict[str, str]
    extras: list[str]

    def __str__(self) -> str:
        described = f"S3 by {self.s3} and {external.describe(self.external) or 'nothing'} external"
        return ", and with ".join([described, *([", ".join(self.extras)] if self.extras else [])])


class Stack:
    """One stack: a directory below ``home``, and the processes or containers that belong to it.

    ``kind`` is how its services run. ``base_port`` is the first of its twenty ports: None for the recorded ones, or
    else those derived from path and name; 0 for a free block, kept from then on. ``s3``, ``external`` and ``extras``,
    the optional services, are those recorded if None. ``durable=False`` trades safety against power cuts for speed, for
    tests. ``timeout`` (seconds) bounds each process' start, ``external_seconds`` the wait for external services, and
    ``services`` replaces the processes that follow from the other arguments. Several processes may call methods at
    once; the calls take turns.
    """

    def __init__(
        self,
        home: Path,
        name: str = DEFAULT_NAME,
        *,
        kind: Kind = "native",
        base_port: int | None = None,
        s3: str | None = None,
        external: Mapping[str, str] | None = None,
        extras: Sequence[str] | None = None,
        offline: bool = False,
        durable: bool = True,
        timeout: float = 90.0,
        external_seconds: float = PATIENCE_SECONDS,
        services: Sequence[Service] | None = None,
    ) -> None:
        self.paths = StackPaths(home.expanduser().absolute(), check_name(name))
        self._runtime = _runtime(kind, self.paths, timeout=timeout, offline=offline, external_seconds=external_seconds)
        if s3 is not None:
            require_known(kind, s3)
        self._base_port = base_port
        self._s3 = s3
        self._external = None if external is None else _parsed(external)
        self._extras = None if extras is None else list(extras)
        self._offline = offline
        self._durable = durable
        self._fixed = None if services is None else tuple(services)

    @property
    def name(self) -> str:
        """The stack's name in its home."""
        return self.paths.name

    @property
    def kind(self) -> Kind:
        """How the services run: as processes (native) or containers (compose)."""
        return self._runtime.kind

    @property
    def services(self) -> tuple[str, ...]:
        """The names of the services that the stack runs itself."""
        return tuple(service.name for service in self._services)

    @property
    def _services(self) -> tuple[Service, ...]:
        if self._fixed is not None:
            return self._fixed
        parts = self._parts(self._known_record())
        return select_services(self.kind, parts.s3, parts.external, parts.extras)

    def up(self) -> UpReport:
        """Start the stack unless it runs completely, and wait until every service is ready.

        Raises ``StackError``. After ``ServiceFailed`` the other services stay up; after an interrupt
        nothing is left.
        """
        timeline = Timeline()
        with self._exclusive("up"):
            return self._up(timeline)

    def down(self) -> bool:
        """Stop the stack and keep its data; returns False if nothing ran. Takes at most about a minute."""
        if not self.paths.root.exists():
            return self._runtime.stop_lost(data=False)
        with self._exclusive("down", seconds=self._runtime.stop_lock_seconds):
            return self._runtime.stop()

    def reset(self) -> UpReport:
        """Delete the stack's data and logs, and leave it running; its ports and its password stay.

        Running services are emptied, which takes a third of the time of a start without data. If one does
        not run, or cannot be emptied completely, all are restarted without data.
        """
        timeline = Timeline()
        with self._exclusive("reset"):
            known = self._known_record()
            self._refuse(known, running=False)
            if known is not None and self._try_reset_in_place(known, timeline):
                return self._report(timeline, started=True)
            with timeline.span("stack", "stop and delete"):
                self._runtime.erase(known)
            return self._up(timeline)

    def delete(self) -> None:
        """Stop the stack and delete all of it, its directory included."""
        from photo_worker.devkit.runtime.native import delete_files

        if not self.paths.root.exists():
            self._runtime.stop_lost(data=True)
            return
        with self._exclusive("delete"):
            self._runtime.erase(None)
            # The same stack may have run in the other runtime before.
            delete_files(self.paths)
            delete_tree(self.paths.root)

    def env(self) -> dict[str, str]:
        """Return the variables that point at the stack; raises ``StackNotRunning``."""
        record = StackRecord.load(self.paths)
        if record is None or not self._runtime.is_up():
            raise StackNotRunning(name=self.name)
        return environment_of(record)

    def status(self) -> StackStatus:
        """Probe every service and return its state; takes at most some 200 ms."""
        record = StackRecord.load(self.paths)
        if record is None or record.kind != self.kind:
            record = self._new_record(record)
        return self._runtime.status(record, self._services)

    def save_snapshot(self, name: str) -> Snapshot:
        """Save a copy of the stack's data. A running stack is stopped for it, and restarted even if the copy fails.

        Raises ``SnapshotExists``, ``InvalidSnapshotName``, ``SnapshotImpossible`` if stopping would lose data, and
        ``StackError`` if there is no data yet.
        """
        from photo_worker.devkit import snapshots

        snapshots.require_new(self.paths, name)
        record = StackRecord.load(self.paths)
        if record is None or not self._runtime.has_data(record):
            raise StackError(reason=f"{self.name} has nothing to save: it was never started, or was reset")
        for service in self._services:
            if (lost := service.unsaved(record)) is not None:
                raise SnapshotImpossible(name=self.name, reason=lost)
        with self._exclusive("snapshot save"):
            ran = self._runtime.observe().alive
            try:
                self._runtime.stop()
                services = self._services
                return snapshots.write(
                    self.paths, record, name, lambda place: self._runtime.copy_out(record, services, place)
                )
            finally:
                if ran:
                    self._up(Timeline())

    def load_snapshot(self, name: str) -> UpReport:
        """Replace the stack's data by a snapshot, and start the stack. Its ports stay.

        Raises ``SnapshotMissing``, ``SnapshotOfOtherKind``, and ``DataMismatch`` if this version cannot use it.
        """
        from photo_worker.devkit import snapshots

        timeline = Timeline()
        snapshot = snapshots.require(self.paths, name, kind=self.kind)
        with self._exclusive("snapshot load"):
            known = self._known_record()
            self._refuse(known, running=False)
            record = self._new_record(known)
            services = self._fixed or select_services(self.kind, snapshot.s3, record.external, record.extras)
            self._runtime.restore(snapshot, record, services, timeline)
            record = self._new_record(StackRecord.load(self.paths))
            return self._start(self._runtime.versioned(record, self._services), timeline)

    def wait(self, seconds: float) -> StackStatus:
        """Wait until the stack is ready: every service responds, and no command is still at work on it.

        Starts nothing. Raises ``StackNotReady`` after ``seconds``, and ``ServiceFailed`` at once if a service
        has ended and no command is starting it.
        """
        deadline = time.monotonic() + seconds
        while True:
            settled = self._runtime.is_settled()
            # A reset empties services that are settled.
            busy = is_locked(self.paths.command_lock)
            settled = settled and not busy
            status = self.status()
            if settled and status.running:
                return status
            ended = [service for service in status.services if service.state == "exited"]
            if settled and ended:
                reason = f"{self._runtime.subject} ended with code {ended[0].exit_code}"
                raise ServiceFailed(service=ended[0].name, reason=reason, log=self._shown(ended[0].name))
            if time.monotonic() > deadline:
                raise StackNotReady(
                    name=self.name, seconds=seconds, reason=status.problem or not_ready_reason(status, busy=busy)
                )
            time.sleep(_POLL_SECONDS)

    def pause(self, service: str) -> None:
        """Suspend a service, so that it neither responds nor ends, until ``resume`` or the next command.

        ``up``, ``down``, ``reset`` and the snapshot commands resume it. Raises ``ServiceUnknown``,
        ``StackNotRunning``, and ``FaultNotSet`` if the service itself does not run.
        """
        self._require(service)
        with self._exclusive("faults set"):
            self._runtime.pause(service)

    def resume(self, service: str) -> None:
        """Resume a paused service; no error if it is not paused. Raises ``ServiceUnknown``."""
        self._require(service)
        if self.paths.root.exists():
            with self._exclusive("faults clear"):
                self._runtime.resume(service)

    def paused(self) -> Mapping[str, str | None]:
        """Return when each paused service was paused (ISO 8601, UTC), by name; None if the time was not recorded."""
        return self._runtime.paused(self.services)

    def tail(self, service: str, lines: int) -> list[str]:
        """Return the last lines of a service's log."""
        return self._runtime.tail(service, lines)

    def follow(self, services: Sequence[str], stop: Callable[[], bool]) -> Iterator[tuple[str, str]]:
        """Yield (service, line) as the services write, until ``stop`` returns true."""
        return self._runtime.follow(services, self.services, stop)

    def _require(self, service: str) -> None:
        if service not in self.services:
            raise ServiceUnknown(name=self.name, service=service, known=", ".join(self.services))

    def _shown(self, service: str) -> str:
        lines: list[str] = []
        with suppress(StackError):
            lines = self.tail(service, SHOWN_LINES)
        return "".join(f"\n  {service} | {line}" for line in lines)

    @contextmanager
    def _exclusive(self, doing: str, *, seconds: float | None = None) -> Iterator[None]:
        """Hold the stack's command lock, after waiting ``seconds`` for it; by default as long as a start may take."""
        limit = self._runtime.lock_seconds if seconds is None else seconds
        try:
            with exclusive(self.paths.command_lock, timeout=limit, doing=doing, prepare=self.paths.create):
                yield
        except (OSError, StackError) as error:
            cause = disk.explain(error, self.paths.root)
            if cause is error:
                raise
            raise cause from error

    def _report(self, timeline: Timeline, *, started: bool) -> UpReport:
        return UpReport(self.status(), started=started, seconds=timeline.elapsed(), timeline=timeline)

    def _try_reset_in_place(self, record: StackRecord, timeline: Timeline) -> bool:
        """Empty the running services and create what the stack needs; returns False if they must be restarted."""
        from photo_worker.devkit.readiness import ResetFailed

        services = self._services
        running = self._runtime.observe()
        self._runtime.resume()
        as_it_would_start = self._runtime.versioned(self._new_record(record), services)
        if not running.alive or not set(self.services) <= running.services or record != as_it_would_start:
            return False
        try:
            self._finish(self._runtime.wipe(record, services, timeline), timeline)
        except (ResetFailed, OSError, StackError) as error:
            timeline.add("stack", f"not emptied: {error}", timeline.elapsed(), 0.0)
            return False
        return True

    def _up(self, timeline: Timeline) -> UpReport:
        running = self._runtime.observe()
        record = StackRecord.load(self.paths)
        self._refuse(record, running=running.alive)
        services = self._services
        if running.alive and record is not None and record.kind == self.kind:
            self._end_faults(record)
            if self._base_port and self._base_port != record.base_port:
                raise StackMoved(name=self.name, base_port=record.base_port, asked=self._base_port)
            if set(self.services) <= running.services:
                try:
                    self._finish(self._runtime.make_ready(record, services, timeline), timeline)
                    return self._report(timeline, started=False)
                except ServiceFailed as error:
                    if not self._runtime.restart_helps(error, record, services):
                        raise
        # Checked before anything is stopped.
        self._runtime.require_startable(services)
        # If one service has died or hangs, all are restarted: another may rely on what that one lost.
        self._runtime.stop()
        record = self._runtime.prepare(record, self._new_record(record), services, timeline)
        record.save(self.paths)
        return self._start(record, timeline)

    def _start(self, record: StackRecord, timeline: Timeline) -> UpReport:
        """Start a stopped stack, and wait until it is ready."""
        try:
            self._finish(self._runtime.launch(record, self._services, timeline), timeline)
        except PhotoWorkerError:
            raise
        except BaseException:
            self._runtime.abandon()
            raise
        return self._report(timeline, started=True)

    def _refuse(self, record: StackRecord | None, *, running: bool) -> None:
        """Raise if this start is impossible or conflicts with the running stack; starts and stops nothing."""
        self._runtime.refuse(record)
        parts = self._parts(record)
        if self._offline:
            external.refuse_offline(parts.external)
        if running and record is not None and record.kind == self.kind and self._fixed is None:
            runs = _Parts(record.s3, record.external, record.extras)
            if runs != parts:
                raise StackDiffers(name=self.name, running=str(runs), asked=str(parts))

    def _finish(self, record: StackRecord, timeline: Timeline) -> None:
        """Save the names that external services chose, and bind the bucket to the database."""
        if record != StackRecord.load(self.paths):
            record.save(self.paths)
        if self._fixed is None:
            from photo_worker.devkit.binding import bind_bucket

            with timeline.span("stack", "bind the bucket"):
                bind_bucket(direct_environment_of(record))

    def _parts(self, record: StackRecord | None) -> _Parts:
        """Return what the stack consists of: as requested, else as recorded, else the defaults."""
        known = s3_servers(self.kind)
        # The record's S3 server is kept only if the kind stays the same.
        kept = record is not None and record.kind == self.kind and record.s3 in known
        s3 = self._s3 or (record.s3 if record is not None and kept else known[0])
        endpoints = self._external if self._external is not None else record.external if record is not None else {}
        extras = self._extras if self._extras is not None else record.extras if record is not None else []
        return _Parts(s3, dict(endpoints), list(extras))

    def _end_faults(self, record: StackRecord) -> None:
        """Resume paused services and delete Textract's fault rules, because ``up`` is about to probe them."""
        from photo_worker.devkit import fault_rules

        self._runtime.resume()
        if "textract" in self.services:
            fault_rules.delete_rules(environment_of(record)["AWS_ENDPOINT_URL_TEXTRACT"])

    def _new_record(self, known: StackRecord | None) -> StackRecord:
        chosen = self._base_port or (known.base_port if known else self._fresh_base())
        record = known or StackRecord.new(self.name, chosen, durable=self._durable)
        parts = self._parts(known)
        same = parts.external == record.external
        region = REGION
        if set(parts.external) & set(AWS_SERVICES):
            region = _caller_region() or (record.region if same else REGION)
        return record.with_(
            base_port=chosen,
            durable=self._durable,
            kind=self.kind,
            s3=parts.s3,
            external=parts.external,
            extras=parts.extras,
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


def _runtime(kind: Kind, paths: StackPaths, *, timeout: float, offline: bool, external_seconds: float) -> Runtime:
    if kind == "compose":
        from photo_worker.devkit.runtime.compose import ComposeRuntime

        return ComposeRuntime(paths, offline=offline, external_seconds=external_seconds)
    from photo_worker.devkit.runtime.native import NativeRuntime

    return NativeRuntime(paths, timeout, external_seconds=external_seconds)


def _parsed(endpoints: Mapping[str, str]) -> dict[str, str]:
    """Return external endpoints in the form used in variables; raises ``ExternalInvalid``."""
    external.require_sns_with_sqs(endpoints)
    return {service: external.parse(service, endpoint) for service, endpoint in endpoints.items()}


def _caller_region() -> str | None:
    """Return the AWS region of the caller's environment, or None."""
    given = (os.environ.get(name, "").strip() for name in ("AWS_REGION", "AWS_DEFAULT_REGION"))
    return next((region for region in given if region), None)
