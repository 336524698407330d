"""Adapters whose state lives in the instance: for tests, and for trying things out without a stack."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import Lock
from uuid import UUID

from photo_worker.contracts.keys import validate_key
from photo_worker.errors import BucketMissing, DocumentTooLarge, InvalidBucket, JobConflict, ObjectMissing
from photo_worker.ports import ObjectInfo, Recipe, RecipeOcr
from photo_worker.storage.metadata import encode_metadata
from photo_worker.storage.rows import FINAL, asset, same_asset, storable

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class _StoredObject:
    info: ObjectInfo
    body: bytes


class MemoryObjectStore:
    """``ports.ObjectStore`` in memory. Thread-safe; buckets exist once they are ensured."""

    def __init__(self) -> None:
        self._lock = Lock()
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
        with self._lock:
            self._objects(bucket)[key] = _StoredObject(info, bytes(body))

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
    """``ports.RecipeRepository`` in memory. Thread-safe; ``now`` tells the time of a write."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._lock = Lock()
        self._now = now
        self._rows: dict[UUID, Recipe] = {}

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
