"""Replays many histories in child processes, with time limits that the code under test cannot stop.

A child that dies or does not respond in time is ended. Its current history is replayed once more in
a new child, so that no history is blamed for effects of an earlier one. The other replays continue.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from temporal_replay_gate.child_process import ChildGone, ChildProcess
from temporal_replay_gate.clock import RunClock, RunOver
from temporal_replay_gate.defaults import COMMAND, CONVERTER
from temporal_replay_gate.errors import ReplayTargetBroken, ReplayTargetInvalid
from temporal_replay_gate.findings import Finding

if TYPE_CHECKING:
    from temporal_replay_gate.mutations import Mutation

# A replay takes milliseconds; the SDK stops workflow code that blocks for more than 2 s per task.
DEFAULT_LIMIT_SECONDS = 30.0

# PYTHONHASHSEED, which determines the order of sets, of the main replay and of the one that it is compared with.
SEED, OTHER_SEED = 0, 1

# How long the import of the worker's code may take, once per child, on a busy machine.
START_LIMIT_SECONDS = 120.0

# Below this many histories a second child costs more than it saves.
_WORTH_A_CHILD = 20


@dataclass(frozen=True)
class ReplayTask:
    """One replay to be done; ``mutation`` names a mutation of the negative control."""

    path: Path
    mutation: Mutation | None = None


@dataclass(frozen=True)
class ReplayOutcome:
    """The result of one replay: ``findings`` that are red, and ``notes`` that are not.

    ``patches`` holds (patch id, new branch taken) for the patches that the code asked for, ``issued`` a digest of
    each command in order. ``reached`` is False if the run was over before the replay, ``mutation_applied`` if the
    workflow's code did not begin.
    """

    task: ReplayTask
    findings: tuple[Finding, ...] = ()
    commands: int = 0
    patches: tuple[tuple[str, bool], ...] = ()
    seconds: float = 0.0
    notes: tuple[Finding, ...] = ()
    issued: tuple[str, ...] = ()
    reached: bool = True
    mutation_applied: bool = True

    @property
    def lost(self) -> bool:
        """Whether the replaying process hung or died, so that the replay has no result."""
        return any(finding.code in {"replay_hang", "replay_crash"} for finding in self.findings)


@dataclass(frozen=True)
class CodeUnderTest:
    """Dotted paths of the code under test, and directories to import from in addition to the parent's ``sys.path``.

    ``command`` is how findings name the gate's command. ``options`` is the dotted path of ``WorkerOptions``.
    """

    workflows: str
    converter: str = CONVERTER
    path: tuple[str, ...] = field(default_factory=tuple)
    command: str = COMMAND
    options: str = ""


class ReplayPool:
    """Replays histories with the code under test. A context manager: at its exit it ends all children."""

    def __init__(
        self,
        code: CodeUnderTest,
        *,
        limit_seconds: float = DEFAULT_LIMIT_SECONDS,
        jobs: int | None = None,
        clock: RunClock | None = None,
        hash_seed: int = SEED,
    ) -> None:
        """Start no child yet. ``limit_seconds`` limits one replay, ``clock`` the whole run."""
        self._clock = clock or RunClock()
        self._hash_seed = hash_seed
        self._code = code
        self._limit = limit_seconds
        self._jobs = jobs
        self._spare: deque[ChildProcess] = deque()
        self._lock = threading.Lock()
        self._children: set[ChildProcess] = set()
        self._starting: tuple[ChildProcess, dict[str, dict[str, str]]] | None = None

    def __enter__(self) -> ReplayPool:
        self._clock.on_stop(self._kill)
        return self

    def _kill(self) -> None:
        # Called in a signal handler: the interrupted thread may hold the lock.
        for child in tuple(self._children):
            child.kill()

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            left = list(self._children)
            self._children.clear()
        for child in left:
            child.end()

    def warm_up(self) -> None:
        """Start the first child, which imports the code while the caller reads files."""
        self._spare.append(self._spawn(first=True))

    def _spawn(self, *, first: bool = False) -> ChildProcess:
        # Whether a worker accepts the code is the same in every child, so only the first one checks it.
        code = self._code
        about = {
            "workflows": code.workflows,
            "converter": code.converter,
            "options": code.options,
            "prepare": first,
        }
        child = ChildProcess(about, code.path, self._hash_seed)
        with self._lock:
            self._children.add(child)
        return child

    def _discard(self, child: ChildProcess) -> None:
        with self._lock:
            self._children.discard(child)
        child.end()

    def _ready(self, child: ChildProcess) -> dict[str, dict[str, str]]:
        try:
            return child.receive(self._clock.within(START_LIMIT_SECONDS), _types_of)
        except ChildGone as gone:
            self._discard(child)
            if self._clock.is_over():
                raise RunOver("because the code was still being imported") from gone
            raise ReplayTargetBroken(
                reason=f"{self._code.workflows}: {gone.said or 'importing it took too long'}"
            ) from gone

    def types(self) -> dict[str, dict[str, str]]:
        """Return the workflow types of the code, each with the patch ids in its class and their ``FILE:LINE``.

        Raises ``ReplayTargetInvalid`` if a dotted path is wrong, ``ReplayTargetBroken`` if no worker could run
        the code, and ``RunOver``.
        """
        if not self._spare:
            self.warm_up()
        types = self._ready(self._spare[0])
        self._starting = (self._spare.popleft(), types)
        return types

    def read_code(self) -> list[Finding]:
        """Return the findings of the static check.

        Raises ``ReplayTargetBroken`` if the check does not end, and ``RunOver``.
        """
        if self._clock.is_over():
            raise RunOver
        first, self._starting = self._starting, None
        child = first[0] if first else self._take()
        try:
            found = child.request({"static": True}, self._clock.within(START_LIMIT_SECONDS), self._findings_of)
        except ChildGone as gone:
            self._discard(child)
            if self._clock.is_over():
                raise RunOver from gone
            raise ReplayTargetBroken(reason=f"reading it did not end: {gone.said}") from gone
        self._spare.append(child)
        return found

    def run(
        self, work: Sequence[ReplayTask], on_outcome: Callable[[ReplayOutcome], None] = lambda outcome: None
    ) -> list[ReplayOutcome]:
        """Replay every task, and return the outcomes in the order of ``work``.

        ``on_outcome`` is called with each outcome as it arrives, from several threads but one at a time.
        """
        waiting = deque(enumerate(work))
        outcomes: dict[int, ReplayOutcome] = {}
        errors: list[BaseException] = []
        lock = threading.Lock()

        def serve(child: ChildProcess | None) -> None:
            try:
                while True:
                    with lock:
                        if not waiting or errors:
                            break
                        index, task = waiting.popleft()
                    outcome, child = self._replay(task, child)
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

    def _take(self) -> ChildProcess:
        try:
            return self._spare.popleft()
        except IndexError:
            return self._fresh()

    def _replay(self, task: ReplayTask, child: ChildProcess | None) -> tuple[ReplayOutcome, ChildProcess | None]:
        began = time.monotonic()
        fresh = False
        while True:
            if self._clock.is_over():
                return ReplayOutcome(task, reached=False), child
            try:
                child = child or (self._fresh() if fresh else self._take())
            except RunOver:
                return ReplayOutcome(task, reached=False), None
            except ReplayTargetBroken as error:
                return ReplayOutcome(task, (_no_process(error),), seconds=time.monotonic() - began), None
            alone = child.done == 0
            try:
                # An absolute path, because the code may have changed the child's working directory.
                about = {"path": str(task.path.absolute()), "plant": task.mutation}
                outcome = child.request(
                    about, self._clock.within(self._limit), lambda response: self._outcome_of(task, response)
                )
                child.done += 1
            except ChildGone as gone:
                self._discard(child)
                child = None
                if self._clock.is_over():
                    return ReplayOutcome(task, reached=False), None
                if not alone:
                    # The cause may be state that an earlier history left in the process.
                    fresh = True
                    continue
                seconds = time.monotonic() - began
                return ReplayOutcome(
                    task, (_lost(gone, self._limit).for_command(self._code.command),), seconds=seconds
                ), None
            return replace(outcome, seconds=time.monotonic() - began), child

    def _fresh(self) -> ChildProcess:
        child = self._spawn()
        self._ready(child)
        return child

    def _findings_of(self, response: Any) -> list[Finding]:
        return [Finding(**found).for_command(self._code.command) for found in response["findings"]]

    def _outcome_of(self, task: ReplayTask, response: Any) -> ReplayOutcome:
        found = self._findings_of(response)
        return ReplayOutcome(
            task,
            tuple(each for each in found if each.red),
            int(response["commands"]),
            tuple((patch, taken) for patch, taken in response["patches"]),
            notes=tuple(each for each in found if not each.red),
            issued=tuple(response["issued"]),
            mutation_applied=bool(response["planted"]),
        )


# A child may respond with anything: for a malformed response these raise errors that ``ChildProcess.receive`` handles.


def _types_of(response: Any) -> dict[str, dict[str, str]]:
    if "refused" in response:
        raise ReplayTargetInvalid(reason=response["refused"])
    if "broken" in response:
        raise ReplayTargetBroken(reason=response["broken"])
    return {name: dict(patches.items()) for name, patches in response["types"].items()}


def _no_process(error: ReplayTargetBroken) -> Finding:
    return Finding(
        "replay",
        "replay_crash",
        f"No further process with the code could be made for it, though one was before: {error.message}",
        "a worker that is started again may not come up either",
        "Look for what the code does while it is imported: ports, locks and files that only one process may have.",
    )


def _lost(gone: ChildGone, limit: float) -> Finding:
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
        "Run it alone to see all of the output: replay-gate check FILE --no-coverage.",
    )
