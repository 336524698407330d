"""Job rows in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from heapq import nsmallest
from threading import Condition, Lock
from uuid import UUID, uuid4

from photo_worker.adapters.job_rows import FINAL, describe_asset, job_digest, same_asset, storable
from photo_worker.errors import (
    DatabaseUnavailable,
    JobConflict,
    JobErased,
)
from photo_worker.ports.job_repository import JobRecord, OcrRecord

# The time that Postgres allows a statement that waits for a lock.
PATIENCE_SECONDS = 15.0


def _utc_now() -> datetime:
    return datetime.now(UTC)


class MemoryJobRepository:
    """``ports.JobRepository`` in memory. Thread-safe; ``now`` returns the time of a write.

    A call that waits for the end of another's ``sole_user`` raises ``DatabaseUnavailable`` after ``patience_seconds``,
    as with Postgres.
    """

    def __init__(self, now: Callable[[], datetime] = _utc_now, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._lock = Condition(Lock())
        self._now = now
        self._patience = patience_seconds
        self._deployment: UUID | None = None
        self._rows: dict[UUID, JobRecord] = {}
        self._earlier: dict[UUID, frozenset[str]] = {}
        self._erased: dict[bytes, datetime] = {}
        self._held: set[str] = set()

    def describe(self) -> str:
        """Return the name of the database for messages."""
        return "memory"

    def deployment_id(self) -> UUID | None:
        """Return the random id, None before it is made."""
        with self._lock:
            return self._deployment

    def make_deployment_id(self) -> UUID:
        """Return the random id, and make it first if there is none."""
        with self._lock:
            self._deployment = self._deployment or uuid4()
            return self._deployment

    def queue(self, job_id: UUID, *, bucket: str, key: str, sha256: str = "") -> JobRecord:
        """Record a job as queued, or return its row if it has one."""
        return self._upsert(job_id, bucket, key, sha256, lambda row: row)

    def start(self, job_id: UUID, *, bucket: str, key: str, sha256: str, instead_of: str = "") -> JobRecord:
        """Record that a job runs and the hash of its bytes; ``instead_of`` is the earlier hash that it replaces."""
        return self._upsert(
            job_id, bucket, key, sha256, lambda row: replace(row, status="running"), instead_of=instead_of
        )

    def succeed(self, job_id: UUID, *, bucket: str, key: str, sha256: str, ocr: OcrRecord) -> JobRecord:
        """Record a job's result and its final status; a failed job keeps its failure."""

        def finish(row: JobRecord) -> JobRecord:
            return replace(
                row,
                status="succeeded",
                s3_bucket=ocr.s3_bucket,
                s3_ocr_key=ocr.s3_ocr_key,
                s3_manifest_key=ocr.s3_manifest_key,
                ocr_engine=ocr.ocr_engine,
                ocr_version=ocr.ocr_version,
                page_count=ocr.page_count,
            )

        return self._upsert(job_id, bucket, key, sha256, finish, again=("succeeded",))

    def fail(self, job_id: UUID, *, bucket: str, key: str, code: str, message: str) -> JobRecord:
        """Record a job's final failure; the first reason stays, and a success stays a success."""
        code, message = storable(code), storable(message)
        return self._upsert(
            job_id,
            bucket,
            key,
            "",
            lambda row: replace(row, status="failed", error_code=code, error_message=message),
        )

    def get(self, job_id: UUID) -> JobRecord | None:
        """Return a job's row."""
        with self._lock:
            return self._rows.get(job_id)

    def all(self, *, page: int = 1000) -> Iterator[JobRecord]:
        """Return every job's row by id, as it is when its page is read."""
        after: UUID | None = None
        while True:
            with self._lock:
                ids = nsmallest(page, (one for one in self._rows if after is None or one > after))
                rows = [self._rows[one] for one in ids]
            yield from rows
            if len(rows) < page:
                return
            after = rows[-1].id

    def mark_erased(self, job_id: UUID) -> None:
        """Mark the job as erased; from now on every write with its id raises ``JobErased``."""
        with self._lock:
            self._erased.setdefault(job_digest(job_id), self._now())
            self._lock.notify_all()

    def is_erased(self, job_id: UUID) -> bool:
        """Tell whether the job was marked as erased."""
        with self._lock:
            return job_digest(job_id) in self._erased

    def earlier_hashes(self, job_id: UUID) -> frozenset[str]:
        """Return the replaced hashes of a job, and those that deleted jobs passed on to it."""
        with self._lock:
            return self._earlier.get(job_id, frozenset())

    def delete(self, job_id: UUID) -> bool:
        """Delete a job's row, and pass its hashes on to another job of the object; tell whether there was a row."""
        with self._lock:
            gone = self._rows.pop(job_id, None)
            earlier = self._earlier.pop(job_id, frozenset())
            if gone is None:
                return False
            heir = next((row.id for row in self._users(gone.s3_raw_bucket, gone.s3_raw_key)), None)
            if heir is not None:
                known = earlier | ({gone.content_sha256} - {""})
                self._earlier[heir] = self._earlier.get(heir, frozenset()) | known
            return True

    def _users(self, bucket: str, key: str) -> Iterator[JobRecord]:
        """Return the rows about an object whose jobs are not erased."""
        for row in self._rows.values():
            same = row.s3_raw_key == key and (row.s3_raw_bucket == bucket or "" in {row.s3_raw_bucket, bucket})
            if same and job_digest(row.id) not in self._erased:
                yield row

    @contextmanager
    def sole_user(self, job_id: UUID, *, bucket: str, key: str, sha256: str = "") -> Iterator[bool]:
        """Yield whether no other job's row refers to an object; other jobs' first writes about it wait meanwhile.

        With a hash, only rows with this hash or none yet count.
        """
        bucket, key = storable(bucket), storable(key)
        with self._lock:
            self._wait_until(lambda: key not in self._held)
            self._held.add(key)
            sole = not any(
                row.id != job_id and (not sha256 or row.content_sha256 in {"", sha256})
                for row in self._users(bucket, key)
            )
        try:
            yield sole
        finally:
            with self._lock:
                self._held.remove(key)
                self._lock.notify_all()

    def _wait_until(self, free: Callable[[], bool]) -> None:
        if not self._lock.wait_for(free, timeout=self._patience):
            raise DatabaseUnavailable(database=self.describe(), reason="another process holds the object for too long")

    def _upsert(
        self,
        job_id: UUID,
        bucket: str,
        key: str,
        sha256: str,
        change: Callable[[JobRecord], JobRecord],
        *,
        again: tuple[str, ...] = (),
        instead_of: str = "",
    ) -> JobRecord:
        """Apply ``change`` unless the row is final; ``again`` lists final statuses that it may be applied to."""
        bucket, key = storable(bucket), storable(key)
        with self._lock:
            self._wait_until(
                lambda: key not in self._held or job_id in self._rows or job_digest(job_id) in self._erased
            )
            if job_digest(job_id) in self._erased:
                raise JobErased(job_id=job_id)
            now = self._now()
            known = self._rows.get(job_id)
            if known is None:
                known = JobRecord(job_id, "queued", bucket, key, sha256, now, now)
            elif not same_asset(known, bucket, key, sha256, instead_of):
                asked = describe_asset(bucket, key, sha256)
                raise JobConflict(
                    job_id=job_id,
                    known=describe_asset(known.s3_raw_bucket, known.s3_raw_key, known.content_sha256),
                    asked=asked,
                )
            row = replace(
                known,
                s3_raw_bucket=known.s3_raw_bucket or bucket,
                content_sha256=sha256 or known.content_sha256,
            )
            if row.status not in FINAL or row.status in again:
                row = change(row)
            if row != known:
                row = replace(row, updated_at=now)
            if known.content_sha256 not in {"", row.content_sha256}:
                self._earlier[job_id] = self._earlier.get(job_id, frozenset()) | {known.content_sha256}
            self._rows[job_id] = row
            return row
