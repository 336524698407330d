"""``image_processing_workflow``: one uploaded photo, from the object store through OCR to durable rows.

Recorded histories contain its type name and those of its activities. Behaviour changes go under ``workflow.patched``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from photo_worker import policies
    from photo_worker.activities.assets import AssetActivities
    from photo_worker.activities.boundary import to_application_error
    from photo_worker.activities.ocr import OcrActivities
    from photo_worker.activities.results import ResultActivities
    from photo_worker.contracts.arguments import only_argument
    from photo_worker.contracts.image import (
        CONFIGURED_ENGINE,
        REASON_LENGTH,
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
    from photo_worker.errors import InputError, SourceReplaced, StepFailed
    from photo_worker.workflows._support import (
        await_ignoring_cancellation,
        counting,
        execute,
        failure_reason,
        is_unexpected,
        lasting,
    )
    from photo_worker.workflows.policy_interceptor import policies_of_worker

_In = TypeVar("_In")
_Out = TypeVar("_Out")

# Patch id. Runs that began before it retry only a limited number of times if a service is unavailable.
LIFETIME = "job-lifetime"


@workflow.defn(name="image_processing_workflow")
class ImageProcessingWorkflow:
    """Verifies, reads and persists one photo. Ends with a manifest, or with a reason in the job's row."""

    def __init__(self) -> None:
        self._policies = policies_of_worker(policies.IMAGE)
        self._located: LocatedAsset | None = None
        self._ocr: OcrResult | None = None
        self._deadline: datetime | None = None

    @workflow.run
    async def run(self, *given: Any) -> ImageProcessingResult:
        """Process the photo that the only argument, an ``ImageProcessingInput``, names.

        The signature accepts any number of arguments, because the SDK would fail and retry the workflow task of a start
        with other arguments forever.
        """
        try:
            request = only_argument(given, ImageProcessingInput)
        except InputError as error:
            # As the data converter does, without a cause: recorded histories of such errors have none.
            raise to_application_error(error) from None
        try:
            parse_job_id(request.job_id)
        except InputError as error:
            # No row can carry this reason: the id is the row's key.
            raise to_application_error(error) from error
        if workflow.patched(LIFETIME):
            self._deadline = workflow.now() + self._lifetime(request)
        try:
            return await self._process(request)
        except (ActivityError, asyncio.CancelledError) as error:
            reason = failure_reason(error)
            status = await await_ignoring_cancellation(self._record_failure(request, reason))
            if status == "succeeded" and self._located and self._ocr:
                # The last activity has committed its transaction, and its response was lost.
                return _result(request, self._located, self._ocr)
            if is_cancelled_exception(error):
                raise
            raise reason from error

    def _lifetime(self, request: ImageProcessingInput) -> timedelta:
        if request.lifetime_seconds is None:
            return self._policies.lifetime
        return timedelta(seconds=request.lifetime_seconds)

    async def _process(self, request: ImageProcessingInput) -> ImageProcessingResult:
        readings = 1
        while True:
            try:
                located, ocr = await self._read(request)
                break
            except ActivityError as error:
                # Runs of earlier releases have no such error in their histories.
                if not _is_replaced(error) or not workflow.patched("source-replaced"):
                    raise
                if self._is_late(readings):
                    raise
            await workflow.sleep(self._policies.reread_wait(readings))
            readings += 1
        return await self._persist(request, located, ocr)

    def _is_late(self, readings: int) -> bool:
        """Tell whether the job stops after ``readings`` (from 1) readings that have failed.

        A run that began before jobs had a lifetime reads for at most a job's usual lifetime, counted from its start.
        Under an earlier release it may have gone on for longer, without a patch marker: each reading has its own patch
        id, so that a replayed "go on" does not decide for later readings.
        """
        if self._deadline is not None:
            return workflow.now() > self._deadline
        late = workflow.now() > workflow.info().start_time + self._policies.lifetime
        return late and workflow.patched(f"rereading-ends-{readings}")

    async def _read(self, request: ImageProcessingInput) -> tuple[LocatedAsset, OcrResult]:
        self._located, self._ocr = None, None
        self._located = await self._step(
            AssetActivities.verify_and_locate_asset,
            LocateAssetInput(
                bucket=request.bucket,
                key=request.key,
                expected_content_type=request.expected_content_type,
                job_id=request.job_id,
            ),
            self._policies.verify_and_locate_asset,
            self._policies.counted.verify_and_locate_asset,
        )
        # If OCR cannot read the photo itself, it reads the converted copy.
        read = self._located.converted or self._located
        revision = None if self._located.converted else self._located
        self._ocr = await self._step(
            OcrActivities.ocr_textract,
            OcrInput(
                bucket=read.bucket,
                key=read.key,
                engine=request.engine or CONFIGURED_ENGINE,
                job_id=request.job_id,
                sha256=read.sha256,
                content_type=read.content_type,
                size_bytes=read.size_bytes,
                version_id=revision.version_id if revision else None,
                etag=revision.etag if revision else None,
                modified_at=revision.modified_at if revision else None,
            ),
            self._policies.ocr_textract,
            self._policies.counted.ocr_textract,
        )
        return self._located, self._ocr

    async def _persist(
        self, request: ImageProcessingInput, located: LocatedAsset, ocr: OcrResult
    ) -> ImageProcessingResult:
        await self._step(
            ResultActivities.persist_artifacts,
            PersistInput(
                job_id=request.job_id,
                s3_raw_key=located.key,
                sha256=located.sha256,
                ocr_s3_key=ocr.s3_ocr_key,
                ocr_engine=ocr.ocr_engine,
                ocr_version=ocr.ocr_version,
                page_count=ocr.page_count,
                bucket=located.bucket,
                content_type=located.content_type,
                size_bytes=located.size_bytes,
                version_id=located.version_id,
                etag=located.etag,
                modified_at=located.modified_at,
                converted=located.converted,
            ),
            self._policies.persist_artifacts,
            self._policies.counted.persist_artifacts,
            # The result exists and is being written, so a cancellation comes too late.
            cancellation=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        return _result(request, located, ocr)

    async def _step(
        self,
        method: Callable[[Any, _In], _Out],
        argument: _In,
        policy: policies.ActivityPolicy,
        counted: policies.ActivityPolicy,
        *,
        cancellation: workflow.ActivityCancellationType = workflow.ActivityCancellationType.TRY_CANCEL,
    ) -> _Out:
        """Run one activity to its end.

        Temporal retries a fault of a service or a worker until the job's lifetime is over. An unexpected error ends the
        activity at once; it is counted and retried here. ``counted`` is the policy of runs that began before jobs had a
        lifetime.
        """
        if self._deadline is None:
            return await execute(method, argument, counted, counting(counted), cancellation=cancellation)
        tried = 0
        while True:
            left = max(self._deadline - workflow.now(), self._policies.last_chance)
            try:
                return await execute(method, argument, policy, lasting(policy), left, cancellation=cancellation)
            except ActivityError as error:
                tried += 1
                if not is_unexpected(error) or tried >= policy.maximum_attempts:
                    raise
            await workflow.sleep(policy.wait_before(tried + 1))

    async def _record_failure(self, request: ImageProcessingInput, reason: ApplicationError) -> str:
        chosen = self._policies.counted if self._deadline is None else self._policies
        policy = chosen.record_failure
        outcome = await execute(
            ResultActivities.record_failure,
            FailureInput(
                job_id=request.job_id,
                bucket=request.bucket,
                key=request.key,
                code=reason.type or StepFailed.code,
                message=reason.message[:REASON_LENGTH],
            ),
            policy,
            counting(policy),
        )
        return outcome.status


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


def _is_replaced(error: ActivityError) -> bool:
    return isinstance(error.cause, ApplicationError) and error.cause.type == SourceReplaced.code
