"""Marks of erasure beside statements that are on their way: every order, forced and not hoped for."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from photo_worker.errors import JobErased
from photo_worker.storage.postgres import PostgresRecipeRepository, make_pool

pytestmark = pytest.mark.stack

INSERT = (
    "INSERT INTO recipes (id, s3_raw_bucket, s3_raw_key, content_sha256, status)"
    " VALUES (%s, 'photos', 'pie.jpg', '', 'queued')"
)


def has_to_wait(work: Future[Any], database_url: str) -> bool:
    """Tell whether a statement of the pool ends up waiting for a lock, before ``work`` is done without."""
    waits = (
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'photo-worker' AND wait_event_type = 'Lock'"
    )
    with psycopg.connect(database_url, autocommit=True) as connection:
        while not work.done():
            if connection.execute(waits).fetchone():
                return True
    return False


def test_a_mark_waits_for_a_writer_that_has_not_seen_it(database_url: str) -> None:
    """Otherwise the rows are deleted before that writer commits, and come back with it."""
    job_id = uuid4()
    with (
        make_pool(database_url) as pool,
        psycopg.connect(database_url) as writer,
        ThreadPoolExecutor(1) as threads,
    ):
        repository = PostgresRecipeRepository(pool)
        writer.execute(INSERT, [job_id])
        marking = threads.submit(repository.mark_erased, job_id)
        waited = has_to_wait(marking, database_url)
        writer.commit()
        marking.result(timeout=10)
        assert waited
        assert repository.delete(job_id) is True
        with pytest.raises(JobErased):
            repository.queue(job_id, bucket="photos", key="pie.jpg")


def test_a_writer_that_waited_for_the_mark_sees_it(database_url: str) -> None:
    """Its statement began before the mark was there; what counts is what is there when it looks."""
    job_id = uuid4()
    with make_pool(database_url) as pool, psycopg.connect(database_url) as marker, ThreadPoolExecutor(1) as threads:
        repository = PostgresRecipeRepository(pool)
        marker.execute("SELECT pg_advisory_xact_lock(recipes_job_lock(%s))", [job_id])
        writing = threads.submit(repository.queue, job_id, bucket="photos", key="pie.jpg")
        assert has_to_wait(writing, database_url)
        marker.execute("INSERT INTO erasures (job_digest) VALUES (recipes_job_digest(%s))", [job_id])
        marker.commit()
        with pytest.raises(JobErased):
            writing.result(timeout=10)
        assert repository.get(job_id) is None
