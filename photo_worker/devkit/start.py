"""One start of a stack: launch its supervisor and wait until every service is ready."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import IO

from photo_worker.devkit import disk, external, logs, probes
from photo_worker.devkit.concurrency import Cancelled, run_all
from photo_worker.devkit.errors import DataUnwritable, PortTaken, ServiceFailed, StackError
from photo_worker.devkit.layout import StackPaths, delete_tree, is_locked
from photo_worker.devkit.plan import StackPlan
from photo_worker.devkit.ports import has_port, owner_of
from photo_worker.devkit.service import Service
from photo_worker.devkit.state import Processes, StackRecord
from photo_worker.devkit.timeline import Timeline
from photo_worker.errors import PhotoWorkerError

_LAUNCH_SECONDS = 20.0
# The supervisor stops two stages; in each it signals the services, then kills them, with a time limit for both.
STOP_SECONDS = 25.0


class StackStart:
    """Launches a stack's services and probes each until it completes a real round trip."""

    def __init__(
        self,
        paths: StackPaths,
        record: StackRecord,
        services: Sequence[Service],
        timeline: Timeline,
        timeout: float,
        external_seconds: float,
    ) -> None:
        self._paths = paths
        self._record = record
        self._services = services
        self._timeline = timeline
        self._timeout = timeout
        self._external_seconds = external_seconds
        self._token = ""
        self._empties = False
        self._cancelled = threading.Event()

    def launch_and_make_ready(self) -> StackRecord:
        """Start the supervisor, wait for the services, and let the supervisor stay; return what ``make_ready`` does.

        If this process dies before that, or is interrupted, the supervisor ends everything; if a service
        fails, the others stay up.
        """
        with self._timeline.span("stack", "plan"):
            plan = self._plan()
        with self._timeline.span("stack", "launch supervisor"):
            lifeline = self._launch(plan)
        try:
            record = self.make_ready()
        except PhotoWorkerError:
            self._keep(lifeline)
            raise
        except BaseException:
            lifeline.close()
            self._wait_unlocked()
            raise
        self._keep(lifeline)
        return record

    def empty_and_make_ready(self) -> StackRecord:
        """Delete the services' data while they run, and do what ``make_ready`` does; raises ``ResetFailed``."""
        self._empties = True
        return self.make_ready()

    def make_ready(self) -> StackRecord:
        """Probe all services at the same time; raises the first failure, mostly ``ServiceFailed``.

        Returns the record with the names that external services chose.
        """
        functions = [partial(self._make_one_ready, service) for service in self._services]
        run_all([*functions, self._make_external_ready], self._cancelled)
        return self._record

    def _plan(self) -> StackPlan:
        delete_tree(self._paths.run)
        self._paths.create()
        for name in ("supervisor", *(service.name for service in self._services)):
            logs.rotate(self._paths.log(name))
        self._token = secrets.token_hex(8)
        services = [service.plan(self._record, self._paths) for service in self._services]
        without_data = any(plan.prepare is not None for plan in services)
        needed = disk.NEEDED_WITHOUT_DATA if without_data else disk.NEEDED_WITH_DATA
        for place in {self._paths.data, *(Path(plan.prepare.into).parent for plan in services if plan.prepare)}:
            disk.require_space(place, needed)
        return StackPlan(
            token=self._token,
            lock=str(self._paths.supervisor_lock),
            processes=str(self._paths.processes),
            services=services,
        )

    def _launch(self, plan: StackPlan) -> IO[bytes]:
        log = self._paths.log("supervisor")
        try:
            with log.open("ab") as output:
                child = subprocess.Popen(
                    [sys.executable, "-m", "photo_worker.devkit.supervisor", str(self._paths.root)],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    cwd="/",
                    start_new_session=True,
                )
        except OSError as error:
            raise DataUnwritable(path=error.filename or str(log), reason=error.strerror or str(error)) from error
        lifeline = child.stdin
        if lifeline is None:
            raise StackError(reason="the supervisor has no pipe")
        try:
            lifeline.write(json.dumps(asdict(plan)).encode() + b"\n")
            lifeline.flush()
            # The child forks the supervisor and exits at once, so that no caller is left with a zombie.
            code = child.wait(timeout=_LAUNCH_SECONDS)
            if code != 0 or not self._is_launched():
                raise BrokenPipeError
        except (BrokenPipeError, subprocess.TimeoutExpired) as error:
            lifeline.close()
            raise StackError(reason=f"its supervisor did not start{self._shown('supervisor')}") from error
        except BaseException:
            lifeline.close()
            raise
        return lifeline

    def _is_launched(self) -> bool:
        deadline = time.monotonic() + _LAUNCH_SECONDS
        while time.monotonic() < deadline:
            processes = Processes.load(self._paths)
            if processes.alive and processes.token == self._token:
                return True
            time.sleep(0.005)
        return False

    def _keep(self, lifeline: IO[bytes]) -> None:
        try:
            lifeline.write(b"keep\n")
            lifeline.close()
        except BrokenPipeError as error:
            raise StackError(reason=f"its supervisor has ended{self._shown('supervisor')}") from error
        deadline = time.monotonic() + _LAUNCH_SECONDS
        while Processes.load(self._paths).phase == "starting" and time.monotonic() < deadline:
            time.sleep(0.005)

    def _wait_unlocked(self) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        while is_locked(self._paths.supervisor_lock) and time.monotonic() < deadline:
            time.sleep(0.02)

    def _make_external_ready(self) -> None:
        self._record = external.make_ready(self._record, self._timeline, self._external_seconds)

    def _make_one_ready(self, service: Service) -> None:
        from photo_worker.devkit.readiness import NotReady

        deadline = time.monotonic() + self._timeout
        port = self._record.ports[service.uses[0]]
        reason = f"nothing listens on port {port}"
        if self._empties:
            with self._timeline.span(service.name, "empty"):
                service.wipe(self._record, self._paths)
        with self._timeline.span(service.name, "load client"):
            service.warm_imports()
        with self._timeline.span(service.name, "listen"):
            while not probes.listens(port):
                self._give_up(service, deadline, reason)
                time.sleep(0.01)
        with self._timeline.span(service.name, "round trip"):
            while True:
                try:
                    service.probe_ready(self._record)
                except NotReady as error:
                    self._give_up(service, deadline, str(error))
                    time.sleep(0.02)
                else:
                    if self._listens_itself(service, port):
                        return
                    # Another process took the port first, and responds as this service would.
                    self._give_up(service, deadline, f"another process listens on port {port}")
                    time.sleep(0.02)

    def _listens_itself(self, service: Service, port: int) -> bool:
        """Return whether the service's own process or a descendant of it has the port."""
        import psutil

        entry = Processes.load(self._paths).services.get(service.name)
        if entry is None or entry.pid is None:
            return False
        try:
            first = psutil.Process(entry.pid)
            return has_port(first, port) or any(has_port(child, port) for child in first.children(recursive=True))
        except psutil.NoSuchProcess:
            return False

    def _refuse_taken_ports(self, service: Service) -> None:
        """Raise ``PortTaken`` if another process listens on a port of a service that has ended."""
        for use in service.uses:
            port = self._record.ports[use]
            if probes.listens(port):
                raise PortTaken(port=port, service=service.name, owner=owner_of(port))

    def _give_up(self, service: Service, deadline: float, reason: str) -> None:
        """Raise if waiting longer cannot help: cancelled, exited, or past the deadline."""
        if self._cancelled.is_set():
            raise Cancelled
        processes = Processes.load(self._paths)
        entry = processes.services.get(service.name)
        if not processes.alive:
            raise StackError(reason=f"its supervisor has ended{self._shown('supervisor')}")
        if entry is not None and entry.state in {"exited", "failed"}:
            self._refuse_taken_ports(service)
            raise ServiceFailed(
                service=service.name,
                reason=f"its process ended with code {entry.exit_code}",
                log=self._shown(service.name),
            )
        if time.monotonic() > deadline:
            raise ServiceFailed(
                service=service.name,
                reason=f"{reason} after {self._timeout:g} seconds",
                log=self._shown(service.name),
            )

    def _shown(self, service: str) -> str:
        lines = logs.tail(self._paths.log(service), logs.SHOWN_LINES)
        return "".join(f"\n  {service} | {line}" for line in lines)
