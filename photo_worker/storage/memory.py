"""Adapters that hold their state in memory: for tests, and for experiments without a stack."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from heapq import nsmallest
from threading import Condition, Lock
from uuid import UUID, uuid4

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
from photo_worker.ports import JobRecord, ObjectEntry, ObjectInfo, OcrRecord
from photo_worker.storage.metadata import encode_metadata
from photo_worker.storage.rows import FINAL, describe_asset, job_digest, same_asset, storable

CHUNK_BYTES = 1 << 20
LIST_PAGE = 1000
# The time that Postgres allows a statement that waits for a lock.
PATIENCE_SECONDS = 15.0


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class _StoredObject:
    info: ObjectInfo
    body: bytes
    modified_at: datetime


class MemoryObjectStore:
    """``ports.ObjectStore`` in memory. Thread-safe; buckets exist after ``ensure_bucket``.

    ``now`` returns the time of a write; ``page`` is how many keys a listing reads at once; ``versions`` tells whether
    buckets keep overwritten versions.
    """

    def __init__(
        self, now: Callable[[], datetime] = _utc_now, *, page: int = LIST_PAGE, versions: bool = False
    ) -> None:
        self._lock = Lock()
        self._now = now
        self._page = page
        self._buckets: dict[str, dict[str, _StoredObject]] = {}
        self._versions: dict[tuple[str, str, str], _StoredObject] | None = {} if versions else None
        self._markers: Counter[tuple[str, str]] = Counter()
        self._written = 0

    def describe(self) -> str:
        """Return the name of the store for messages."""
        return "memory"

    def head(self, bucket: str, key: str, *, version_id: str = "") -> ObjectInfo:
        """Return an object's size, type and metadata."""
        return self._find(bucket, key, version_id).info

    @contextmanager
    def open(self, bucket: str, key: str, *, version_id: str = "") -> Iterator[tuple[ObjectInfo, Iterator[bytes]]]:
        """Stream an object in pieces of at most 1 MiB, as it was when it was opened."""
        found = self._find(bucket, key, version_id)
        yield found.info, (found.body[at : at + CHUNK_BYTES] for at in range(0, len(found.body), CHUNK_BYTES))

    def get(self, bucket: str, key: str, *, limit_bytes: int, version_id: str = "") -> bytes:
        """Return an object's bytes. Raises ``DocumentTooLarge`` if it has more than the limit."""
        found = self._find(bucket, key, version_id)
        if len(found.body) > limit_bytes:
            raise DocumentTooLarge(name=key, size_bytes=len(found.body), limit_bytes=limit_bytes)
        return found.body

    def put(
        self, bucket: str, key: str, body: bytes, *, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> None:
        """Write an object whole; a second write of the same key replaces it."""
        made = self._made(bucket, key, body, content_type, metadata)
        with self._lock:
            self._write(made)

    def put_new(
        self, bucket: str, key: str, body: bytes, *, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> bool:
        """Write an object whole if the key has none, and tell whether it was written."""
        made = self._made(bucket, key, body, content_type, metadata)
        with self._lock:
            if key in self._objects(bucket):
                return False
            self._write(made)
            return True

    def replace(
        self,
        bucket: str,
        key: str,
        body: bytes,
        *,
        etag: str,
        content_type: str,
        metadata: Mapping[str, str] | None = None,
    ) -> bool:
        """Write an object whole if the key has one with this ETag, and tell whether it was written."""
        made = self._made(bucket, key, body, content_type, metadata)
        with self._lock:
            found = self._objects(bucket).get(key)
            if found is None or found.info.etag != etag:
                return False
            self._write(made)
            return True

    def _write(self, made: _StoredObject) -> None:
        bucket, key = made.info.bucket, made.info.key
        objects = self._objects(bucket)
        if self._versions is not None:
            self._written += 1
            made = replace(made, info=replace(made.info, version_id=f"v{self._written}"))
            self._versions[bucket, key, made.info.version_id] = made
        objects[key] = made

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

    def list_hidden(self, bucket: str, prefix: str) -> Iterator[ObjectEntry]:
        """List the newest versions behind delete markers, by key."""
        with self._lock:
            shown = self._objects(bucket)
            newest = {
                key: version
                for (where, key, _), version in (self._versions or {}).items()
                if where == bucket and key.startswith(prefix) and key not in shown
            }
        for key, found in sorted(newest.items()):
            yield ObjectEntry(bucket, key, len(found.body), found.modified_at, found.info.version_id)

    def hide(self, bucket: str, key: str) -> None:
        """Put a delete marker over an object, as another program's DELETE does in a bucket with versions."""
        with self._lock:
            self._objects(bucket).pop(key, None)
            if self._versions is not None:
                self._markers[bucket, key] += 1

    def delete(self, bucket: str, key: str) -> int:
        """Delete an object with all its versions and delete markers, and return how many there were."""
        validate_key(key)
        with self._lock:
            gone = 0 if self._objects(bucket).pop(key, None) is None else 1
            if self._versions is None:
                return gone
            old = [name for name in self._versions if name[:2] == (bucket, key)]
            for name in old:
                del self._versions[name]
            return len(old) + self._markers.pop((bucket, key), 0)

    def _made(
        self, bucket: str, key: str, body: bytes, content_type: str, metadata: Mapping[str, str] | None
    ) -> _StoredObject:
        validate_key(key)
        # Checks the names as S3's adapter does.
        encode_metadata(metadata or {})
        now = self._now()
        info = ObjectInfo(
            bucket=bucket,
            key=key,
            size_bytes=len(body),
            content_type=content_type,
            etag=hashlib.md5(body, usedforsecurity=False).hexdigest(),
            metadata=dict(metadata or {}),
            modified_at=now,
        )
        return _StoredObject(info, bytes(body), now)

    def ensure_bucket(self, bucket: str) -> None:
        """Create the bucket if it is missing."""
        if not bucket or "/" in bucket:
            raise InvalidBucket(bucket=bucket, reason="it is empty or has a slash")
        with self._lock:
            self._buckets.setdefault(bucket, {})

    def _objects(self, bucket: str) -> dict[str, _StoredObject]:
        try:
            return self._buckets[bucket]
        except KeyError:
            raise BucketMissing(bucket=bucket) from None

    def _find(self, bucket: str, key: str, version_id: str = "") -> _StoredObject:
        validate_key(key)
        with self._lock:
            objects = self._objects(bucket)
            try:
                return (self._versions or {})[bucket, key, version_id] if version_id else objects[key]
            except KeyError:
                raise ObjectMissing(bucket=bucket, key=key) from None


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
