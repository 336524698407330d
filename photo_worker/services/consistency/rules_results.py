"""Rules about a row and the objects that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import ValidationError

from photo_worker.contracts.image import ConvertedCopy, Manifest
from photo_worker.errors import BucketMissing, DocumentTooLarge, ObjectMissing
from photo_worker.policies import SUBMISSION_TIME
from photo_worker.ports.job_repository import JobRecord
from photo_worker.services.consistency.evidence import JobEvidence, Location, StoredObject, uploaded_sha256
from photo_worker.services.consistency.finding import RuleBreach

OPEN_STATUSES = frozenset({"queued", "running"})

# Codes of failures whose reason is that the photo could not be read.
_ABSENCE = frozenset(
    {"object_missing", "bucket_missing", "object_forbidden", "bucket_forbidden", "key_invalid", "bucket_invalid"}
)

# Other rules report a missing object and an invalid manifest.
_SAID_ELSEWHERE = (ObjectMissing, BucketMissing, DocumentTooLarge)

# Longer than any hash or version, shorter than a page.
_SHOWN_LENGTH = 120

_RESTORE = "Restore the object from the bucket's versions or a backup"
_AGAIN = "or submit the photo as a new job, which reads it again, and erase this one (`photo-worker erase {job}`)."


def s3(location: Location) -> str:
    """Return an object's URL as S3's own tools write it."""
    return f"s3://{location[0]}/{location[1]}"


def row_of(job: JobEvidence) -> str:
    """Return a job's row as messages name it."""
    return f"recipes row {job.job_id}"


def read_manifest(found: StoredObject | None) -> Manifest | None:
    """Parse a manifest; None if it is missing, was not read or is invalid."""
    if found is None or found.body is None:
        return None
    try:
        return Manifest.model_validate_json(found.body)
    except ValidationError:
        return None


def failed_without_reason(job: JobEvidence) -> Iterator[RuleBreach]:
    """A failed job's row has a code and a message."""
    row = job.row
    if row and row.status == "failed" and not (row.error_code and row.error_message):
        missing = "error_code" if not row.error_code else "error_message"
        yield RuleBreach(
            row_of(job),
            f"The job failed, and its row has no {missing}.",
            "Every failure is written with its reason in one statement; something else has changed the row.",
            "Look the reason up in the workflow's history (Temporal UI) and set the column by hand.",
        )


def succeeded_with_error(job: JobEvidence) -> Iterator[RuleBreach]:
    """A succeeded job's row has no error."""
    row = job.row
    if row and row.status == "succeeded" and (row.error_code or row.error_message):
        yield RuleBreach(
            row_of(job),
            f"The job succeeded, and its row still names an error ({row.error_code or row.error_message}).",
            "A success clears the error in the same statement; something else has changed the row.",
            "Look at the job's workflow. If it completed, set error_code and error_message to NULL.",
        )


def succeeded_without_result(job: JobEvidence) -> Iterator[RuleBreach]:
    """A succeeded job's row has its result and the hash of the photo."""
    row = job.row
    if row and row.status == "succeeded":
        named = {
            "s3_ocr_key": row.s3_ocr_key,
            "s3_manifest_key": row.s3_manifest_key,
            "content_sha256": row.content_sha256,
        }
        missing = [name for name, value in named.items() if not value]
        if missing:
            yield RuleBreach(
                row_of(job),
                f"The job succeeded, and its row has no {', '.join(missing)}.",
                "Status, hash and result are one transaction; a row was deleted from recipe_ocr, or changed by hand.",
                f"Take the values from artifacts/{job.job_id}/manifest.json, {_AGAIN.format(job=job.job_id)}",
            )


def photo_name_differs(job: JobEvidence) -> Iterator[RuleBreach]:
    """An uploaded photo's name is the hash of its bytes, so that the same photo is recognised."""
    row = job.row
    if row and row.content_sha256 and job.whole.uploaded(row):
        named = uploaded_sha256(row.s3_raw_key)
        if named != row.content_sha256:
            yield RuleBreach(
                row_of(job),
                f"The photo is stored as {row.s3_raw_key}, and the bytes that were read hash to {row.content_sha256}.",
                "The object was replaced before the job read it, or the row was changed.",
                "Submit the right photo as a new job, and erase this one"
                f" (`photo-worker erase {job.job_id}`): its result is another photo's.",
            )


def photo_missing(job: JobEvidence) -> Iterator[RuleBreach]:
    """The uploaded photo of every row exists."""
    row = job.row
    if row is None or not job.whole.uploaded(row) or not _is_absent(job, job.whole.raw_location(row)):
        return
    young = row.status in OPEN_STATUSES and job.whole.age(row.updated_at) < SUBMISSION_TIME
    if young or row.error_code in _ABSENCE:
        return
    yield RuleBreach(
        s3(job.whole.raw_location(row)),
        f"The photo of the job ({row.status}) is gone.",
        "Nothing here deletes a photo that a row refers to; the bucket was changed by something else.",
        f"{_RESTORE}, or upload the photo under this key again: its bytes hash to "
        f"{row.content_sha256 or uploaded_sha256(row.s3_raw_key)}.",
    )


def photo_differs(job: JobEvidence) -> Iterator[RuleBreach]:
    """An uploaded photo still has the bytes whose hash its name and its row hold."""
    row = job.row
    if row is None or not job.whole.uploaded(row):
        return
    found = job.whole.objects.get(job.whole.raw_location(row))
    difference = _difference(job, row, found, row.content_sha256 or uploaded_sha256(row.s3_raw_key) or "")
    if found and difference:
        yield RuleBreach(
            s3(found.location),
            f"The photo is not the one that was uploaded: {difference}.",
            "An upload never changes an object with this name to other bytes; the object was overwritten or damaged.",
            f"{_RESTORE}, or upload the original under this key again. The job's text is still that of the original.",
        )


def source_missing(job: JobEvidence) -> Iterator[RuleBreach]:
    """The object of its owner's that a finished job read still exists."""
    row = job.row
    if row is None or row.status != "succeeded" or job.whole.uploaded(row):
        return
    if _is_absent(job, job.whole.raw_location(row)):
        yield RuleBreach(
            s3(job.whole.raw_location(row)),
            "The object that the job read is gone.",
            "It was submitted from a place of its owner's, who may delete it.",
            "Nothing, if it was deleted on purpose: the result is kept.",
        )


def source_differs(job: JobEvidence) -> Iterator[RuleBreach]:
    """The object of its owner's that a finished job read is unchanged."""
    row = job.row
    if row is None or row.status != "succeeded" or job.whole.uploaded(row):
        return
    found = job.whole.objects.get(job.whole.raw_location(row))
    difference = _difference(job, row, found, row.content_sha256)
    if found and difference:
        yield RuleBreach(
            s3(found.location),
            f"The object has changed since the job read it: {difference}.",
            "It was submitted from a place of its owner's, who may replace it.",
            "Submit it as a new job if the text of the new bytes is wanted.",
        )


def copy_missing(job: JobEvidence) -> Iterator[RuleBreach]:
    """The copy that the OCR of a succeeded job read exists."""
    copy = _copy(job)
    if copy and _is_absent(job, (copy.bucket, copy.key)):
        yield RuleBreach(
            s3((copy.bucket, copy.key)),
            "The copy of the photo that OCR read is gone.",
            "Nothing here deletes a copy that a row refers to; the bucket was changed by something else.",
            f"{_RESTORE}. Where the photo is submitted again, a copy is made again; the job's text is not affected.",
        )


def copy_differs(job: JobEvidence) -> Iterator[RuleBreach]:
    """The copy that the OCR of a succeeded job read is unchanged."""
    copy = _copy(job)
    found = job.whole.objects.get((copy.bucket, copy.key)) if copy else None
    if copy is None or found is None:
        return
    if found.sha256 is not None:
        difference = f"its bytes hash to {found.sha256}, not to {copy.sha256}" if found.sha256 != copy.sha256 else ""
    else:
        difference = _sizes(found, copy.size_bytes)
    if difference:
        yield RuleBreach(
            s3(found.location),
            f"The copy of the photo is not the one that OCR read: {difference}.",
            "A copy is written once; the object was overwritten or damaged.",
            f"{_RESTORE}. A new job with the photo would read these bytes.",
        )


def ocr_missing(job: JobEvidence) -> Iterator[RuleBreach]:
    """The OCR response of every succeeded job exists."""
    location = ocr_location(job)
    if location and _is_absent(job, location):
        yield RuleBreach(
            s3(location),
            "The job succeeded, and its OCR answer is gone.",
            "The answer is stored before the row says succeeded, so it was there; the bucket was changed since.",
            f"{_RESTORE}, {_AGAIN.format(job=job.job_id)}",
        )


def ocr_differs(job: JobEvidence) -> Iterator[RuleBreach]:
    """The metadata of the OCR response agree with the row."""
    row, location = job.row, ocr_location(job)
    found = job.whole.objects.get(location) if location else None
    if row is None or found is None or found.metadata is None:
        return
    expected = {
        "source-sha256": _read_sha256(job, row),
        "ocr-engine": row.ocr_engine,
        "ocr-version": row.ocr_version,
        "page-count": "" if row.page_count is None else str(row.page_count),
    }
    differing = _differing(expected, found.metadata)
    if found.size_bytes == 0:
        differing = "it is empty"
    if differing:
        yield RuleBreach(
            s3(found.location),
            f"The OCR answer is not the one that the row describes: {differing}.",
            "The first answer stored is the one that counts; this object was overwritten, or the row was changed.",
            f"{_RESTORE}, {_AGAIN.format(job=job.job_id)}",
        )


def manifest_missing(job: JobEvidence) -> Iterator[RuleBreach]:
    """The manifest of every succeeded job exists."""
    location = manifest_location(job)
    if location and _is_absent(job, location):
        yield RuleBreach(
            s3(location),
            "The job succeeded, and its manifest is gone.",
            "The manifest is stored before the row says succeeded, so it was there; the bucket was changed since.",
            f"{_RESTORE}; the row and the OCR answer hold all it said but the photo's size and type.",
        )


def manifest_differs(job: JobEvidence) -> Iterator[RuleBreach]:
    """The manifest agrees with the row."""
    row, location = job.row, manifest_location(job)
    if row is None or location is None:
        return
    found = job.whole.objects.get(location)
    manifest = read_manifest(found)
    if manifest is None:
        unfit = isinstance(job.whole.unreadable.get(location), DocumentTooLarge)
        difference = "it is no manifest" if unfit or (found and found.body is not None) else ""
    else:
        expected = {
            "job_id": str(job.job_id),
            "s3_raw_bucket": job.whole.raw_location(row)[0],
            "s3_raw_key": row.s3_raw_key,
            "sha256": row.content_sha256,
            "s3_ocr_key": row.s3_ocr_key,
            "ocr_engine": row.ocr_engine,
            "ocr_version": row.ocr_version,
            "page_count": row.page_count,
        }
        difference = _differing(expected, manifest.model_dump())
    if difference:
        yield RuleBreach(
            s3(location),
            f"The manifest does not say what the row says: {difference}.",
            "Both are written from the same values; one of them was changed since.",
            f"{_RESTORE} if the row is right (`photo-worker show {job.job_id}`), or correct the row.",
        )


def object_unreadable(job: JobEvidence) -> Iterator[RuleBreach]:
    """These credentials can read every object that a finished job's row names."""
    row = job.row
    if row is None or row.status in OPEN_STATUSES:
        return
    copy = _copy(job)
    named = {job.whole.raw_location(row), ocr_location(job), manifest_location(job)}
    named |= {(copy.bucket, copy.key)} if copy else set()
    for location in sorted(place for place in named if place):
        error = job.whole.unreadable.get(location)
        if error is None or isinstance(error, _SAID_ELSEWHERE) or row.error_code in _ABSENCE:
            continue
        yield RuleBreach(
            s3(location),
            f"The object cannot be looked at: {error.message}",
            "Without that, nothing can be said about it.",
            error.hint,
        )


def ocr_location(job: JobEvidence) -> Location | None:
    """Return the location of a succeeded job's OCR response."""
    row = job.row
    if row is None or row.status != "succeeded" or not row.s3_ocr_key:
        return None
    return row.s3_bucket or job.whole.bucket, row.s3_ocr_key


def manifest_location(job: JobEvidence) -> Location | None:
    """Return the location of a succeeded job's manifest."""
    row = job.row
    if row is None or row.status != "succeeded" or not row.s3_manifest_key:
        return None
    return row.s3_bucket or job.whole.bucket, row.s3_manifest_key


def _is_absent(job: JobEvidence, location: Location) -> bool:
    return isinstance(job.whole.unreadable.get(location), (ObjectMissing, BucketMissing))


def _difference(job: JobEvidence, row: JobRecord, found: StoredObject | None, sha256: str) -> str:
    """Say how a photo differs from the bytes that OCR read: by its hash or, without one, by its ETag or size."""
    if found is None:
        return ""
    if found.sha256 is not None:
        return f"its bytes hash to {found.sha256}, not to {sha256}" if sha256 and found.sha256 != sha256 else ""
    location = manifest_location(job)
    manifest = read_manifest(job.whole.objects.get(location)) if location else None
    if manifest is None or manifest.sha256 != row.content_sha256:
        return ""
    if manifest.etag and found.etag and manifest.etag != found.etag:
        return f"its ETag is {found.etag}, not {manifest.etag}"
    return _sizes(found, manifest.size_bytes)


def _sizes(found: StoredObject, size: int | None) -> str:
    return f"it has {found.size_bytes} bytes, not {size}" if size not in {None, found.size_bytes} else ""


def _read_sha256(job: JobEvidence, row: JobRecord) -> str:
    """Return the hash of the photo or copy that OCR read; empty if the manifest, which alone knows, is lost."""
    location = manifest_location(job)
    manifest = read_manifest(job.whole.objects.get(location)) if location else None
    if manifest is None:
        return ""
    return manifest.converted.sha256 if manifest.converted else row.content_sha256


def _copy(job: JobEvidence) -> ConvertedCopy | None:
    """Return the copy that a succeeded job's OCR read in place of the photo, from its manifest."""
    location = manifest_location(job)
    manifest = read_manifest(job.whole.objects.get(location)) if location else None
    return manifest.converted if manifest else None


def _differing(expected: Mapping[str, object], actual: Mapping[str, object]) -> str:
    """Say which values differ; an empty expectation, which older rows may have, matches every value."""
    return ", ".join(
        f"{name} is {_short(actual.get(name))}, not {_short(value)}"
        for name, value in expected.items()
        if value not in {None, ""} and actual.get(name) != value
    )


def _short(value: object) -> str:
    """Format a value that another program may have written, cut to ``_SHOWN_LENGTH``."""
    if value is None:
        return "missing"
    shown = repr(value)
    return shown if len(shown) <= _SHOWN_LENGTH else f"{shown[:_SHOWN_LENGTH]}..."
