"""What every job needs of a worker, looked at before the worker takes one, and whenever an attempt raises a doubt.

Each check is a round trip with the worker's own credentials that changes and costs nothing. It raises the
``PhotoWorkerError`` that an activity would have met.
"""

from __future__ import annotations

from photo_worker.admission import Check
from photo_worker.bootstrap import Application, BackendRegistry
from photo_worker.config import Settings
from photo_worker.errors import (
    BucketForbidden,
    BucketMissing,
    ListingForbidden,
    ObjectForbidden,
    WorkerBucketMissing,
)
from photo_worker.integrity.binding import MARKER_KEY, require_own_bucket
from photo_worker.ports import ObjectStore


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
        except ObjectForbidden:
            _require_listing(store, bucket)
            raise
        except BucketMissing as error:
            raise WorkerBucketMissing(bucket=bucket) from error

    return check


def _require_listing(store: ObjectStore, bucket: str) -> None:
    """Raise ``ListingForbidden`` where S3 calls what is not there forbidden, as it does without s3:ListBucket."""
    try:
        next(iter(store.list(bucket, MARKER_KEY)), None)
    except BucketForbidden as error:
        raise ListingForbidden(bucket=bucket, key=MARKER_KEY) from error
