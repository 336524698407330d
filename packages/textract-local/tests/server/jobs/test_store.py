"""The database: its lock, the files that it refuses to open, and the paging of blocks."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textract_local.errors import DataInUse, DataMismatch, DataUnwritable
from textract_local.server.jobs.records import EXPIRY_SECONDS, AnalysisJob, JobStatus
from textract_local.server.jobs.store import JobStore, NewNotification, Notification

NOW = 1_800_000_000.0
GIVEN = {"DocumentLocation": {"S3Object": {"Bucket": "scans", "Name": "scan.pdf"}}}


def job(job_id: str, *, created: float = NOW) -> AnalysisJob:
    return AnalysisJob(job_id, "StartDocumentTextDetection", GIVEN, created, JobStatus.IN_PROGRESS)


@contextmanager
def store_in(directory: Path) -> Iterator[JobStore]:
    store = JobStore(directory)
    store.open()
    try:
        yield store
    finally:
        store.close()


def test_store_open_in_use_is_refused_until_closed(tmp_path: Path) -> None:
    with store_in(tmp_path), pytest.raises(DataInUse) as raised:
        JobStore(tmp_path).open()
    assert str(tmp_path) in raised.value.message
    with store_in(tmp_path):
        pass


def test_store_open_after_owner_was_killed_succeeds(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, time; from textract_local.server.jobs.store import JobStore;"
        "store = JobStore(pathlib.Path(sys.argv[1])); store.open(); print('open', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(DataInUse):
            JobStore(tmp_path).open()
        process.kill()
    with store_in(tmp_path) as store:
        assert store.jobs() == []


def test_store_open_not_a_database_is_refused_and_unchanged(tmp_path: Path) -> None:
    content = b"not what it seems" * 100
    (tmp_path / "jobs.sqlite3").write_bytes(content)
    with pytest.raises(DataMismatch):
        JobStore(tmp_path).open()
    assert (tmp_path / "jobs.sqlite3").read_bytes() == content


def test_store_open_later_schema_version_is_refused(tmp_path: Path) -> None:
    with store_in(tmp_path):
        pass
    with sqlite3.connect(tmp_path / "jobs.sqlite3") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    for _ in range(2):
        with pytest.raises(DataMismatch, match="99"):
            JobStore(tmp_path).open()


def test_store_open_directory_is_file_raises_data_unwritable(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(DataUnwritable):
        JobStore(tmp_path / "data").open()


def test_store_open_makes_private_directory(tmp_path: Path) -> None:
    with store_in(tmp_path / "new") as store:
        assert store.directory.stat().st_mode & 0o777 == 0o700


@given(st.lists(st.integers(min_value=0, max_value=7), max_size=8), st.integers(min_value=1, max_value=9))
def test_store_blocks_of_any_size_are_same_in_order(counts: list[int], most: int) -> None:
    with tempfile.TemporaryDirectory() as directory, store_in(Path(directory)) as store:
        store.begin(job("a"), None, 100)
        # In any order: pages are read in parallel.
        for number in sorted(range(1, len(counts) + 1), key=lambda number: -number):
            store.put_page("a", number, [{"Id": f"{number}-{index}"} for index in range(counts[number - 1])])
        total = store.count_blocks("a")
        found: list[dict[str, Any]] = []
        while len(found) < total:
            some = store.blocks("a", len(found), most)
            assert 1 <= len(some) <= most
            found += some
        assert store.blocks("a", total, most) == []
    assert found == [
        {"Id": f"{number}-{index}", "Page": number}
        for number, count in enumerate(counts, start=1)
        for index in range(count)
    ]


def test_store_put_page_of_missing_or_ended_job_is_dropped(tmp_path: Path) -> None:
    with store_in(tmp_path) as store:
        store.put_page("never", 1, [{"Id": "x"}])
        assert store.done("never") == {}
        store.begin(job("a"), None, 100)
        store.finish("a", JobStatus.FAILED, "no", None)
        store.put_page("a", 1, [{"Id": "x"}])
        assert store.done("a") == {}


def test_store_finish_twice_keeps_first_outcome(tmp_path: Path) -> None:
    with store_in(tmp_path) as store:
        store.begin(job("a"), None, 100)
        notification = NewNotification("topic", "message", NOW)
        assert store.finish("a", JobStatus.SUCCEEDED, None, notification)
        assert not store.finish("a", JobStatus.FAILED, "late", notification)
        assert [found.status for found in store.jobs()] == [JobStatus.SUCCEEDED]
        assert _outgoing(store) == ["message"]


def test_store_begin_same_token_returns_first_job(tmp_path: Path) -> None:
    with store_in(tmp_path) as store:
        assert [store.begin(job(name), "token", 100) for name in ("a", "b")] == ["a", "a"]
        assert [found.id for found in store.jobs()] == ["a"]


def test_store_begin_document_changed_discards_pages(tmp_path: Path) -> None:
    with store_in(tmp_path) as store:
        store.begin(job("a"), None, 100)
        for engine, sha256, kept in (("e 1", "s", False), ("e 1", "s", True), ("e 2", "s", False), ("e 2", "t", False)):
            store.begin_document("a", engine, sha256, 2)
            assert (store.done("a") != {}) is kept
            store.put_page("a", 1, [])


def test_store_expire_frees_disk_space(tmp_path: Path) -> None:
    with store_in(tmp_path) as store:
        store.begin(job("a"), None, 100)
        for number in range(1, 40):
            store.put_page("a", number, [{"Id": f"{number}-{index}" * 20} for index in range(2000)])
        full = _database_bytes(tmp_path)
        assert store.expire(NOW + EXPIRY_SECONDS) == ["a"]
        store.close()
        assert _database_bytes(tmp_path) < full / 4


def _database_bytes(directory: Path) -> int:
    # Including the write-ahead log.
    return sum(path.stat().st_size for path in directory.glob("jobs.sqlite3*"))


def _outgoing(store: JobStore, now: float = NOW) -> list[str]:
    sent: list[Notification] = []
    while len(sent) < 20:
        notification, _ = store.next_notification(now)
        if notification is None:
            break
        store.sent(notification)
        sent.append(notification)
    return [notification.message for notification in sent]


def test_store_notifications_follow_copies_and_delay(tmp_path: Path) -> None:
    with store_in(tmp_path) as store:
        for name, copies, late in (("lost", 0, 0), ("plain", 1, 0), ("doubled", 2, 0), ("late", 1, 60)):
            store.begin(job(name), None, 100)
            store.finish(name, JobStatus.SUCCEEDED, None, NewNotification("topic", name, NOW + late, copies))
        assert _outgoing(store) == ["plain", "doubled", "doubled"]
        assert store.next_notification(NOW) == (None, NOW + 60)
        assert _outgoing(store, NOW + 60) == ["late"]
        assert [found.notified for found in store.jobs()] == [0, 1, 2, 1]


def test_store_held_notification_follows_next_one(tmp_path: Path) -> None:
    with store_in(tmp_path) as store:
        for name, held in (("first", True), ("second", False)):
            assert _outgoing(store) == []
            store.begin(job(name), None, 100)
            store.finish(name, JobStatus.SUCCEEDED, None, NewNotification("topic", name, NOW, held=held))
        assert _outgoing(store) == ["second", "first"]


def test_store_postponed_notification_lets_others_pass(tmp_path: Path) -> None:
    with store_in(tmp_path) as store:
        for name in ("first", "second"):
            store.begin(job(name), None, 100)
            store.finish(name, JobStatus.SUCCEEDED, None, NewNotification("topic", name, NOW))
        notification, _ = store.next_notification(NOW)
        assert notification is not None
        store.postpone(notification, NOW + 5)
        assert _outgoing(store) == ["second"]
        again, _ = store.next_notification(NOW + 5)
        assert again is not None
        assert (again.message, again.attempts) == ("first", 1)
