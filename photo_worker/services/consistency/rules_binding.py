"""Rules about whether the bucket and the database belong together."""

from __future__ import annotations

from collections.abc import Iterator

from photo_worker.services.binding import MARKER_KEY, BoundElsewhere, Unbound
from photo_worker.services.consistency.evidence import Evidence
from photo_worker.services.consistency.finding import RuleBreach


def bucket_not_bound(evidence: Evidence) -> Iterator[RuleBreach]:
    """The bucket has a marker that names a database."""
    if isinstance(evidence.binding, Unbound):
        yield RuleBreach(
            f"s3://{evidence.bucket}",
            f"The bucket is not bound to this database: {evidence.binding.reason}.",
            "S3 was away or not set at the last `photo-worker migrate`, or the object was deleted.",
            "Run `photo-worker migrate --bind`; until then --repair deletes nothing, and where this database has been"
            " bound, workers that start and `submit` refuse the bucket.",
        )


def bucket_bound_elsewhere(evidence: Evidence) -> Iterator[RuleBreach]:
    """The bucket does not belong to another database."""
    found = evidence.binding
    if isinstance(found, BoundElsewhere):
        yield RuleBreach(
            f"s3://{evidence.bucket}/{MARKER_KEY}",
            f"The bucket belongs to another database ({found.marker.database}); --repair does nothing here.",
            "S3_BUCKET or DATABASE_URL is of another deployment, or the database was replaced by one that does not"
            " come from its backup. Then all that follows here may be sound, seen from the wrong database.",
            "Correct the setting. Where this database has really taken the other's place: `photo-worker migrate"
            " --rebind`.",
        )
