"""The ``WorkflowOrchestrator`` port on Temporal."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from temporalio.client import Client, WorkflowFailureError
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import (
    ApplicationError,
    CancelledError,
    TerminatedError,
    WorkflowAlreadyStartedError,
)
from temporalio.exceptions import TimeoutError as TemporalTimeoutError
from temporalio.service import RPCError, RPCStatusCode

from photo_worker.contracts.image import ImageProcessingInput, ImageProcessingResult
from photo_worker.errors import JobCancelled, JobFailed, JobMissing, PhotoWorkerError, TemporalUnavailable
from photo_worker.orchestration.pollers import RECENT_POLL, last_poll
from photo_worker.ports import JobHandle
from photo_worker.workflows.image import ImageProcessingWorkflow


class TemporalOrchestrator:
    """Starts image processing with the job id as the workflow id, at most once for each id."""

    def __init__(self, client: Client, task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue

    async def start_image_processing(self, request: ImageProcessingInput) -> JobHandle:
        """Start the job, or join the one that has this id, running or closed.

        Raises ``TemporalUnavailable``; starting again with the same id is then safe.
        """
        try:
            handle = await self._client.start_workflow(
                ImageProcessingWorkflow.run,
                request,
                id=request.job_id,
                task_queue=self._task_queue,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                static_summary=f"s3://{request.bucket}/{request.key}"[:200],
            )
        except WorkflowAlreadyStartedError as error:
            return JobHandle(UUID(request.job_id), error.run_id or "", joined=True)
        except RPCError as error:
            raise self._unavailable(error) from error
        return JobHandle(UUID(request.job_id), handle.result_run_id or "", joined=False)

    async def result(self, job_id: UUID) -> ImageProcessingResult:
        """Wait for the job's end. Raises ``JobFailed``, ``JobCancelled``, ``JobMissing`` or ``TemporalUnavailable``."""
        handle = self._client.get_workflow_handle(str(job_id), result_type=ImageProcessingResult)
        try:
            result: ImageProcessingResult = await handle.result()
            return result
        except WorkflowFailureError as error:
            raise _failure(job_id, error) from error
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                raise JobMissing(job_id=job_id) from error
            raise self._unavailable(error) from error

    async def cancel(self, job_id: UUID) -> None:
        """Ask a running job to stop; a closed one stays as it is."""
        try:
            await self._client.get_workflow_handle(str(job_id)).cancel()
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                raise JobMissing(job_id=job_id) from error
            raise self._unavailable(error) from error

    async def has_worker(self) -> bool:
        """Tell whether a worker has polled the task queue within ``RECENT_POLL``."""
        try:
            polled = await last_poll(self._client, self._task_queue)
        except RPCError as error:
            raise self._unavailable(error) from error
        return polled is not None and datetime.now(UTC) - polled < RECENT_POLL

    def _unavailable(self, error: RPCError) -> TemporalUnavailable:
        return TemporalUnavailable(target=self._client.service_client.config.target_host, reason=error.message)


def _failure(job_id: UUID, error: WorkflowFailureError) -> PhotoWorkerError:
    cause = error.cause
    if isinstance(cause, CancelledError):
        return JobCancelled()
    if isinstance(cause, ApplicationError):
        return JobFailed(job_id=job_id, reason_code=cause.type or "", reason=cause.message)
    if isinstance(cause, TerminatedError):
        return JobFailed(job_id=job_id, reason_code="terminated", reason="the workflow was terminated by an operator")
    if isinstance(cause, TemporalTimeoutError):
        return JobFailed(job_id=job_id, reason_code="timeout", reason="the workflow did not end in its time")
    return JobFailed(job_id=job_id, reason_code="unknown", reason=str(cause))
