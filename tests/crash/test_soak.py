"""Layer 4: a short soak in its own process, and the schedule that follows from a seed."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from tests.crash import report
from tests.crash.real.killing_services import NAMES
from tests.crash.real.outages import OUTAGES, TEMPORAL, TEXTRACT, THROTTLING
from tests.crash.real.processes import ROOT
from tests.crash.soak import COUNTED_SECONDS, OUTAGE_SECONDS
from tests.crash.soaking.schedule import KILL, KINDS, OUTAGE, PAUSE, RESTART, SoakOptions, schedule_of

UPLOADS, DISTURBANCES = 300, 20

# The schedule makes the others damaged, cancelled or erased.
LEAST_SUCCEEDED = 0.75
# Some of the uploads are erased before they are accepted.
ORDER = SoakOptions(uploads=310, seconds=63.0, seed=48, kills=20, restarts=1, workers=3, throttle=0.3, outages=1)


@pytest.mark.stack
@pytest.mark.io_bound
@pytest.mark.timeout(600)
def test_soak_with_faults_loses_and_doubles_nothing() -> None:
    written = report.directory().parent / "soak.json"
    options = [f"--{name}={value:g}" for name, value in vars(ORDER).items()]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.soak", *options, "--report", str(written)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _, said = process.communicate(timeout=540)
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=60)
    assert process.returncode == 0, said
    found = json.loads(written.read_text(encoding="utf-8"))
    assert found["violations"] == []
    assert found["uploads"] >= UPLOADS
    assert found["uploads"] == found["succeeded"] + found["failed"] + found["erased"]
    assert found["succeeded"] >= LEAST_SUCCEEDED * found["uploads"]
    assert found["kills"] + found["pauses"] >= DISTURBANCES
    assert {name: found[f"restarts_{name}"] for name in NAMES} == dict.fromkeys(NAMES, 1)
    assert {kind: found[f"outages_{kind.replace('-', '_')}"] for kind in KINDS} == dict.fromkeys(KINDS, 1)
    assert found["outages_of_temporal"] == 1
    assert found["shortest_outage_seconds"] > found["counted_seconds"]
    assert LEAST_SUCCEEDED <= found["least_share"] <= found["succeeded_share"]
    assert found["throttles"] > 0
    assert found["charges"] <= found["documents"]


def test_schedule_is_decided_by_seed() -> None:
    drawn = schedule_of(ORDER, NAMES, 3.0)
    assert schedule_of(ORDER, NAMES, 3.0) == drawn
    other = schedule_of(replace(ORDER, seed=ORDER.seed + 1), NAMES, 3.0)
    assert {upload.job_id for upload in other.uploads}.isdisjoint(upload.job_id for upload in drawn.uploads)
    assert [fault.at for fault in other.faults] != [fault.at for fault in drawn.faults]


def test_schedule_contains_ordered_faults() -> None:
    drawn = schedule_of(replace(ORDER, kills=9, restarts=2, outages=3), NAMES, 3.0, 40.0)
    kinds = Counter(fault.what for fault in drawn.faults)
    assert kinds[KILL] + kinds[PAUSE] == 9
    assert min(kinds[KILL], kinds[PAUSE]) >= 2
    assert Counter(fault.service for fault in drawn.faults if fault.what == RESTART) == dict.fromkeys(NAMES, 2)
    assert len({upload.job_id for upload in drawn.uploads}) == ORDER.uploads
    assert all(fault.seconds > 3.0 for fault in drawn.faults if fault.what == PAUSE)
    outages = [fault for fault in drawn.faults if fault.what == OUTAGE]
    assert Counter(fault.kind for fault in outages if fault.service != TEMPORAL) == dict.fromkeys(KINDS, 3)
    assert sum(fault.service == TEMPORAL for fault in outages) == 3
    assert {fault.seconds for fault in outages} == {40.0}
    assert {(fault.service, fault.kind) for fault in outages} <= {(each.service, each.kind) for each in OUTAGES}
    assert {fault.worker for fault in drawn.faults} <= set(range(ORDER.workers))


@pytest.mark.parametrize("seed", range(8))
def test_schedule_outages_outlast_counted_attempts(seed: int) -> None:
    """Outages of one service do not overlap, or they would be shorter than scheduled."""
    drawn = schedule_of(replace(ORDER, seed=seed), NAMES, 3.0, OUTAGE_SECONDS)
    outages = [fault for fault in drawn.faults if fault.what == OUTAGE]
    assert {fault.kind for fault in outages if fault.service != TEMPORAL} == set(KINDS)
    assert all(fault.seconds > COUNTED_SECONDS for fault in outages)
    assert (TEXTRACT, THROTTLING) in {(fault.service, fault.kind) for fault in outages}
    assert all(fault.at + fault.seconds <= ORDER.seconds for fault in outages)
    for service in {fault.service for fault in outages}:
        times = sorted(fault.at for fault in outages if fault.service == service)
        assert all(later - sooner > OUTAGE_SECONDS for sooner, later in itertools.pairwise(times))
    # Temporal's outage is separate: no attempt begins while it is away, so that none would be counted.
    (gone,) = (fault.at for fault in outages if fault.service == TEMPORAL)
    assert all(abs(fault.at - gone) > OUTAGE_SECONDS for fault in outages if fault.service != TEMPORAL)


def test_schedule_has_shared_documents_and_all_upload_kinds() -> None:
    uploads = schedule_of(ORDER, NAMES, 3.0).uploads
    assert max(Counter(upload.document for upload in uploads).values()) > 1
    assert any(upload.twice for upload in uploads)
    assert any(upload.damaged for upload in uploads)
    assert any(upload.cancel_after is not None for upload in uploads)
    assert any(upload.erase_after is not None and upload.erase_races for upload in uploads)


@pytest.mark.parametrize(
    "option", ["--uploads=0", "--throttle=1", "--seconds=0", "--kills=-1", "--restarts=-1", "--outages=-1"]
)
def test_soak_with_useless_option_is_refused(option: str) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "tests.crash.soak", option], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert option.partition("=")[0] in refused.stderr
