"""Outages of each service that last longer than all counted attempts.

A service is away, silent, slow, throttling, read-only or refuses the worker. Jobs at every step meet the outage, and
one is submitted during it. After it each of them ends as without it.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from photo_worker.crash_points import CrashPoint
from photo_worker.errors import UnreadableDocument
from tests.crash import report
from tests.crash.real import cells, documents
from tests.crash.real.cells import CellResult
from tests.crash.real.environment import Environment
from tests.crash.real.holding import Holds
from tests.crash.real.outages import OUTAGES, TEMPORAL, Outage, reach_of
from tests.crash.real.processes import Child, open_forkserver
from tests.crash.real.scaled import Scale, longest_count_seconds
from tests.support.mutation import Mutation

pytestmark = [pytest.mark.stack, pytest.mark.io_bound, pytest.mark.timeout(300)]

# Each attempt is short, so that an outage that outlasts all of them is short too.
SCALE = Scale(start_to_close=1.0, response=3.0)
LENGTH_SECONDS = longest_count_seconds(SCALE) + 2.0
# The delay of responses that come after the caller's timeout.
_LATE_SECONDS = 3.5
_PATIENCE_SECONDS = 90.0
# The number of workers that start at the same time; they then wait concurrently.
_START_AT_ONCE = 3

# The jobs' crash points at the begin of the outage: before each call that it can affect.
PLACES = (
    ("photo", CrashPoint.JOB_CLAIMED),
    ("photo", CrashPoint.TEXTRACT_STARTED),
    ("photo", CrashPoint.RESULT_OBJECT_STORED),
    ("photo", CrashPoint.RESULT_COMMITTED),
    ("damaged", CrashPoint.FAILURE_RECORDED),
)
_DAMAGED = ("failed", UnreadableDocument.code)
ENDS = tuple(_DAMAGED if usage == "damaged" else ("succeeded", None) for usage, _ in (*PLACES, ("photo", None)))


@dataclass(frozen=True)
class Job:
    """A job and its document."""

    id: UUID
    number: int
    usage: str

    @property
    def text(self) -> str:
        """The document's words."""
        return documents.words_of(70_000 + self.number)

    def file(self, directory: Path) -> Path:
        """Write the document and return its file."""
        path = directory / f"document-{self.number}.png"
        path.write_bytes((documents.damaged if self.usage == "damaged" else documents.png_of)(self.text))
        return path


def jobs() -> list[Job]:
    """Return a cell's jobs ordered by their ids, for comparison: one per place, and one that is submitted later."""
    usages = [usage for usage, _ in PLACES] + ["photo"]
    ids = sorted((uuid4() for _ in usages), key=str)
    return [Job(job_id, number, usage) for number, (job_id, usage) in enumerate(zip(ids, usages, strict=True))]


async def test_jobs_outlast_outage_of_each_service(environment: Environment, chosen_cell: str | None) -> None:
    chosen = [outage for outage in OUTAGES if chosen_cell in {None, outage.name}]
    if not chosen:
        pytest.skip(f"{chosen_cell} is no cell of this test")
    faultless = await run(environment, None)
    assert not faultless.violations
    assert ends_of(faultless) == ENDS
    gate = asyncio.Semaphore(_START_AT_ONCE)
    problems = await asyncio.gather(*(judged(environment, outage, faultless, gate) for outage in chosen))
    assert not any(problems), "\n\n".join(filter(None, problems))


def ends_of(ending: CellResult) -> tuple[tuple[str, str | None], ...]:
    """Return how the jobs ended, in the order of their ids."""
    rows = sorted(ending.facts.rows, key=lambda row: str(row.id))
    return tuple((row.status, row.error_code) for row in rows)


async def judged(environment: Environment, outage: Outage, faultless: CellResult, gate: asyncio.Semaphore) -> str:
    """Run a cell and report it; return what is wrong with it."""
    command = f"python3 dev.py nox -s crash -- tests/crash/real/test_outages.py --real-cell {outage.name}"
    seconds = 0.0
    try:
        ending = await run(environment, outage, gate)
    except (TimeoutError, AssertionError) as error:
        problem = f"invariant 2: a job did not end as it should: {error}"
    else:
        seconds = ending.seconds
        problem = problem_of(ending, faultless)
    report.record(
        report.Cell(
            layer="real",
            usage="outage",
            number=200 + [each.service for each in OUTAGES].index(outage.service),
            call=f"{outage.service}: {LENGTH_SECONDS:.0f} s",
            source="photo_worker/policies.py",
            mode=outage.kind,
            phase="during",
            outcome=report.VIOLATED if problem else report.SAME,
            seconds=seconds,
            command=command,
            detail=problem,
        )
    )
    return f"{outage.name}: {problem}\n  again: {command}" if problem else ""


def problem_of(ending: CellResult, faultless: CellResult) -> str:
    """Return what is wrong with a cell's ending; empty if it equals that of a run without faults."""
    problem = "; ".join(map(str, ending.violations)) or cells.difference(ending, faultless)
    return problem or ("" if ending.reached else "no attempt met the outage, so that nothing is known of it")


async def run(environment: Environment, outage: Outage | None, gate: asyncio.Semaphore | None = None) -> CellResult:
    """Run jobs into an outage at every step, and to their end after it; None runs them without an outage.

    ``gate`` limits the workers that start at the same time.
    """
    began = time.monotonic()
    work = jobs()
    name = outage.name if outage else "outage-faultless"
    directory = environment.directory / f"{name}-{work[0].id}"
    await asyncio.to_thread(directory.mkdir)
    holds = Holds({job.id: point for job, (_, point) in zip(work, PLACES, strict=False)}, directory)
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(environment.world(name, SCALE, MAX_ACTIVITIES=str(2 * len(work))))
        reach = None
        if outage is not None:
            reach = await stack.enter_async_context(reach_of(world.variables, outage.service, _LATE_SECONDS))
        async with gate or asyncio.Semaphore():
            worker = await world.worker(None, **holds.as_variables(), **(reach.variables if reach else {}))
            for job in work[:-1]:
                await world.submit(await asyncio.to_thread(job.file, directory), job.id)
            await all_held(holds, worker)
            if outage is not None and reach is not None:
                await asyncio.to_thread(reach.begin, outage.kind)
            holds.release()
        await world.submit(await asyncio.to_thread(work[-1].file, directory), work[-1].id)
        if outage is not None and reach is not None:
            # The duration is what is tested.
            await asyncio.sleep(LENGTH_SECONDS)
            await asyncio.to_thread(reach.end, outage.kind)
        for job in work:
            await world.ended(job.id, _PATIENCE_SECONDS)
        await worker.drain()
        ending = await cells.cell_result_of(
            world, *(job.id for job in work), words=[*(job.text for job in work), *(reach.secrets if reach else [])]
        )
    # Jobs that wait until the worker takes work again may need no second attempt.
    met = any(attempt > 1 for workflow in ending.facts.workflows.values() for attempt in workflow.attempts.values())
    return replace(ending, reached=met or outage is None, seconds=time.monotonic() - began)


async def all_held(holds: Holds, worker: Child) -> None:
    """Wait until every job is held at its place."""
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while not holds.held():  # noqa: ASYNC110 - files send no event
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise TimeoutError(f"the jobs did not come to their places: {worker.output()[-2000:]}") from None


# The product as it was when every attempt counted, and workers took work during outages.
COUNTING = (
    Mutation("photo_worker/workflows/image.py", "ImageProcessingWorkflow.run", "workflow.patched(LIFETIME)", "False"),
    Mutation(
        "photo_worker/admission.py",
        "Admission.watch",
        "self._open.clear()\nawait self._recover($found)",
        "await self._recover($found)",
    ),
)


async def test_jobs_with_counted_attempts_fail_in_each_outage(environment: Environment) -> None:
    """Shows that the outages are long enough: otherwise the cells above would be green for nothing."""
    async with open_forkserver(COUNTING) as forkserver:
        before = replace(environment, forkserver=forkserver)
        faultless = await run(before, None)
        assert not faultless.violations
        assert ends_of(faultless) == ENDS
        outages = [outage for outage in OUTAGES if outage.service != TEMPORAL]
        gate = asyncio.Semaphore(_START_AT_ONCE)
        endings = await asyncio.gather(*(run(before, outage, gate) for outage in outages))
    green = {
        outage.name: ends_of(ending)
        for outage, ending in zip(outages, endings, strict=True)
        if not problem_of(ending, faultless) or ends_of(ending) == ENDS
    }
    assert not green
