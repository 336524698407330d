"""Activities that record how a job ended."""

from __future__ import annotations

from temporalio import activity

from photo_worker.activities.heartbeats import heartbeating
from photo_worker.contracts.image import FailureInput, FailureResult, Manifest, PersistInput, PersistResult
from photo_worker.contracts.keys import manifest_key, parse_job_id
from photo_worker.crash_points import CrashPoint, crash_point
from photo_worker.errors import JobErased
from photo_worker.ports.job_repository import JobRepository, OcrRecord
from photo_worker.ports.object_store import ObjectStore


class ResultActivities:
    """Activities that write manifests and final rows."""

    def __init__(self, store: ObjectStore, repository: JobRepository, bucket: str) -> None:
        self._store = store
        self._repository = repository
        self._bucket = bucket

    # An exception that a cancellation throws into the thread could land in the middle of a commit.
    @activity.defn(no_thread_cancel_exception=True)
    def persist_artifacts(self, request: PersistInput) -> PersistResult:
        """Write the manifest, then the rows, so that a row with status succeeded always has its objects.

        Raises ``JobErased`` if the job was erased meanwhile, after deleting the manifest.
        """
        with heartbeating(also_cancelled=True):
            return self._persist(request)

    def _persist(self, request: PersistInput) -> PersistResult:
        job_id = parse_job_id(request.job_id)
        raw_bucket = request.bucket or self._bucket
        key = manifest_key(job_id)
        manifest = Manifest(
            job_id=request.job_id,
            s3_raw_bucket=raw_bucket,
            s3_raw_key=request.s3_raw_key,
            sha256=request.sha256,
            content_type=request.content_type,
            size_bytes=request.size_bytes,
            version_id=request.version_id,
            etag=request.etag,
            converted=request.converted,
            s3_ocr_key=request.ocr_s3_key,
            ocr_engine=request.ocr_engine,
            ocr_version=request.ocr_version,
            page_count=request.page_count,
        )
        body = manifest.model_dump_json(indent=2).encode() + b"\n"
        with crash_point(CrashPoint.MANIFEST_STORED):
            self._store.put(self._bucket, key, body, content_type="application/json")
        ocr = OcrRecord(
            s3_bucket=self._bucket,
            s3_ocr_key=request.ocr_s3_key,
            s3_manifest_key=key,
            ocr_engine=request.ocr_engine,
            ocr_version=request.ocr_version,
            page_count=request.page_count,
        )
        try:
            with crash_point(CrashPoint.RESULT_COMMITTED):
                self._repository.succeed(
                    job_id, bucket=raw_bucket, key=request.s3_raw_key, sha256=request.sha256, ocr=ocr
                )
        except JobErased:
            self._store.delete(self._bucket, key)
            raise
        return PersistResult(s3_manifest_key=key)

    # An exception that a cancellation throws into the thread could land in the middle of a commit.
    @activity.defn(no_thread_cancel_exception=True)
    def record_failure(self, request: FailureInput) -> FailureResult:
        """Record why a job ended without a result, unless its row is final already; return the row's status."""
        with crash_point(CrashPoint.FAILURE_RECORDED):
            recipe = self._repository.fail(
                parse_job_id(request.job_id),
                bucket=request.bucket,
                key=request.key,
                code=request.code,
                message=request.message,
            )
        return FailureResult(status=recipe.status)
