"""Concurrent attempts that verify one job's object while its owner replaces it, with rows in Postgres."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

import pytest

from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.adapters.postgres.job_repository import PostgresJobRepository, make_pool
from photo_worker.errors import JobConflict, SourceReplaced
from tests.support.replaced_sources import FIRST, SECOND, Place, text_of

pytestmark = pytest.mark.stack


def sound(body: bytes) -> tuple[str, str]:
    return hashlib.sha256(body).hexdigest(), text_of(body)


@pytest.fixture
def place(database_url: str) -> Iterator[Place]:
    with make_pool(database_url) as pool:
        yield Place(PostgresJobRepository(pool))


class Overtaken(MemoryObjectStore):
    """A store that calls ``meanwhile`` while an object is read, so that another attempt overtakes the reader."""

    def __init__(self, inner: MemoryObjectStore, meanwhile: Any) -> None:
        self.__dict__ = dict(inner.__dict__)
        self._meanwhile = meanwhile

    @contextmanager
    def open(self, bucket: str, key: str, *, version_id: str = "") -> Iterator[Any]:
        with super().open(bucket, key, version_id=version_id) as opened:
            self._meanwhile()
            yield opened


def test_verify_late_attempt_keeps_hash_and_text_together(place: Place) -> None:
    job_id = uuid4()

    def replaced_and_finished() -> None:
        place.write(SECOND)
        located = place.verify(job_id, attempt=2)
        place.persist(job_id, located, place.read(job_id, located))

    with suppress(SourceReplaced, JobConflict):
        place.verify(job_id, store=Overtaken(place.store, replaced_and_finished))
    assert place.outcome(job_id) == sound(SECOND)


def test_verify_overtaken_attempt_raises_source_replaced(place: Place) -> None:
    job_id = uuid4()

    def replaced_and_read() -> None:
        place.write(SECOND)
        located = place.verify(job_id, attempt=2)
        responses.append((located, place.read(job_id, located)))

    responses: list[Any] = []
    with pytest.raises(SourceReplaced):
        place.verify(job_id, store=Overtaken(place.store, replaced_and_read))
    place.persist(job_id, *responses[0])
    assert place.outcome(job_id) == sound(SECOND)


def test_process_replaced_source_records_the_new_hash(place: Place) -> None:
    job_id = uuid4()
    place.verify(job_id)
    place.write(SECOND)
    place.process(job_id)
    assert place.outcome(job_id) == sound(SECOND)
    assert sound(SECOND) != sound(FIRST)
