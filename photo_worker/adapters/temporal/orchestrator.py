"""The ``WorkflowOrchestrator`` port on Temporal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC
from typing import Any
from uuid import UUID

from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
)
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

from photo_worker.adapters.temporal import rpc_errors
from photo_worker.adapters.temporal.erasure import ERASE_SECONDS, PLAIN, erase_workflows, workflow_ids
from photo_worker.adapters.temporal.pollers import WorkersState, backlog, workers_of
from photo_worker.contracts.base import Contract
from photo_worker.contracts.references import Input, Result, WorkflowRef, WorkflowType
from photo_worker.errors import TERMINATED, JobCancelled, JobFailed, JobMissing, PhotoWorkerError, TemporalUnavailable
from photo_worker.ports.orchestrator import JobHandle, JobWorkflow, QueueState, WaitingAttempt, WorkflowState

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

# Characters of a workflow's summary, which Temporal limits.
_SUMMARY_LENGTH = 200


class TemporalOrchestrator:
    """Starts workflows whose ids contain the job id, at most once for each id.

    Methods raise ``TemporalUnavailable`` or ``TemporalThrottled`` if the same call may succeed later, and
    ``TemporalNamespaceMissing``, ``TemporalUnauthenticated``, ``TemporalForbidden`` or ``TemporalRequestInvalid`` if it
    will not.

    ``types`` are the application's workflow types. ``erase_seconds`` is how long ``erase`` waits for Temporal to delete
    a history.
    """

    def __init__(
        self,
        client: Client,
        task_queue: str,
        *,
        types: Sequence[WorkflowType[Any, Any]],
        erase_seconds: float = ERASE_SECONDS,
    ) -> None:
        self._client = client
        self._types = tuple(types)
        self._task_queue = task_queue
        self._erase_seconds = erase_seconds

    async def start(self, workflow: WorkflowRef[Input, Any], request: Input) -> JobHandle:
        """Start a workflow, or join the one that has its id, running or closed.

        Raises ``TemporalUnavailable``; calling it again with the same reference is then safe.
        """
        return await self._start(workflow, request, WorkflowIDReusePolicy.REJECT_DUPLICATE)

    async def start_again(self, workflow: WorkflowRef[Any, Any]) -> JobHandle:
        """Start a workflow that has ended without a result once more, with the same input.

        Joins it if it runs, has a result, or has been restarted meanwhile. Raises ``JobMissing`` if Temporal has no
        history of it, and ``TemporalUnavailable``.
        """
        try:
            first = await anext(self._handle(workflow).fetch_history_events(page_size=1))
            payloads = first.workflow_execution_started_event_attributes.input.payloads
            (request,) = await self._client.data_converter.decode(payloads, [workflow.type.input])
        except RPCError as error:
            raise self._of(workflow, error) from error
        return await self._start(workflow, request, WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY)

    async def _start(
        self, workflow: WorkflowRef[Any, Any], request: Contract, reuse: WorkflowIDReusePolicy
    ) -> JobHandle:
        try:
            handle = await self._client.start_workflow(
                workflow.type.name,
                request,
                id=workflow.workflow_id,
                task_queue=self._task_queue,
                id_reuse_policy=reuse,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                static_summary=request.summary[:_SUMMARY_LENGTH] or None,
            )
        except WorkflowAlreadyStartedError as error:
            return JobHandle(workflow.job_id, error.run_id or "", joined=True)
        except RPCError as error:
            raise self._translated(error) from error
        return JobHandle(workflow.job_id, handle.result_run_id or "", joined=False)

    async def result(self, workflow: WorkflowRef[Any, Result]) -> Result:
        """Wait for a workflow's end. Raises ``JobFailed``, ``JobCancelled``, ``JobMissing`` or what the class names."""
        handle = self._client.get_workflow_handle(workflow.workflow_id, result_type=workflow.type.result)
        try:
            result: Result = await handle.result()
            return result
        except WorkflowFailureError as error:
            raise _failure(workflow.job_id, error) from error
        except RPCError as error:
            raise self._of(workflow, error) from error

    async def signal(self, workflow: WorkflowRef[Any, Any], name: str, argument: Contract) -> None:
        """Send a signal. Raises ``JobMissing`` if the workflow does not run."""
        try:
            await self._handle(workflow).signal(name, argument)
        except RPCError as error:
            raise self._of(workflow, error) from error

    async def cancel(self, workflow: WorkflowRef[Any, Any]) -> None:
        """Request that a running workflow is cancelled; a closed one does not change. Raises ``JobMissing``."""
        try:
            await self._handle(workflow).cancel()
        except RPCError as error:
            raise self._of(workflow, error) from error

    def _handle(self, workflow: WorkflowRef[Any, Any]) -> WorkflowHandle[Any, Any]:
        return self._client.get_workflow_handle(workflow.workflow_id)

    def _of(self, workflow: WorkflowRef[Any, Any], error: RPCError) -> PhotoWorkerError:
        if rpc_errors.is_not_there(error):
            return JobMissing(job_id=workflow.job_id)
        return self._translated(error)

    async def has_worker(self) -> bool:
        """Tell whether a worker has polled the task queue, or reported that it waits, within ``RECENT_POLL``."""
        return (await self._workers()).are_there

    async def _workers(self) -> WorkersState:
        try:
            return await workers_of(self._client, self._task_queue)
        except RPCError as error:
            raise self._translated(error) from error

    async def state(self, workflow: WorkflowRef[Any, Any]) -> WorkflowState | None:
        """Return a workflow's state, with the reason if it failed; None if Temporal knows no workflow."""
        found = await self._described(workflow.workflow_id, workflow.job_id)
        return None if found is None else found.state

    async def _described(self, workflow_id: str, job_id: UUID) -> JobWorkflow | None:
        try:
            found = await self._client.get_workflow_handle(workflow_id).describe()
            reason = await self._reason(job_id, found)
        except RPCError as error:
            if rpc_errors.is_not_there(error):
                return None
            raise self._translated(error) from error
        state = WorkflowState(
            # A status that is unknown here, such as a newer server's paused, means that the workflow has not ended.
            status=_STATUSES.get(found.status, "running") if found.status is not None else "running",
            started_at=found.start_time,
            closed_at=found.close_time,
            reason_code=str(reason.context.get("reason_code") or reason.code) if reason else None,
            reason=str(reason.context.get("reason") or reason.message) if reason else None,
            waiting=_waiting(found),
        )
        return JobWorkflow(workflow_id, found.workflow_type, state)

    async def _reason(self, job_id: UUID, found: WorkflowExecutionDescription) -> PhotoWorkerError | None:
        """Return why a closed run has no result, from its last event."""
        if found.close_time is None or found.status in _WITHOUT_REASON:
            return None
        try:
            await self._client.get_workflow_handle(found.id, run_id=found.run_id).result(follow_runs=False)
        except WorkflowFailureError as error:
            return _failure(job_id, error)
        return None

    async def workflows_of(self, job_id: UUID) -> Sequence[JobWorkflow]:
        """Return every workflow of a job by id: those of the application's types from the service itself.

        Others come from Temporal's visibility store, which may be a moment behind.
        """
        try:
            ids = await workflow_ids(self._client, job_id, self._own_ids(job_id))
        except RPCError as error:
            raise self._translated(error) from error
        found = [await self._described(workflow_id, job_id) for workflow_id in sorted(ids)]
        return [one for one in found if one is not None]

    def _own_ids(self, job_id: UUID) -> set[str]:
        return {kind.of(job_id).workflow_id for kind in self._types}

    async def open_workflows(self) -> AsyncIterator[str]:
        """Yield the ids of the application's workflows that run now on this task queue.

        They come from Temporal's visibility store, which may be a moment behind. Other deployments may share the
        namespace.
        """
        names = ", ".join(f"'{kind.name}'" for kind in self._types)
        query = f"WorkflowType IN ({names}) AND ExecutionStatus = 'Running'"
        if PLAIN.fullmatch(self._task_queue):
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
        """Delete every run of every workflow of a job, terminating those that run, and wait until none is left.

        Temporal needs a minute or two for a history that closed a moment ago. Raises ``TemporalUnavailable`` if the
        history still exists after ``erase_seconds``; Temporal goes on deleting, and calling this again waits again.
        """
        try:
            return await erase_workflows(self._client, job_id, self._own_ids(job_id), seconds=self._erase_seconds)
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
