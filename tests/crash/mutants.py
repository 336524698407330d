"""Run named tests with a part of the product's source replaced, in a separate process.

A mutant is never written to disk: the child imports the changed tree instead of the file's. Importing the product's
dependencies takes most of a test run's time, so that one server process per test process imports them once and
forks for each mutant (on Linux, where forking is safe; elsewhere each mutant has a new server).
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import pytest

from tests.support.changed_imports import import_changed
from tests.support.mutation import ROOT, Mutation, mutated

# Well above the time of any named test; a hanging mutant must end before the outer test's own limit.
LIMIT_SECONDS = 100.0
TEST_LIMIT_SECONDS = 40.0

# With one of these variables pytest prints differences in full: for two photos that takes longer than a test's limit,
# which then ends pytest instead of the test.
_IN_FULL = ("CI", "BUILD_NUMBER")

_FORKS = sys.platform == "linux"
# Modules that most of the product imports and that start no thread and no connection when imported.
_WARM = (
    "_hypothesis_pytestplugin",
    "alembic.command",
    "boto3",
    "botocore.stub",
    "click",
    "hypothesis",
    "imagesize",
    "mypy_boto3_s3",
    "psycopg",
    "psycopg_pool",
    "pydantic",
    "pytest_asyncio.plugin",
    "pytest_timeout",
    "rich.console",
    "sqlalchemy.dialects.postgresql",
    "structlog",
    "temporalio.client",
    "temporalio.contrib.pydantic",
    "temporalio.testing",
    "temporalio.worker",
)


@dataclass(frozen=True)
class Outcome:
    """The outcome of the named tests. Failures are of tests; errors are of fixtures, imports or the mutant."""

    code: int
    passed: int
    failures: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    output: str = ""

    @property
    def green(self) -> bool:
        """Return whether all tests ran and passed."""
        return self.code == 0 and self.passed > 0

    @property
    def red(self) -> bool:
        """Return whether a test failed by itself."""
        return bool(self.failures) and not self.errors


class _Watcher:
    """A pytest plugin that records the outcome of each test."""

    def __init__(self) -> None:
        self.passed = 0
        self.failures: list[str] = []
        self.errors: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            reason = str(crash.message if crash else report.longreprtext).strip()
            found = self.failures if report.when == "call" else self.errors
            found.append(f"{report.nodeid}: {reason[:600]}")
        elif report.when == "call" and report.passed:
            self.passed += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.errors.append(f"{report.nodeid}: {report.longreprtext[-600:]}")


def run_here(edits: Sequence[Mutation], tests: Sequence[str], output: Path, limit_seconds: float) -> Outcome:
    """Run tests in this process with the edits; it must not have imported the product before."""
    imported, breakage = import_changed(edits)
    watcher = _Watcher()
    with output.open("wb") as written:
        os.dup2(written.fileno(), 1)
        os.dup2(written.fileno(), 2)
    arguments = ["--quiet", "--durations=5", "--durations-min=0.05", "--maxfail=1", "-o", f"timeout={limit_seconds:g}"]
    arguments += [word for plugin in ("anyio", "randomly", "xdist") for word in ("-p", f"no:{plugin}")]
    # The tests' helpers are imported already, so that pytest cannot rewrite their assertions.
    arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    code = int(pytest.main([*arguments, *tests], plugins=[watcher]))
    sys.stdout.flush()
    unused = {edit.file for edit in edits} - imported
    if unused and not watcher.errors:
        watcher.errors.append(f"the named tests never import {', '.join(sorted(unused))}")
    watcher.errors += breakage.found
    text = output.read_text(encoding="utf-8", errors="replace")
    return Outcome(code, watcher.passed, watcher.failures, watcher.errors, text[-6000:])


class Mutants:
    """Runs tests against mutants through a warm server process. One call at a time; close it after use."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None

    def __enter__(self) -> Mutants:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(
        self,
        edits: Sequence[Mutation],
        tests: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        limit_seconds: float = TEST_LIMIT_SECONDS,
    ) -> Outcome:
        """Run the tests with these ids; without edits, on the unchanged product.

        ``environment`` is added to that of the process; ``limit_seconds`` bounds each test. Raises
        ``MutationError``.
        """
        mutated(edits)
        request = {
            "edits": [asdict(edit) for edit in edits],
            "tests": list(tests),
            "environment": dict(environment or {}),
            "limit_seconds": limit_seconds,
        }
        server = self._server = self._server or self._start()
        if server.stdin is None or server.stdout is None:
            raise RuntimeError("the server has no pipes")
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        response = server.stdout.readline()
        if not _FORKS or not response:
            self.close()
        if not response:
            return Outcome(-1, 0, errors=["the process that runs mutants ended"])
        return Outcome(**json.loads(response))

    def close(self) -> None:
        """End the server."""
        server, self._server = self._server, None
        if server is None:
            return
        # The server ends at the end of its input.
        server.communicate(timeout=LIMIT_SECONDS)

    @staticmethod
    def _start() -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.crash.mutants"]
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def serve(requests: IO[str], responses: IO[str]) -> None:
    """Respond to each line of ``requests`` with one line until the input ends."""
    with tempfile.TemporaryDirectory(prefix="photo-worker-mutants-") as directory:
        for name in _WARM:
            importlib.import_module(name)
        # The garbage collector of forks ignores the objects that exist now.
        gc.collect()
        gc.freeze()
        for line in requests:
            request = json.loads(line)
            output = Path(directory) / "output"
            responses.write(json.dumps(_in_fork(request, output) if _FORKS else _here(request, output)) + "\n")
            responses.flush()
            if not _FORKS:
                return


def _here(request: dict[str, Any], output: Path) -> dict[str, Any]:
    # A mutant's cells are not part of the report. The name is repeated: tests.crash.report imports the product.
    os.environ["PHOTO_WORKER_CRASH_REPORTS"] = str(output.parent / "cells")
    os.environ.update(request["environment"])
    for name in _IN_FULL:
        os.environ.pop(name, None)
    edits = [Mutation(**edit) for edit in request["edits"]]
    return asdict(run_here(edits, request["tests"], output, request["limit_seconds"]))


def _in_fork(request: dict[str, Any], output: Path) -> dict[str, Any]:
    output.unlink(missing_ok=True)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _be_the_child(request, output, reader, writer)
    os.close(writer)
    parts: list[bytes] = []
    problem = f"no response within {LIMIT_SECONDS:g} s"
    with os.fdopen(reader, "rb", buffering=0) as response:
        while select.select([response], [], [], LIMIT_SECONDS)[0]:
            part = response.read(1 << 16)
            if not part:
                problem = "" if parts else "the process ended without a response"
                break
            parts.append(part)
    # Also ends processes that the tests have left in the child's process group.
    _end_group(child)
    os.waitpid(child, 0)
    if not problem:
        found: dict[str, Any] = json.loads(b"".join(parts))
        return found
    text = output.read_text(encoding="utf-8", errors="replace") if output.exists() else ""
    return asdict(Outcome(-1, 0, errors=[problem], output=text[-6000:]))


def _be_the_child(request: dict[str, Any], output: Path, reader: int, writer: int) -> None:
    code = 1
    try:
        os.setsid()
        os.close(reader)
        response = json.dumps(_here(request, output)).encode()
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(response)
        code = 0
    finally:
        # Not sys.exit: the exit handlers belong to the parent.
        os._exit(code)


def _end_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # All have ended, or (macOS) the last one is a zombie.
        return


if __name__ == "__main__":
    # Tests print, so that responses use a separate file descriptor.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, channel)
