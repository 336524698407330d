"""Misconfigured workers next to a valid one, two deployments on one bucket, two releases on one queue."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.api.enums.v1 import EventType

from photo_worker.errors import BucketBoundElsewhere, UnreadableDocument
from tests.crash.real import cells
from tests.crash.real.cells import CellResult
from tests.crash.real.environment import Environment, World
from tests.crash.real.facts import objects_of
from tests.crash.real.holding import Holds
from tests.crash.real.outages import POSTGRES, REFUSED, S3, reach_of
from tests.crash.real.processes import Child, Forkserver, open_forkserver
from tests.crash.real.test_outages import ENDS, PLACES, SCALE, Job, all_held, ends_of, jobs, problem_of, run
from tests.support.mutation import Mutation

pytestmark = [pytest.mark.stack, pytest.mark.io_bound, pytest.mark.timeout(240)]

_PATIENCE_SECONDS = 90.0

# The previous release, before jobs had a lifetime.
BEFORE = [
    Mutation("photo_worker/workflows/image.py", "ImageProcessingWorkflow.run", "workflow.patched(LIFETIME)", "False")
]


async def test_misconfigured_workers_beside_valid_one_take_no_job(environment: Environment) -> None:
    faultless = await run(environment, None)
    assert ends_of(faultless) == ENDS
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(environment.world("wrong-workers", SCALE, MAX_ACTIVITIES="4"))
        other = await stack.enter_async_context(environment.world("wrong-workers-other", SCALE))
        reach = await stack.enter_async_context(reach_of(world.variables, S3, 0.0))
        own = await stack.enter_async_context(reach_of(world.variables, POSTGRES, 0.0))
        await asyncio.to_thread(reach.begin, REFUSED)
        await asyncio.to_thread(own.begin, REFUSED)
        unbound = f"crash-unbound-{secrets.token_hex(6)}"
        await asyncio.to_thread(world.store.ensure_bucket, unbound)
        wrong = [
            ("service_refused", await world.worker(None, **own.variables)),
            ("service_refused", await world.worker(None, **reach.variables)),
            ("worker_bucket_missing", await world.worker(None, S3_BUCKET=f"crash-none-{secrets.token_hex(6)}")),
            ("bucket_bound_elsewhere", await world.worker(None, S3_BUCKET=other.bucket)),
            ("bucket_not_bound", await world.worker(None, S3_BUCKET=unbound)),
        ]
        await asyncio.gather(*(says(child, "takes no work") for _, child in wrong))
        work = jobs()
        directory = environment.directory / f"wrong-{work[0].id}"
        await asyncio.to_thread(directory.mkdir)
        right = await world.worker()
        await submit(world, work, directory)
        await all_ended(world, work)
        for code, child in wrong:
            assert child.alive, child.output()
            assert "worker polls" not in child.output()
            assert code in child.output(), child.output()[-1500:]
        assert await takers(world, work) == {right.pid}
        await right.drain()
        ending = await cells.cell_result_of(world, *(job.id for job in work), words=[job.text for job in work])
    assert not problem_of(CellResult(ending.facts, ending.violations, ending.bucket), faultless)


async def test_other_deployment_changes_no_object_of_bound_bucket(environment: Environment) -> None:
    faultless = await run(environment, None)
    assert ends_of(faultless) == ENDS
    async with (
        environment.world("first-deployment", SCALE, MAX_ACTIVITIES="12") as world,
        environment.world("second-deployment", SCALE) as second,
    ):
        work = jobs()
        holds = await held(world, work)
        worker = world.children[-1]
        before = await asyncio.to_thread(objects_of, world.store, world.bucket)
        photo = await asyncio.to_thread(work[-1].file, holds.directory)
        common = ("--env-file", "/dev/null")
        for arguments in (
            ("check", "--repair", "--grace", "0s", "-o", "json"),
            ("erase", "--yes", str(work[0].id), "-o", "json"),
            ("submit", "--job-id", str(uuid4()), str(photo), "-o", "json"),
            ("migrate", "-o", "json"),
        ):
            command = await second.command(*common, *arguments, S3_BUCKET=world.bucket)
            status = await command.end(_PATIENCE_SECONDS)
            said = command.output()
            # An erasure of a job that does not exist is not refused.
            assert status in {0, 1}, said
            assert BucketBoundElsewhere.code in said or "bound_elsewhere" in said or arguments[0] == "erase", said
            assert await asyncio.to_thread(objects_of, world.store, world.bucket) == before, f"{arguments}: {said}"
        holds.release()
        await world.submit(photo, work[-1].id)
        await all_ended(world, work)
        await worker.drain()
        ending = await cells.cell_result_of(world, *(job.id for job in work), words=[job.text for job in work])
    assert not problem_of(ending, faultless)


async def test_rollback_of_half_done_deploy_loses_no_job(environment: Environment) -> None:
    """Jobs at every step go from the new release to the old one and back; the old one leaves what it cannot run."""
    faultless = await run(environment, None)
    assert ends_of(faultless) == ENDS
    async with open_forkserver(BEFORE) as before, environment.world("rolled-back", SCALE, MAX_ACTIVITIES="12") as world:
        new = jobs()
        holds = await held(world, new)
        holder = world.children[-1]
        old = await worker_of(before, world)
        await holder.kill()
        # Begun under the old release, while jobs of the new one are in progress.
        await world.submit(await asyncio.to_thread(new[-1].file, holds.directory), new[-1].id)
        await until(lambda: cannot_go_on(world, new), old)
        rows = await asyncio.to_thread(lambda: list(world.repository.all()))
        reasons = {row.error_code for row in rows if row.status == "failed"}
        assert reasons <= {UnreadableDocument.code}, "the release before has failed a job that it cannot go on with"
        holds.release()
        again = await world.worker()
        await all_ended(world, new)
        await old.drain()
        await again.drain()
        ending = await cells.cell_result_of(world, *(job.id for job in new), words=[job.text for job in new])
    assert not problem_of(ending, faultless)


async def test_new_release_completes_jobs_of_previous_release(environment: Environment) -> None:
    faultless = await run(environment, None)
    assert ends_of(faultless) == ENDS
    async with open_forkserver(BEFORE) as before, environment.world("deployed", SCALE, MAX_ACTIVITIES="12") as world:
        work = jobs()
        holds = await held(world, work, before)
        old = world.children[-1]
        new = await world.worker()
        await old.kill()
        holds.release()
        await world.submit(await asyncio.to_thread(work[-1].file, holds.directory), work[-1].id)
        await all_ended(world, work)
        await new.drain()
        ending = await cells.cell_result_of(world, *(job.id for job in work), words=[job.text for job in work])
    assert not problem_of(ending, faultless)


async def worker_of(forkserver: Forkserver, world: World, **variables: str) -> Child:
    """Start a worker of another release."""
    log = world.directory / f"{world.name}-{len(world.children)}.log"
    child = await forkserver.spawn("worker", {**world.variables, **variables}, log)
    world.children.append(child)
    return child


async def held(world: World, work: list[Job], forkserver: Forkserver | None = None) -> Holds:
    """Start a worker that runs each job except the last to its place; it is the world's last child."""
    directory = world.directory / f"{world.name}-{work[0].id}"
    await asyncio.to_thread(directory.mkdir)
    holds = Holds({job.id: point for job, (_, point) in zip(work, PLACES, strict=False)}, directory)
    variables = holds.as_variables()
    worker = await (worker_of(forkserver, world, **variables) if forkserver else world.worker(None, **variables))
    await submit(world, work[:-1], directory)
    await all_held(holds, worker)
    return holds


async def submit(world: World, work: list[Job], directory: Path) -> None:
    for job in work:
        await world.submit(await asyncio.to_thread(job.file, directory), job.id)


async def all_ended(world: World, work: list[Job]) -> None:
    for job in work:
        await world.ended(job.id, _PATIENCE_SECONDS)


async def takers(world: World, work: list[Job]) -> set[int]:
    """Return the pids of the processes that have run an activity or a workflow task of these jobs."""
    found: set[int] = set()
    for job in work:
        history = await world.environment.history(str(job.id))
        assert history is not None
        for event in history.events:
            if event.HasField("activity_task_started_event_attributes"):
                found.add(_process(event.activity_task_started_event_attributes.identity))
            elif event.HasField("workflow_task_started_event_attributes"):
                found.add(_process(event.workflow_task_started_event_attributes.identity))
    return found


def _process(identity: str) -> int:
    """Return the pid in a worker's identity, as Temporal's library forms it."""
    return int(identity.partition("@")[0])


async def cannot_go_on(world: World, work: list[Job]) -> bool:
    """Return whether a workflow task of some job has failed because the code does not match its history."""
    for job in work:
        history = await world.environment.history(str(job.id))
        failed = EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
        if history is not None and any(event.event_type == failed for event in history.events):
            return True
    return False


async def says(child: Child, text: str) -> None:
    async def look() -> bool:
        return text in child.output()

    await until(look, child)


async def until(look: Callable[[], Awaitable[bool]], child: Child) -> None:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while not await look():  # noqa: ASYNC110 - processes and servers send no event
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise TimeoutError(f"nothing happened: {child.output()[-2000:]}") from None
