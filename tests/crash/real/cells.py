"""One cell: a real process dies or stops at one point, another takes over, and the outcome is as without it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from temporalio.api.enums.v1 import EventType

from photo_worker.activities.results import ResultActivities
from photo_worker.crash_points import CrashPoint, Phase
from photo_worker.errors import DatabaseUnavailable, UnreadableDocument
from photo_worker.pipelines import IMAGE
from tests.crash.real import documents
from tests.crash.real.arming import KILL, STOP, Arm
from tests.crash.real.environment import Environment, World
from tests.crash.real.facts import Facts, gather, workflow_facts_of
from tests.crash.real.invariants_of_facts import broken_rules, leaks, too_many_attempts, unreplayable, wrong_charges
from tests.crash.real.processes import Child
from tests.crash.violation import Violation

# Many times the duration of an ordinary run: the machine may be busy.
_PATIENCE_SECONDS = 75.0

ACKNOWLEDGED = "acknowledged"

TEXT = documents.words_of(4711)

# Points that a worker passes if it reads a photo, and if its photo cannot be read.
WORKER_POINTS = (
    CrashPoint.JOB_CLAIMED,
    CrashPoint.HASH_RECORDED,
    CrashPoint.TEXTRACT_STARTED,
    CrashPoint.RESULT_PAGE_FETCHED,
    CrashPoint.RESULT_OBJECT_STORED,
    CrashPoint.MANIFEST_STORED,
    CrashPoint.RESULT_COMMITTED,
)
# Points that a worker passes if it must convert its photo first, and the erasure of its job.
CONVERT_POINTS = (CrashPoint.COPY_STORED,)
FAILURE_POINTS = (CrashPoint.FAILURE_RECORDED,)
CLIENT_POINTS = (
    CrashPoint.PHOTO_HASHED,
    CrashPoint.RAW_OBJECT_STORED,
    CrashPoint.JOB_QUEUED,
    CrashPoint.WORKFLOW_STARTED,
)
ERASE_POINTS = (
    CrashPoint.ERASURE_MARKED,
    CrashPoint.WORKFLOW_ERASED,
    CrashPoint.ARTIFACT_ERASED,
    CrashPoint.COPY_ERASED,
    CrashPoint.RAW_OBJECT_ERASED,
    CrashPoint.ROW_ERASED,
)

# The ends of jobs in a run without faults, by their documents: status and code.
_ENDS = {"damaged": [("failed", UnreadableDocument.code)], "erase": []}
_SUCCESS = [("succeeded", None)]

WORKFLOW_TASK = "workflow-task"
# Responses after which the process no longer matters, as the server has received them. The photo's job succeeds.
RESPONSES = (WORKFLOW_TASK, *(step.name for step in IMAGE.steps if step.method is not ResultActivities.record_failure))


@dataclass(frozen=True)
class Case:
    """One fault: the usage, the process, its crash point, and what happens to it there."""

    usage: str
    point: str
    phase: str
    mode: str

    @property
    def name(self) -> str:
        """The name of the case, for ``--real-cell``."""
        return f"{self.usage}-{self.point}-{self.phase}-{self.mode}"


@dataclass(frozen=True)
class CellResult:
    """The outcome of a case; ``reached`` tells whether a process passed its point."""

    facts: Facts
    violations: tuple[Violation, ...]
    bucket: str
    reached: bool = True
    seconds: float = 0.0

    def comparable(self) -> dict[str, Any]:
        """Return what must equal that of a run without faults."""
        return self.facts.comparable(self.bucket)


def cases_of(point: str) -> list[Case]:
    """Return every case at one point: before and after it, killed and stopped."""
    if point in RESPONSES:
        return [Case("photo", point, ACKNOWLEDGED, KILL)]
    usages = {
        "damaged": FAILURE_POINTS,
        "submit": CLIENT_POINTS,
        "erase": ERASE_POINTS,
        "photo": WORKER_POINTS,
        "phone": CONVERT_POINTS,
    }
    (usage,) = (name for name, points in usages.items() if point in points)
    return [Case(usage, point, phase.value, mode) for phase in Phase for mode in (KILL, STOP)]


def document_of(environment: Environment, usage: str) -> Path:
    """Return the file that a usage's jobs submit."""
    converted = usage in {"phone", "erase"}
    path = environment.directory / f"{usage}.{'webp' if converted else 'png'}"
    make = documents.webp_of if converted else documents.damaged if usage == "damaged" else documents.png_of
    body = make(TEXT)
    if not path.exists():
        path.write_bytes(body)
    return path


async def run_without_faults(environment: Environment, usage: str) -> CellResult:
    """Run a usage once without faults."""
    started = time.monotonic()
    async with environment.world(f"{usage}-faultless") as world:
        job_id = uuid4()
        worker = await world.worker()
        await world.submit(document_of(environment, usage), job_id)
        await world.ended(job_id, _PATIENCE_SECONDS)
        await worker.drain()
        if usage == "erase":
            await _ends(await world.command(*_command_of(world, usage, job_id)), 0)
        return replace(await cell_result_of(world, job_id), seconds=time.monotonic() - started)


async def run(environment: Environment, case: Case) -> CellResult:
    """Run a case to its end in its own world. Raises ``TimeoutError`` if its job does not end."""
    started = time.monotonic()
    job_id = uuid4()
    async with environment.world(case.name) as world:
        steps = _command_case if case.usage in {"submit", "erase"} else _worker_case
        reached = await steps(world, case, job_id)
        ending = await cell_result_of(world, job_id)
    return replace(ending, reached=reached, seconds=time.monotonic() - started)


async def cell_result_of(world: World, *job_ids: UUID, words: Sequence[str] = (TEXT,)) -> CellResult:
    """Check a world whose jobs have ended; ``words`` must not be in any log."""
    facts = await gather(world, list(job_ids))
    violations = (
        *await broken_rules(world.ports),
        *wrong_charges(facts),
        *too_many_attempts(facts),
        *leaks(facts, words, world.variables),
        *await unreplayable(workflow.history for workflow in facts.workflows.values()),
    )
    return CellResult(facts, violations, world.bucket)


def wrong_end(usage: str, ending: CellResult) -> str:
    """Return what is wrong with a run without faults, the reference of others; empty if nothing is."""
    ends = [(row.status, row.error_code) for row in ending.facts.rows]
    expected = _ENDS.get(usage, _SUCCESS)
    wrong = [] if ends == expected else [f"invariant 2: without any fault the job ended {ends} and not {expected}"]
    return "; ".join([*map(str, ending.violations), *wrong])


def difference(ending: CellResult, faultless: CellResult) -> str:
    """Return how a run differs from that without faults; empty if it does not."""
    found, expected = ending.comparable(), faultless.comparable()
    parts = [
        f"{name}: {found[name]!r:.400} and not {expected[name]!r:.400}"
        for name in found
        if found[name] != expected[name]
    ]
    return "invariant 5: differs from the run without faults in " + "; ".join(parts) if parts else ""


async def _worker_case(world: World, case: Case, job_id: UUID) -> bool:
    document = document_of(world.environment, case.usage)
    if case.phase == ACKNOWLEDGED:
        first = await world.worker()
        await world.submit(document, job_id)
        await _until(lambda: _is_acknowledged(world, case.point, job_id))
        await first.kill()
        reached = True
    else:
        arm = _arm(world, case)
        first = await world.worker(arm)
        await world.submit(document, job_id)
        reached = await _struck(case, arm, first)
    second = await world.worker()
    await world.ended(job_id, _PATIENCE_SECONDS)
    if first.alive:
        # The other worker got its attempt long ago; what the stopped one does now comes late.
        await first.drain()
    await second.drain()
    return reached


async def _command_case(world: World, case: Case, job_id: UUID) -> bool:
    worker = await world.worker()
    arguments = _command_of(world, case.usage, job_id)
    if case.usage == "erase":
        await world.submit(document_of(world.environment, case.usage), job_id)
        await world.ended(job_id, _PATIENCE_SECONDS)
    arm = _arm(world, case)
    first = await world.command(*arguments, arm=arm)
    reached = await _struck(case, arm, first)
    if not reached:
        raise AssertionError(
            f"a command ended with {first.status} before it came to the point: {first.output()[-2000:]}"
        )
    second = await world.command(*arguments)
    if case.mode == STOP and case.point in {CrashPoint.COPY_ERASED, CrashPoint.RAW_OBJECT_ERASED}:
        # The stopped one may still delete the object and therefore keeps the lock; the other is told to retry.
        await _ends(second, 1, DatabaseUnavailable.code)
    else:
        await _ends(second, 0)
    if case.usage == "submit":
        await world.ended(job_id, _PATIENCE_SECONDS)
    if first.alive:
        first.signal(signal.SIGCONT)
        await _ends(first, 0)
        await _ends(await world.command(*arguments), 0)
    await worker.drain()
    return reached


def _command_of(world: World, usage: str, job_id: UUID) -> tuple[str, ...]:
    # Without settings of the user who runs the tests.
    common = ("--env-file", "/dev/null")
    if usage == "erase":
        return (*common, "erase", "--yes", str(job_id))
    return (*common, "submit", "--job-id", str(job_id), str(document_of(world.environment, usage)))


async def _ends(command: Child, expected: int, word: str = "") -> None:
    status = await command.end(_PATIENCE_SECONDS)
    if status != expected or word not in command.output():
        raise AssertionError(f"a command ended with {status} and not {expected}: {command.output()[-2000:]}")


async def _struck(case: Case, arm: Arm, child: Child) -> bool:
    """Wait until the child has died or stopped at its point; return False if it never passed the point."""

    async def look() -> bool:
        if case.mode == STOP:
            return child.is_stopped() or not child.alive
        return not child.alive

    await _until(look, lambda: f"{case.name}: {child.output()[-2000:]}")
    return await asyncio.to_thread(Path(arm.marker).exists)


def _arm(world: World, case: Case) -> Arm:
    return Arm(case.point, case.phase, case.mode, str(world.directory / f"{case.name}.reached"))


async def _is_acknowledged(world: World, response: str, job_id: UUID) -> bool:
    history = await world.environment.history(str(job_id))
    if history is None:
        return False
    events = [event.event_type for event in history.events]
    if response == WORKFLOW_TASK:
        return EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED in events
    completed = events.count(EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED)
    return completed > RESPONSES[1:].index(response) and response in workflow_facts_of(history).attempts


async def _until(look: Callable[[], Awaitable[bool]], about: Callable[[], str] | None = None) -> None:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while not await look():  # noqa: ASYNC110 - processes and servers send no event
                await asyncio.sleep(0.03)
    except TimeoutError:
        raise TimeoutError(about() if about else "nothing happened") from None
