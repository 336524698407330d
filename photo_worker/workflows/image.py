"""``image_processing_workflow``: one uploaded photo, from the object store through OCR to durable rows.

Its type name and those of its activities stand in recorded histories. Behaviour changes go
under ``workflow.patched``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from photo_worker import policies
    from photo_worker.activities.assets import AssetActivities
    from photo_worker.activities.boundary import to_application_error
    from photo_worker.activities.ocr import OcrActivities
    from photo_worker.activities.results import ResultActivities
    from photo_worker.contracts.image import (
        CONFIGURED_ENGINE,
        FailureInput,
        ImageProcessingInput,
        ImageProcessingResult,
        LocateAssetInput,
        LocatedAsset,
        OcrInput,
        OcrResult,
        PersistInput,
    )
    from photo_worker.contracts.keys import manifest_key, parse_job_id
    from photo_worker.errors import InputError, JobCancelled, StepFailed, StepTimeout

# A contract bounds its strings; a longer reason is cut, not refused.
_REASON_LENGTH = 4000


@workflow.defn(name="image_processing_workflow")
class ImageProcessingWorkflow:
    """Verify, read and persist one photo. Ends with a manifest, or with a reason in the job's row."""

    def __init__(self) -> None:
        self._located: LocatedAsset | None = None
        self._ocr: OcrResult | None = None

    @workflow.run
    async def run(self, request: ImageProcessingInput) -> ImageProcessingResult:
        """Process the photo that ``request`` points at."""
        try:
            parse_job_id(request.job_id)
        except InputError as error:
            # No row can carry this reason: the id is the row's key.
            raise to_application_error(error) from error
        try:
            return await self._process(request)
        except (ActivityError, asyncio.CancelledError) as error:
            reason = _reason(error)
            status = await _to_the_end(_record_failure(request, reason))
            if status == "succeeded" and self._located and self._ocr:
                # The last step's transaction was committed although its reply was lost.
                return _result(request, self._located, self._ocr)
            if is_cancelled_exception(error):
                raise
            raise reason from error

    async def _process(self, request: ImageProcessingInput) -> ImageProcessingResult:
        self._located = await workflow.execute_activity_method(
            AssetActivities.verify_and_locate_asset,
            LocateAssetInput(
                bucket=request.bucket,
                key=request.key,
                expected_content_type=request.expected_content_type,
                job_id=request.job_id,
            ),
            start_to_close_timeout=policies.VERIFY.start_to_close_timeout,
            heartbeat_timeout=policies.VERIFY.heartbeat_timeout,
            retry_policy=_retry_policy(policies.VERIFY),
        )
        # OCR reads the copy of a photo that it cannot read itself.
        read = self._located.converted or self._located
        self._ocr = await workflow.execute_activity_method(
            OcrActivities.ocr_textract,
            OcrInput(
                bucket=read.bucket,
                key=read.key,
                engine=request.engine or CONFIGURED_ENGINE,
                job_id=request.job_id,
                sha256=read.sha256,
                content_type=read.content_type,
                size_bytes=read.size_bytes,
            ),
            start_to_close_timeout=policies.OCR.start_to_close_timeout,
            heartbeat_timeout=policies.OCR.heartbeat_timeout,
            retry_policy=_retry_policy(policies.OCR),
        )
        await workflow.execute_activity_method(
            ResultActivities.persist_artifacts,
            PersistInput(
                job_id=request.job_id,
                s3_raw_key=self._located.key,
                sha256=self._located.sha256,
                ocr_s3_key=self._ocr.s3_ocr_key,
                ocr_engine=self._ocr.ocr_engine,
                ocr_version=self._ocr.ocr_version,
                page_count=self._ocr.page_count,
                bucket=self._located.bucket,
                content_type=self._located.content_type,
                size_bytes=self._located.size_bytes,
                converted=self._located.converted,
            ),
            start_to_close_timeout=policies.PERSIST.start_to_close_timeout,
            retry_policy=_retry_policy(policies.PERSIST),
            # The result is there and is being written: a cancellation comes too late to be of use.
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        return _result(request, self._located, self._ocr)


async def _to_the_end(work: Coroutine[Any, Any, str]) -> str:
    """Wait for ``work`` even where the workflow is cancelled meanwhile: a row must not stay "running"."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        # Temporal takes one cancellation request a run, so nothing interrupts this second wait.
        return await task


def _result(request: ImageProcessingInput, located: LocatedAsset, ocr: OcrResult) -> ImageProcessingResult:
    return ImageProcessingResult(
        job_id=request.job_id,
        status="succeeded",
        s3_raw_key=located.key,
        sha256=located.sha256,
        s3_ocr_key=ocr.s3_ocr_key,
        ocr_engine=ocr.ocr_engine,
        ocr_version=ocr.ocr_version,
        page_count=ocr.page_count,
        s3_manifest_key=manifest_key(parse_job_id(request.job_id)),
    )


def _reason(error: BaseException) -> ApplicationError:
    """Return why the job ends, with a stable code as its type."""
    if is_cancelled_exception(error):
        return to_application_error(JobCancelled())
    cause = error.__cause__
    step = error.activity_type if isinstance(error, ActivityError) else "workflow"
    if isinstance(cause, ApplicationError) and cause.type and cause.details:
        return ApplicationError(cause.message, *cause.details, type=cause.type, non_retryable=True)
    if isinstance(cause, TimeoutError):
        return to_application_error(StepTimeout(step=step, reason=cause.message))
    detail = f"{cause.type}: {cause.message}" if isinstance(cause, ApplicationError) else str(cause or error)
    return to_application_error(StepFailed(step=step, reason=detail))


async def _record_failure(request: ImageProcessingInput, reason: ApplicationError) -> str:
    outcome = await workflow.execute_activity_method(
        ResultActivities.record_failure,
        FailureInput(
            job_id=request.job_id,
            bucket=request.bucket,
            key=request.key,
            code=reason.type or StepFailed.code,
            message=reason.message[:_REASON_LENGTH],
        ),
        start_to_close_timeout=policies.RECORD_FAILURE.start_to_close_timeout,
        retry_policy=_retry_policy(policies.RECORD_FAILURE),
    )
    return outcome.status


def _retry_policy(policy: policies.ActivityPolicy) -> RetryPolicy:
    return RetryPolicy(
        initial_interval=policy.initial_interval,
        backoff_coefficient=policy.backoff_coefficient,
        maximum_interval=policy.maximum_interval,
        maximum_attempts=policy.maximum_attempts,
    )
