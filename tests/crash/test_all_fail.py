"""A product in which every job fails is red in the real cells and in the soak, for each error code.

A product that counts attempts is red in the soak for each kind of outage.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from textwrap import dedent
from typing import Any

import pytest

from photo_worker import policies
from tests.crash.real import cells
from tests.crash.real.conftest import environment
from tests.crash.real.environment import Environment
from tests.crash.real.killing_services import NAMES
from tests.crash.real.processes import open_forkserver
from tests.crash.real.test_outages import COUNTING
from tests.crash.soak import COUNTED_SECONDS, SCALE, report_of, soak_in
from tests.crash.soaking.schedule import KINDS, OUTAGE, SoakOptions, schedule_of, sound
from tests.support.mutation import Mutation

__all__ = ["environment"]

pytestmark = [pytest.mark.stack, pytest.mark.io_bound, pytest.mark.timeout(240)]


# Enough that no attempt waits for a slot: waiting would prolong the time of all counted attempts.
_SLOTS = 24
# Uploads come within this time of an outage's begin, so that the rest outlasts all counted attempts, even late ones.
MET_SECONDS = 1.0
_LATE_SECONDS = 1.0
LONG_OUTAGE_SECONDS = COUNTED_SECONDS + MET_SECONDS + policies.COUNTED.ocr_textract.maximum_attempts * _LATE_SECONDS


def order() -> SoakOptions:
    """Return a small soak with a new seed, which gives the jobs new ids on a shared stack."""
    seed = secrets.randbelow(10**9)
    return SoakOptions(uploads=16, seconds=1.5, seed=seed, kills=0, restarts=0, workers=1, throttle=0.0, outages=0)


def order_with_an_outage(kind: str) -> SoakOptions:
    """Return a small soak in which some sound uploads come when the outage has begun."""
    while True:
        chosen = replace(order(), seconds=3.0, outages=1)
        drawn = schedule_of(chosen, NAMES, SCALE.heartbeat, LONG_OUTAGE_SECONDS, kind)
        (outage,) = (fault for fault in drawn.faults if fault.what == OUTAGE)
        begun = [upload for upload in drawn.uploads if 0 <= upload.at - outage.at <= MET_SECONDS]
        if sound(begun, {upload.document for upload in drawn.uploads if upload.damaged}):
            return chosen


_STEP = "validate_key(request.key)\n"
_DAMAGED = """\
        from photo_worker.errors import UnreadableDocument
        raise UnreadableDocument(name=request.key, reason="a mutant says so")
"""


def mutant(instead: str) -> list[Mutation]:
    """Return the mutation that inserts this code before a job's first activity."""
    return [Mutation("photo_worker/activities/assets.py", "AssetActivities._verified", _STEP, dedent(instead) + _STEP)]


# By the jobs' error code: one that no upload here has, a defect, and one that some uploads do have.
MUTANTS = {
    "object_missing": mutant("        raise ObjectMissing(bucket=request.bucket, key=request.key)\n"),
    "step_failed": mutant('        raise RuntimeError("a mutant says so")\n'),
    "document_unreadable": mutant(_DAMAGED),
}


async def small_soak(environment: Environment) -> dict[str, Any]:
    """Run a small soak on the test run's stack and return its report."""
    chosen = order()
    running, verdict = await soak_in(environment, None, chosen)
    return report_of(chosen, running, verdict, 0.0)


@pytest.mark.parametrize("code", MUTANTS)
async def test_real_cells_with_failing_product_are_red(environment: Environment, code: str) -> None:
    async with open_forkserver(MUTANTS[code]) as forkserver:
        ending = await cells.run_without_faults(replace(environment, forkserver=forkserver), "photo")
    assert f"[('failed', '{code}')] and not [('succeeded', None)]" in cells.wrong_end("photo", ending)


@pytest.mark.parametrize("code", MUTANTS)
async def test_soak_with_failing_product_is_red(environment: Environment, code: str) -> None:
    async with open_forkserver(MUTANTS[code]) as forkserver:
        found = await small_soak(replace(environment, forkserver=forkserver))
    assert found["succeeded"] == 0
    assert found["least_share"] > 0.5
    least = round(found["least_share"] * found["uploads"])
    wanted = f"0 of the {least} uploads that have no reason to fail have succeeded"
    assert any(wanted in text for text in found["violations"]), found
    assert sum(f"failed with {code}" in text for text in found["violations"]) >= least, found


async def test_soak_with_intact_product_is_green(environment: Environment) -> None:
    found = await small_soak(environment)
    assert found["violations"] == []
    assert found["succeeded_share"] >= found["least_share"] > 0.5


@pytest.mark.parametrize("kind", KINDS)
async def test_soak_with_counted_attempts_is_red(environment: Environment, kind: str) -> None:
    """No job of it that meets the outage outlasts it."""
    async with open_forkserver(COUNTING) as forkserver:
        chosen = order_with_an_outage(kind)
        place = replace(environment, forkserver=forkserver)
        running, verdict = await soak_in(place, None, chosen, kind, _SLOTS, LONG_OUTAGE_SECONDS)
    found = report_of(chosen, running, verdict, 0.0)
    assert found[f"outages_{kind.replace('-', '_')}"] == 1
    assert found["shortest_outage_seconds"] > found["counted_seconds"]
    assert any("uploads that have no reason to fail have succeeded" in text for text in found["violations"]), found
    assert any(" failed with " in text for text in found["violations"]), found
