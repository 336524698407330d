"""Which database a bucket belongs to: one small object in the bucket, the marker, holds the database's identity.

The identity is a random id in the database itself, so that it stays with the database when that is dumped and restored,
renamed or moved to another server. The bucket is bound once, at the first ``migrate`` or ``up``. Commands that delete,
and workers and submissions before they write, read the marker first: a setting that names another deployment's bucket
or database is then found before it does harm.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

from photo_worker.errors import (
    BindingUnreadable,
    BucketBoundElsewhere,
    BucketNeverBound,
    BucketNotBound,
    DocumentTooLarge,
    ObjectForbidden,
    ObjectMissing,
    PhotoWorkerError,
)

if TYPE_CHECKING:
    from photo_worker.ports.job_repository import JobRepository
    from photo_worker.ports.object_store import ObjectStore

MARKER_KEY = ".photo-worker/deployment.json"
FORMAT = 1
_LIMIT_BYTES = 16 * 1024


@dataclass(frozen=True)
class Marker:
    """The content of a bucket's marker: the database's id, and its name when the bucket was bound, for messages."""

    deployment: UUID
    database: str

    def as_bytes(self) -> bytes:
        """Return the object's body."""
        body = {"format": FORMAT, "deployment": str(self.deployment), "database": self.database}
        return json.dumps(body, indent=2).encode() + b"\n"


@dataclass(frozen=True)
class Bound:
    """The bucket belongs to this database."""

    deployment: UUID


class UnboundCause(Enum):
    """Why it is unknown which database a bucket belongs to."""

    MISSING = "missing"
    FORBIDDEN = "forbidden"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Unbound:
    """It is unknown which database the bucket belongs to. ``reason`` is a sentence without its full stop.

    ``deployment`` is the database's id, None before it was ever bound.
    """

    reason: str
    cause: UnboundCause = UnboundCause.MISSING
    deployment: UUID | None = None


@dataclass(frozen=True)
class BoundElsewhere:
    """The bucket belongs to another database. ``deployment`` is this one's id, None before it was ever bound."""

    deployment: UUID | None
    marker: Marker


Binding: TypeAlias = Bound | Unbound | BoundElsewhere


def read_binding(store: ObjectStore, repository: JobRepository, bucket: str) -> Binding:
    """Tell whether ``bucket`` belongs to the repository's database, with one request to each and no write.

    Raises ``BucketMissing``, ``SchemaMissing``, and the errors of a service that is down or refuses the credentials.
    A marker that these credentials may not read counts as none.
    """
    found = _read_marker(store, bucket)
    own = repository.deployment_id()
    if isinstance(found, Unbound):
        return replace(found, deployment=own)
    return Bound(own) if own == found.deployment else BoundElsewhere(own, found)


def require_own_bucket(store: ObjectStore, repository: JobRepository, bucket: str, *, must_read: bool = False) -> None:
    """Raise unless ``bucket`` is bound to the repository's database, or neither was ever bound.

    Raises ``BucketBoundElsewhere``; if the database was bound before, ``BucketNotBound`` if the bucket has no marker
    and ``BindingUnreadable`` if the marker is damaged; and what ``read_binding`` raises. A marker that these
    credentials may not read is accepted, or raises ``ObjectForbidden`` with ``must_read``.
    """
    found = read_binding(store, repository, bucket)
    if must_read and isinstance(found, Unbound) and found.cause is UnboundCause.FORBIDDEN:
        raise ObjectForbidden(bucket=bucket, key=MARKER_KEY)
    if isinstance(found, BoundElsewhere):
        raise bound_elsewhere_error(bucket, repository, found)
    if isinstance(found, Unbound) and found.deployment is not None:
        if found.cause is UnboundCause.MISSING:
            raise not_bound_error(bucket, repository, found)
        if found.cause is UnboundCause.UNREADABLE:
            raise BindingUnreadable(bucket=bucket, reason=found.reason)


def require_bound(store: ObjectStore, repository: JobRepository, bucket: str) -> None:
    """Raise unless ``bucket`` has a readable marker of the repository's database: without it nothing may be deleted.

    Raises ``BucketBoundElsewhere``, ``BucketNotBound``, ``BucketNeverBound``, ``BindingUnreadable``,
    ``ObjectForbidden``, and what ``read_binding`` raises.
    """
    found = read_binding(store, repository, bucket)
    if isinstance(found, BoundElsewhere):
        raise bound_elsewhere_error(bucket, repository, found)
    if isinstance(found, Unbound):
        raise unbound_error(bucket, repository, found)


def unbound_error(bucket: str, repository: JobRepository, found: Unbound) -> PhotoWorkerError:
    """Return the error for a bucket without a readable marker; its hint tells how to bind bucket and database."""
    if found.cause is UnboundCause.FORBIDDEN:
        return ObjectForbidden(bucket=bucket, key=MARKER_KEY)
    if found.cause is UnboundCause.UNREADABLE:
        return BindingUnreadable(bucket=bucket, reason=found.reason)
    if found.deployment is None:
        return BucketNeverBound(bucket=bucket, database=repository.describe(), reason=found.reason)
    return not_bound_error(bucket, repository, found)


def bound_elsewhere_error(bucket: str, repository: JobRepository, found: BoundElsewhere) -> BucketBoundElsewhere:
    """Return the error for a bucket that belongs to another database."""
    return BucketBoundElsewhere(bucket=bucket, known=found.marker.database, database=repository.describe())


def not_bound_error(bucket: str, repository: JobRepository, found: Unbound) -> BucketNotBound:
    """Return the error for a bucket whose marker is missing, of a database that was bound before."""
    return BucketNotBound(bucket=bucket, database=repository.describe(), reason=found.reason)


def bind(store: ObjectStore, repository: JobRepository, bucket: str, *, rebind: bool = False) -> bool:
    """Bind ``bucket`` to the repository's database; tell whether it was not bound before. Of parallel calls one writes.

    ``rebind`` takes the bucket away from another database, or replaces a damaged marker; without it these raise
    ``BucketBoundElsewhere`` and ``BindingUnreadable``. Raises what ``read_binding`` raises, and what writing raises.
    """
    found = read_binding(store, repository, bucket)
    if isinstance(found, Bound):
        return False
    if isinstance(found, BoundElsewhere) and not rebind:
        raise bound_elsewhere_error(bucket, repository, found)
    if isinstance(found, Unbound) and found.cause is UnboundCause.UNREADABLE and not rebind:
        raise BindingUnreadable(bucket=bucket, reason=found.reason)
    # Not before this can succeed: a database with an id counts as bound, and its workers ask for the marker.
    marker = Marker(repository.make_deployment_id(), repository.describe())
    if rebind:
        store.put(bucket, MARKER_KEY, marker.as_bytes(), content_type="application/json")
        return True
    if isinstance(found, Unbound) and store.put_new(
        bucket, MARKER_KEY, marker.as_bytes(), content_type="application/json"
    ):
        return True
    # Another process wrote it meanwhile, or this one did and the reply was lost.
    found = read_binding(store, repository, bucket)
    if isinstance(found, Bound):
        return False
    if isinstance(found, Unbound):
        raise BindingUnreadable(bucket=bucket, reason=found.reason)
    raise bound_elsewhere_error(bucket, repository, found)


def bound_since(store: ObjectStore, bucket: str) -> datetime | None:
    """Return when the marker was written, by the store's own clock; None if there is no marker."""
    found = (entry.modified_at for entry in store.list(bucket, MARKER_KEY) if entry.key == MARKER_KEY)
    return next(found, None)


def _read_marker(store: ObjectStore, bucket: str) -> Marker | Unbound:
    try:
        body = store.get(bucket, MARKER_KEY, limit_bytes=_LIMIT_BYTES)
    except ObjectMissing:
        return Unbound(f"it has no object {MARKER_KEY}")
    except ObjectForbidden as error:
        return Unbound(error.message.rstrip("."), UnboundCause.FORBIDDEN)
    except DocumentTooLarge as error:
        return Unbound(error.message.rstrip("."), UnboundCause.UNREADABLE)
    marker = _parsed(body)
    return Unbound(f"its object {MARKER_KEY} {marker}", UnboundCause.UNREADABLE) if isinstance(marker, str) else marker


def _parsed(body: bytes) -> Marker | str:
    """Return the marker, or the reason why the body is not one."""
    try:
        values = json.loads(body)
        if values["format"] != FORMAT:
            return f"has the format {values['format']!r}, which this release does not know"
        return Marker(UUID(values["deployment"]), str(values["database"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        return "is damaged"
