"""Scenarios in the simulation."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.crash.contract.scenario import Ask, Family, Run, Scenario, ScenarioOutcome, quiet
from tests.crash.simulation.client import SimulatedClient, runs, value
from tests.crash.simulation.execution import Execution
from tests.crash.simulation.gate import Process, current
from tests.crash.simulation.worker import Hosted, kind_of
from tests.crash.simulation.world import World

_MAIN = "small"
_MOST_STEPS = 2000


def simulate(family: Family, scenario: Scenario) -> ScenarioOutcome:
    """Play one scenario."""
    world = World()

    def nap(seconds: float) -> None:
        world.gate.until(current(), world.now + timedelta(seconds=seconds))

    world.host(Hosted(family.workflows, family.activities(nap)))
    client = SimulatedClient(world)
    responses: list[tuple[Ask, list[Any]]] = []
    try:
        _start(world, client, scenario)
        for ask in scenario.asks:
            _until(world, lambda ask=ask: _reached(world, ask))
            responses.append((ask, _ask(world, client, ask)))
        for name, end in {"": "", **scenario.others}.items():
            _until(world, lambda name=name, end=end: _ended(world, _MAIN + name, end))
        _until(world, lambda: all(found for _, found in responses))
    finally:
        world.close()
    told = tuple(found[0] for ask, found in responses if ask.kind in {"query", "update"})
    return ScenarioOutcome({name: _runs(world, _MAIN + name) for name in ("", *scenario.others)}, told)


def _start(world: World, client: SimulatedClient, scenario: Scenario) -> None:
    kind = kind_of(scenario.workflow)
    if scenario.first_signal is None:
        limit = timedelta(seconds=scenario.task_timeout)
        world.spawn(Process("client"), "start", lambda: client.start(_MAIN, kind, *scenario.args, task_timeout=limit))
        return
    signal, args = scenario.first_signal
    world.spawn(Process("client"), "start", lambda: client.signal_with_start(_MAIN, kind, scenario.args, signal, args))


def _until(world: World, there: Any) -> None:
    for _ in range(_MOST_STEPS):
        if there():
            return
        assert world.step(), "nothing happens any more"
    raise AssertionError("too many steps")


def _idle(execution: Execution) -> bool:
    return quiet(execution.events) and not (execution.waiting or execution.wanted)


def _reached(world: World, ask: Ask) -> bool:
    found = world.service.executions.get(_MAIN + (ask.to if ask.of is None else ask.of))
    if found is None or found.events.count(ask.after) < ask.times:
        return False
    return ask.busy or (_idle(found) and _idle(world.service.executions[_MAIN]))


def _ended(world: World, workflow_id: str, end: str) -> bool:
    found = world.service.executions.get(workflow_id)
    if found is None:
        return False
    return found.status == end and _idle(found) if end else not found.running


def _ask(world: World, client: SimulatedClient, ask: Ask) -> list[Any]:
    """Send a request; return the list that gets its response."""
    found: list[Any] = []
    target = _MAIN + ask.to

    def send() -> None:
        match ask.kind:
            case "signal":
                found.append(client.signal(target, ask.name, *ask.args))  # type: ignore[func-returns-value]
            case "query":
                found.append(client.query(target, ask.name, *ask.args))
            case "update":
                found.append(client.update(target, ask.name, *ask.args))
            case "cancel":
                found.append(client.cancel(target))  # type: ignore[func-returns-value]
            case "terminate":
                found.append(client.terminate(target, ask.name))  # type: ignore[func-returns-value]
            case other:
                raise AssertionError(other)

    world.spawn(Process("client"), ask.kind, send)
    if ask.awaited:
        _until(world, lambda: bool(found))
    return found


def _runs(world: World, workflow_id: str) -> tuple[Run, ...]:
    return tuple(
        Run(one.status, value(one.result), tuple((event.name, event.about) for event in one.history))
        for one in runs(world.service.executions[workflow_id])
    )
