"""Adapters whose state lives in the instance: for tests, and for trying things out without a stack."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from heapq import nsmallest
from threading import Condition, Lock
from uuid import UUID

from photo_worker.contracts.keys import validate_key
from photo_worker.errors import (
    BucketMissing,
    DatabaseUnavailable,
    DocumentTooLarge,
    InvalidBucket,
    JobConflict,
    JobErased,
    ObjectMissing,
)
from photo_worker.ports import ObjectEntry, ObjectInfo, Recipe, RecipeOcr
from photo_worker.storage.metadata import encode_metadata
from photo_worker.storage.rows import FINAL, asset, job_digest, same_asset, storable

CHUNK_BYTES = 1 << 20
LIST_PAGE = 1000
# What Postgres allows a statement that waits for a lock.
PATIENCE_SECONDS = 15.0


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class _StoredObject:
    info: ObjectInfo
    body: bytes
    modified_at: datetime


class MemoryObjectStore:
    """``ports.ObjectStore`` in memory. Thread-safe; buckets exist once they are ensured.

    ``now`` tells the time of a write, ``page`` how many keys a listing takes at once.
    """

    def __init__(self, now: Callable[[], datetime] = _utc_now, *, page: int = LIST_PAGE) -> None:
        self._lock = Lock()
        self._now = now
        self._page = page
        self._buckets: dict[str, dict[str, _StoredObject]] = {}

    def describe(self) -> str:
        """Name the store."""
        return "memory"

    def head(self, bucket: str, key: str) -> ObjectInfo:
        """Return an object's size, type and metadata."""
        return self._find(bucket, key).info

    @contextmanager
    def open(self, bucket: str, key: str) -> Iterator[tuple[ObjectInfo, Iterator[bytes]]]:
        """Stream an object in pieces of at most 1 MiB, as it was when it was opened."""
        found = self._find(bucket, key)
        yield found.info, (found.body[at : at + CHUNK_BYTES] for at in range(0, len(found.body), CHUNK_BYTES))

    def get(self, bucket: str, key: str, *, limit_bytes: int) -> bytes:
        """Return an object's bytes, or raise ``DocumentTooLarge`` where it has more than the limit."""
        found = self._find(bucket, key)
        if len(found.body) > limit_bytes:
            raise DocumentTooLarge(name=key, size_bytes=len(found.body), limit_bytes=limit_bytes)
        return found.body

    def put(
        self, bucket: str, key: str, body: bytes, *, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> None:
        """Write an object whole; a second write of the same key replaces it."""
        made = self._made(bucket, key, body, content_type, metadata)
        with self._lock:
            self._objects(bucket)[key] = made

    def put_new(
        self, bucket: str, key: str, body: bytes, *, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> bool:
        """Write an object whole where the key has none, and tell whether it was written."""
        made = self._made(bucket, key, body, content_type, metadata)
        with self._lock:
            return self._objects(bucket).setdefault(key, made) is made

    def list(self, bucket: str, prefix: str) -> Iterator[ObjectEntry]:
        """List the objects whose keys begin with ``prefix``, by key, as they are when their page is read."""
        after: str | None = None
        while True:
            with self._lock:
                found = self._objects(bucket)
                keys = nsmallest(
                    self._page, (key for key in found if key.startswith(prefix) and (after is None or key > after))
                )
                page = [ObjectEntry(bucket, key, len(found[key].body), found[key].modified_at) for key in keys]
            yield from page
            if len(page) < self._page:
                return
            after = page[-1].key

    def delete(self, bucket: str, key: str) -> int:
        """Delete an object, and tell how many there were."""
        validate_key(key)
        with self._lock:
            return 0 if self._objects(bucket).pop(key, None) is None else 1

    def _made(
        self, bucket: str, key: str, body: bytes, content_type: str, metadata: Mapping[str, str] | None
    ) -> _StoredObject:
        validate_key(key)
        # Names are checked as S3's adapter checks them.
        encode_metadata(metadata or {})
        info = ObjectInfo(
            bucket=bucket,
            key=key,
            size_bytes=len(body),
            content_type=content_type,
            etag=hashlib.md5(body, usedforsecurity=False).hexdigest(),
            metadata=dict(metadata or {}),
        )
        return _StoredObject(info, bytes(body), self._now())

    def ensure_bucket(self, bucket: str) -> None:
        """Create the bucket where it is missing."""
        if not bucket or "/" in bucket:
            raise InvalidBucket(bucket=bucket, reason="it is empty or has a slash")
        with self._lock:
            self._buckets.setdefault(bucket, {})

    def _objects(self, bucket: str) -> dict[str, _StoredObject]:
        try:
            return self._buckets[bucket]
        except KeyError:
            raise BucketMissing(bucket=bucket) from None

    def _find(self, bucket: str, key: str) -> _StoredObject:
        validate_key(key)
        with self._lock:
            try:
                return self._objects(bucket)[key]
            except KeyError:
                raise ObjectMissing(bucket=bucket, key=key) from None


class MemoryRecipeRepository:
    """``ports.RecipeRepository`` in memory. Thread-safe; ``now`` tells the time of a write.

    Who waits for the end of somebody's ``sole_user`` waits ``patience_seconds`` at most, and then meets
    ``DatabaseUnavailable``, as with Postgres.
    """

    def __init__(self, now: Callable[[], datetime] = _utc_now, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._lock = Condition(Lock())
        self._now = now
        self._patience = patience_seconds
        self._rows: dict[UUID, Recipe] = {}
        self._erased: dict[bytes, datetime] = {}
        self._held: set[str] = set()

    def describe(self) -> str:
        """Name the database."""
        return "memory"

    def queue(self, job_id: UUID, *, bucket: str, key: str, sha256: str = "") -> Recipe:
        """Record a job as queued, or return the row it has."""
        return self._upsert(job_id, bucket, key, sha256, lambda row: row)

    def start(self, job_id: UUID, *, bucket: str, key: str, sha256: str) -> Recipe:
        """Record that a job runs and what its bytes hash to."""
        return self._upsert(job_id, bucket, key, sha256, lambda row: replace(row, status="running"))

    def succeed(self, job_id: UUID, *, bucket: str, key: str, sha256: str, ocr: RecipeOcr) -> Recipe:
        """Record a job's result and its final status; a failed job keeps its failure."""

        def finish(row: Recipe) -> Recipe:
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

    def fail(self, job_id: UUID, *, bucket: str, key: str, code: str, message: str) -> Recipe:
        """Record a job's final failure; the first reason stays, and a success stays a success."""
        code, message = storable(code), storable(message)
        return self._upsert(
            job_id,
            bucket,
            key,
            "",
            lambda row: replace(row, status="failed", error_code=code, error_message=message),
        )

    def get(self, job_id: UUID) -> Recipe | None:
        """Return a job's row."""
        with self._lock:
            return self._rows.get(job_id)

    def all(self, *, page: int = 1000) -> Iterator[Recipe]:
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
        """Write down that the job is erased; from now on its id raises ``JobErased`` at every write."""
        with self._lock:
            self._erased.setdefault(job_digest(job_id), self._now())
            self._lock.notify_all()

    def is_erased(self, job_id: UUID) -> bool:
        """Tell whether the job was marked as erased."""
        with self._lock:
            return job_digest(job_id) in self._erased

    def delete(self, job_id: UUID) -> bool:
        """Delete a job's row; tell whether there was one."""
        with self._lock:
            return self._rows.pop(job_id, None) is not None

    @contextmanager
    def sole_user(self, job_id: UUID, *, bucket: str, key: str, sha256: str = "") -> Iterator[bool]:
        """Tell whether no other job's row refers to an object; writes of others about it wait meanwhile.

        With a hash, a row counts where it has that one or none yet.
        """
        bucket, key = storable(bucket), storable(key)
        with self._lock:
            self._wait_until(lambda: key not in self._held)
            self._held.add(key)
            sole = not any(
                row.id != job_id
                and row.s3_raw_key == key
                and (row.s3_raw_bucket == bucket or "" in {row.s3_raw_bucket, bucket})
                and (not sha256 or row.content_sha256 in {"", sha256})
                and job_digest(row.id) not in self._erased
                for row in self._rows.values()
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
        change: Callable[[Recipe], Recipe],
        *,
        again: tuple[str, ...] = (),
    ) -> Recipe:
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
                known = Recipe(job_id, "queued", bucket, key, sha256, now, now)
            elif not same_asset(known, bucket, key, sha256):
                asked = asset(bucket, key, sha256)
                raise JobConflict(
                    job_id=job_id, known=asset(known.s3_raw_bucket, known.s3_raw_key, known.content_sha256), asked=asked
                )
            row = replace(
                known,
                s3_raw_bucket=known.s3_raw_bucket or bucket,
                content_sha256=known.content_sha256 or sha256,
            )
            if row.status not in FINAL or row.status in again:
                row = change(row)
            if row != known:
                row = replace(row, updated_at=now)
            self._rows[job_id] = row
            return row
