"""Objects in memory."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from heapq import nsmallest
from threading import Lock

from photo_worker.adapters.object_metadata import encode_metadata
from photo_worker.contracts.keys import validate_key
from photo_worker.errors import (
    BucketMissing,
    DocumentTooLarge,
    InvalidBucket,
    ObjectMissing,
)
from photo_worker.ports.object_store import ObjectEntry, ObjectInfo

CHUNK_BYTES = 1 << 20
LIST_PAGE = 1000


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
