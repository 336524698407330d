"""Replays many histories in child processes, under a clock that nothing inside them can stop.

A child that does not answer in time, or dies, is ended; the history it was at is tried once more in
a fresh child of its own, so that no history is blamed for what an earlier one did. All others go on.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from photo_worker.errors import ReplayTargetBroken, ReplayTargetInvalid
from photo_worker.replay.findings import Finding
from photo_worker.replay.target_names import PRODUCT_CONVERTER, PRODUCT_WORKFLOWS

# A history takes milliseconds; workflow code that blocks is stopped by the SDK after 2 s a task.
DEFAULT_LIMIT_SECONDS = 30.0

# Importing the worker's code on a busy machine, once a child.
START_LIMIT_SECONDS = 120.0

# Below this many histories a second child costs more than it saves.
_WORTH_A_CHILD = 20


@dataclass(frozen=True)
class Job:
    """One replay to be done; ``plant`` names a fault of the negative control."""

    path: Path
    plant: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of one replay: ``findings`` that are red, and ``notes`` that are not.

    ``patches`` holds (patch id, new branch taken) as the code asked.
    """

    job: Job
    findings: tuple[Finding, ...] = ()
    commands: int = 0
    patches: tuple[tuple[str, bool], ...] = ()
    seconds: float = 0.0
    notes: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Code:
    """The code under test by dotted paths, and the folders to import from; empty means the parent's own."""

    workflows: str = PRODUCT_WORKFLOWS
    converter: str = PRODUCT_CONVERTER
    path: tuple[str, ...] = field(default_factory=tuple)


class _Gone(Exception):
    """The child died, or had to be ended."""

    def __init__(self, timed_out: bool, said: str) -> None:
        super().__init__(said)
        self.timed_out = timed_out
        self.said = said


class _Child:
    def __init__(self, code: Code) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        self._process = subprocess.Popen(
            [sys.executable, "-m", "photo_worker.replay.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
            # A terminal's Ctrl-C is for the parent, which ends its children.
            start_new_session=True,
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.done = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        about = {"workflows": code.workflows, "converter": code.converter}
        self._send(about | {"sys_path": [str(Path(entry).resolve()) for entry in (*code.path, *sys.path)]})

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)
        self._lines.put(None)

    def _send(self, message: dict[str, Any]) -> None:
        stdin = self._process.stdin
        try:
            if stdin is not None:
                stdin.write(json.dumps(message) + "\n")
                stdin.flush()
        except (OSError, ValueError) as error:
            raise self._gone(False) from error

    def receive(self, limit: float) -> dict[str, Any]:
        """Return the next answer, or raise ``_Gone`` after ``limit`` seconds or at the child's death."""
        try:
            line = self._lines.get(timeout=limit)
        except queue.Empty:
            raise self._gone(True) from None
        if line is None:
            raise self._gone(False)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, job: Job, limit: float) -> dict[str, Any]:
        """Have one history replayed."""
        answer = self.request({"path": str(job.path), "plant": job.plant}, limit)
        self.done += 1
        return answer

    def request(self, message: dict[str, Any], limit: float) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        self._send(message)
        return self.receive(limit)

    def _gone(self, timed_out: bool) -> _Gone:
        if not timed_out:
            # It closed its end; how it died is worth a moment.
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self.end()
        status = self._process.returncode
        how = "" if timed_out else f"exit status {status}" if status >= 0 else f"signal {-status}"
        return _Gone(timed_out, "; ".join(part for part in (how, self._last_words()) if part))

    def _last_words(self) -> str:
        if self._log.closed:
            return ""
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - 4000))
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        telling = [line for line in lines if "panicked" in line or "Error" in line]
        return (telling or lines or [""])[-1][:500]

    def end(self) -> None:
        """End the process, whatever it is at, and wait until it is gone."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                # What was still to be sent has no reader any more.
                with contextlib.suppress(OSError):
                    stream.close()

    def close(self) -> None:
        """End the process and drop its log."""
        self.end()
        self._log.close()


class Engine:
    """Replays histories with the code that ``code`` names."""

    def __init__(self, code: Code, *, limit_seconds: float = DEFAULT_LIMIT_SECONDS, jobs: int | None = None) -> None:
        self._code = code
        self._limit = limit_seconds
        self._jobs = jobs
        self._spare: deque[_Child] = deque()
        self._lock = threading.Lock()
        self._children: set[_Child] = set()
        self._starting: tuple[_Child, dict[str, dict[str, str]]] | None = None

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            left = list(self._children)
            self._children.clear()
        for child in left:
            child.close()

    def warm_up(self) -> None:
        """Start the first child, so that it imports the code while the caller reads files."""
        self._spare.append(self._spawn())

    def _spawn(self) -> _Child:
        child = _Child(self._code)
        with self._lock:
            self._children.add(child)
        return child

    def _discard(self, child: _Child) -> None:
        with self._lock:
            self._children.discard(child)
        child.close()

    def _ready(self, child: _Child) -> dict[str, dict[str, str]]:
        try:
            answer = child.receive(START_LIMIT_SECONDS)
        except _Gone as gone:
            self._discard(child)
            raise ReplayTargetBroken(reason=gone.said or "importing it took too long") from gone
        if "refused" in answer:
            raise ReplayTargetInvalid(reason=answer["refused"])
        if "broken" in answer:
            raise ReplayTargetBroken(reason=answer["broken"])
        types: dict[str, dict[str, str]] = answer["types"]
        return types

    def types(self) -> dict[str, dict[str, str]]:
        """Return the workflow types of the code, each with the patch ids in its class and where they stand.

        Raises ``ReplayTargetInvalid`` where the dotted paths are wrong, ``ReplayTargetBroken``
        where the code cannot be imported.
        """
        if not self._spare:
            self.warm_up()
        types = self._ready(self._spare[0])
        self._starting = (self._spare.popleft(), types)
        return types

    def read_code(self) -> list[Finding]:
        """Return what the static check refuses in the code. Raises ``ReplayTargetBroken`` where it does not end."""
        first, self._starting = self._starting, None
        child = first[0] if first else self._take()
        try:
            answer = child.request({"static": True}, START_LIMIT_SECONDS)
        except _Gone as gone:
            self._discard(child)
            raise ReplayTargetBroken(reason=f"reading it did not end: {gone.said}") from gone
        self._spare.append(child)
        return [Finding(**found) for found in answer["findings"]]

    def run(self, work: Sequence[Job], on_outcome: Callable[[Outcome], None] = lambda outcome: None) -> list[Outcome]:
        """Replay every job, and return the outcomes in the order of ``work``.

        ``on_outcome`` is called as they come, from several threads but one at a time.
        """
        waiting = deque(enumerate(work))
        outcomes: dict[int, Outcome] = {}
        errors: list[BaseException] = []
        lock = threading.Lock()

        def serve(child: _Child | None) -> None:
            try:
                while True:
                    with lock:
                        if not waiting or errors:
                            break
                        index, job = waiting.popleft()
                    outcome, child = self._replay(job, child)
                    with lock:
                        outcomes[index] = outcome
                        on_outcome(outcome)
            except BaseException as error:
                with lock:
                    errors.append(error)
            finally:
                if child is not None:
                    self._spare.append(child)

        first = None
        if self._starting is not None:
            first, self._starting = self._starting[0], None
        threads = [threading.Thread(target=serve, args=(first,), daemon=True)]
        threads += [
            threading.Thread(target=serve, args=(None,), daemon=True) for _ in range(self._width(len(work)) - 1)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return [outcomes[index] for index in range(len(work))]

    def _width(self, count: int) -> int:
        wanted = self._jobs or min(os.cpu_count() or 1, 4)
        return max(1, min(wanted, -(-count // _WORTH_A_CHILD) if self._jobs is None else count))

    def _take(self) -> _Child:
        try:
            return self._spare.popleft()
        except IndexError:
            child = self._spawn()
            self._ready(child)
            return child

    def _replay(self, job: Job, child: _Child | None) -> tuple[Outcome, _Child | None]:
        began = time.monotonic()
        while True:
            child = child or self._take()
            alone = child.done == 0
            try:
                answer = child.ask(job, self._limit)
            except _Gone as gone:
                self._discard(child)
                child = None
                if not alone:
                    # What an earlier history left behind in the process may be to blame.
                    child = self._fresh()
                    continue
                seconds = time.monotonic() - began
                return Outcome(job, (_lost(gone, self._limit),), seconds=seconds), None
            found = [Finding(**each) for each in answer["findings"]]
            findings = tuple(each for each in found if each.red)
            notes = tuple(each for each in found if not each.red)
            patches = tuple((patch, taken) for patch, taken in answer["patches"])
            return Outcome(job, findings, answer["commands"], patches, time.monotonic() - began, notes), child

    def _fresh(self) -> _Child:
        child = self._spawn()
        self._ready(child)
        return child


def _lost(gone: _Gone, limit: float) -> Finding:
    said = f" Its last words: {gone.said}." if gone.said else ""
    if gone.timed_out:
        return Finding(
            "replay",
            "replay_hang",
            f"Its replay did not end within {limit:g} s, in a process of its own, and was stopped.{said}",
            "the history does not lead the SDK to an end, or the workflow's code blocks; either would hold up a worker",
            "Look for code that waits without Temporal (locks, threads, I/O); on a slow machine raise --limit-seconds.",
        )
    return Finding(
        "replay",
        "replay_crash",
        f"The process that replayed it died ({gone.said or 'without a word'}).",
        "a worker that meets this history may die as well",
        "Run it alone to see all of the output: photo-worker replay check FILE --no-coverage.",
    )
