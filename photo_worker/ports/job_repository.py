"""The port of the database: job rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

# Statuses of a row that never change again.
FINAL_STATUSES = frozenset({"succeeded", "failed"})


@dataclass(frozen=True)
class JobRecord:
    """One job's row, joined with its OCR row if there is one."""

    id: UUID
    status: str
    s3_raw_bucket: str
    s3_raw_key: str
    content_sha256: str
    created_at: datetime
    updated_at: datetime
    error_code: str | None = None
    error_message: str | None = None
    s3_bucket: str | None = None
    s3_ocr_key: str | None = None
    s3_manifest_key: str | None = None
    ocr_engine: str | None = None
    ocr_version: str | None = None
    page_count: int | None = None


@dataclass(frozen=True)
class OcrRecord:
    """A finished OCR run as it is recorded in the database."""

    s3_bucket: str
    s3_ocr_key: str
    s3_manifest_key: str
    ocr_engine: str
    ocr_version: str
    page_count: int


class JobRepository(Protocol):
    """Job rows. Each write is one idempotent upsert, also if a late copy of it runs concurrently.

    A final status (succeeded, failed) never changes again. Methods raise ``JobConflict`` if the job id belongs to
    another asset, and ``DatabaseUnavailable``.
    """

    def describe(self) -> str:
        """Return the database's name for messages, without its password."""

    def deployment_id(self) -> UUID | None:
        """Return the database's random id, None if it has none yet. A copy of the database has the same id."""

    def make_deployment_id(self) -> UUID:
        """Return the database's id; create it if there is none. Concurrent callers all get the same id."""

    def queue(self, job_id: UUID, *, bucket: str, key: str, sha256: str = "") -> JobRecord:
        """Record a job as queued, or return the row it has."""

    def start(self, job_id: UUID, *, bucket: str, key: str, sha256: str, instead_of: str = "") -> JobRecord:
        """Record that a job runs, and the hash of its bytes.

        If the object was replaced, ``instead_of`` is the old hash, which a job that is not final may exchange.
        """

    def succeed(self, job_id: UUID, *, bucket: str, key: str, sha256: str, ocr: OcrRecord) -> JobRecord:
        """Record a job's result and its final status in one transaction."""

    def fail(self, job_id: UUID, *, bucket: str, key: str, code: str, message: str) -> JobRecord:
        """Record a job's final failure with its reason."""

    def get(self, job_id: UUID) -> JobRecord | None:
        """Return a job's row, or None."""

    def all(self, *, page: int = 1000) -> Iterator[JobRecord]:
        """Yield every job's row in order of id, ``page`` rows per query; only one page is held in memory."""

    def mark_erased(self, job_id: UUID) -> None:
        """Mark the job as erased: from now on every write with its id raises ``JobErased``.

        The mark holds a digest of the id and the time, and nothing else of the job.
        """

    def is_erased(self, job_id: UUID) -> bool:
        """Tell whether the job was marked as erased."""

    def earlier_hashes(self, job_id: UUID) -> frozenset[str]:
        """Return the hashes that a job's bytes had before the current one, and those of deleted jobs of its object.

        An empty hash among them means that there may have been more: the row is older than this record. A job without a
        row has none.
        """

    def delete(self, job_id: UUID) -> bool:
        """Delete a job's rows; tell whether there were any.

        Its earlier hashes pass to another job of the same object that is not erased, if there is one.
        """

    def sole_user(self, job_id: UUID, *, bucket: str, key: str, sha256: str = "") -> AbstractContextManager[bool]:
        """Tell whether no other job's row refers to an object, or to these bytes of it if a hash is given.

        While the block runs, no other job can be queued for the object: ``queue`` waits until the block ends.
        """
