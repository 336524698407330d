"""The ``WorkflowOrchestrator`` port on Temporal."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC
from uuid import UUID

from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    TerminatedError,
    WorkflowAlreadyStartedError,
)
from temporalio.exceptions import TimeoutError as TemporalTimeoutError
from temporalio.service import RPCError

from photo_worker.contracts.image import ImageProcessingInput, ImageProcessingResult
from photo_worker.errors import TERMINATED, JobCancelled, JobFailed, JobMissing, PhotoWorkerError
from photo_worker.orchestration import rpc_errors
from photo_worker.orchestration.erasure import ERASE_SECONDS, erase_runs
from photo_worker.orchestration.pollers import WorkersState, backlog, workers_of
from photo_worker.ports import JobHandle, QueueState, WaitingAttempt, WorkflowState
from photo_worker.temporal_errors import TemporalUnavailable
from photo_worker.workflows.image import ImageProcessingWorkflow

_STATUSES = {
    WorkflowExecutionStatus.RUNNING: "running",
    WorkflowExecutionStatus.COMPLETED: "completed",
    WorkflowExecutionStatus.FAILED: "failed",
    WorkflowExecutionStatus.CANCELED: "cancelled",
    WorkflowExecutionStatus.TERMINATED: "terminated",
    WorkflowExecutionStatus.TIMED_OUT: "timed_out",
    WorkflowExecutionStatus.CONTINUED_AS_NEW: "continued",
}


_WITHOUT_REASON = frozenset({WorkflowExecutionStatus.COMPLETED, WorkflowExecutionStatus.CONTINUED_AS_NEW})

# The same as in the workflow's class: recorded histories hold this name.
WORKFLOW_TYPE = "image_processing_workflow"

_PLAIN = re.compile(r"[\w./:@ -]+")


class TemporalOrchestrator:
    """Starts image processing with the job id as the workflow id, at most once for each id.

    Methods raise ``TemporalUnavailable`` or ``TemporalThrottled`` if the same call may succeed later, and
    ``TemporalNamespaceMissing``, ``TemporalUnauthenticated``, ``TemporalForbidden`` or ``TemporalRequestInvalid`` if it
    will not.

    ``erase_seconds`` is how long ``erase`` waits for Temporal to delete a history.
    """

    def __init__(self, client: Client, task_queue: str, *, erase_seconds: float = ERASE_SECONDS) -> None:
        self._client = client
        self._task_queue = task_queue
        self._erase_seconds = erase_seconds

    async def start_image_processing(self, request: ImageProcessingInput) -> JobHandle:
        """Start the job, or join the one that has this id, running or closed.

        Raises ``TemporalUnavailable``; calling it again with the same id is then safe.
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
            raise self._translated(error) from error
        return JobHandle(UUID(request.job_id), handle.result_run_id or "", joined=False)

    async def start_again(self, job_id: UUID) -> JobHandle:
        """Start a job whose workflow has ended without a result once more, with the same input.

        Joins the job if it runs or has been restarted meanwhile. Raises ``JobMissing`` if Temporal has no history of
        it, and ``TemporalUnavailable``.
        """
        try:
            first = await anext(self._client.get_workflow_handle(str(job_id)).fetch_history_events(page_size=1))
            payloads = first.workflow_execution_started_event_attributes.input.payloads
            (request,) = await self._client.data_converter.decode(payloads, [ImageProcessingInput])
            handle = await self._client.start_workflow(
                ImageProcessingWorkflow.run,
                request,
                id=str(job_id),
                task_queue=self._task_queue,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                static_summary=f"s3://{request.bucket}/{request.key}"[:200],
            )
        except WorkflowAlreadyStartedError as error:
            return JobHandle(job_id, error.run_id or "", joined=True)
        except RPCError as error:
            if rpc_errors.is_not_there(error):
                raise JobMissing(job_id=job_id) from error
            raise self._translated(error) from error
        return JobHandle(job_id, handle.result_run_id or "", joined=False)

    async def result(self, job_id: UUID) -> ImageProcessingResult:
        """Wait for the job's end. Raises ``JobFailed``, ``JobCancelled``, ``JobMissing`` or ``TemporalUnavailable``."""
        handle = self._client.get_workflow_handle(str(job_id), result_type=ImageProcessingResult)
        try:
            result: ImageProcessingResult = await handle.result()
            return result
        except WorkflowFailureError as error:
            raise _failure(job_id, error) from error
        except RPCError as error:
            if rpc_errors.is_not_there(error):
                raise JobMissing(job_id=job_id) from error
            raise self._translated(error) from error

    async def cancel(self, job_id: UUID) -> None:
        """Request that a running job is cancelled; a closed one does not change. Raises ``JobMissing``."""
        try:
            await self._client.get_workflow_handle(str(job_id)).cancel()
        except RPCError as error:
            if rpc_errors.is_not_there(error):
                raise JobMissing(job_id=job_id) from error
            raise self._translated(error) from error

    async def has_worker(self) -> bool:
        """Tell whether a worker has polled the task queue, or reported that it waits, within ``RECENT_POLL``."""
        return (await self._workers()).are_there

    async def _workers(self) -> WorkersState:
        try:
            return await workers_of(self._client, self._task_queue)
        except RPCError as error:
            raise self._translated(error) from error

    async def state(self, job_id: UUID) -> WorkflowState | None:
        """Return the state of a job's workflow, with the reason if it failed; None if Temporal knows no workflow."""
        try:
            found = await self._client.get_workflow_handle(str(job_id)).describe()
            reason = await self._reason(job_id, found)
        except RPCError as error:
            if rpc_errors.is_not_there(error):
                return None
            raise self._translated(error) from error
        return WorkflowState(
            # A status that is unknown here, such as a newer server's paused, means that the workflow has not ended.
            status=_STATUSES.get(found.status, "running") if found.status is not None else "running",
            started_at=found.start_time,
            closed_at=found.close_time,
            reason_code=str(reason.context.get("reason_code") or reason.code) if reason else None,
            reason=str(reason.context.get("reason") or reason.message) if reason else None,
            waiting=_waiting(found),
        )

    async def _reason(self, job_id: UUID, found: WorkflowExecutionDescription) -> PhotoWorkerError | None:
        """Return why a closed run has no result, from its last event."""
        if found.close_time is None or found.status in _WITHOUT_REASON:
            return None
        try:
            await self._client.get_workflow_handle(str(job_id), run_id=found.run_id).result(follow_runs=False)
        except WorkflowFailureError as error:
            return _failure(job_id, error)
        return None

    async def open_jobs(self) -> AsyncIterator[str]:
        """Yield the workflow ids of the image processing that runs now on this task queue.

        They come from Temporal's visibility store, which may be a moment behind. Other deployments may share the
        namespace.
        """
        query = f"WorkflowType = '{WORKFLOW_TYPE}' AND ExecutionStatus = 'Running'"
        if _PLAIN.fullmatch(self._task_queue):
            # Servers differ in how they parse quotes and backslashes in a filter.
            query += f" AND TaskQueue = '{self._task_queue}'"
        try:
            async for found in self._client.list_workflows(query):
                if found.task_queue == self._task_queue:
                    yield found.id
        except RPCError as error:
            raise self._translated(error) from error

    async def queue_state(self) -> QueueState:
        """Return how many workflow tasks and activities wait for a worker, and how long the oldest has waited.

        Temporal calls both approximate.
        """
        try:
            waiting, oldest = await backlog(self._client, self._task_queue)
        except RPCError as error:
            raise self._translated(error) from error
        workers = await self._workers()
        return QueueState(
            name=self._task_queue,
            backlog=waiting,
            oldest_seconds=oldest.total_seconds(),
            has_worker=workers.are_there,
            waits_for=() if workers.take_work else workers.waits_for,
        )

    async def erase(self, job_id: UUID) -> bool:
        """Delete every run of a job's workflow, terminating the one that runs, and wait until none is left.

        Temporal needs a minute or two for a history that closed a moment ago. Raises ``TemporalUnavailable`` if the
        history still exists after ``erase_seconds``; Temporal goes on deleting, and calling this again waits again.
        """
        try:
            return await erase_runs(self._client, str(job_id), seconds=self._erase_seconds)
        except TimeoutError as error:
            raise TemporalUnavailable(target=self._target, reason=str(error)) from error
        except RPCError as error:
            raise self._translated(error) from error

    @property
    def _target(self) -> str:
        return self._client.service_client.config.target_host

    def _translated(self, error: RPCError) -> PhotoWorkerError:
        return rpc_errors.translate(error, target=self._target, namespace=self._client.namespace)


def _waiting(found: WorkflowExecutionDescription) -> WaitingAttempt | None:
    """Return what the job's current step waits for, None if no attempt of it has failed."""
    for pending in found.raw_description.pending_activities:
        if pending.HasField("last_failure"):
            failure = pending.last_failure
            next_at = pending.scheduled_time.ToDatetime(UTC) if pending.HasField("scheduled_time") else None
            return WaitingAttempt(
                step=pending.activity_type.name,
                attempt=pending.attempt,
                code=failure.application_failure_info.type or "timeout",
                reason=failure.message,
                next_at=next_at if pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED else None,
            )
    return None


def _failure(job_id: UUID, error: WorkflowFailureError) -> PhotoWorkerError:
    cause: BaseException | None = error.cause
    if isinstance(cause, CancelledError):
        return JobCancelled()
    if isinstance(cause, ActivityError):
        # The activity that records a failure has failed itself.
        cause = cause.cause
    if isinstance(cause, ApplicationError):
        return JobFailed(job_id=job_id, reason_code=cause.type or "", reason=cause.message)
    if isinstance(cause, TerminatedError):
        why = cause.message.removeprefix("Workflow terminated").strip()
        reason = "the workflow was terminated by an operator" + (f": {why}" if why else "")
        return JobFailed(job_id=job_id, reason_code=TERMINATED, reason=reason)
    if isinstance(cause, TemporalTimeoutError):
        return JobFailed(job_id=job_id, reason_code="timeout", reason="the workflow did not end in its time")
    return JobFailed(job_id=job_id, reason_code="unknown", reason=str(cause))
