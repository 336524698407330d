"""The process that starts, watches and stops a stack's services.

``up`` starts it, writes the plan, one line of JSON, to its stdin, and keeps that pipe open. The line
``keep`` says that the stack is up and stays; if the pipe closes without it, ``up`` was interrupted or
killed, and the supervisor ends everything. It has one thread, uses the standard library and psutil, and
does no work while the services run.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from photo_worker.devkit import pausing, reaper
from photo_worker.devkit.layout import StackPaths
from photo_worker.devkit.plan import ServicePlan, StackPlan

_STAGE_SECONDS = 6.0
# Signal to restart services without their data; a reset sees from `renewals` that it was handled.
RENEW = signal.SIGUSR1


class _Service:
    """A service's plan, state and current process."""

    def __init__(self, plan: ServicePlan) -> None:
        self.plan = plan
        self.state = "waiting"
        self.process: subprocess.Popen[bytes] | None = None
        self.started: float | None = None
        self.exit_code: int | None = None

    @property
    def runs(self) -> bool:
        """Whether the service's process, or that of its preparation, is not known to have ended."""
        return self.process is not None and self.exit_code is None

    def report(self) -> dict[str, Any]:
        return {
            "name": self.plan.name,
            "state": self.state,
            "pid": None if self.process is None else self.process.pid,
            "started": self.started,
            "exit_code": self.exit_code,
        }


class Supervisor:
    """Starts the services of a plan, records their states, and ends them."""

    def __init__(self, plan: StackPlan) -> None:
        self._plan = plan
        self._services = [_Service(entry) for entry in plan.services]
        self._phase = "starting"
        self._stopping = False
        self._renewals = 0
        self._renewals_asked = 0
        self._saved = ""
        self._reaper = self._start_reaper()

    def run(self, lifeline: int, wakeup: int) -> None:
        """Start everything and stay until told to stop."""
        for service in self._services:
            self._begin(service)
        self._save()
        pending = b""
        watched = [lifeline, wakeup]
        while not self._stopping:
            ready, _, _ = select.select(watched, [], [])
            if wakeup in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(wakeup, 4096)
                self._collect()
                self._renew()
            if lifeline in ready:
                received = os.read(lifeline, 4096)
                pending += received
                if b"keep\n" in pending:
                    self._phase = "kept"
                    watched.remove(lifeline)
                    self._save()
                elif not received:
                    self._stopping = True
        self._stop()

    def request_stop(self, *_: object) -> None:
        """Request the end of the stack; safe in a signal handler."""
        self._stopping = True

    def request_renewal(self, *_: object) -> None:
        """Request a restart of services without data; safe in a signal handler."""
        self._renewals_asked += 1

    def _renew(self) -> None:
        """Kill the services whose plan has a directory to discard, empty it, and restart them."""
        if self._renewals == self._renewals_asked or self._stopping:
            return
        asked = self._renewals_asked
        for service in self._services:
            if service.plan.discard is not None:
                # No orderly shutdown: all that the service would write is deleted.
                self._end([service], signal.SIGKILL)
                self._start_without_data(service, Path(service.plan.discard))
        self._renewals = asked
        self._save()

    def _start_without_data(self, service: _Service, data: Path) -> None:
        service.process, service.started, service.exit_code = None, None, None
        try:
            shutil.rmtree(data)
            data.mkdir(mode=0o700)
            with contextlib.suppress(FileNotFoundError):
                os.truncate(service.plan.log, 0)
        except OSError as error:
            _note(f"cannot empty {data}: {error}")
            service.state, service.exit_code = "failed", 1
            return
        self._begin(service)

    def _begin(self, service: _Service) -> None:
        plan = service.plan
        if plan.prepare is not None and not Path(plan.prepare.creates).exists():
            self._spawn(service, plan.prepare.argv, state="preparing")
        else:
            self._spawn(service, plan.argv, state="running")

    def _spawn(self, service: _Service, argv: list[str], *, state: str) -> None:
        plan = service.plan
        number = int(plan.stop_signal) if state == "running" else int(signal.SIGTERM)
        user: dict[str, Any] = {}
        if plan.user is not None:
            user = {"user": plan.user[0], "group": plan.user[1], "extra_groups": []}
        try:
            with Path(plan.log).open("ab") as log:
                service.process = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=plan.env,
                    cwd=plan.cwd,
                    start_new_session=True,
                    preexec_fn=self._enlist(number),  # noqa: PLW1509 - this process has one thread
                    **user,
                )
        except (OSError, subprocess.SubprocessError) as error:
            service.state, service.exit_code = "failed", 127
            self._tell_reaper("?")
            _append(Path(plan.log), f"{argv[0]}: {error}\n")
            return
        service.state = state
        # macOS has no start time of a process that has ended already.
        with contextlib.suppress(psutil.Error):
            service.started = psutil.Process(service.process.pid).create_time()

    def _enlist(self, number: int) -> Callable[[], None]:
        """Return a function that the child calls before it becomes the service: it reports its pid to the reaper.

        If the supervisor reported it instead, and were killed just after the fork, the reaper would not
        know the child.
        """
        pipe = self._reaper.stdin
        if pipe is None:
            raise RuntimeError("the reaper has no pipe")
        descriptor = pipe.fileno()

        def enlist() -> None:
            os.write(descriptor, f"+{os.getpid()} {number}\n".encode())

        return enlist

    def _collect(self) -> None:
        """Record the processes that have ended."""
        for service in self._services:
            process = service.process
            if process is None or not service.runs or process.poll() is None:
                continue
            reaper.signal_group(process.pid, signal.SIGKILL)
            self._resume(service)
            self._tell_reaper(f"-{process.pid}")
            if service.state == "preparing":
                self._finish_preparing(service, process.returncode)
            else:
                service.exit_code = process.returncode
                service.state = "exited"
        if self._reaper.poll() is not None and not self._stopping:
            self._reaper = self._start_reaper()
        self._save()

    def _finish_preparing(self, service: _Service, code: int) -> None:
        prepare = service.plan.prepare
        if prepare is None:
            return
        Path(prepare.secret).unlink(missing_ok=True)
        if code != 0 or self._stopping:
            service.state, service.exit_code = "failed", code
            return
        try:
            Path(prepare.into).rename(prepare.creates)
        except OSError as error:
            _note(f"cannot rename {prepare.into}: {error}")
            service.state, service.exit_code = "failed", 1
            return
        self._spawn(service, service.plan.argv, state="running")

    def _start_reaper(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            # The reaper reads paused processes from the directory, which also identifies it in a list of processes.
            [sys.executable, "-I", "-S", str(Path(reaper.__file__)), str(Path(self._plan.lock).parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        for service in self._services:
            if service.process is not None and service.runs and process.stdin is not None:
                process.stdin.write(f"+{service.process.pid} {int(service.plan.stop_signal)}\n".encode())
                process.stdin.flush()
        return process

    def _tell_reaper(self, line: str) -> None:
        if self._reaper.stdin is not None:
            # A reaper that has just died is replaced by `_collect`, and the new one gets the current list.
            with contextlib.suppress(BrokenPipeError):
                self._reaper.stdin.write(f"{line}\n".encode())
                self._reaper.stdin.flush()

    def _stop(self) -> None:
        """End the services stage by stage, each stage within a time limit."""
        self._phase = "stopping"
        self._save()
        for stage in sorted({service.plan.stop_stage for service in self._services}):
            members = [service for service in self._services if service.plan.stop_stage == stage]
            self._end(members, None)
            self._end(members, signal.SIGKILL)
        self._phase = "ended"
        self._save()
        if self._reaper.stdin is not None:
            self._reaper.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._reaper.wait(timeout=_STAGE_SECONDS)

    def _end(self, members: list[_Service], number: signal.Signals | None) -> None:
        """Signal the services that still run, by default each with its own stop signal, and wait at most 6 seconds."""
        for service in members:
            if service.runs and service.process is not None:
                reaper.signal_group(service.process.pid, number or service.plan.stop_signal)
                self._resume(service)
        deadline = time.monotonic() + _STAGE_SECONDS
        while any(service.runs for service in members) and time.monotonic() < deadline:
            time.sleep(0.01)
            if any(service.runs and service.process and service.process.poll() is not None for service in members):
                self._collect()

    def _resume(self, service: _Service) -> None:
        """Resume the stopped processes of a service that is to end: stopped ones handle no signal."""
        root = Path(self._plan.lock).parent
        pausing.resume_processes(StackPaths(root.parent, root.name), service.plan.name)
        # Listed as paused or not: it may have been stopped by hand, or the list may be damaged.
        if service.process is not None:
            pausing.resume_process_tree(service.process.pid)

    def _save(self) -> None:
        """Replace the list of processes atomically if it changed. A full disk must not end the services."""
        value = {
            "token": self._plan.token,
            "pid": os.getpid(),
            "phase": self._phase,
            "renewals": self._renewals,
            "reaper": self._reaper.pid,
            "services": [service.report() for service in self._services],
        }
        path = Path(self._plan.processes)
        text = json.dumps(value)
        if text == self._saved and path.exists():
            # A paused service is an event, too.
            return
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
            self._saved = text
        except OSError as error:
            _note(f"cannot write {path}: {error}")


def main() -> None:
    """Detach, take the stack's lock, read the plan from stdin and run it."""
    # As a child of `up`, an ended supervisor would stay a zombie for as long as the calling process lives.
    if os.fork() > 0:
        os._exit(0)
    os.setsid()
    os.umask(0o077)
    values = _read_line(0)
    if not values:
        return
    plan = StackPlan.of(json.loads(values))
    with Path(plan.lock).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wakeup, signalled = os.pipe()
        os.set_blocking(wakeup, False)
        os.set_blocking(signalled, False)
        signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
        supervisor = Supervisor(plan)
        signal.signal(signal.SIGTERM, supervisor.request_stop)
        signal.signal(RENEW, supervisor.request_renewal)
        # Not SIG_IGN: services would inherit ignored signals.
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        supervisor.run(0, wakeup)


def _note(text: str) -> None:
    """Write a line to stderr, the supervisor's log. A full disk must not end the services."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def _append(log: Path, text: str) -> None:
    try:
        with log.open("a", encoding="utf-8") as handle:
            handle.write(text)
    except OSError as error:
        _note(f"{text.strip()} ({log} cannot be written: {error.strerror})")


def _read_line(descriptor: int) -> bytes:
    """Read up to a newline and not a byte more; returns an empty value if the pipe closes before it."""
    received = bytearray()
    while not received.endswith(b"\n"):
        piece = os.read(descriptor, 1)
        if not piece:
            return b""
        received += piece
    return bytes(received)


if __name__ == "__main__":
    main()
