"""Replays many histories in child processes, under a clock that nothing inside them can stop.

A child that does not answer in time, or dies, is ended; the history it was at is tried once more in
a fresh child of its own, so that no history is blamed for what an earlier one did. All others go on.
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

from photo_worker.replay.clock import Clock, RunOver
from photo_worker.replay.findings import Finding
from photo_worker.replay.process import Child, Gone
from photo_worker.replay.target_names import PRODUCT_CONVERTER, PRODUCT_WORKFLOWS
from photo_worker.replay_errors import ReplayTargetBroken, ReplayTargetInvalid

if TYPE_CHECKING:
    from photo_worker.replay.mutations import Mutation

# A history takes milliseconds; workflow code that blocks is stopped by the SDK after 2 s a task.
DEFAULT_LIMIT_SECONDS = 30.0

# The seeds of the order of sets, for the run that counts and for the one that it is held against.
SEED, OTHER_SEED = 0, 1

# Importing the worker's code on a busy machine, once a child.
START_LIMIT_SECONDS = 120.0

# Below this many histories a second child costs more than it saves.
_WORTH_A_CHILD = 20


@dataclass(frozen=True)
class ReplayTask:
    """One replay to be done; ``plant`` names a fault of the negative control."""

    path: Path
    mutation: Mutation | None = None


@dataclass(frozen=True)
class ReplayOutcome:
    """What came of one replay: ``findings`` that are red, and ``notes`` that are not.

    ``patches`` holds (patch id, new branch taken) as the code asked, ``issued`` what it asked for in
    order. ``reached`` is false where the run's time was over before, ``planted`` where the run ended
    before its code began, so that no fault could be planted in it.
    """

    task: ReplayTask
    findings: tuple[Finding, ...] = ()
    commands: int = 0
    patches: tuple[tuple[str, bool], ...] = ()
    seconds: float = 0.0
    notes: tuple[Finding, ...] = ()
    issued: tuple[str, ...] = ()
    reached: bool = True
    planted: bool = True

    @property
    def lost(self) -> bool:
        """Whether its process hung or died, so that nothing is known of it."""
        return any(finding.code in {"replay_hang", "replay_crash"} for finding in self.findings)


@dataclass(frozen=True)
class CodeUnderTest:
    """The code under test by dotted paths, and the folders to import from; empty means the parent's own."""

    workflows: str = PRODUCT_WORKFLOWS
    converter: str = PRODUCT_CONVERTER
    path: tuple[str, ...] = field(default_factory=tuple)


class ReplayPool:
    """Replays histories with the code that ``code`` names."""

    def __init__(
        self,
        code: CodeUnderTest,
        *,
        limit_seconds: float = DEFAULT_LIMIT_SECONDS,
        jobs: int | None = None,
        clock: Clock | None = None,
        hash_seed: int = SEED,
    ) -> None:
        """Take the code; ``clock`` tells when the whole run is over."""
        self._clock = clock or Clock()
        self._hash_seed = hash_seed
        self._code = code
        self._limit = limit_seconds
        self._jobs = jobs
        self._spare: deque[Child] = deque()
        self._lock = threading.Lock()
        self._children: set[Child] = set()
        self._starting: tuple[Child, dict[str, dict[str, str]]] | None = None

    def __enter__(self) -> ReplayPool:
        self._clock.on_stop(self._kill)
        return self

    def _kill(self) -> None:
        # From a signal's handler: the lock may be held by the very thread that it interrupts.
        for child in tuple(self._children):
            child.kill()

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            left = list(self._children)
            self._children.clear()
        for child in left:
            child.end()

    def warm_up(self) -> None:
        """Start the first child, so that it imports the code while the caller reads files."""
        self._spare.append(self._spawn(first=True))

    def _spawn(self, *, first: bool = False) -> Child:
        # Whether a worker could be made of the code is the same in each child; one tries it.
        about = {"workflows": self._code.workflows, "converter": self._code.converter, "prepare": first}
        child = Child(about, self._code.path, self._hash_seed)
        with self._lock:
            self._children.add(child)
        return child

    def _discard(self, child: Child) -> None:
        with self._lock:
            self._children.discard(child)
        child.end()

    def _ready(self, child: Child) -> dict[str, dict[str, str]]:
        try:
            return child.receive(self._clock.within(START_LIMIT_SECONDS), _types_of)
        except Gone as gone:
            self._discard(child)
            if self._clock.is_over():
                raise RunOver("because the code was still being imported") from gone
            raise ReplayTargetBroken(reason=gone.said or "importing it took too long") from gone

    def types(self) -> dict[str, dict[str, str]]:
        """Return the workflow types of the code, each with the patch ids in its class and where they stand.

        Raises ``ReplayTargetInvalid`` where the dotted paths are wrong, ``ReplayTargetBroken``
        where no worker could be made of the code, and ``RunOver``.
        """
        if not self._spare:
            self.warm_up()
        types = self._ready(self._spare[0])
        self._starting = (self._spare.popleft(), types)
        return types

    def read_code(self) -> list[Finding]:
        """Return what the static check refuses in the code.

        Raises ``ReplayTargetBroken`` where it does not end, and ``RunOver``.
        """
        if self._clock.is_over():
            raise RunOver
        first, self._starting = self._starting, None
        child = first[0] if first else self._take()
        try:
            found = child.request({"static": True}, self._clock.within(START_LIMIT_SECONDS), _findings_of)
        except Gone as gone:
            self._discard(child)
            if self._clock.is_over():
                raise RunOver from gone
            raise ReplayTargetBroken(reason=f"reading it did not end: {gone.said}") from gone
        self._spare.append(child)
        return found

    def run(
        self, work: Sequence[ReplayTask], on_outcome: Callable[[ReplayOutcome], None] = lambda outcome: None
    ) -> list[ReplayOutcome]:
        """Replay every job, and return the outcomes in the order of ``work``.

        ``on_outcome`` is called as they come, from several threads but one at a time.
        """
        waiting = deque(enumerate(work))
        outcomes: dict[int, ReplayOutcome] = {}
        errors: list[BaseException] = []
        lock = threading.Lock()

        def serve(child: Child | None) -> None:
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

    def _take(self) -> Child:
        try:
            return self._spare.popleft()
        except IndexError:
            return self._fresh()

    def _replay(self, task: ReplayTask, child: Child | None) -> tuple[ReplayOutcome, Child | None]:
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
                # The code may have changed the folder of its process.
                about = {"path": str(task.path.absolute()), "plant": task.mutation}
                outcome = child.request(
                    about, self._clock.within(self._limit), lambda answer: _outcome_of(task, answer)
                )
                child.done += 1
            except Gone as gone:
                self._discard(child)
                child = None
                if self._clock.is_over():
                    return ReplayOutcome(task, reached=False), None
                if not alone:
                    # What an earlier history left behind in the process may be to blame.
                    fresh = True
                    continue
                seconds = time.monotonic() - began
                return ReplayOutcome(task, (_lost(gone, self._limit),), seconds=seconds), None
            return replace(outcome, seconds=time.monotonic() - began), child

    def _fresh(self) -> Child:
        child = self._spawn()
        self._ready(child)
        return child


# A process may answer with anything: these raise what ``Child.receive`` takes for an answer that is none.


def _types_of(answer: Any) -> dict[str, dict[str, str]]:
    if "refused" in answer:
        raise ReplayTargetInvalid(reason=answer["refused"])
    if "broken" in answer:
        raise ReplayTargetBroken(reason=answer["broken"])
    return {name: dict(patches.items()) for name, patches in answer["types"].items()}


def _findings_of(answer: Any) -> list[Finding]:
    return [Finding(**found) for found in answer["findings"]]


def _outcome_of(task: ReplayTask, answer: Any) -> ReplayOutcome:
    found = _findings_of(answer)
    return ReplayOutcome(
        task,
        tuple(each for each in found if each.red),
        int(answer["commands"]),
        tuple((patch, taken) for patch, taken in answer["patches"]),
        notes=tuple(each for each in found if not each.red),
        issued=tuple(answer["issued"]),
        planted=bool(answer["planted"]),
    )


def _no_process(error: ReplayTargetBroken) -> Finding:
    return Finding(
        "replay",
        "replay_crash",
        f"No further process with the code could be made for it, though one was before: {error.message}",
        "a worker that is started again may not come up either",
        "Look for what the code does while it is imported: ports, locks and files that only one process may have.",
    )


def _lost(gone: Gone, limit: float) -> Finding:
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
