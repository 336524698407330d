"""The outcome of a job with one fault: its row, its workflow, and its charges.

The deployment is simulated, the workflow and its activities are the product's. Time is virtual: a day passes at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload

from photo_worker.contracts.keys import manifest_key
from photo_worker.errors import DatabaseUnavailable
from photo_worker.services.jobs import JobService
from photo_worker.sources import Source
from tests.crash.simulation.commands import Console
from tests.crash.simulation.core import TaskFailed
from tests.crash.simulation.execution import Execution
from tests.crash.simulation.gate import Fault, Mode, Phase, current
from tests.crash.simulation.world import BUCKET, World
from tests.crash.usages import ONE, named, photo

ABSENT = Source(label="absent", bucket=BUCKET, key="theirs/absent.png")

# Enough for every test without an outage, and far less than a job's lifetime of a day.
SOON = timedelta(minutes=5)


@pytest.fixture
def worlds() -> Iterator[Callable[..., World]]:
    """A factory of deployments, whose threads end after the test."""
    made: list[World] = []

    def make(**options: Any) -> World:
        made.append(World(**options))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def world(worlds: Callable[..., World]) -> World:
    return worlds()


@pytest.fixture
def console(world: World) -> Console:
    return Console(world)


def execution(world: World) -> Execution:
    return world.service.executions[str(ONE)]


def ended(world: World) -> tuple[str | None, str | None, str]:
    """Return the status and code of the job's row, and the status of its workflow."""
    row = world.rows.get(ONE)
    status, code = (row.status, row.error_code) if row else (None, None)
    return status, code, execution(world).status


def took(world: World) -> timedelta:
    """Return how long the job's workflow has run."""
    return (execution(world).closed or world.now) - execution(world).started


def steps(world: World, happened: Callable[[], bool], most: int = 5_000) -> None:
    """Run steps until ``happened`` returns true, nothing is left to do, or ``most`` steps are done."""
    for _ in range(most):
        if happened() or not world.step():
            return


def scheduled(world: World, number: int) -> Callable[[], bool]:
    """Return a condition: the job's workflow has scheduled ``number`` activities."""

    def happened() -> bool:
        found = world.service.executions.get(str(ONE))
        return found is not None and found.events.count("ActivityTaskScheduled") >= number

    return happened


def test_failed_job_has_error_code_in_row(world: World, console: Console, tmp_path: Path) -> None:
    named("absent").drive(console, tmp_path)
    assert ended(world) == ("failed", "object_missing", "failed")


def test_job_with_permanent_error_fails_at_once(world: World, console: Console, tmp_path: Path) -> None:
    named("no-photo").drive(console, tmp_path)
    assert took(world) < SOON
    assert ended(world) == ("failed", "content_mismatch", "failed")


def away(world: World, hours: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the database refuse to record failures for some hours."""
    back, write = world.now + timedelta(hours=hours), world.rows.fail

    def fail(*given: Any, **named: Any) -> Any:
        if world.now < back:
            raise DatabaseUnavailable(database="memory", reason="simulated")
        return write(*given, **named)

    monkeypatch.setattr(world.rows, "fail", fail)


def test_failure_reason_is_recorded_after_long_outage(
    world: World, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    away(world, 3, monkeypatch)
    console.submit(ONE, ABSENT)
    console.settle()
    assert ended(world) == ("failed", "object_missing", "failed")


def test_job_cancelled_while_failure_is_recorded_has_reason(
    world: World, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    away(world, 1, monkeypatch)
    console.submit(ONE, ABSENT)
    steps(world, scheduled(world, 2))
    console.cancel(ONE)
    console.settle()
    assert ended(world) == ("failed", "object_missing", "failed")


def test_job_whose_row_says_succeeded_completes(
    world: World, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every reply to the last activity's write is lost until the job's lifetime is over."""
    write = world.rows.succeed

    def succeed(*given: Any, **named: Any) -> Any:
        write(*given, **named)
        raise DatabaseUnavailable(database="memory", reason="simulated")

    monkeypatch.setattr(world.rows, "succeed", succeed)
    source = photo(tmp_path)

    async def submit(tools: Any) -> object:
        service = JobService(tools.store, tools.rows, tools.orchestrator, BUCKET, lifetime_seconds=120)
        return await service.submit(source, job_id=ONE)

    console.give("submit", submit)
    console.settle()
    assert ended(world) == ("succeeded", None, "completed")


def test_job_cancelled_while_result_is_written_succeeds(
    world: World, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, writing = world.rows.succeed, []

    def slowly(*given: Any, **named: Any) -> Any:
        writing.append(given)
        world.gate.until(current(), world.now + timedelta(seconds=5))
        return write(*given, **named)

    monkeypatch.setattr(world.rows, "succeed", slowly)
    console.submit(ONE, photo(tmp_path))
    steps(world, lambda: bool(writing))
    console.cancel(ONE)
    console.settle()
    manifest = manifest_key(ONE) in {entry.key for entry in world.store.list(BUCKET, "")}
    assert (*ended(world), manifest) == ("succeeded", None, "completed", True)


@pytest.mark.parametrize(
    "given",
    [
        [b'{"job_id": 5}'],
        [],
        [b'{"job_id": "1", "bucket": "b", "key": "k"}'] * 2,
        [b"null"],
        [b'"a photo"'],
        [b"["],
    ],
)
def test_workflow_with_invalid_input_fails(world: World, given: list[bytes]) -> None:
    arguments = [Payload(metadata={"encoding": b"json/plain"}, data=each) for each in given]
    world.service.start(str(ONE), "image_processing_workflow", arguments)
    with suppress(TaskFailed):
        world.run()
    assert ended(world) == (None, None, "failed")
    failure = execution(world).failure
    assert failure is not None
    assert failure.application_failure_info.type == "contract_invalid"


def test_job_whose_document_breaks_ocr_fails(
    world: World, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(**request: Any) -> Any:
        message = "a defect"
        raise ValueError(message)

    monkeypatch.setattr(world.textract, "get_document_text_detection", breaks)
    console.submit(ONE, photo(tmp_path))
    steps(world, lambda: scheduled(world, 1)() and execution(world).status != "running")
    assert took(world) < SOON
    assert ended(world) == ("failed", "step_failed", "failed")


def test_job_whose_worker_dies_in_ocr_takes_under_40s_more(worlds: Callable[..., World], tmp_path: Path) -> None:
    world = worlds()
    named("photo").drive(Console(world), tmp_path)
    reading = next(call.number for call in world.gate.calls if call.name == "textract.get_document_text_detection")
    without = took(world)
    world = worlds(faults=(Fault(reading, Phase.AFTER, Mode.DIE),))
    named("photo").drive(Console(world), tmp_path)
    assert ended(world) == ("succeeded", None, "completed")
    assert took(world) - without < timedelta(seconds=40)


def test_submit_of_finished_job_after_30_days_charges_nothing(world: World, console: Console, tmp_path: Path) -> None:
    named("photo").drive(console, tmp_path)
    world.service.delete(str(ONE))
    world.now += timedelta(days=30)
    console.submit(ONE, photo(tmp_path))
    console.settle()
    assert list(world.textract.charges.values()) == [1]
    assert str(ONE) not in world.service.executions


def test_job_with_many_pages_is_refused_without_charge(world: World, console: Console, tmp_path: Path) -> None:
    named("many-pages").drive(console, tmp_path)
    assert not world.textract.charges
    assert ended(world) == ("failed", "document_unsupported", "failed")
