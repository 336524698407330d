"""A misconfigured worker, or one whose machine has run out of resources, next to a valid one on one queue.

Every job ends as with the valid worker alone.

The misconfigured worker polls as often as the valid one. A real one stops polling by the product's admission, which
keeps it from delaying jobs; no job may be lost to it even without that.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from photo_worker.errors import BucketBoundElsewhere, SchemaMissing, WorkerBucketMissing
from tests.crash.invariants import Watch, outcome
from tests.crash.report import SAME, VIOLATED, Cell, record
from tests.crash.simulation.commands import Console
from tests.crash.simulation.port_errors import ROWS, STORE, TEXTRACT, ErrorFactory
from tests.crash.simulation.world import World
from tests.crash.test_enumeration import judge
from tests.crash.usages import named
from tests.crash.violation import Violation

_SEEDS = range(6)


def _known(make_error: ErrorFactory | None) -> ErrorFactory:
    assert make_error is not None
    return make_error


_START = "textract.start_document_text_detection"
_STORE_WRITES = tuple(f"store.{method}" for method in sorted(STORE.writes))
_ROW_WRITES = tuple(f"rows.{method}" for method in sorted(ROWS.writes))

# What is wrong: the affected ports or methods, and their error.
WRONG: dict[str, tuple[tuple[str, ...], ErrorFactory]] = {
    "s3-credentials": (("store",), _known(STORE.refused)),
    "s3-permissions": (("store",), _known(STORE.forbidden)),
    "s3-bucket": (("store",), lambda: WorkerBucketMissing(bucket="phtos")),
    "s3-no-put": (_STORE_WRITES, _known(STORE.read_only)),
    "postgres-credentials": (("rows",), _known(ROWS.refused)),
    "postgres-permissions": (("rows",), _known(ROWS.forbidden)),
    "postgres-select-only": (_ROW_WRITES, _known(ROWS.forbidden)),
    "postgres-schema": (("rows",), lambda: SchemaMissing(database="memory", reason="column does not exist")),
    "another-deployment": (
        ("rows",),
        lambda: BucketBoundElsewhere(bucket="photos", known="theirs", database="memory"),
    ),
    "postgres-damaged": (("rows",), _known(ROWS.broken)),
    "threads": (("rows",), lambda: RuntimeError("can't start new thread")),
    "open-files": (("store",), lambda: OSError(errno.EMFILE, "Too many open files")),
    "memory": (("store",), MemoryError),
    "installation": (("rows",), lambda: ModuleNotFoundError("No module named 'photo_worker.adapters.job_rows'")),
    "textract-credentials": (("textract",), _known(TEXTRACT.refused)),
    "textract-permissions": (("textract",), _known(TEXTRACT.forbidden)),
    "textract-no-start": ((_START,), _known(TEXTRACT.forbidden)),
}
# Usages whose workers send no request to Textract, or store nothing.
_UNREAD = frozenset({"no-photo"})
_UNSTORED = frozenset({"no-photo", "refused"})
_USAGES = ("photo", "phone", "theirs", "no-photo", "failing", "refused", "cancelled")


def _run(
    name: str, directory: Path, seed: int, prepare: Callable[[World], object]
) -> tuple[World, dict[str, object], list[Violation]]:
    usage = named(name)
    world = World(seed=seed, workers=2)
    prepare(world)
    watch = Watch(world)
    world.watch = watch.now
    try:
        usage.drive(Console(world), directory)
    finally:
        world.close()
    seen = [found for found in world.violations if isinstance(found, Violation)]
    return world, outcome(world), [*seen, *watch.at_rest(usage.accepted, usage.erased)]


@pytest.mark.parametrize("name", _USAGES)
@pytest.mark.parametrize("wrong", WRONG)
def test_misconfigured_worker_fails_no_job(wrong: str, name: str, tmp_path: Path) -> None:
    ports, make_error = WRONG[wrong]
    usage = named(name)
    began = time.perf_counter()
    details, refusals = [], 0
    for seed in _SEEDS:
        _, without, broken = _run(name, tmp_path, seed, lambda world: None)
        assert not broken
        assert not usage.end.differs_from(without)
        asked: list[str] = []

        def refuse(said: list[str] = asked) -> Exception:
            said.append(wrong)
            return make_error()

        def set_up_wrongly(world: World, refuse: ErrorFactory = refuse) -> None:
            world.workers[0].process.refused |= dict.fromkeys(ports, refuse)

        _, found, broken = _run(name, tmp_path, seed, set_up_wrongly)
        refusals += len(asked)
        detail = judge(usage, without, found, broken)
        if detail:
            details.append(f"seed {seed}: {detail}")
    record(
        Cell(
            "enumeration",
            f"wrong-worker: {name}",
            list(WRONG).index(wrong),
            ports[0].partition(".")[0],
            "",
            wrong,
            "from its start",
            VIOLATED if details else SAME,
            time.perf_counter() - began,
            f"python3 dev.py nox -s crash -- 'tests/crash/test_wrong_workers.py' -k '{wrong} and {name}'",
            "; ".join(details),
        )
    )
    assert not details
    # The misconfigured worker did get an activity with some seed, if the usage has one that needs this port.
    unneeded = _UNREAD if ports[0].startswith("textract") else _UNSTORED if ports == _STORE_WRITES else frozenset()
    assert refusals or name in unneeded
