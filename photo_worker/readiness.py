"""Readiness checks: what every job needs of a worker. They run before the first job and after failed attempts.

Each check uses the worker's own credentials, changes nothing and costs nothing. It raises the ``PhotoWorkerError`` that
an activity would raise. Write permissions are checked too, by requests that write nothing: a worker that cannot store
results would pay for OCR first.
"""

from __future__ import annotations

from photo_worker.admission import Check
from photo_worker.bootstrap import Application, database_conninfo
from photo_worker.contracts.keys import converted_key
from photo_worker.errors import (
    BucketForbidden,
    BucketMissing,
    ListingForbidden,
    ObjectForbidden,
    ObjectMissing,
    WorkerBucketForbidden,
    WorkerBucketMissing,
)
from photo_worker.pipelines import unused_keys
from photo_worker.ports.object_store import ObjectStore
from photo_worker.services.binding import MARKER_KEY, require_own_bucket

# Keys that belong to no job, in the form of jobs' keys, because policies may allow only such keys.
_NEVER_WRITTEN = (*unused_keys(), converted_key("none", "none", "0" * 64))
# An ETag that no object has: real ones are an MD5 digest, or a digest with the number of parts.
_NO_ETAG = "0" * 32


def readiness_checks(application: Application) -> list[Check]:
    """Return the checks of a worker: database with its schema, bucket, and the configured OCR backend."""
    return [_database(application), _bucket(application), application.backends.require_usable]


def _database(application: Application) -> Check:
    from photo_worker.adapters.postgres.migrate import require_usable

    url = database_conninfo(application.settings)
    return lambda: require_usable(url, application.times.postgres)


def _bucket(application: Application) -> Check:
    store, bucket = application.store, application.settings.s3_bucket

    def check() -> None:
        try:
            # A worker needs the bucket and s3:GetObject in it for every photo. If other workers use another bucket, its
            # results would be stored in a bucket that the manifests do not name.
            require_own_bucket(store, application.repository, bucket, must_read=True)
            _require_writing(store, bucket)
        except ObjectForbidden:
            _require_listing(store, bucket)
            raise
        except BucketMissing as error:
            raise WorkerBucketMissing(bucket=bucket) from error

    return check


def _require_writing(store: ObjectStore, bucket: str) -> None:
    """Raise ``WorkerBucketForbidden`` if S3 refuses writes under the worker's prefixes. Nothing is written.

    It requests to replace objects that cannot exist: S3 checks the permission first, then the condition.
    """
    for key in _NEVER_WRITTEN:
        try:
            store.replace(bucket, key, b"", etag=_NO_ETAG, content_type="application/octet-stream")
        except ObjectForbidden as error:
            if _tells_what_is_missing(store, bucket, key):
                raise WorkerBucketForbidden(bucket=bucket, key=key) from error
            # Without s3:ListBucket, or if it is limited to prefixes, S3 reports a missing object as forbidden. That
            # says nothing about the permission to write.
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
    """Raise ``ListingForbidden`` if the worker lacks s3:ListBucket, without which S3 reports missing as forbidden."""
    if not _may_list(store, bucket, MARKER_KEY):
        raise ListingForbidden(bucket=bucket, key=MARKER_KEY)
