"""Every crash point of a small program: its worker or its client dies or pauses before or after each call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import product
from typing import Any

from tests.crash.simulation.client import SimulatedClient, value
from tests.crash.simulation.core import TaskFailed
from tests.crash.simulation.execution import Stale
from tests.crash.simulation.gate import Fault, Mode, Phase, Process, Strand, current
from tests.crash.simulation.worker import Hosted
from tests.crash.simulation.world import BUCKET, World

_MOST_TRIES = 4


class Outside:
    """What a program's activities change outside of Temporal."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.effects: Counter[str] = Counter()

    def happen(self, name: str) -> None:
        """Have an effect, which is a call like any other."""
        self._world.gate.call("outside.happen", lambda: self.effects.update([name]))

    def nap(self, seconds: float) -> None:
        """Wait in an activity."""
        self._world.gate.until(current(), self._world.now + timedelta(seconds=seconds))


@dataclass(frozen=True)
class Program:
    """A small program: workflows, activities, and what its client does, again from the start if the client dies."""

    workflows: Sequence[type]
    script: Callable[[SimulatedClient], None]
    activities: Callable[[Outside], Sequence[Callable[..., Any]]] = lambda outside: ()
    counts_effects: bool = False
    """Whether an effect must not happen twice."""
    prepare: Callable[[World], None] = lambda world: None
    """Makes what exists before the client begins."""
    ends: Callable[[Mapping[str, Any]], str] | None = None
    """Returns what is wrong with an outcome, for programs that may end in more than one way."""

    def judge(self, found: Mapping[str, Any], right: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with an outcome; ``right`` is the one without a fault."""
        if self.ends is None:
            return [f"{part} {found[part]}, not {right[part]}" for part in right if found[part] != right[part]]
        wrong = [self.ends(found), "" if found["client ended"] else "the client has not ended"]
        return [part for part in wrong if part]


@dataclass
class _Driver:
    """The client's processes, one after the other."""

    world: World
    program: Program
    tries: int = 0
    done: bool = False
    strand: Strand | None = field(default=None)

    def begin(self) -> None:
        self.tries += 1
        process = Process(f"client-{self.tries}")

        def work() -> None:
            # Its earlier process may have had the last word.
            with suppress(Stale):
                self.program.script(SimulatedClient(self.world))
            self.done = True

        self.strand = self.world.spawn(process, process.name, work)

    def repeat(self) -> bool:
        """Begin again if the process has died; return whether it did."""
        dead = self.strand is not None and not self.strand.process.alive
        if self.done or not dead or self.tries >= _MOST_TRIES:
            return False
        self.begin()
        return True


def play(program: Program, *faults: Fault) -> tuple[World, dict[str, Any]]:
    """Run a program to its end; return the world and the outcome."""
    world = World(faults=faults)
    outside = Outside(world)
    world.host(Hosted(program.workflows, program.activities(outside)))
    program.prepare(world)
    driver = _Driver(world, program)
    try:
        driver.begin()
        while True:
            world.run()
            if not driver.repeat() and not world.resume():
                break
        ended = driver.done
    finally:
        world.close()
    workflows = {
        name: (found.status, value(found.result), found.failure.message if found.failure else "")
        for name, found in sorted(world.service.executions.items())
    }
    effects = dict(outside.effects) if program.counts_effects else sorted(outside.effects)
    objects = sorted(entry.key for entry in world.store.list(BUCKET, "artifacts/"))
    return world, {"client ended": ended, "workflows": workflows, "effects": effects, "objects": objects}


def violations(program: Program) -> tuple[int, list[str]]:
    """Run every cell of a program; return how many there are, and those that end otherwise than without a fault."""
    world, right = play(program)
    faults = [
        Fault(call.number, phase, mode)
        for call in world.gate.calls
        for phase, mode in product(Phase, (Mode.DIE, Mode.PAUSE, Mode.DOUBLE))
        if mode is not Mode.DOUBLE or (phase is Phase.AFTER and call.repeatable)
        if phase is Phase.BEFORE or call.number in world.gate.responded
    ]
    wrong: list[str] = []
    for fault in faults:
        name = f"{fault.mode} {fault.phase} {world.gate.calls[fault.number].name} #{fault.number}"
        try:
            _, found = play(program, fault)
        except TaskFailed as error:
            wrong.append(f"{name}: {error}")
            continue
        wrong += [f"{name}: {part}" for part in program.judge(found, right)]
    return len(faults), wrong
