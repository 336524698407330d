"""The parts of a soak on which its validity depends, tested without a stack."""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path
from typing import Any, cast

import pytest

from tests.crash.real.killing_services import NAMES
from tests.crash.real.outages import AWAY, POSTGRES, SILENT, TEMPORAL
from tests.crash.real.processes import Child
from tests.crash.soak import COUNTED_SECONDS
from tests.crash.soaking.fleet import Fleet
from tests.crash.soaking.outages import Outages, longest_beside
from tests.crash.soaking.schedule import KINDS, OUTAGE, Fault, schedule_of
from tests.crash.test_all_fail import LONG_OUTAGE_SECONDS, MET_SECONDS, order_with_an_outage


@pytest.mark.parametrize("kind", KINDS)
def test_small_soak_has_sound_upload_in_outage(kind: str) -> None:
    """It must meet it for longer than all counted attempts, or a product that counts attempts would be green."""
    for _ in range(200):
        drawn = schedule_of(order_with_an_outage(kind), NAMES, 3.0, LONG_OUTAGE_SECONDS, kind)
        (outage,) = (fault for fault in drawn.faults if fault.what == OUTAGE)
        unreadable = {upload.document for upload in drawn.uploads if upload.damaged}
        met = [
            upload.at
            for upload in drawn.uploads
            if upload.at >= outage.at
            and upload.document not in unreadable
            and (upload.cancel_after, upload.erase_after) == (None, None)
        ]
        assert met
        assert min(met) - outage.at <= MET_SECONDS
        # A busy machine starts an attempt up to a second late.
        assert outage.at + outage.seconds - min(met) >= COUNTED_SECONDS + 5.0


class Noting:
    """A switch that records the begin and end of its outage."""

    def __init__(self, late: float = 0.0) -> None:
        self._late = late
        self.began = self.ended = math.inf

    def begin(self, kind: str) -> None:
        time.sleep(self._late)
        self.began = time.monotonic()

    def end(self, kind: str) -> None:
        self.ended = time.monotonic()


@pytest.mark.parametrize("late", [0.1, 0.3])
async def test_outages_let_beside_temporal_outage_lasts_unbroken(late: float) -> None:
    """A late outage overlaps with Temporal's: on a slow machine, or after another one of its service."""
    postgres, temporal = Noting(late), Noting(0.2)
    outages = Outages({POSTGRES: postgres, TEMPORAL: temporal})
    await asyncio.gather(
        outages.let(Fault(0.0, OUTAGE, service=POSTGRES, seconds=0.4, kind=AWAY)),
        outages.let(Fault(0.0, OUTAGE, service=TEMPORAL, seconds=0.4, kind=SILENT)),
    )
    pieces = (temporal.began - postgres.began, postgres.ended - max(temporal.ended, postgres.began))
    assert max(pieces) >= 0.4
    assert outages.shortest is not None
    assert 0.4 <= outages.shortest <= max(*pieces, temporal.ended - temporal.began)
    assert (outages.by_kind, outages.of_temporal, outages.total()) == ({AWAY: 1}, 1, 2)


@pytest.mark.parametrize(
    ("spans", "longest"),
    [
        ([], 10.0),
        ([(-5.0, -1.0), (10.0, math.inf)], 10.0),
        ([(-1.0, 2.0)], 8.0),
        ([(7.0, math.inf)], 7.0),
        ([(6.0, 7.0), (1.0, 2.0)], 4.0),
        ([(-1.0, math.inf)], 0.0),
    ],
)
def test_longest_beside_returns_longest_uncovered_piece(spans: list[tuple[float, float]], longest: float) -> None:
    assert longest_beside(spans, 0.0, 10.0) == longest


async def test_fleet_start_when_worker_exits_early_raises_reason(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text("no such database", encoding="utf-8")

    async def hire() -> Child:
        return Child(cast(Any, None), 1, log, status=3)

    async with asyncio.timeout(10):
        with pytest.raises(RuntimeError, match="ended with 3 before it took work: no such database"):
            await Fleet(hire, 1).start()
