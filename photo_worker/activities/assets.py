"""Activity that locates a job's asset, verifies and hashes it, and converts what OCR cannot read."""

from __future__ import annotations

import hashlib
from uuid import UUID

from temporalio import activity

from photo_worker import media
from photo_worker.activities.heartbeats import heartbeating, stop_if_cancelled
from photo_worker.contracts.image import ConvertedCopy, LocateAssetInput, LocatedAsset
from photo_worker.contracts.keys import converted_key, is_upload_of, parse_job_id, validate_key
from photo_worker.crash_points import CrashPoint, crash_point
from photo_worker.errors import (
    ContentMismatch,
    ContentTypeMismatch,
    DocumentTooLarge,
    EmptyObject,
    ImageTooLarge,
    JobConflict,
    JobErased,
    ObjectMissing,
    PhotoWorkerError,
    SourceReplaced,
    UnsupportedDocument,
    UploadDamaged,
)
from photo_worker.policies import (
    CONVERTED_LIMIT_BYTES,
    IMAGE_PIXEL_LIMIT,
    IMAGE_SIDE_LIMIT_PX,
    SNIFF_BYTES,
    SYNC_OCR_LIMIT_BYTES,
)
from photo_worker.ports.document_decoder import DocumentDecoder
from photo_worker.ports.job_repository import FINAL_STATUSES, JobRepository
from photo_worker.ports.object_store import ObjectInfo, ObjectStore

# The pages of these types are counted before OCR is paid for.
_COUNTED_TYPES = frozenset({media.PDF, media.TIFF})


class AssetActivities:
    """Activities that read the raw asset."""

    def __init__(self, store: ObjectStore, repository: JobRepository, decoder: DocumentDecoder, bucket: str) -> None:
        """``bucket`` stores the converted copies of assets that OCR cannot read."""
        self._store = store
        self._repository = repository
        self._decoder = decoder
        self._bucket = bucket

    # An exception that a cancellation throws into the thread could break a pooled connection.
    @activity.defn(no_thread_cancel_exception=True)
    def verify_and_locate_asset(self, request: LocateAssetInput) -> LocatedAsset:
        """Check an asset's existence, type, size and pages, hash it, and convert what OCR cannot read.

        Marks the job's row as running first, so that users see that the job has begun, and adds the hash after all
        checks. JPEG and PNG are read in constant memory; PDF, TIFF and converted types are held in memory. Raises
        ``InputError`` if the asset can never be processed, ``JobErased`` if the job was erased, ``SourceReplaced`` if
        another attempt has found other bytes meanwhile, ``StorageUnavailable``, ``DatabaseUnavailable`` or
        ``DecoderUnavailable`` for a temporary fault, and ``DecoderMissing`` if this worker lacks a package.
        """
        # Heartbeats cover all waiting: for the row and for the first chunk together it may take a minute.
        with heartbeating():
            return self._verified(request)

    def _verified(self, request: LocateAssetInput) -> LocatedAsset:
        validate_key(request.key)
        job_id = parse_job_id(request.job_id or activity.info().workflow_id or "")
        with crash_point(CrashPoint.JOB_CLAIMED):
            known = self._repository.start(job_id, bucket=request.bucket, key=request.key, sha256="").content_sha256
        with self._store.open(request.bucket, request.key) as (info, chunks):
            declared = _check_declared(info, request.expected_content_type)
            read = _AssetContent(info)
            for chunk in chunks:
                read.take(chunk)
                stop_if_cancelled()
        content_type = check_content(info, bytes(read.head), declared, request.expected_content_type)
        sha256 = read.digest.hexdigest()
        if sha256 != known and is_upload_of(request.key, known):
            raise UploadDamaged(bucket=request.bucket, key=request.key, sha256=sha256)
        if content_type in _COUNTED_TYPES:
            self._decoder.check(read.content, content_type, request.key)
        with crash_point(CrashPoint.HASH_RECORDED):
            self._record(job_id, request, sha256, known)
        if known not in {"", sha256}:
            self._give_up_copy(job_id, request, known)
        revision = info.revision
        located = LocatedAsset(
            bucket=request.bucket,
            key=request.key,
            content_type=content_type,
            size_bytes=read.size,
            sha256=sha256,
            version_id=revision.version_id or None,
            etag=revision.etag or None,
            modified_at=revision.modified_at or None,
        )
        if content_type not in media.CONVERTED_TYPES:
            return located
        return located.model_copy(update={"converted": self._converted(job_id, located, read.content)})

    def _converted(self, job_id: UUID, original: LocatedAsset, content: bytes) -> ConvertedCopy:
        """Return the converted copy of an original that OCR cannot read; create it if there is none.

        The row already has the original's hash, so the erasure of another job no longer deletes the copy.
        """
        key = converted_key(original.bucket, original.key, original.sha256)
        known = self._known_copy(key, original)
        if known is not None:
            return known
        body = self._decoder.convert(content, original.content_type, original.key)
        sha256 = hashlib.sha256(body).hexdigest()
        metadata = {
            "sha256": sha256,
            "source-sha256": original.sha256,
            "source-bucket": original.bucket,
            "source-key": original.key,
        }
        with crash_point(CrashPoint.COPY_STORED):
            written = self._store.put_new(self._bucket, key, body, content_type=media.JPEG, metadata=metadata)
        if not written:
            known = self._known_copy(key, original)
            if known is not None:
                return known
            # The object under this key is not such a copy.
            self._store.put(self._bucket, key, body, content_type=media.JPEG, metadata=metadata)
        # Checked after the write: an erasure either finds the copy, or has marked the job before.
        if self._repository.is_erased(job_id):
            with self._repository.sole_user(
                job_id, bucket=original.bucket, key=original.key, sha256=original.sha256
            ) as sole:
                if sole:
                    self._store.delete(self._bucket, key)
            raise JobErased(job_id=job_id)
        return ConvertedCopy(bucket=self._bucket, key=key, content_type=media.JPEG, size_bytes=len(body), sha256=sha256)

    def _give_up_copy(self, job_id: UUID, request: LocateAssetInput, sha256: str) -> None:
        """Delete the copy of replaced bytes that an earlier attempt may have made: nothing refers to it any more.

        If this attempt dies here or the store is unavailable, ``check`` and an erasure find the copy.
        """
        try:
            with self._repository.sole_user(job_id, bucket=request.bucket, key=request.key, sha256=sha256) as sole:
                if sole:
                    self._store.delete(self._bucket, converted_key(request.bucket, request.key, sha256))
        except PhotoWorkerError as error:
            activity.logger.warning("the copy of replaced bytes stays: [%s] %s", error.code, error.message)

    def _known_copy(self, key: str, original: LocatedAsset) -> ConvertedCopy | None:
        """Return the copy that an earlier attempt or another job with the same bytes has stored, or None."""
        try:
            info = self._store.head(self._bucket, key)
        except ObjectMissing:
            return None
        sha256 = info.metadata.get("sha256")
        if not sha256 or info.metadata.get("source-sha256") != original.sha256:
            return None
        return ConvertedCopy(
            bucket=self._bucket, key=key, content_type=media.JPEG, size_bytes=info.size_bytes, sha256=sha256
        )

    def _record(self, job_id: UUID, request: LocateAssetInput, sha256: str, known: str) -> None:
        """Replace ``known``, the hash that the row had when this attempt began, by ``sha256``.

        If a newer attempt has written another hash meanwhile, that hash stays. Raises ``SourceReplaced`` then.
        """
        place = {"bucket": request.bucket, "key": request.key}
        try:
            self._repository.start(job_id, **place, sha256=sha256, instead_of=known)
        except JobConflict:
            row = self._repository.start(job_id, **place, sha256="")
            if row.status in FINAL_STATUSES or is_upload_of(request.key, row.content_sha256):
                raise
            raise SourceReplaced(**place) from None


class _AssetContent:
    """What was read of an object: its hash, its first bytes, and all bytes if the document has to be opened."""

    def __init__(self, info: ObjectInfo) -> None:
        self.digest = hashlib.sha256()
        self.head = bytearray()
        self.size = 0
        self._info = info
        self._kept: list[bytes] = []
        self._limit = 0

    @property
    def content(self) -> bytes:
        """All bytes of a document whose pages are counted or that is converted; otherwise empty."""
        return b"".join(self._kept)

    def take(self, chunk: bytes) -> None:
        """Add the next bytes. Raises ``DocumentTooLarge`` as soon as the first bytes show the type that limits it."""
        self.digest.update(chunk)
        self.size += len(chunk)
        if len(self.head) < SNIFF_BYTES:
            self.head += chunk[: SNIFF_BYTES - len(self.head)]
        kind = media.sniff(bytes(self.head[: media.HEAD_BYTES]))
        limit = CONVERTED_LIMIT_BYTES if kind in media.CONVERTED_TYPES else SYNC_OCR_LIMIT_BYTES
        size = max(self.size, self._info.size_bytes)
        if len(self.head) >= min(media.HEAD_BYTES, size) and size > limit:
            raise DocumentTooLarge(name=self._info.key, size_bytes=size, limit_bytes=limit)
        if kind in _COUNTED_TYPES | media.CONVERTED_TYPES or len(self.head) < media.HEAD_BYTES:
            self._kept.append(chunk)
        else:
            self._kept.clear()


def _check_declared(info: ObjectInfo, expected: str | None) -> str:
    """Refuse an empty, wrongly labelled or too large object before it is downloaded; return its declared type."""
    if info.size_bytes == 0:
        raise EmptyObject(bucket=info.bucket, key=info.key)
    declared = media.media_type(info.content_type)
    convertible = declared in media.CONVERTED_TYPES | media.UNDECLARED_TYPES
    limit = CONVERTED_LIMIT_BYTES if convertible else SYNC_OCR_LIMIT_BYTES
    if info.size_bytes > limit:
        raise DocumentTooLarge(name=info.key, size_bytes=info.size_bytes, limit_bytes=limit)
    if expected and declared not in media.UNDECLARED_TYPES and declared != media.media_type(expected):
        raise ContentTypeMismatch(key=info.key, actual=declared, expected=expected)
    return declared


def check_content(info: ObjectInfo, head: bytes, declared: str, expected: str | None) -> str:
    """Return the media type that the first bytes show. Raises an ``InputError`` if the type is not accepted."""
    found = media.sniff(head)
    accepted = media.DOCUMENT_TYPES | media.CONVERTED_TYPES
    if found is None and declared in accepted:
        raise ContentMismatch(key=info.key, declared=declared, actual="something else (no known signature)")
    actual = found or declared or "of an unknown type"
    if actual not in accepted:
        raise UnsupportedDocument(name=info.key, actual=media.describe_type(actual))
    if declared not in media.UNDECLARED_TYPES and declared != actual:
        raise ContentMismatch(key=info.key, declared=declared, actual=actual)
    if expected and media.media_type(expected) != actual:
        raise ContentTypeMismatch(key=info.key, actual=actual, expected=expected)
    if actual in {media.PNG, media.JPEG, media.TIFF}:
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
