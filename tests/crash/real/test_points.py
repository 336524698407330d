"""Worker and command processes die and stop at every crash point; the outcome is as without that.

Cells mostly wait for a heartbeat timeout, so that many run at once, each in its own world.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from pathlib import Path

import pytest

import photo_worker
from photo_worker.crash_points import CrashPoint
from tests.crash import report
from tests.crash.real import cells, test_database
from tests.crash.real.arming import KILL, STOP
from tests.crash.real.cells import Case, CellResult
from tests.crash.real.environment import Environment
from tests.crash.real.outages import OUTAGES

pytestmark = [pytest.mark.stack, pytest.mark.io_bound, pytest.mark.timeout(240)]

_AT_ONCE = 12


ALL_WORKER_POINTS = [*cells.WORKER_POINTS, *cells.CONVERT_POINTS, *cells.FAILURE_POINTS]


def cases(points: Sequence[str], mode: str | None = None) -> list[Case]:
    """Return the cases at these points, of one mode if it is given."""
    return [case for point in points for case in cells.cases_of(point) if mode in {None, case.mode}]


def test_cells_cover_every_crash_point() -> None:
    tried = [
        *ALL_WORKER_POINTS,
        *cells.CLIENT_POINTS,
        *cells.ERASE_POINTS,
    ]
    assert sorted(tried) == sorted(CrashPoint)


def test_chosen_cell_exists(chosen_cell: str | None) -> None:
    points = [
        *ALL_WORKER_POINTS,
        *cells.CLIENT_POINTS,
        *cells.ERASE_POINTS,
        *cells.RESPONSES,
    ]
    known = {case.name for case in cases(points)} | {outage.name for outage in OUTAGES}
    known |= {test_database.name_of(*case) for case in test_database.CASES}
    assert chosen_cell is None or chosen_cell in known, f"there is no cell {chosen_cell}"


async def test_worker_killed_at_each_point_ends_as_without_fault(
    environment: Environment, chosen_cell: str | None
) -> None:
    await all_end_as_without(environment, cases(ALL_WORKER_POINTS, KILL), chosen_cell)


async def test_worker_stopped_at_each_point_ends_as_without_fault(
    environment: Environment, chosen_cell: str | None
) -> None:
    await all_end_as_without(environment, cases(ALL_WORKER_POINTS, STOP), chosen_cell)


async def test_worker_killed_after_response_ends_as_without_fault(
    environment: Environment, chosen_cell: str | None
) -> None:
    await all_end_as_without(environment, cases(cells.RESPONSES), chosen_cell)


async def test_erase_killed_or_stopped_then_repeated_completes(
    environment: Environment, chosen_cell: str | None
) -> None:
    await all_end_as_without(environment, cases(cells.ERASE_POINTS), chosen_cell)


async def test_submit_killed_or_stopped_then_repeated_completes(
    environment: Environment, chosen_cell: str | None
) -> None:
    await all_end_as_without(environment, cases(cells.CLIENT_POINTS), chosen_cell)


async def all_end_as_without(environment: Environment, wanted: Sequence[Case], chosen: str | None) -> None:
    """Run cells concurrently and compare each with its usage's run without faults."""
    if chosen is not None:
        wanted = [case for case in wanted if case.name == chosen]
        if not wanted:
            pytest.skip(f"{chosen} is no cell of this test")
    usages = sorted({case.usage for case in wanted})
    endings = await asyncio.gather(*(cells.run_without_faults(environment, usage) for usage in usages))
    faultless = dict(zip(usages, endings, strict=True))
    for usage, ending in faultless.items():
        assert not cells.wrong_end(usage, ending)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(case: Case) -> str:
        async with gate:
            return await judged(environment, case, faultless[case.usage])

    problems = [problem for problem in await asyncio.gather(*map(one, wanted)) if problem]
    assert not problems, "\n\n".join(problems)


async def judged(environment: Environment, case: Case, faultless: CellResult) -> str:
    """Run a cell and report it; return what is wrong with it, and how to run it again."""
    command = f"python3 dev.py nox -s crash -- tests/crash/real/test_points.py --real-cell {case.name}"
    seconds = 0.0
    try:
        ending = await cells.run(environment, case)
    except (TimeoutError, AssertionError) as error:
        problem = f"invariant 2: the job did not end as it should: {error}"
    else:
        seconds = ending.seconds
        problem = "; ".join(map(str, ending.violations)) or cells.difference(ending, faultless)
        if not problem and not ending.reached:
            problem = "the point was never passed, so that nothing is known of it"
    report.record(
        report.Cell(
            layer="real",
            usage=case.usage,
            number=[*CrashPoint, *cells.RESPONSES].index(case.point),
            call=case.point,
            source=source_of(case.point),
            mode=case.mode,
            phase=case.phase,
            outcome=report.VIOLATED if problem else report.SAME,
            seconds=seconds,
            command=command,
            detail=problem,
        )
    )
    return f"{case.name}: {problem}\n  again: {command}" if problem else ""


def source_of(point: str) -> str:
    """Return file and line of a crash point in the product; empty for a point that the server reports."""
    if point not in list(CrashPoint):
        return ""
    root = Path(inspect.getfile(photo_worker)).parent
    needle = f"at(CrashPoint.{CrashPoint(point).name})"
    for path in sorted(root.rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if needle in line:
                return f"{path.relative_to(root.parent).as_posix()}:{number}"
    return ""
