"""Rules about job rows that every repository applies."""

from __future__ import annotations

import hashlib
from uuid import UUID

from photo_worker.ports.job_repository import FINAL_STATUSES, JobRecord

FINAL = FINAL_STATUSES


def same_asset(row: JobRecord, bucket: str, key: str, sha256: str, instead_of: str = "") -> bool:
    """Tell whether a row may be about this asset; an empty bucket or hash is not known yet.

    A row that is not final may have the hash ``instead_of``, which is then replaced.
    """
    given_up = row.content_sha256 == instead_of and row.status not in FINAL
    return (
        row.s3_raw_key == key
        and (row.s3_raw_bucket == bucket or "" in {row.s3_raw_bucket, bucket})
        and (row.content_sha256 == sha256 or "" in {row.content_sha256, sha256} or given_up)
    )


def describe_asset(bucket: str, key: str, sha256: str) -> str:
    """Return an asset's URL and hash as messages name it."""
    return f"s3://{bucket}/{key}" + (f" with sha256 {sha256}" if sha256 else "")


def storable(text: str) -> str:
    """Replace what Postgres cannot hold: NUL and lone surrogates become U+FFFD.

    So that a job with an invalid key still gets a row with its failure.
    """
    return text.replace("\x00", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def job_digest(job_id: UUID) -> bytes:
    """Return what is kept of an erased job's id: the sha256 of its canonical text, which reveals no random id."""
    return hashlib.sha256(str(job_id).encode()).digest()
