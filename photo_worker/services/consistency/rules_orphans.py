"""Rules about objects that belong to no job, and about traces of erased jobs."""

from __future__ import annotations

from collections.abc import Container, Iterator

from photo_worker.contracts.image import Manifest
from photo_worker.contracts.keys import manifest_key
from photo_worker.services.consistency.copies import copies_of
from photo_worker.services.consistency.evidence import (
    CONVERTED_FOLDER,
    JOB_FOLDERS,
    RAW_FOLDER,
    Evidence,
    JobEvidence,
    Location,
    StoredObject,
    converted_sha256,
    jobs_of,
    owner_of,
    uploaded_sha256,
)
from photo_worker.services.consistency.finding import Repair, RuleBreach
from photo_worker.services.consistency.rules_results import read_manifest, s3


def erased_traces(job: JobEvidence) -> Iterator[RuleBreach]:
    """An erased job has no objects, row or workflow of any type."""
    if not job.erased:
        return
    traces = [s3(found.location) for found in job.objects]
    if job.row is not None:
        traces.append("its row")
    if job.workflow is not None:
        traces.append("its workflow")
    traces += [f"its workflow {other.workflow_id}" for other in job.others]
    if traces:
        yield RuleBreach(
            f"job {job.job_id}",
            f"The job was erased, and this is left of it: {', '.join(traces)}.",
            "The erase was interrupted, or still runs, or a worker that was paused meanwhile wrote once more.",
            f"`photo-worker erase {job.job_id}` again, to its end.",
            Repair.ERASE_TRACES,
        )


def artifact_without_row(job: JobEvidence) -> Iterator[RuleBreach]:
    """Every artifact belongs to a job with a row, or is young."""
    if is_orphan(job) and not is_young(job) and not _has_result(job):
        yield RuleBreach(
            _directory(job),
            f"{_objects(job)} of a job that has no row.",
            "The row is written before any object of its job; it was deleted by something else than an erase.",
            f"Delete the objects: `photo-worker erase {job.job_id}`.",
            Repair.DELETE_ARTIFACTS,
        )


def result_without_row(job: JobEvidence) -> Iterator[RuleBreach]:
    """Every finished result belongs to a job with a row, or is young."""
    if is_orphan(job) and not is_young(job) and _has_result(job):
        yield RuleBreach(
            _directory(job),
            f"{_objects(job)} of a finished job that has no row.",
            "The database was set back, by a restore for example, or the row was deleted by hand, or DATABASE_URL"
            " names the database of another bucket. A result that was paid for is never deleted by a repair.",
            f"Restore the row if the result is wanted; if not: `photo-worker erase {job.job_id}`.",
        )


def photo_without_row(evidence: Evidence) -> Iterator[RuleBreach]:
    """A row refers to every uploaded photo that is not young."""
    for found in orphan_photos(evidence):
        if not is_young_object(evidence, found):
            yield RuleBreach(
                s3(found.location),
                f"No job refers to this photo ({_size(found)}).",
                "The process that uploaded it ended before it wrote the row.",
                "Submit the photo again if its text is wanted; if not, the object may be deleted.",
                Repair.DELETE_PHOTO,
            )


def copy_without_row(evidence: Evidence) -> Iterator[RuleBreach]:
    """A row refers to the photo of every copy that is not young."""
    for found in orphan_copies(evidence):
        if not is_young_object(evidence, found):
            yield RuleBreach(
                s3(found.location),
                f"No job refers to the photo of this copy, which was made for OCR ({_size(found)}).",
                "An attempt wrote once more when its job had been erased or its photo replaced, or the row was deleted"
                " by something else than an erase.",
                "The object may be deleted: it is made again where the photo is submitted again.",
                Repair.DELETE_PHOTO,
            )


def name_unknown(evidence: Evidence) -> Iterator[RuleBreach]:
    """Every object under artifacts/, tags/, converted/ and raw/ has a name that the worker gives."""
    used = references(evidence)
    for found in evidence.objects.values():
        if found.bucket != evidence.bucket or is_named_here(found.key) or found.location in used:
            continue
        yield RuleBreach(
            s3(found.location),
            f"The object ({found.size_bytes} bytes) has a name that the worker does not give.",
            "Somebody else put it there. It is left alone, by every repair as well.",
            "Move it elsewhere, or leave it.",
        )


def is_named_here(key: str) -> bool:
    """Tell whether the worker gives such names, or stores nothing under the key's prefix."""
    if key.startswith(JOB_FOLDERS):
        return owner_of(key) is not None
    if key.startswith(CONVERTED_FOLDER):
        return converted_sha256(key) is not None
    return not key.startswith(RAW_FOLDER) or uploaded_sha256(key) is not None


def is_orphan(job: JobEvidence) -> bool:
    """Tell whether a job has objects and nothing else: no row, no erase, no workflow that may still write."""
    return bool(job.objects) and job.row is None and not job.erased and not job.running


def is_young(job: JobEvidence) -> bool:
    """Tell whether any of a job's objects is younger than the grace time."""
    return any(is_young_object(job.whole, found) for found in job.objects)


def is_young_object(evidence: Evidence, found: StoredObject) -> bool:
    """Tell whether an object is younger than the grace time; one of unknown age counts as young."""
    return found.modified_at is None or evidence.age(found.modified_at) < evidence.grace


def orphan_photos(evidence: Evidence) -> Iterator[StoredObject]:
    """Return the uploaded photos that neither a row nor a manifest refers to, whatever their age."""
    used = references(evidence)
    for found in evidence.objects.values():
        if found.bucket == evidence.bucket and uploaded_sha256(found.key) and found.location not in used:
            yield found


def orphan_copies(evidence: Evidence) -> Iterator[StoredObject]:
    """Return the copies of photos that neither a row nor a manifest refers to, whatever their age."""
    used = references(evidence)
    for found in evidence.objects.values():
        if found.bucket == evidence.bucket and converted_sha256(found.key) and found.location not in used:
            yield found


def references(evidence: Evidence) -> Container[Location]:
    """Return the locations of the photos of all rows, with their copies, and of those of results whose row is lost."""
    if evidence.referenced is not None:
        return evidence.referenced
    return {location for job in jobs_of(evidence) for location in references_of(job)}


def references_of(job: JobEvidence) -> set[Location]:
    """Return the locations of the photos that a job's row and its manifest name, each with its copy.

    An erased job's row still counts: its erase deletes the photo, before the row.
    """
    found = set()
    if job.row is not None:
        found.add(job.whole.raw_location(job.row))
    manifest = None if job.erased else _manifest(job)
    if manifest is not None:
        found.add((manifest.s3_raw_bucket, manifest.s3_raw_key))
    return found | copies_of(job, manifest)


def _manifest(job: JobEvidence) -> Manifest | None:
    location = (job.whole.bucket, manifest_key(job.job_id))
    return read_manifest(next((found for found in job.objects if found.location == location), None))


def _has_result(job: JobEvidence) -> bool:
    return any(found.key == manifest_key(job.job_id) for found in job.objects)


def _size(found: StoredObject) -> str:
    return f"{found.size_bytes} bytes{', behind a delete marker' if found.hidden else ''}"


def _directory(job: JobEvidence) -> str:
    return s3((job.whole.bucket, job.objects[0].key.rpartition("/")[0] + "/"))


def _objects(job: JobEvidence) -> str:
    count = len(job.objects)
    return f"{count} object{'' if count == 1 else 's'} ({sum(found.size_bytes for found in job.objects)} bytes)"
