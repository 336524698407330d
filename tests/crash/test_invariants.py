"""The invariants of a simulated deployment hold for every workflow of a job, and not for the first one alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from photo_worker.contracts.references import WorkflowType
from photo_worker.pipelines import IMAGE, Pipeline
from tests.crash.invariants import Watch
from tests.crash.simulation.commands import Console
from tests.crash.simulation.world import World
from tests.crash.usages import ONE, TWO, named
from tests.support.waiting_workflows import SECOND, Outcome, Wait

_LATER: WorkflowType[Wait, Outcome] = replace(SECOND, suffix="later")
_FURTHER = Pipeline(
    kind=_LATER,
    workflow=IMAGE.workflow,
    contracts=IMAGE.contracts,
    steps=(),
    policies=IMAGE.policies,
    make=lambda ports: [],
    artifact_keys=(),
    scenarios=IMAGE.scenarios,
)


def _ended(name: str, directory: Path) -> tuple[World, Watch]:
    """Return the world in which a usage has ended, with every invariant kept."""
    usage = named(name)
    world = World(pipelines=[IMAGE, _FURTHER])
    watch = Watch(world)
    try:
        usage.drive(Console(world), directory)
    finally:
        world.close()
    assert watch.at_rest(usage.accepted, usage.erased) == []
    return world, watch


def _start_further(world: World, job_id: UUID) -> str:
    """Start a further workflow, which no worker takes; return its id."""
    workflow_id = _LATER.of(job_id).workflow_id
    world.service.start(workflow_id, _LATER.name, [])
    world.now += timedelta(days=1)
    return workflow_id


def _broken(watch: Watch, accepted: Iterable[UUID], erased: Iterable[UUID] = ()) -> dict[int, str]:
    return {found.invariant: found.text for found in watch.at_rest(accepted, erased)}


def test_open_further_workflow_of_ended_job_breaks_invariant(tmp_path: Path) -> None:
    world, watch = _ended("photo", tmp_path)
    left = _start_further(world, ONE)
    assert left in _broken(watch, [ONE])[10]


def test_closed_further_workflow_of_ended_job_breaks_none(tmp_path: Path) -> None:
    world, watch = _ended("photo", tmp_path)
    execution, _ = world.service.start(_LATER.of(ONE).workflow_id, _LATER.name, [])
    execution.status, execution.closed = "completed", world.now
    assert _broken(watch, [ONE]) == {}


def test_further_workflow_of_erased_job_breaks_invariant(tmp_path: Path) -> None:
    world, watch = _ended("erased", tmp_path)
    left = _start_further(world, ONE)
    found = watch.at_rest([], [ONE])
    assert len([one for one in found if left in one.text]) == 2, "the product's rule reports it, and the traces"


def test_further_workflow_without_row_breaks_rule(tmp_path: Path) -> None:
    """The product's own rule finds it by the pipelines of the deployment."""
    world, watch = _ended("photo", tmp_path)
    _start_further(world, TWO)
    (text,) = (one.text for one in watch.at_rest([ONE]))
    assert "there is no row of its job" in text
