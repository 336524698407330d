"""Merges rows and objects by job while they are listed: both come in the order of the job's id, and neither is held."""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from uuid import UUID

from photo_worker.ports.job_repository import JobRecord
from photo_worker.ports.object_store import ObjectEntry
from photo_worker.services.consistency.evidence import Location, owner_of


@dataclass(frozen=True)
class Group:
    """A row and the objects under its job's id. ``job_id`` is None for objects whose names hold no job id.

    Groups are ordered by ``name``: the id as text, or the key's second segment if that is no id.
    """

    name: str
    job_id: UUID | None
    row: JobRecord | None
    entries: tuple[ObjectEntry, ...]


def by_job(rows: Iterable[JobRecord], *listings: Iterable[ObjectEntry]) -> Iterator[Group]:
    """Merge rows by id and listings by key into one group a job.

    S3 lists by key and Postgres sorts UUIDs by their bytes, which is the same order for ids in canonical form. Names
    that are not canonical, or a store with another order, may split a group: the caller has to inspect a job again
    before it reports that something is missing.
    """
    streams: list[Iterator[tuple[str, JobRecord | ObjectEntry]]] = [((str(row.id), row) for row in rows)]
    streams += [_named(listing) for listing in listings]
    for name, members in groupby(heapq.merge(*streams, key=lambda member: member[0]), key=lambda member: member[0]):
        row: JobRecord | None = None
        entries: list[ObjectEntry] = []
        for _, member in members:
            if isinstance(member, JobRecord):
                row = member
            else:
                entries.append(member)
        owned = tuple(entry for entry in entries if owner_of(entry.key) is not None)
        if row is not None or owned:
            yield Group(name, row.id if row else owner_of(owned[0].key), row, owned)
        if strange := tuple(entry for entry in entries if owner_of(entry.key) is None):
            yield Group(name, None, None, strange)


def _named(listing: Iterable[ObjectEntry]) -> Iterator[tuple[str, ObjectEntry]]:
    """Yield each object after the second segment of its key, which for a job's object is the job's id."""
    for entry in listing:
        yield entry.key.partition("/")[2].partition("/")[0], entry


class LocationIndex:
    """A set of locations in 8 bytes each: their hashes, sorted at the first lookup.

    A location that was not added to a set of a million is found in it with a probability of 5e-14; the only effect is
    an overlooked orphan.
    """

    def __init__(self) -> None:
        self._hashes = array("Q")
        self._sorted = True

    def add(self, location: Location) -> None:
        """Add a location, in amortised constant time."""
        self._hashes.append(_hash(location))
        self._sorted = False

    def __contains__(self, location: object) -> bool:
        if not self._sorted:
            self._hashes = array("Q", sorted(self._hashes))
            self._sorted = True
        wanted = _hash(location) if isinstance(location, tuple) else -1
        at = bisect_left(self._hashes, wanted)
        return at < len(self._hashes) and self._hashes[at] == wanted

    def __len__(self) -> int:
        return len(self._hashes)


def _hash(location: Location) -> int:
    return int.from_bytes(blake2b("/".join(location).encode(errors="surrogatepass"), digest_size=8).digest(), "big")
