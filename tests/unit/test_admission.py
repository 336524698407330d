"""A worker takes no work during an outage of what it needs, logs it once, and resumes by itself."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from photo_worker.admission import Admission, AdmissionTimes, AdmittedSlots
from photo_worker.errors import (
    BackendMissing,
    DatabaseUnavailable,
    ObjectForbidden,
    OcrRefused,
    OcrThrottled,
    RequestTokenTaken,
    ServiceRefused,
    WorkerBucketForbidden,
)
from tests.support.harness import eventually

AWAY = DatabaseUnavailable(database="d", reason="connection refused")
ASKED: Any = None


class Needs:
    """A check that passes or raises ``error``. Counts its calls."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.looks = 0

    def __call__(self) -> None:
        self.looks += 1
        if self.error is not None:
            raise self.error


QUICK = AdmissionTimes(first_look=0.01, longest_look=0.02)


@pytest.fixture
def needs() -> Needs:
    return Needs()


async def until(condition: Any) -> None:
    async def probe() -> bool:
        return bool(condition())

    await eventually(probe, seconds=10)


async def test_admission_tells_code_and_recovery(needs: Needs) -> None:
    told: list[str | None] = []
    admission = Admission([needs], times=QUICK, tell=told.append)
    needs.error = AWAY
    looking = asyncio.create_task(admission.wait_until_ready())
    await until(lambda: told)
    needs.error = None
    await looking
    assert (set(told[:-1]), told[-1]) == ({AWAY.code}, None)


def opened(admission: Admission) -> list[bool]:
    """Return whether it is open, in a list, so that the type checker does not narrow the property."""
    return [admission.is_open]


def said(caplog: pytest.LogCaptureFixture, text: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if text in record.getMessage()]


async def test_admission_when_database_is_away_waits_for_it(needs: Needs, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    needs.error = AWAY
    admission = Admission([needs], times=QUICK)
    looking = asyncio.create_task(admission.wait_until_ready())
    await until(lambda: needs.looks > 5)
    assert opened(admission) == [False]
    assert len(said(caplog, "takes no work")) == 1
    needs.error = None
    await asyncio.wait_for(looking, 10)
    assert admission.is_open
    assert len(said(caplog, "takes work again")) == 1


async def test_watch_closes_on_refused_credentials_and_reopens(needs: Needs, caplog: pytest.LogCaptureFixture) -> None:
    admission = Admission([needs], times=QUICK)
    await admission.wait_until_ready()
    watching = asyncio.create_task(admission.watch())
    needs.error = ServiceRefused(service="S3", reason="ExpiredToken")
    for _ in range(20):
        admission.record_outcome("verify_and_locate_asset", ServiceRefused(service="S3", reason="ExpiredToken"))
    await until(lambda: admission.away is not None)
    assert not admission.is_open
    (record,) = said(caplog, "takes no work")
    assert record.levelno == logging.ERROR
    needs.error = None
    admission.record_outcome("verify_and_locate_asset", None)
    await until(lambda: admission.is_open)
    watching.cancel()


async def test_admission_logs_each_code_once_per_outage(needs: Needs, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    refused = ServiceRefused(service="S3", reason="ExpiredToken")
    admission = Admission([needs], times=QUICK)
    for _ in range(2):
        caplog.clear()
        needs.error = AWAY
        looking = asyncio.create_task(admission.wait_until_ready())
        began = needs.looks
        while needs.looks < began + 20:
            looks = needs.looks
            await until(lambda looks=looks: needs.looks > looks)
            needs.error = refused if needs.error is AWAY else AWAY
        # A later outage is logged again.
        codes = [vars(record)["photo"]["code"] for record in said(caplog, "takes no work")]
        assert sorted(codes) == ["database_unavailable", "service_refused"]
        needs.error = None
        await asyncio.wait_for(looking, 10)
        assert len(said(caplog, "takes work again")) == 1


async def test_watch_single_refused_object_stays_open(needs: Needs) -> None:
    admission = Admission([needs], times=QUICK)
    await admission.wait_until_ready()
    watching = asyncio.create_task(admission.watch())
    looks = needs.looks
    admission.record_outcome("verify_and_locate_asset", ServiceRefused(service="S3", reason="AccessDenied"))
    await until(lambda: needs.looks > looks)
    assert admission.is_open
    watching.cancel()


THROTTLED = OcrThrottled(engine="textract", reason="slow down")
OCR, PERSIST = "ocr_textract", "persist_artifacts"


class Clock:
    """A clock that the test sets, in seconds."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> float:
        return self.now


@dataclass
class Service:
    """An OCR service whose failures no check sees, and jobs that use it as ``admission`` allows."""

    admission: Admission
    works: Callable[[str], bool] = lambda job: False
    calls: list[str] = field(default_factory=list)

    def attempt(self, job: str) -> bool:
        """Attempt a job's OCR unless it is held back; tell whether it succeeded."""
        if self.admission.held_back(OCR, job) is not None:
            return False
        self.calls.append(job)
        worked = self.works(job)
        self.admission.ended(OCR, job, failed=not worked)
        self.admission.record_outcome(OCR, None if worked else THROTTLED)
        return worked


async def test_held_back_failing_step_limits_calls_of_that_step(needs: Needs) -> None:
    clock = Clock()
    admission = Admission([needs], clock=clock, times=QUICK)
    await admission.wait_until_ready()
    service = Service(admission)
    jobs = [f"job-{number}" for number in range(40)]
    for clock.now in range(600):
        for job in jobs:
            service.attempt(job)
    # A backlog that is due every second for ten minutes, 24,000 attempts: each job is tried once, then 16 a minute.
    assert len(jobs) < len(service.calls) < 300
    assert admission.is_open
    assert admission.held_back(PERSIST, jobs[0]) is None


async def test_admission_mostly_throttled_is_logged_once_a_minute(
    needs: Needs, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    admission = Admission([needs], clock=clock, times=QUICK)
    await admission.wait_until_ready()
    # One call in five succeeds and so ends each streak of failures.
    calls = itertools.count()
    service = Service(admission, works=lambda job: next(calls) % 5 == 4)
    for clock.now in range(600):
        for job in ("one", "two", "three", "four", "five"):
            service.attempt(job)
    less = said(caplog, "takes less work: ocr_textract")
    assert 9 <= len(less) <= 10
    assert len(less) - 1 <= len(said(caplog, "takes ocr_textract again")) <= len(less)


async def test_admission_lasting_failure_is_logged_after_silence(
    needs: Needs, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    admission = Admission([needs], clock=clock, times=QUICK)
    await admission.wait_until_ready()
    service = Service(admission)
    for clock.now in range(10):
        service.attempt("job")
    service.works = lambda job: True
    for clock.now in range(10, 20):
        service.attempt("job")
    assert len(said(caplog, "takes less work")) == len(said(caplog, "takes ocr_textract again")) == 1
    service.works = lambda job: False
    for clock.now in range(20, 600):
        service.attempt("job")
        assert clock.now >= 60 or len(said(caplog, "takes less work")) == 1
    assert len(said(caplog, "takes less work")) == 2
    # Other activity types are logged separately.
    for _ in range(3):
        admission.record_outcome(PERSIST, AWAY)
    assert len(said(caplog, "takes less work: persist_artifacts")) == 1


async def test_held_back_single_failures_hold_no_job(needs: Needs) -> None:
    admission = Admission([needs], clock=lambda: 0.0, times=QUICK)
    await admission.wait_until_ready()
    service = Service(admission)
    for number in range(100):
        service.works = lambda job: False
        service.attempt("always-throttled")
        service.attempt("throttled")
        service.works = lambda job: True
        assert service.attempt(f"fine-{number}")


async def test_held_back_when_service_recovers_frees_all_jobs(needs: Needs) -> None:
    clock = Clock()
    admission = Admission([needs], clock=clock, times=QUICK)
    await admission.wait_until_ready()
    service = Service(admission)
    jobs = [f"job-{number}" for number in range(40)]
    for clock.now in range(300):
        for job in jobs:
            service.attempt(job)
    service.works = lambda job: True
    clock.now += 1
    assert service.attempt("new")
    assert all(service.attempt(job) for job in jobs)


async def test_held_back_failing_documents_do_not_delay_healthy_one(needs: Needs) -> None:
    clock = Clock()
    admission = Admission([needs], clock=clock, times=QUICK)
    await admission.wait_until_ready()
    service = Service(admission, works=lambda job: job.startswith("fine"))
    for clock.now in range(300):
        for number in range(20):
            service.attempt(f"poison-{number}")
    began = clock.now
    while not service.attempt("fine"):
        clock.now += 1
        for number in range(20):
            service.attempt(f"poison-{number}")
    assert clock.now - began <= 2


async def test_slots_refused_objects_leave_slots_available(needs: Needs) -> None:
    admission = Admission([needs], clock=lambda: 0.0, times=QUICK)
    await admission.wait_until_ready()
    slots = AdmittedSlots(admission, 2)
    for number in range(200):
        for error in (
            ObjectForbidden(bucket="theirs", key=f"{number}.jpg"),
            OcrRefused(bucket="theirs", key=f"{number}.jpg", engine="textract", reason="kms:Decrypt"),
            RequestTokenTaken(service="textract", name=f"{number}.jpg", reason="other input"),
            BackendMissing(engine="theirs", known="local"),
        ):
            admission.record_outcome(OCR, error)
    assert slots.try_reserve_slot(ASKED) is not None
    await asyncio.wait_for(slots.reserve_slot(ASKED), 1)


async def test_held_back_refused_objects_hold_no_healthy_job(needs: Needs) -> None:
    admission = Admission([needs], clock=lambda: 0.0, times=QUICK)
    await admission.wait_until_ready()
    for number in range(200):
        admission.ended(OCR, f"refused-{number}", failed=True)
        admission.record_outcome(OCR, ObjectForbidden(bucket="theirs", key=f"{number}.jpg"))
    assert [admission.held_back(OCR, f"healthy-{number}") for number in range(20)] == [None] * 20


async def test_held_back_forbidden_worker_bucket_holds_failed_job(needs: Needs) -> None:
    """For example, a bucket policy refuses what no check requests."""
    admission = Admission([needs], clock=lambda: 0.0, times=QUICK)
    await admission.wait_until_ready()
    for number in range(3):
        admission.ended(OCR, f"job-{number}", failed=True)
        admission.record_outcome(OCR, WorkerBucketForbidden(bucket="ours", key=f"artifacts/{number}/textract.json"))
    assert admission.held_back(OCR, "job-0") is not None


async def test_watch_unexpected_check_error_is_logged_and_retried(
    needs: Needs, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    admission = Admission([needs], times=QUICK)
    await admission.wait_until_ready()
    watching = asyncio.create_task(admission.watch())
    needs.error = KeyError("ETag")
    admission.record_outcome(OCR, AWAY)
    await until(lambda: needs.looks > 5)
    assert opened(admission) == [False]
    assert len(said(caplog, "takes no work")) == 1
    (logged,) = [record for record in caplog.records if record.exc_info]
    assert "ETag" in str(logged.exc_info)
    needs.error = None
    await until(lambda: admission.is_open)
    # The watch goes on.
    needs.error = AWAY
    admission.record_outcome(OCR, AWAY)
    await until(lambda: not admission.is_open)
    watching.cancel()


async def test_watch_without_spare_thread_goes_on(needs: Needs, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    admission = Admission([needs], times=QUICK)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        looking = asyncio.create_task(admission.wait_until_ready())
        await until(lambda: admission.away is not None)
    await asyncio.wait_for(looking, 10)
    assert admission.is_open


async def test_slots_after_takes_work_again_log_are_available(needs: Needs, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    admission = Admission([needs], clock=lambda: 0.0, times=QUICK)
    await admission.wait_until_ready()
    slots = AdmittedSlots(admission, 2)
    watching = asyncio.create_task(admission.watch())
    needs.error = AWAY
    for _ in range(20):
        admission.record_outcome(OCR, AWAY)
    await until(lambda: said(caplog, "takes no work"))
    needs.error = None
    await until(lambda: said(caplog, "takes work again"))
    await asyncio.wait_for(slots.reserve_slot(ASKED), 5)
    watching.cancel()


async def test_held_back_job_is_released_when_outage_ends(needs: Needs) -> None:
    admission = Admission([needs], clock=lambda: 0.0, times=QUICK)
    await admission.wait_until_ready()
    watching = asyncio.create_task(admission.watch())
    needs.error = AWAY
    for _ in range(20):
        admission.ended(OCR, "job", failed=True)
        admission.record_outcome(OCR, AWAY)
    await until(lambda: admission.away is not None)
    assert admission.held_back(OCR, "job") is not None
    needs.error = None
    await until(lambda: admission.is_open)
    assert admission.held_back(OCR, "job") is None
    watching.cancel()


async def test_watch_backs_off_for_same_error_not_for_new_one(needs: Needs) -> None:
    admission = Admission([needs], times=AdmissionTimes(first_look=0.05, longest_look=2.0))
    await admission.wait_until_ready()
    watching = asyncio.create_task(admission.watch())
    loop = asyncio.get_running_loop()
    began = loop.time()
    while loop.time() - began < 2:
        admission.record_outcome(OCR, THROTTLED)
        await asyncio.sleep(0.01)
    # One check every 0.05 s would be 40.
    assert 3 <= needs.looks <= 9
    needs.error = AWAY
    admission.record_outcome(PERSIST, AWAY)
    began = loop.time()
    await until(lambda: not admission.is_open)
    assert loop.time() - began < 1
    watching.cancel()


class TestSlots:
    async def test_slots_grant_at_most_their_count(self, needs: Needs) -> None:
        admission = Admission([needs], times=QUICK)
        await admission.wait_until_ready()
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

    async def test_slots_when_service_is_away_grant_none(self, needs: Needs) -> None:
        needs.error = AWAY
        admission = Admission([needs], times=QUICK)
        looking = asyncio.create_task(admission.wait_until_ready())
        slots = AdmittedSlots(admission, 2)
        waiting = asyncio.create_task(slots.reserve_slot(ASKED))
        await until(lambda: needs.looks > 3)
        assert not waiting.done()
        assert slots.try_reserve_slot(ASKED) is None
        needs.error = None
        await asyncio.wait_for(waiting, 10)
        await looking
