"""Services as processes below one supervisor."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from photo_worker.devkit import external, logs, pausing, ports
from photo_worker.devkit.errors import FaultNotSet, ServiceFailed, StackError, StackNotRunning, StackOfOtherKind
from photo_worker.devkit.layout import StackPaths, block_signals, delete_tree, discard_tree, is_locked
from photo_worker.devkit.runtime.protocol import RunningServices, Services
from photo_worker.devkit.stack_options import Kind
from photo_worker.devkit.start import STOP_SECONDS, StackStart
from photo_worker.devkit.state import Processes, StackRecord
from photo_worker.devkit.status import StackStatus, problem_of, status_of

if TYPE_CHECKING:
    from photo_worker.devkit.snapshots import Snapshot
    from photo_worker.devkit.timeline import Timeline

_GRACE_SECONDS = 5.0
_LIST_SECONDS = 3.0
_SUPERVISOR = "photo_worker.devkit.supervisor"


class NativeRuntime:
    """The processes of one stack; ``timeout`` (seconds) bounds each service's start."""

    kind: Kind = "native"
    subject = "it"
    stop_lock_seconds = STOP_SECONDS

    def __init__(self, paths: StackPaths, timeout: float, *, external_seconds: float) -> None:
        self._paths = paths
        self._timeout = timeout
        self._external_seconds = external_seconds
        self.lock_seconds = timeout + STOP_SECONDS

    def is_up(self) -> bool:
        """Return whether a supervisor holds its lock."""
        return is_locked(self._paths.supervisor_lock)

    def is_settled(self) -> bool:
        """Return whether `up` told the supervisor to stay, as it does once all is ready."""
        known = Processes.load(self._paths)
        return known.alive and known.phase == "kept"

    def observe(self) -> RunningServices:
        """Return what runs, after an abandoned supervisor, if any, has ended by itself."""
        known = self._settled()
        names = {entry.name for entry in known.services.values() if entry.state == "running"}
        return RunningServices(known.alive, frozenset(names))

    def status(self, record: StackRecord, services: Services) -> StackStatus:
        """Probe every service; takes at most some 200 ms."""
        processes = Processes.load(self._paths)
        externals = external.external_services(record)
        held = pausing.paused(self._paths)
        with ThreadPoolExecutor(len(services) + len(externals) or 1) as pool:
            others = [pool.submit(one.status) for one in externals]
            lines = list(pool.map(lambda service: status_of(service, record, processes, held), services))
            lines += [other.result() for other in others]
        running = processes.alive and all(line.state == "running" for line in lines)
        return StackStatus(self._paths.name, self._paths.root, running, lines, problem_of(processes))

    def refuse(self, record: StackRecord | None) -> None:
        """Raise ``StackOfOtherKind`` if containers of the stack run."""
        from photo_worker.devkit.containers import is_up

        if record is not None and record.kind == "compose" and is_up(self._paths):
            raise StackOfOtherKind(name=self._paths.name, kind="compose")

    def versioned(self, record: StackRecord, services: Services) -> StackRecord:
        """Return the record with the versions of the installed programs."""
        return record.with_(versions={service.name: service.version() for service in services})

    def require_startable(self, services: Services) -> None:
        """Raise ``ServiceMissing`` if a program is missing; a running one needs no program any more."""
        for service in services:
            service.require()

    def prepare(
        self, known: StackRecord | None, record: StackRecord, services: Services, timeline: Timeline
    ) -> StackRecord:
        """Delete what an interrupted reset or snapshot load has left."""
        from photo_worker.devkit import snapshots

        snapshots.unstage(self._paths)
        return self.versioned(record, services)

    def launch(self, record: StackRecord, services: Services, timeline: Timeline) -> StackRecord:
        """Start the supervisor, and wait until the services are ready; if interrupted, leave no process."""
        uses = {use: service.name for service in services for use in service.uses}
        ports.require_free(record.ports, uses)
        return self._start(record, services, timeline).launch_and_make_ready()

    def abandon(self) -> None:
        """Do nothing: the supervisor of an interrupted launch ends everything itself."""

    def make_ready(self, record: StackRecord, services: Services, timeline: Timeline) -> StackRecord:
        """Probe all services at the same time."""
        return self._start(record, services, timeline).make_ready()

    def restart_helps(self, error: ServiceFailed, record: StackRecord, services: Services) -> bool:
        """Return false for an external service: a restart does not repair it, and loses what others hold in memory.

        The supervisor may not have noticed an exit yet; and a service may run without responding.
        """
        return error.context["service"] not in record.external

    def wipe(self, record: StackRecord, services: Services, timeline: Timeline) -> StackRecord:
        """Restart the services that cannot delete their data, and empty the others."""
        with timeline.span("stack", "start anew"):
            renewed = self._renew()
        names = [service.name for service in services]
        kept = {"s3-" + record.s3, *(name for name in names if name != "s3")}
        for entry in self._paths.data.iterdir():
            if not {entry.name, entry.name.partition("-")[0]} & kept:
                delete_tree(entry) if entry.is_dir() else entry.unlink()
        logs.erase(self._paths.logs, writing=("supervisor", *names), begun=renewed)
        return self._start(record, services, timeline).empty_and_make_ready()

    def stop(self) -> bool:
        """End the supervisor and, if it was killed, the processes that it left."""
        from photo_worker.devkit import processes as system

        known = self._settled()
        pausing.resume(self._paths)
        directory = str(self._paths.root)
        # Searched by command line too: its files may have been deleted or damaged while it ran.
        named = system.find(known.pid, _SUPERVISOR, *([] if known.alive else [directory]))
        supervisors = [named] if named is not None else system.search(_SUPERVISOR, directory)
        for supervisor in supervisors:
            system.terminate(supervisor, timeout=STOP_SECONDS)
        # If the supervisor was killed, its reaper ends the services and then itself.
        reaper = system.find(known.reaper, directory)
        if reaper is not None:
            system.wait_gone(reaper, timeout=STOP_SECONDS)
        left = [
            process
            for entry in Processes.load(self._paths).services.values()
            if entry.pid is not None and entry.started is not None
            if (process := system.ProcessId(entry.pid, entry.started).process()) is not None
        ]
        ended = system.end(left, grace=_GRACE_SECONDS)
        if is_locked(self._paths.supervisor_lock):
            raise StackError(reason=f"its supervisor (process {known.pid}) does not end")
        return known.alive or bool(supervisors) or bool(ended)

    def stop_lost(self, *, data: bool) -> bool:
        """End a supervisor whose directory was deleted while it ran; its data went with the directory."""
        from photo_worker.devkit import processes as system

        supervisors = system.search(_SUPERVISOR, str(self._paths.root))
        for supervisor in supervisors:
            system.terminate(supervisor, timeout=STOP_SECONDS)
        return bool(supervisors)

    def erase(self, known: StackRecord | None) -> None:
        """Stop everything, and delete all files of the stack but its snapshots and ``known``."""
        self.stop()
        delete_files(self._paths)
        if known is not None:
            known.save(self._paths)

    def has_data(self, record: StackRecord) -> bool:
        """Return true: a stack that was started has data."""
        return True

    def copy_out(self, record: StackRecord, services: Services, directory: Path) -> None:
        """Copy the directories of data."""
        from photo_worker.devkit import snapshots

        snapshots.copy_data(self._paths, directory)

    def restore(self, snapshot: Snapshot, record: StackRecord, services: Services, timeline: Timeline) -> None:
        """Replace the data by a copy made while the stack still runs, so that a full disk does no harm.

        The stack then has the S3 server that the snapshot was made with. Raises ``ServiceMissing`` without it.
        """
        from photo_worker.devkit import snapshots

        self.require_startable(services)
        try:
            with timeline.span("stack", "copy"):
                snapshots.stage(self._paths, snapshot.name)
            with timeline.span("stack", "stop"):
                self.stop()
            # The snapshot's password goes with its data: neither works without the other.
            record = record.with_(password=snapshot.password, s3=snapshot.s3)
            with block_signals():
                record.save(self._paths)
                snapshots.swap_in(self._paths)
        finally:
            snapshots.unstage(self._paths)

    def pause(self, service: str) -> None:
        """Stop all processes of a service."""
        known = self._settled()
        if not known.alive:
            raise StackNotRunning(name=self._paths.name)
        entry = known.services.get(service)
        if entry is None or entry.pid is None or entry.state != "running":
            state = "not there" if entry is None else entry.state
            raise FaultNotSet(service=service, reason=f"it is {state}")
        pausing.pause(self._paths, service, entry.pid)

    def resume(self, service: str | None = None) -> None:
        """Let the processes of a service, or of all, go on."""
        pausing.resume(self._paths, service)

    def paused(self, services: Collection[str]) -> dict[str, str]:
        """Return since when each paused service is paused, by name."""
        return pausing.paused(self._paths)

    def tail(self, service: str, lines: int) -> list[str]:
        """Return the last lines of a service's log file."""
        return logs.tail(self._paths.log(service), lines)

    def follow(
        self, services: Sequence[str], own: Collection[str], stop: Callable[[], bool]
    ) -> Iterator[tuple[str, str]]:
        """Yield (service, line) as log files grow."""
        return logs.follow(self._paths, services, stop)

    def _start(self, record: StackRecord, services: Services, timeline: Timeline) -> StackStart:
        return StackStart(self._paths, record, services, timeline, self._timeout, self._external_seconds)

    def _renew(self) -> set[str]:
        """Have the supervisor restart, without data, the services that cannot be emptied, and return their names.

        Their logs begin anew. Raises ``ResetFailed``.
        """
        from photo_worker.devkit import processes as system
        from photo_worker.devkit.readiness import ResetFailed
        from photo_worker.devkit.supervisor import RENEW

        known = self._settled()
        supervisor = system.find(known.pid, _SUPERVISOR, str(self._paths.root))
        if supervisor is None or known.renewals is None:
            raise ResetFailed("the supervisor is of another version")
        supervisor.send_signal(RENEW)
        deadline = time.monotonic() + _GRACE_SECONDS
        while (now := Processes.load(self._paths)).renewals == known.renewals:
            if time.monotonic() > deadline:
                raise ResetFailed("the supervisor does not respond")
            time.sleep(0.005)
        before = {name: entry.pid for name, entry in known.services.items()}
        return {name for name, entry in now.services.items() if entry.pid != before.get(name)}

    def _settled(self) -> Processes:
        """Return the processes, after an abandoned supervisor, if any, has ended by itself."""
        began = time.monotonic()
        while True:
            processes = Processes.load(self._paths)
            # A supervisor writes its list at once; if it is not there by now, it is lost or damaged.
            limit = STOP_SECONDS if processes.pid is not None else _LIST_SECONDS
            # This process holds the command lock, so the `up` that started a supervisor that is not kept has ended.
            if not processes.alive or processes.phase == "kept" or time.monotonic() > began + limit:
                return processes
            time.sleep(0.05)


def delete_files(paths: StackPaths) -> None:
    """Delete all files of a stopped stack but its snapshots; the record, whose password belongs to the data, last."""
    from photo_worker.devkit import postgres, snapshots

    snapshots.unstage(paths)
    for directory in postgres.shared_data(paths):
        discard_tree(directory)
    paths.delete_contents()
