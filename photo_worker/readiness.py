"""What every job needs of a worker, looked at before the worker takes one, and whenever an attempt raises a doubt.

Each check asks with the worker's own credentials, and changes and costs nothing. It raises the ``PhotoWorkerError``
that an activity would have met. Also what writes is asked for, in forms that write nothing: a worker that could not
store what it does would have it paid for first.
"""

from __future__ import annotations

from uuid import UUID

from photo_worker.admission import Check
from photo_worker.bootstrap import Application, BackendRegistry
from photo_worker.config import Settings
from photo_worker.contracts.keys import converted_key, ocr_key
from photo_worker.errors import (
    BucketForbidden,
    BucketMissing,
    ListingForbidden,
    ObjectForbidden,
    ObjectMissing,
    WorkerBucketMissing,
)
from photo_worker.integrity.binding import MARKER_KEY, require_own_bucket
from photo_worker.permission_errors import WorkerBucketForbidden
from photo_worker.ports import ObjectStore

# Objects of no job, named as those of jobs are, for policies that allow these names alone.
_NEVER_WRITTEN = (ocr_key(UUID(int=0)), converted_key("none", "none", "0" * 64))
# No object's: an MD5 digest, or that with the number of parts.
_NO_ETAG = "0" * 32


def checks_of(application: Application, backends: BackendRegistry | None = None) -> list[Check]:
    """Return the checks of a worker with these settings: database with its schema, bucket, and its own OCR backend.

    ``backends`` are those that its activities use; without them the checks make their own.
    """
    settings = application.settings
    registry = backends or BackendRegistry(settings, application.store)
    return [_database(settings), _bucket(application), registry.require_usable]


def _database(settings: Settings) -> Check:
    from photo_worker.storage.migrate import require_usable

    url = settings.require_database_url()
    return lambda: require_usable(url)


def _bucket(application: Application) -> Check:
    store, bucket = application.store, application.settings.s3_bucket

    def check() -> None:
        try:
            # What a worker needs for every photo: the bucket, and s3:GetObject in it. Beside workers with another
            # bucket it would store answers where their manifests do not say.
            require_own_bucket(store, application.repository, bucket, must_read=True)
            _require_writing(store, bucket)
        except ObjectForbidden:
            _require_listing(store, bucket)
            raise
        except BucketMissing as error:
            raise WorkerBucketMissing(bucket=bucket) from error

    return check


def _require_writing(store: ObjectStore, bucket: str) -> None:
    """Raise ``WorkerBucketForbidden`` where S3 refuses writes under the worker's prefixes. Nothing is written.

    Asks to replace objects that there cannot be. S3 looks at the permission first, then at the condition.
    """
    for key in _NEVER_WRITTEN:
        try:
            store.replace(bucket, key, b"", etag=_NO_ETAG, content_type="application/octet-stream")
        except ObjectForbidden as error:
            if _tells_what_is_missing(store, bucket, key):
                raise WorkerBucketForbidden(bucket=bucket, key=key) from error
            # Without s3:ListBucket, or with one for prefixes alone, S3 calls what is missing forbidden: that says
            # nothing of writing.
            return


def _tells_what_is_missing(store: ObjectStore, bucket: str, key: str) -> bool:
    try:
        store.head(bucket, key)
    except ObjectForbidden:
        return False
    except ObjectMissing:
        return True
    return True


def _may_list(store: ObjectStore, bucket: str, prefix: str) -> bool:
    try:
        next(iter(store.list(bucket, prefix)), None)
    except BucketForbidden:
        return False
    return True


def _require_listing(store: ObjectStore, bucket: str) -> None:
    """Raise ``ListingForbidden`` where S3 calls what is not there forbidden, as it does without s3:ListBucket."""
    if not _may_list(store, bucket, MARKER_KEY):
        raise ListingForbidden(bucket=bucket, key=MARKER_KEY)
