"""The product's workflow in the simulation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import count
from uuid import UUID, uuid4

from temporalio.api.enums.v1 import RetryState

from photo_worker.contracts.image import IMAGE_PROCESSING
from photo_worker.pipelines import IMAGE
from tests.crash.contract.image_workflow import (
    REASON,
    Observed,
    Scenario,
    ScriptedActivities,
    has_obeyed,
    kind_of,
    policies_of,
    request_of,
)
from tests.crash.simulation.execution import Execution
from tests.crash.simulation.gate import current
from tests.crash.simulation.orchestrator import SimulatedOrchestrator
from tests.crash.simulation.world import QUEUE, World


def simulated(scenario: Scenario) -> Observed:
    world = World(seed=0, pipelines=[replace(IMAGE, policies=policies_of(scenario))])

    def hang(ended: Callable[[], bool]) -> None:
        while not ended():
            world.gate.until(current(), world.now + timedelta(seconds=0.1))

    acting = ScriptedActivities(scenario, hang)
    world.workers[0]._activities = {each.__name__: each for each in acting.all()}
    job_id = uuid4()
    try:
        starts = [start(world, job_id, scenario), start(world, job_id, scenario)]
        execution = world.service.executions[str(job_id)]
        asked = bool(scenario.asked)
        wait: float | None = None
        for _ in count():
            if execution.status != "running":
                break
            if asked and waits(scenario, acting, execution):
                asked = False
                if scenario.between == "attempts":
                    (pending,) = execution.activities.values()
                    wait = (pending.due - world.now).total_seconds()
                if scenario.asked == "cancel":
                    world.service.cancel(str(job_id))
                else:
                    world.service.terminate(str(job_id), REASON)
            if scenario.released and has_obeyed(execution.events) and not execution.wanted:
                acting.released.set()
            assert world.step(), "nothing happens any more"
        starts.append(start(world, job_id, scenario))
    finally:
        world.close()
    world.gate.quiet = True
    state = asyncio.run(SimulatedOrchestrator(world, QUEUE).state(IMAGE_PROCESSING.of(job_id)))
    assert state is not None
    return Observed(
        execution.status,
        tuple(execution.events),
        tuple(execution.attempts),
        tuple(acting.reasons),
        tuple(starts),
        (state.status, state.reason_code, state.reason),
        tuple(
            command.start_timer.start_to_fire_timeout.ToTimedelta().total_seconds()
            for task in execution.done
            for command in task.commands
            if command.HasField("start_timer")
        ),
        tuple(
            sorted(
                command.set_patch_marker.patch_id
                for task in execution.done
                for command in task.commands
                if command.HasField("set_patch_marker")
            )
        ),
        tuple(simulated_ends(execution)),
        dict(+execution.unexpected),
        wait,
    )


def simulated_ends(execution: Execution) -> Iterator[tuple[str, bool]]:
    for task in execution.done:
        for job in task.jobs:
            if job.resolve_activity.result.HasField("failed"):
                failure = job.resolve_activity.result.failed.failure
                late = failure.activity_failure_info.retry_state == RetryState.RETRY_STATE_TIMEOUT
                yield kind_of(failure.cause), late


def start(world: World, job_id: UUID, scenario: Scenario) -> bool:
    world.gate.quiet = True
    joined = asyncio.run(
        SimulatedOrchestrator(world, QUEUE).start(IMAGE_PROCESSING.of(job_id), request_of(job_id, scenario))
    ).joined
    world.gate.quiet = False
    return joined


def waits(scenario: Scenario, acting: ScriptedActivities, execution: Execution) -> bool:
    if not scenario.between:
        return acting.reached.is_set()
    if scenario.between == "timer":
        return bool(execution.timers)
    return any(found.number > 1 for found in execution.activities.values())
