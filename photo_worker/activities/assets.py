"""Finding the asset of a job and proving that it is what it says."""

from __future__ import annotations

import hashlib
import time
from uuid import UUID

from temporalio import activity

from photo_worker import media
from photo_worker.activities.heartbeats import stop_if_cancelled
from photo_worker.contracts.image import LocateAssetInput, LocatedAsset
from photo_worker.contracts.keys import is_upload_of, parse_job_id, validate_key
from photo_worker.crash_points import CrashPoint, at
from photo_worker.errors import (
    ContentMismatch,
    ContentTypeMismatch,
    EmptyObject,
    ImageTooLarge,
    JobConflict,
    SourceReplaced,
    UnsupportedDocument,
    UploadDamaged,
)
from photo_worker.policies import IMAGE_PIXEL_LIMIT, IMAGE_SIDE_LIMIT_PX, SNIFF_BYTES
from photo_worker.ports import FINAL_STATUSES, ObjectInfo, ObjectStore, RecipeRepository

# Well within the heartbeat timeout, and rarely enough that an ordinary photo costs the server none.
_BEAT_SECONDS = 5.0


class AssetActivities:
    """Activities that read the raw asset."""

    def __init__(self, store: ObjectStore, repository: RecipeRepository) -> None:
        self._store = store
        self._repository = repository

    # An exception that a cancellation throws into the thread could break a connection that others use after it.
    @activity.defn(no_thread_cancel_exception=True)
    def verify_and_locate_asset(self, request: LocateAssetInput) -> LocatedAsset:
        """Check an asset's existence, type and size, and hash it in constant memory.

        Writes the job's row as running first, and with the hash last, so that whoever looks
        sees that the job has begun. Raises ``InputError`` for an asset that can never be
        processed and ``JobErased`` for a job that was erased, ``SourceReplaced`` where another attempt has found
        other bytes meanwhile, ``StorageUnavailable`` and ``DatabaseUnavailable`` for what may pass.
        """
        validate_key(request.key)
        job_id = parse_job_id(request.job_id or activity.info().workflow_id or "")
        with at(CrashPoint.JOB_CLAIMED):
            known = self._repository.start(job_id, bucket=request.bucket, key=request.key, sha256="").content_sha256
        digest = hashlib.sha256()
        head = bytearray()
        size = 0
        beat = time.monotonic()
        with self._store.open(request.bucket, request.key) as (info, chunks):
            declared = _check_declared(info, request.expected_content_type)
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                if len(head) < SNIFF_BYTES:
                    head += chunk[: SNIFF_BYTES - len(head)]
                if time.monotonic() - beat > _BEAT_SECONDS:
                    activity.heartbeat(size)
                    beat = time.monotonic()
                stop_if_cancelled()
        content_type = check_content(info, bytes(head), declared, request.expected_content_type)
        sha256 = digest.hexdigest()
        if sha256 != known and is_upload_of(request.key, known):
            raise UploadDamaged(bucket=request.bucket, key=request.key, sha256=sha256)
        with at(CrashPoint.HASH_RECORDED):
            self._record(job_id, request, sha256, known)
        revision = info.revision
        return LocatedAsset(
            bucket=request.bucket,
            key=request.key,
            content_type=content_type,
            size_bytes=size,
            sha256=sha256,
            version_id=revision.version_id or None,
            etag=revision.etag or None,
            modified_at=revision.modified_at or None,
        )

    def _record(self, job_id: UUID, request: LocateAssetInput, sha256: str, known: str) -> None:
        """Write the hash in place of the one that the row had when this attempt began.

        An attempt that comes too late meets the hash of the one that has overtaken it, and leaves it.
        """
        place = {"bucket": request.bucket, "key": request.key}
        try:
            self._repository.start(job_id, **place, sha256=sha256, instead_of=known)
        except JobConflict:
            row = self._repository.start(job_id, **place, sha256="")
            if row.status in FINAL_STATUSES or is_upload_of(request.key, row.content_sha256):
                raise
            raise SourceReplaced(**place) from None


def _check_declared(info: ObjectInfo, expected: str | None) -> str:
    """Refuse an empty or wrongly labelled object before its bytes travel; return its declared type."""
    if info.size_bytes == 0:
        raise EmptyObject(bucket=info.bucket, key=info.key)
    declared = media.media_type(info.content_type)
    if expected and declared not in media.UNDECLARED_TYPES and declared != media.media_type(expected):
        raise ContentTypeMismatch(key=info.key, actual=declared, expected=expected)
    return declared


def check_content(info: ObjectInfo, head: bytes, declared: str, expected: str | None) -> str:
    """Return the type that the first bytes show, or raise the ``InputError`` that says what is wrong with them."""
    found = media.sniff(head)
    if found is None and declared in media.DOCUMENT_TYPES:
        raise ContentMismatch(key=info.key, declared=declared, actual="something else (no known signature)")
    actual = found or declared or "of an unknown type"
    if actual not in media.DOCUMENT_TYPES:
        raise UnsupportedDocument(name=info.key, actual=actual)
    if declared not in media.UNDECLARED_TYPES and declared != actual:
        raise ContentMismatch(key=info.key, declared=declared, actual=actual)
    if expected and media.media_type(expected) != actual:
        raise ContentTypeMismatch(key=info.key, actual=actual, expected=expected)
    if actual != media.PDF:
        _check_dimensions(info.key, head)
    return actual


def _check_dimensions(key: str, head: bytes) -> None:
    size = media.dimensions(head)
    if size is None:
        return
    width, height = size
    if max(size) > IMAGE_SIDE_LIMIT_PX:
        raise ImageTooLarge(
            name=key, width=width, height=height, limit=f"a side may have at most {IMAGE_SIDE_LIMIT_PX}"
        )
    if width * height > IMAGE_PIXEL_LIMIT:
        raise ImageTooLarge(name=key, width=width, height=height, limit=f"at most {IMAGE_PIXEL_LIMIT} in all are read")
