"""A fork server: it has imported the product once, and forks worker processes.

Importing takes a second, which would dominate a test that starts a hundred workers. Before the fork there is one
thread, no connection and no Temporal runtime; a child creates its own.

Requests are lines of JSON on stdin: ``{"spawn": ID, "main": "worker"|"command", "arguments": [...],
"variables": {...}, "log": PATH}`` and ``{"signal": NUMBER, "pid": PID}``. The main ``program`` becomes another
program by exec: its arguments are that program's, ``cwd`` and ``user`` its working directory and user.

Responses are lines on stdout: ``{"spawned": ID, "pid": PID}`` and ``{"ended": PID, "status": CODE}``, negative for a
signal.

When stdin ends, every child is ended, whatever its state. If this process is killed, its workers read the end of
their own stdin; the system continues a stopped one, since its process group is an orphan then.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

# Mutations of the product's source as JSON, for a fork server whose children run a changed product.
EDITS_VARIABLE = "PHOTO_WORKER_TEST_EDITS"


def _mains() -> dict[str, Callable[[Sequence[str]], int]]:
    """Import everything that a child needs, before the fork."""
    import alembic.command  # noqa: F401
    import boto3
    import botocore.session
    import sqlalchemy.dialects.postgresql  # noqa: F401

    from tests.crash.real import command, worker

    # AWS' service models are parsed once instead of in every child.
    botocore.session.create_loader = cache(botocore.session.create_loader)
    for service in ("s3", "textract"):
        boto3.Session("none", "none", region_name="us-east-1").client(service)
    return {"worker": worker.main, "command": command.main}


class _ForkServer:
    def __init__(self) -> None:
        self._mains = _mains()
        self._children: set[int] = set()
        # A pipe without data: children read from it, and see its end when this process ends.
        self._stdin, self._lifeline = os.pipe()
        self._wakeup, self._signalled = os.pipe()
        for descriptor in (self._wakeup, self._signalled):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self._signalled, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> None:
        pending = b""
        while True:
            ready, _, _ = select.select([0, self._wakeup], [], [])
            if self._wakeup in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wakeup, 4096)
                self._reap()
            if 0 in ready:
                received = os.read(0, 65536)
                if not received:
                    break
                *lines, pending = (pending + received).split(b"\n")
                for line in lines:
                    self._follow(json.loads(line))
        for pid in self._children:
            # A new child may not have its group yet; macOS refuses a group of zombies.
            for end in (os.killpg, os.kill):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    end(pid, signal.SIGKILL)
        while self._children:
            self._children.discard(os.wait()[0])

    def _follow(self, request: dict[str, Any]) -> None:
        if "signal" in request:
            # Not reaped yet, so that the pid still belongs to this child.
            if request["pid"] in self._children:
                os.kill(request["pid"], request["signal"])
            return
        pid = os.fork()
        if pid == 0:
            os._exit(self._live(request))
        self._children.add(pid)
        _respond({"spawned": request["spawn"], "pid": pid})

    def _live(self, request: dict[str, Any]) -> int:
        """Run in the child: set it up, call its main and return its exit code."""
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setpgid(0, 0)
            os.dup2(self._stdin, 0)
            with Path(request["log"]).open("ab") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            for descriptor in (self._stdin, self._lifeline, self._wakeup, self._signalled):
                os.close(descriptor)
            os.environ.clear()
            os.environ.update(request["variables"])
            if request["main"] == "program":
                _become(request)
            return self._mains[request["main"]](request["arguments"])
        except BaseException:  # the last frame of a process: its log is told, its parent sees the code
            traceback.print_exc()
            return 70
        finally:
            sys.stdout.flush()
            sys.stderr.flush()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self._children.discard(pid)
            # Processes that it has started, such as an emulator's readers, end with it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            _respond({"ended": pid, "status": os.waitstatus_to_exitcode(status)})


def _become(request: dict[str, Any]) -> None:
    os.umask(0o077)
    os.chdir(request["cwd"])
    if request["user"] is not None:
        os.setgroups([])
        os.setgid(request["user"][1])
        os.setuid(request["user"][0])
    os.execve(request["arguments"][0], request["arguments"], request["variables"])  # noqa: S606 - no shell is meant


def _respond(value: dict[str, Any]) -> None:
    # Unbuffered: a child would inherit the content of Python's buffer.
    os.write(1, json.dumps(value).encode() + b"\n")


def main() -> int:
    """Serve until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    edits = os.environ.pop(EDITS_VARIABLE, "")
    if edits:
        from tests.support.changed_imports import import_changed
        from tests.support.mutation import Mutation

        import_changed([Mutation(**edit) for edit in json.loads(edits)])
    forkserver = _ForkServer()
    # A garbage collection in a child would write to, and so copy, every page that holds an object.
    gc.freeze()
    _respond({"ready": os.getpid()})
    forkserver.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
