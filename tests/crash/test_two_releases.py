"""Two releases of workers on one queue: the previous one has no lifetime of jobs and counts attempts.

The simulated Temporal gives each workflow task to one of them. The new release continues workflows of the previous one.
The previous release cannot continue workflows of the new one: its workflow task fails and waits for a worker that can
run it. No job fails because of that.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from photo_worker.workflows.image import ImageProcessingWorkflow
from tests.crash.invariants import Watch, outcome
from tests.crash.report import SAME, VIOLATED, Cell, record
from tests.crash.simulation.commands import Console
from tests.crash.simulation.execution import Execution
from tests.crash.simulation.world import World
from tests.crash.test_enumeration import judge
from tests.crash.usages import ONE, Usage, named, photo
from tests.crash.violation import Violation
from tests.support.mutation import ROOT, Mutation, mutated

_FILE = "photo_worker/workflows/image.py"
_BEFORE = Mutation(_FILE, "ImageProcessingWorkflow.run", "workflow.patched(LIFETIME)", "False")
_USAGES = ("photo", "no-photo", "phone", "throttled", "failed-job", "replaced", "cancelled")
# More workflow tasks than any usage has: the switch happens at each of them, and finally never.
_MOST_TASKS = 9


@pytest.fixture(scope="module")
def before() -> Iterator[type]:
    """The workflow of the previous release: the current source without its patch."""
    module = ModuleType("photo_worker_before_workflow")
    sys.modules[module.__name__] = module
    tree = mutated([_BEFORE])[_FILE]
    exec(compile(tree, str(ROOT / _FILE), "exec"), module.__dict__)  # noqa: S102
    yield module.ImageProcessingWorkflow
    del sys.modules[module.__name__]


@dataclass
class Run:
    """The outcome of a usage with two releases."""

    world: World
    broken: list[Violation]

    @property
    def execution(self) -> Execution:
        """The first job's workflow."""
        return self.world.service.executions[str(ONE)]


def _play(usage: Usage, directory: Path, release_of: Callable[[World], type], *, seed: int = 0) -> Run:
    """Run a usage; before every step the workers switch to the release that ``release_of`` returns."""
    world = World(seed=seed)
    watch = Watch(world)

    def look() -> list[Violation]:
        for worker in world.workers:
            worker.run(release_of(world))
        return watch.now()

    look()
    world.watch = look
    try:
        usage.drive(Console(world), directory)
    finally:
        world.close()
    seen = [found for found in world.violations if isinstance(found, Violation)]
    return Run(world, [*seen, *watch.at_rest(usage.accepted, usage.erased)])


def _tasks(world: World) -> int:
    found = world.service.executions.get(str(ONE))
    return 0 if found is None else len(found.done)


def _failed(world: World) -> int:
    found = world.service.executions.get(str(ONE))
    return 0 if found is None else found.failed_tasks


def _judged(usage: Usage, run: Run, without: Run, number: int, mode: str, began: float) -> str:
    detail = judge(usage, outcome(without.world), outcome(run.world), run.broken)
    record(
        Cell(
            "enumeration",
            f"two-releases: {usage.name}",
            number,
            "workflow task",
            _FILE,
            mode,
            "before",
            VIOLATED if detail else SAME,
            time.perf_counter() - began,
            f"python3 dev.py nox -s crash -- tests/crash/test_two_releases.py -k {usage.name}",
            detail,
        )
    )
    return f"{mode} at task {number}: {detail}" if detail else ""


@pytest.mark.parametrize("name", _USAGES)
def test_new_release_completes_workflows_of_previous_release(name: str, before: type, tmp_path: Path) -> None:
    usage = named(name)
    without = _play(usage, tmp_path, lambda world: ImageProcessingWorkflow)
    assert not usage.end.differs_from(outcome(without.world))
    assert len(without.execution.done) < _MOST_TASKS
    wrong = []
    for switch in range(1, _MOST_TASKS):
        began = time.perf_counter()
        run = _play(
            usage,
            tmp_path,
            lambda world, at=switch: before if _tasks(world) < at else ImageProcessingWorkflow,  # type: ignore[misc]
        )
        wrong.append(_judged(usage, run, without, switch, "old to new", began))
        assert run.execution.failed_tasks == 0
        # It did begin with the previous release, which records no marker of the patch.
        assert run.execution.events.count("MarkerRecorded") < without.execution.events.count("MarkerRecorded")
    assert not any(wrong), "\n".join(filter(None, wrong))


@pytest.mark.parametrize("name", _USAGES)
def test_previous_release_leaves_workflows_it_cannot_replay(name: str, before: type, tmp_path: Path) -> None:
    usage = named(name)
    without = _play(usage, tmp_path, lambda world: ImageProcessingWorkflow)
    wrong, met = [], 0
    for switch in range(1, len(without.execution.done)):
        began = time.perf_counter()

        def rolled_back_and_forth(world: World, at: int = switch) -> type:
            # The previous release has the queue until three of its tasks have failed; nothing is lost meanwhile.
            if _tasks(world) < at or _failed(world) >= 3:
                return ImageProcessingWorkflow
            return before

        run = _play(usage, tmp_path, rolled_back_and_forth)
        wrong.append(_judged(usage, run, without, switch, "new to old", began))
        met += run.execution.failed_tasks
        assert run.execution.failed_tasks == 3
    assert not any(wrong), "\n".join(filter(None, wrong))
    assert met


@pytest.mark.parametrize("name", _USAGES)
def test_both_releases_side_by_side_complete_every_job(name: str, before: type, tmp_path: Path) -> None:
    usage = named(name)
    without = _play(usage, tmp_path, lambda world: ImageProcessingWorkflow)
    wrong, failed = [], 0
    for seed in range(12):
        began = time.perf_counter()
        run = _side_by_side(usage, tmp_path, before, seed)
        wrong.append(_judged(usage, run, without, seed, "side by side", began))
        failed += run.execution.failed_tasks
    assert not any(wrong), "\n".join(filter(None, wrong))
    assert failed, "no task of a job was given to a worker that could not run it"


def _side_by_side(usage: Usage, directory: Path, before: type, seed: int) -> Run:
    world = World(seed=seed, workers=2)
    world.workers[0].run(before)
    watch = Watch(world)
    world.watch = watch.now
    try:
        usage.drive(Console(world), directory)
    finally:
        world.close()
    seen = [found for found in world.violations if isinstance(found, Violation)]
    return Run(world, [*seen, *watch.at_rest(usage.accepted, usage.erased)])


def test_job_waiting_for_newer_worker_is_not_failed(before: type, tmp_path: Path) -> None:
    """While only the previous release runs, a job of the new one stays as it is."""
    world = World()
    console = Console(world)
    try:
        usage = named("photo")
        command = console.submit(ONE, photo(tmp_path))
        while not (command.done and _tasks(world) >= 1):
            assert world.step()
        world.workers[0].run(before)
        until = world.now.timestamp() + 3600
        while world.now.timestamp() < until:
            assert world.step()
        row = world.rows.get(ONE)
        assert row is not None
        assert row.status in {"queued", "running"}
        assert world.service.executions[str(ONE)].status == "running"
        assert world.service.executions[str(ONE)].failed_tasks > 10
        world.workers[0].run(ImageProcessingWorkflow)
        console.settle()
    finally:
        world.close()
    assert not usage.end.differs_from(outcome(world))
