"""A worker takes no work while what it needs is away, says so once, and takes work again by itself."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from photo_worker import admission as module
from photo_worker.admission import Admission, AdmittedSlots
from photo_worker.errors import DatabaseUnavailable, OcrThrottled, PhotoWorkerError, ServiceRefused
from tests.support.harness import eventually

AWAY = DatabaseUnavailable(database="d", reason="connection refused")
ASKED: Any = None


class Needs:
    """What a worker needs: there, or failing with an error. Counts the looks."""

    def __init__(self) -> None:
        self.error: PhotoWorkerError | None = None
        self.looks = 0

    def __call__(self) -> None:
        self.looks += 1
        if self.error is not None:
            raise self.error


@pytest.fixture
def needs(monkeypatch: pytest.MonkeyPatch) -> Needs:
    monkeypatch.setattr(module, "FIRST_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(module, "LONGEST_LOOK_SECONDS", 0.02)
    return Needs()


async def until(condition: Any) -> None:
    async def probe() -> bool:
        return bool(condition())

    await eventually(probe, seconds=10)


def opened(admission: Admission) -> list[bool]:
    """Return whether it is open, in a form that says nothing of a second look to the type checker."""
    return [admission.is_open]


def said(caplog: pytest.LogCaptureFixture, text: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if text in record.getMessage()]


async def test_a_worker_whose_database_is_away_begins_when_it_is_back(
    needs: Needs, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    needs.error = AWAY
    admission = Admission([needs])
    looking = asyncio.create_task(admission.first_look())
    await until(lambda: needs.looks > 5)
    assert opened(admission) == [False]
    assert len(said(caplog, "takes no work")) == 1
    needs.error = None
    await asyncio.wait_for(looking, 10)
    assert admission.is_open
    assert len(said(caplog, "takes work again")) == 1


async def test_a_worker_that_loses_its_credentials_stops_and_goes_on(
    needs: Needs, caplog: pytest.LogCaptureFixture
) -> None:
    admission = Admission([needs])
    await admission.first_look()
    watching = asyncio.create_task(admission.watch())
    needs.error = ServiceRefused(service="S3", reason="ExpiredToken")
    for _ in range(20):
        admission.heard("verify_and_locate_asset", needs.error)
    await until(lambda: admission.away is not None)
    assert not admission.is_open
    (record,) = said(caplog, "takes no work")
    assert record.levelno == logging.ERROR
    needs.error = None
    admission.heard("verify_and_locate_asset", None)
    await until(lambda: admission.is_open)
    watching.cancel()


async def test_one_refused_object_does_not_stop_a_worker(needs: Needs) -> None:
    admission = Admission([needs])
    await admission.first_look()
    watching = asyncio.create_task(admission.watch())
    looks = needs.looks
    admission.heard("verify_and_locate_asset", ServiceRefused(service="S3", reason="AccessDenied"))
    await until(lambda: needs.looks > looks)
    assert admission.is_open
    watching.cancel()


async def test_failures_in_a_row_slow_a_worker_down_and_a_success_lets_it_go_on(needs: Needs) -> None:
    now = 0.0
    admission = Admission([needs], clock=lambda: now)
    await admission.first_look()
    throttled = OcrThrottled(engine="textract", reason="slow down")
    admission.heard("ocr_textract", throttled)
    admission.heard("ocr_textract", throttled)
    assert admission.is_open, "single failures are ordinary"
    pauses = []
    for _ in range(10):
        admission.heard("ocr_textract", throttled)
        assert opened(admission) == [False]
        pauses.append(admission._until - now)
    assert pauses == sorted(pauses)
    assert pauses[-1] == module.LONGEST_PAUSE_SECONDS
    now += pauses[-1]
    assert admission.is_open, "it tries again after the pause"
    admission.heard("ocr_textract", throttled)
    admission.heard("ocr_textract", None)
    assert admission.is_open


class TestSlots:
    async def test_no_more_slots_are_given_than_there_are(self, needs: Needs) -> None:
        admission = Admission([needs])
        await admission.first_look()
        slots = AdmittedSlots(admission, 2)
        await slots.reserve_slot(ASKED)
        assert slots.try_reserve_slot(ASKED) is not None
        assert slots.try_reserve_slot(ASKED) is None
        waiting = [asyncio.create_task(slots.reserve_slot(ASKED)) for _ in range(3)]
        done, _ = await asyncio.wait(waiting, timeout=0.1)
        assert not done
        await asyncio.to_thread(slots.release_slot, ASKED)
        done, left = await asyncio.wait(waiting, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        assert len(done) == 1
        for task in left:
            task.cancel()

    async def test_no_slot_is_given_while_a_service_is_away(self, needs: Needs) -> None:
        needs.error = AWAY
        admission = Admission([needs])
        looking = asyncio.create_task(admission.first_look())
        slots = AdmittedSlots(admission, 2)
        waiting = asyncio.create_task(slots.reserve_slot(ASKED))
        await until(lambda: needs.looks > 3)
        assert not waiting.done()
        assert slots.try_reserve_slot(ASKED) is None
        needs.error = None
        await asyncio.wait_for(waiting, 10)
        await looking
