"""The connection to Postgres is closed during each write, and after its COMMIT before the reply."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.crash import report
from tests.crash.real import cells
from tests.crash.real.cutting import INSIDE, REPLY_LOST, Cutter, cutter_to
from tests.crash.real.environment import Environment, World

pytestmark = [pytest.mark.stack, pytest.mark.io_bound, pytest.mark.timeout(240)]

_PATIENCE_SECONDS = 60.0
_WAITS_FOR_A_ROW = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = 'photo-worker'"""


@dataclass(frozen=True)
class Write:
    """One write of a row: the ``nth`` one that sets this status."""

    usage: str
    name: str
    status: str
    nth: int = 1


WRITES = (
    Write("submit", "queue", "queued"),
    Write("photo", "start", "running"),
    Write("photo", "start-with-hash", "running", nth=2),
    Write("photo", "succeed", "succeeded"),
    Write("damaged", "fail", "failed"),
)
CASES = [(write, how) for write in WRITES for how in (INSIDE, REPLY_LOST) if (write.name, how) != ("queue", INSIDE)]


async def test_database_write_cut_off_ends_as_without_fault(environment: Environment, chosen_cell: str | None) -> None:
    chosen = [(write, how) for write, how in CASES if chosen_cell in {None, name_of(write, how)}]
    if not chosen:
        pytest.skip(f"{chosen_cell} is no cell of this test")
    usages = sorted({write.usage for write, _ in chosen})
    endings = await asyncio.gather(*(cells.run_without_faults(environment, usage) for usage in usages))
    faultless = dict(zip(usages, endings, strict=True))
    assert not any(cells.wrong_end(usage, ending) for usage, ending in faultless.items())

    async def one(write: Write, how: str) -> str:
        return await judged(environment, write, how, faultless[write.usage])

    problems = [problem for problem in await asyncio.gather(*(one(*case) for case in chosen)) if problem]
    assert not problems, "\n\n".join(problems)


def name_of(write: Write, how: str) -> str:
    """Return the name of the cell, for ``--real-cell``."""
    return f"{write.usage}-{write.name}-{how.replace(' ', '-')}"


async def judged(environment: Environment, write: Write, how: str, faultless: cells.CellResult) -> str:
    """Run a cell and report it; return what is wrong with it."""
    name = name_of(write, how)
    command = f"python3 dev.py nox -s crash -- tests/crash/real/test_database.py --real-cell {name}"
    seconds = 0.0
    try:
        ending = await run(environment, write, how)
    except (TimeoutError, AssertionError) as error:
        problem = f"invariant 2: the job did not end as it should: {error}"
    else:
        seconds = ending.seconds
        problem = "; ".join(map(str, ending.violations)) or cells.difference(ending, faultless)
    report.record(
        report.Cell(
            layer="real",
            usage=write.usage,
            number=100 + WRITES.index(write),
            call=f"Postgres: {write.name}",
            source="photo_worker/adapters/postgres/statements.py",
            mode="cut off" if how == INSIDE else "lost",
            phase="before" if how == INSIDE else "after",
            outcome=report.VIOLATED if problem else report.SAME,
            seconds=seconds,
            command=command,
            detail=problem,
        )
    )
    return f"{name}: {problem}\n  again: {command}" if problem else ""


async def run(environment: Environment, write: Write, how: str) -> cells.CellResult:
    """Cut off one write of one job, and run the job to its end."""
    job_id = uuid4()
    name = name_of(write, how)
    async with environment.world(name) as world:
        server = urlsplit(world.variables["DATABASE_URL"])
        assert server.hostname
        assert server.port
        async with cutter_to((server.hostname, server.port), write.status, write.nth, how) as (cutter, port):
            credentials, _, _ = server.netloc.rpartition("@")
            through = server._replace(netloc=f"{credentials}@127.0.0.1:{port}").geturl()
            document = await asyncio.to_thread(cells.document_of, environment, write.usage)
            if write.usage == "submit":
                worker = await world.worker()
                submitted = await world.command(
                    "--env-file", "/dev/null", "submit", "--job-id", str(job_id), str(document), DATABASE_URL=through
                )
                assert await submitted.end(_PATIENCE_SECONDS) == 0, submitted.output()
            else:
                await world.submit(document, job_id)
                worker = await world.worker(DATABASE_URL=through)
            if how == INSIDE:
                await cut_inside(world, cutter, job_id)
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await cutter.done.wait()
            await world.ended(job_id, _PATIENCE_SECONDS)
            await worker.drain()
        return await cells.cell_result_of(world, job_id)


async def cut_inside(world: World, cutter: Cutter, job_id: UUID) -> None:
    """Lock the job's row, so that the statement waits for it in the server, and close its connection there.

    The server does not check its client while it waits: it writes the row when it gets the lock, although the client is
    gone. The test is about that late write.
    """
    async with asyncio.timeout(_PATIENCE_SECONDS):
        await cutter.held.wait()
        async with await psycopg.AsyncConnection.connect(world.variables["DATABASE_URL"]) as holder:
            await holder.execute("SELECT FROM recipes WHERE id = %s FOR UPDATE", [job_id])
            cutter.go_on.set()
            async with await psycopg.AsyncConnection.connect(
                world.variables["DATABASE_URL"], autocommit=True
            ) as inspector:
                while not await waiting(inspector):  # noqa: ASYNC110 - the server sends no event
                    await asyncio.sleep(0.02)
            cutter.cut.set()
            await cutter.done.wait()


async def waiting(inspector: psycopg.AsyncConnection) -> int:
    """Return the number of the product's statements that wait for a lock."""
    found = await (await inspector.execute(_WAITS_FOR_A_ROW)).fetchone()
    assert found
    return int(found[0])
