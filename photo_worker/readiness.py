"""What every job needs of a worker, looked at before the worker takes one, and whenever an attempt raises a doubt.

Each check is a round trip with the worker's own credentials that changes and costs nothing. It raises the
``PhotoWorkerError`` that an activity would have met.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from photo_worker.admission import Check
from photo_worker.bootstrap import Application
from photo_worker.config import Settings
from photo_worker.errors import BucketMissing, ObjectMissing, WorkerBucketMissing

if TYPE_CHECKING:
    from photo_worker.ports import ObjectStore

# Reading it asks for what a worker needs for every photo: the bucket, and s3:GetObject in it.
MARKER_KEY = ".photo-worker/deployment.json"


def checks_of(application: Application) -> list[Check]:
    """Return the checks of a worker with these settings: database and schema, bucket, and its own OCR engine."""
    settings = application.settings
    found: list[Check] = [_schema(settings), _bucket(application.store, settings.s3_bucket)]
    if settings.ocr_engine == "textract":
        found.append(_textract(settings))
    return found


def _schema(settings: Settings) -> Check:
    from photo_worker.storage.migrate import require_schema

    url = settings.require_database_url()
    return lambda: require_schema(url)


def _bucket(store: ObjectStore, bucket: str) -> Check:
    def check() -> None:
        try:
            store.head(bucket, MARKER_KEY)
        except ObjectMissing:
            # The store has answered for the bucket, which is what was asked.
            return
        except BucketMissing as error:
            raise WorkerBucketMissing(bucket=bucket) from error

    return check


def _textract(settings: Settings) -> Check:
    from photo_worker.ocr.textract import make_client, require_textract

    client = make_client(api=settings.textract_api)
    return lambda: require_textract(client)
