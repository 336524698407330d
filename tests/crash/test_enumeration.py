"""Layer 2: every fault at every port call of every usage leaves the outcome of a run without faults.

A usage runs once to record its port calls. Then it runs again for each call, phase and mode, from the same seed, so
that everything before the fault is the same. A new call is enumerated without a new test; a new usage is one more
entry in ``usages``. One cell alone: ``python3 dev.py nox -s crash -- tests/crash/test_enumeration.py --cell CELL``.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.crash.invariants import Watch, outcome
from tests.crash.report import NOT_REACHED, SAME, VIOLATED, Cell, record, record_run
from tests.crash.simulation.commands import Console
from tests.crash.simulation.gate import Call, Fault, Mode, Phase
from tests.crash.simulation.world import World
from tests.crash.usages import TWO, USAGES, Usage, all_succeeded, named, names
from tests.crash.violation import Violation

COMMAND = "python3 dev.py nox -s crash -- tests/crash/test_enumeration.py --cell "

# The number of tested pairs of faults of the main usage; 0 tests all of them.
PAIRS_VARIABLE = "PHOTO_WORKER_CRASH_PAIRS"
_PAIRS = 150
_SEED_VARIABLE = "PHOTO_WORKER_CRASH_SEED"


def seed() -> int:
    """Return the seed of this run, which decides the order of concurrent steps, and the pairs."""
    return int(os.environ.get(_SEED_VARIABLE, "0"))


def places_of(world: World, outside: Sequence[Mode] = ()) -> list[tuple[Call, Phase, Mode]]:
    """Return every fault at every call of a run; after a call only if the call returned.

    ``outside`` are events outside of the deployment, independent of the caller; if given, they are the only faults, and
    occur while the first job runs. Each cell shows their effect on later jobs.
    """
    calls = world.gate.calls
    later = (call.number for call in calls if call.process.startswith(f"submit {TWO}"))
    end = next(later, len(calls)) if outside else len(calls)
    return [
        (call, phase, mode)
        for call in calls[:end]
        for phase, mode in (product(Phase, outside) if outside else modes_of(call))
        if phase is Phase.BEFORE or call.number in world.gate.responded
    ]


def modes_of(call: Call) -> Iterator[tuple[Phase, Mode]]:
    """Yield the faults at a call.

    The SDK's core retries if Temporal does not respond, so that between worker and Temporal a process can only die or
    pause; no error reaches the product.
    """
    for phase in Phase:
        yield phase, Mode.DIE
        yield phase, Mode.PAUSE
        if call.fallible:
            yield phase, Mode.RAISE
        for mode in sorted(call.modes):
            # A silent service may or may not execute the request.
            if phase is Phase.BEFORE or mode is Mode.SILENT:
                yield phase, mode
    if call.repeatable:
        yield Phase.AFTER, Mode.DOUBLE


def play(usage: Usage, directory: Path, *faults: Fault) -> tuple[World, dict[str, Any], list[Violation]]:
    """Run a usage to its end; return the world, its outcome, and the violations."""
    world = World(seed=seed(), faults=faults, versions=usage.versions)
    watch = Watch(world)
    world.watch = watch.now
    # Waits are random unless a throttling service sets them.
    drawn = random.getstate()
    random.seed(seed())
    try:
        console = Console(world)
        usage.drive(console, directory)
    finally:
        random.setstate(drawn)
        world.close()
    found = [violation for violation in world.violations if isinstance(violation, Violation)]
    found += [Violation(2, f"{one.name} has no response") for one in console.commands if not one.ended]
    return world, outcome(world), [*found, *watch.at_rest(usage.accepted, usage.erased)]


def judge(
    usage: Usage,
    without: dict[str, Any],
    found: dict[str, Any],
    broken: list[Violation],
    mode: Mode | None = None,
) -> str:
    """Return what is wrong with a run's outcome; empty if it is right."""
    if broken:
        return "; ".join(map(str, dict.fromkeys(broken)))
    # If the source was replaced, the product does not choose which content a job reads.
    ends = all_succeeded if mode in {Mode.REPLACE, Mode.REPLACE_BACK} else usage.ends
    if ends is not None:
        return "" if ends(found) else f"invariant 5: this is no end of {usage.name}: {_told(found)}"
    parts = [name for name in without if without[name] != found[name]]
    return f"invariant 5: other {', '.join(parts)} than without faults: {_told(found)}" if parts else ""


def _told(found: dict[str, Any]) -> str:
    rows = {name: (row["status"], row["error_code"]) for name, row in found["rows"].items()}
    return f"rows {rows}, objects {sorted(found['objects'])}, workflows {found['workflows']}, {found['charges']}"


def run_cell(usage: Usage, directory: Path, call: Call, phase: Phase, mode: Mode, without: dict[str, Any]) -> Cell:
    """Run one cell and record it."""
    began = time.perf_counter()
    command = f"{COMMAND}{usage.name}/{call.number}/{phase}/{mode}"
    detail = ""
    try:
        world, found, broken = play(usage, directory, Fault(call.number, phase, mode))
        detail = judge(usage, without, found, broken, mode)
        reached = (call.number, phase) in world.gate.met
        ended = VIOLATED if detail else SAME if reached else NOT_REACHED
    except Exception as error:
        ended, detail = VIOLATED, f"{type(error).__name__}: {error}"
    cell = Cell(
        layer="enumeration",
        usage=usage.name,
        number=call.number,
        call=call.name,
        source=call.source,
        mode=mode,
        phase=phase,
        outcome=ended,
        seconds=time.perf_counter() - began,
        command=command,
        detail=detail,
    )
    record(cell)
    return cell


def _failure(cell: Cell) -> str:
    return f"seed {seed()}, {cell.call} ({cell.source}): {cell.detail}\n  {cell.command}"


# Up to nine hundred runs of a deployment; thirty seconds on an idle machine.
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", names())
def test_enumeration_single_fault_ends_as_without_fault(name: str, tmp_path: Path, cell: str | None) -> None:
    usage = named(name)
    world, without, broken = play(usage, tmp_path)
    assert not broken, f"{name} without faults: {'; '.join(map(str, broken))}"
    # Every cell is compared with this run, which must not be that of a broken product.
    other = usage.end.differs_from(without)
    assert not other, f"invariant 2: {name} ends without faults with {other}"
    wanted = places_of(world, usage.outside)
    if cell is not None:
        wanted = [(call, phase, mode) for call, phase, mode in wanted if f"{name}/{call.number}/{phase}/{mode}" == cell]
        if not wanted and cell.startswith(f"{name}/"):
            pytest.fail(f"{name} has no cell {cell}")
        if not wanted:
            pytest.skip(f"{cell} is no cell of {name}")
    cells = [run_cell(usage, tmp_path, call, phase, mode, without) for call, phase, mode in wanted]
    wrong = [_failure(one) for one in cells if not one.holds]
    assert not wrong, "\n".join(wrong)
    # With the same seed every call occurs again, so that every cell has injected its fault.
    assert [one.command for one in cells if one.outcome == NOT_REACHED] == []


def test_enumeration_two_faults_of_photo_end_as_without_fault(tmp_path: Path, cell: str | None) -> None:
    if cell is not None:
        pytest.skip("a cell has one fault")
    usage = named("photo")
    world, without, _ = play(usage, tmp_path)
    places = [Fault(call.number, phase, mode) for call, phase, mode in places_of(world)]
    pairs = [(one, other) for one in places for other in places if one.number < other.number]
    most = int(os.environ.get(PAIRS_VARIABLE, _PAIRS))
    chosen = pairs if not most else random.Random(seed()).sample(pairs, min(most, len(pairs)))  # noqa: S311
    wrong = []
    for pair in chosen:
        _, found, broken = play(usage, tmp_path, *pair)
        detail = judge(usage, without, found, broken)
        if detail:
            wrong.append(f"seed {seed()}, {pair}: {detail}")
    record_run("pairs", seed=seed(), command=f"{PAIRS_VARIABLE}=0 {COMMAND[:-8]}", pairs=len(chosen), of=len(pairs))
    assert not wrong, "\n".join(wrong)


def test_usages_have_unique_names(cell: str | None) -> None:
    assert len(set(names())) == len(USAGES)
    assert cell is None or cell.partition("/")[0] in names(), f"there is no usage of {cell}"
