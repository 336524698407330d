"""Copies of photos in a format that OCR reads: which jobs they belong to, and whether any job uses them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from uuid import uuid4

from photo_worker.contracts.image import Manifest
from photo_worker.contracts.keys import converted_key
from photo_worker.errors import BucketForbidden, ObjectForbidden, ObjectMissing
from photo_worker.ports.job_repository import JobRepository
from photo_worker.ports.object_store import ObjectEntry, ObjectStore
from photo_worker.services.consistency.evidence import JobEvidence, Location, converted_sha256


@contextmanager
def lock_object(store: ObjectStore, repository: JobRepository, bucket: str, key: str) -> Iterator[bool]:
    """Yield whether no job uses a photo or a copy; while the block runs, no job can be queued for it.

    The users of a copy are those of its original, whose location is in the copy's metadata; a copy without it is not
    the worker's, and counts as used. Raises ``ObjectMissing`` if there is no object, not even behind a delete marker.
    """
    about = _metadata(store, bucket, key)
    sha256 = ""
    if converted_sha256(key):
        bucket, key, sha256 = (about.get(name, "") for name in ("source-bucket", "source-key", "source-sha256"))
        if not (bucket and key and sha256):
            yield False
            return
    with repository.sole_user(uuid4(), bucket=bucket, key=key, sha256=sha256) as sole:
        yield sole


def _metadata(store: ObjectStore, bucket: str, key: str) -> Mapping[str, str]:
    try:
        return store.head(bucket, key).metadata
    except ObjectMissing:
        for entry in list_hidden(store, bucket, key):
            if entry.key == key:
                try:
                    return store.head(bucket, key, version_id=entry.version_id).metadata
                except ObjectForbidden:
                    # Without s3:GetObjectVersion the original is unknown.
                    return {}
        raise


def list_hidden(store: ObjectStore, bucket: str, prefix: str) -> Iterator[ObjectEntry]:
    """List what is behind delete markers; nothing if these credentials may not list a bucket's versions."""
    with suppress(BucketForbidden):
        yield from store.list_hidden(bucket, prefix)


def copies_of(job: JobEvidence, manifest: Manifest | None) -> set[Location]:
    """Return the location of the copy that a job's OCR read, or would have read if its photo needed a copy."""
    found = set()
    row = job.row
    if row is not None and row.content_sha256:
        place = job.whole.raw_location(row)
        found.add((job.whole.bucket, converted_key(*place, row.content_sha256)))
    if manifest is not None and manifest.converted is not None:
        found.add((manifest.converted.bucket, manifest.converted.key))
    return found
