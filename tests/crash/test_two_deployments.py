"""Two deployments on one bucket: jobs lose nothing, whenever the other deployment checks, repairs or erases."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from photo_worker.services.binding import bind
from tests.crash.invariants import Watch, outcome
from tests.crash.report import SAME, VIOLATED, Cell, record
from tests.crash.simulation.commands import Console
from tests.crash.simulation.gate import Fault, Mode, Phase
from tests.crash.simulation.intruder import Intruder
from tests.crash.simulation.world import BUCKET, World
from tests.crash.test_enumeration import judge
from tests.crash.usages import ONE, Usage, named, photo
from tests.crash.violation import Violation

_USAGES = ("photo", "phone", "theirs", "no-photo")


def _play(usage: Usage, directory: Path, *faults: Fault) -> tuple[World, Intruder, list[Violation]]:
    world = World(faults=faults)
    intruder = Intruder(world, ONE)
    world.gate.outside[Mode.INTRUDE] = intruder.intrude
    watch = Watch(world)
    world.watch = watch.now
    try:
        usage.drive(Console(world), directory)
    finally:
        world.close()
    seen = [found for found in world.violations if isinstance(found, Violation)]
    return world, intruder, [*seen, *intruder.broken, *watch.at_rest(usage.accepted, usage.erased)]


@pytest.mark.parametrize("name", _USAGES)
def test_other_deployment_at_each_call_takes_nothing(name: str, tmp_path: Path) -> None:
    usage = named(name)
    world, _, broken = _play(usage, tmp_path)
    without = outcome(world)
    assert not broken
    assert not usage.end.differs_from(without)
    places = [
        (call, phase)
        for call in world.gate.calls
        for phase in Phase
        if phase is Phase.BEFORE or call.number in world.gate.responded
    ]
    wrong = []
    for call, phase in places:
        began = time.perf_counter()
        found, intruder, broken = _play(usage, tmp_path, Fault(call.number, phase, Mode.INTRUDE))
        detail = judge(usage, without, outcome(found), broken)
        if not intruder.times:
            detail = detail or "the other deployment did nothing"
        if detail:
            wrong.append(f"{call.name} ({call.source}), {phase}: {detail}")
        record(
            Cell(
                "enumeration",
                f"two-deployments: {name}",
                call.number,
                call.name,
                call.source,
                Mode.INTRUDE,
                phase,
                VIOLATED if detail else SAME,
                time.perf_counter() - began,
                f"python3 dev.py nox -s crash -- tests/crash/test_two_deployments.py -k '[{name}]'",
                detail,
            )
        )
    assert not wrong, "\n".join(wrong)


def test_other_deployment_with_rebound_bucket_takes_objects(tmp_path: Path) -> None:
    """Without the marker, the commands in the cells above would do harm."""
    world = World()
    try:
        console = Console(world)
        console.submit(ONE, photo(tmp_path))
        console.settle()
        intruder = Intruder(world, ONE)
        bind(world.store, intruder._own.rows, BUCKET, rebind=True)
        intruder.intrude()
    finally:
        world.close()
    assert any("deleted artifacts/" in found.text for found in intruder.broken)
