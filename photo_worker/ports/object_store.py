"""The port of the object store: objects by bucket and key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True)
class Revision:
    """Identifies one of the objects that a key has had over time. A field is empty if it is not known.

    A version id always names the same bytes. Without versions there are the ETag and the time of writing (ISO 8601, to
    the second, as S3 reports it), which differs if the same bytes are written again.
    """

    version_id: str = ""
    etag: str = ""
    modified_at: str = ""

    def __bool__(self) -> bool:
        """Tell whether the object is identified at all."""
        return bool(self.version_id or self.etag)


@dataclass(frozen=True)
class ObjectInfo:
    """An object's properties without its bytes.

    ``version_id`` is empty if the bucket keeps no versions of it.
    """

    bucket: str
    key: str
    size_bytes: int
    content_type: str
    etag: str
    metadata: Mapping[str, str]
    version_id: str = ""
    modified_at: datetime | None = None

    @property
    def revision(self) -> Revision:
        """Identifies this object among those that the key has had."""
        written = "" if self.modified_at is None else self.modified_at.replace(microsecond=0).isoformat()
        return Revision(self.version_id, self.etag, written)


@dataclass(frozen=True)
class ObjectEntry:
    """An object in a listing. ``version_id`` is set only if a delete marker hides the object: its newest version."""

    bucket: str
    key: str
    size_bytes: int
    modified_at: datetime
    version_id: str = ""

    @property
    def hidden(self) -> bool:
        """Tell whether a delete marker hides it, so that only its version id reaches it."""
        return bool(self.version_id)


@dataclass(frozen=True)
class DocumentRef:
    """A verified document in the object store."""

    bucket: str
    key: str
    content_type: str
    size_bytes: int
    sha256: str
    revision: Revision = Revision()


class ObjectStore(Protocol):
    """Objects by bucket and key. Methods raise ``InputError`` or ``StorageUnavailable``.

    An empty ``version_id`` means the newest version; an unknown one raises ``ObjectMissing``.
    """

    def describe(self) -> str:
        """Return the store's name for messages, without credentials."""

    def head(self, bucket: str, key: str, *, version_id: str = "") -> ObjectInfo:
        """Return an object's size, type and metadata."""

    def open(
        self, bucket: str, key: str, *, version_id: str = ""
    ) -> AbstractContextManager[tuple[ObjectInfo, Iterator[bytes]]]:
        """Stream an object in chunks of at most 1 MiB; one request returns its properties and its bytes."""

    def get(self, bucket: str, key: str, *, limit_bytes: int, version_id: str = "") -> bytes:
        """Return an object's bytes. Raises ``DocumentTooLarge`` if it has more than ``limit_bytes``."""

    def put(
        self, bucket: str, key: str, body: bytes, *, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> None:
        """Write an object atomically; a second write of the same key replaces it."""

    def put_new(
        self, bucket: str, key: str, body: bytes, *, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> bool:
        """Write an object atomically if the key has none, and tell whether it was written: only one writer succeeds."""

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
        """Replace the object that has this ETag atomically, and tell whether it was written."""

    def list(self, bucket: str, prefix: str) -> Iterator[ObjectEntry]:
        """Yield the objects whose keys begin with ``prefix``, in key order, one page per request."""

    def list_hidden(self, bucket: str, prefix: str) -> Iterator[ObjectEntry]:
        """Yield what ``list`` omits, in key order: the newest version of each key that a delete marker hides."""

    def delete(self, bucket: str, key: str) -> int:
        """Delete an object with all its versions and delete markers; return how many there were."""

    def ensure_bucket(self, bucket: str) -> None:
        """Create the bucket if it is missing."""
