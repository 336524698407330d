"""Merging rows and listings by job, and the compact set of locations."""

from __future__ import annotations

import tracemalloc
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from photo_worker.contracts.keys import manifest_key, ocr_key
from photo_worker.ports.job_repository import JobRecord
from photo_worker.ports.object_store import ObjectEntry
from photo_worker.services.consistency.merge import LocationIndex, by_job
from tests.support.healthy_deployment import BUCKET, START

IDS = st.uuids()
# Names that sort around a canonical id: shorter, longer, and of characters on both sides of the slash.
STRANGE = st.builds(lambda job_id, tail: f"artifacts/{job_id}{tail}/x", IDS, st.sampled_from(["!", "0", "~", "-", "é"]))


def _row(job_id: UUID) -> JobRecord:
    return JobRecord(job_id, "queued", BUCKET, "raw/x", "", START, START)


def _entry(key: str) -> ObjectEntry:
    return ObjectEntry(BUCKET, key, 1, START)


@given(st.sets(IDS), st.sets(IDS), st.sets(IDS), st.sets(STRANGE))
def test_by_job_puts_each_row_and_object_in_one_group(
    rows: set[UUID], finished: set[UUID], tagged: set[UUID], strange: set[str]
) -> None:
    artifacts = sorted({key for job_id in finished for key in (ocr_key(job_id), manifest_key(job_id))} | strange)
    tags = sorted(f"tags/{job_id}/rules.json" for job_id in tagged)
    groups = list(by_job(map(_row, sorted(rows)), map(_entry, artifacts), map(_entry, tags)))

    assert sorted(group.row.id for group in groups if group.row) == sorted(rows)
    assert sorted(entry.key for group in groups for entry in group.entries) == sorted([*artifacts, *tags])
    assert {entry.key for group in groups if group.job_id is None for entry in group.entries} == strange
    for group in groups:
        if group.job_id is not None:
            assert all(entry.key.split("/")[1] == str(group.job_id) for entry in group.entries)
            assert group.row is None or group.row.id == group.job_id
    if not strange:
        assert [group.job_id for group in groups] == sorted(rows | finished | tagged)


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=9))), st.tuples(st.text(), st.text()))
def test_location_index_contains_exactly_what_was_added(
    locations: list[tuple[str, str]], other: tuple[str, str]
) -> None:
    index = LocationIndex()
    for place, location in enumerate(locations):
        index.add(location)
        assert location in index
        assert len(index) == place + 1
    assert all(location in index for location in locations)
    assert (other in index) == (other in locations)


def test_location_index_entry_takes_under_20_bytes() -> None:
    tracemalloc.start()
    try:
        index = LocationIndex()
        for number in range(20_000):
            index.add((BUCKET, f"raw/{number:064x}.png"))
        assert (BUCKET, f"raw/{5:064x}.png") in index
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 20 * 20_000
