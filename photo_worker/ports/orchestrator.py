"""The port of Temporal: workflows of any type, and the jobs that they belong to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from photo_worker.contracts.references import Input, Result, WorkflowRef

if TYPE_CHECKING:
    # At run time this would import pydantic, which the dev kit does not need at its start.
    from photo_worker.contracts.base import Contract


@dataclass(frozen=True)
class JobHandle:
    """The workflow run of a job that was started, or joined if it ran already."""

    job_id: UUID
    run_id: str
    joined: bool


@dataclass(frozen=True)
class WaitingAttempt:
    """An activity that Temporal retries: the error of its last attempt, the next attempt's number and when it is due.

    ``next_at`` is None while the attempt runs.
    """

    step: str
    attempt: int
    code: str
    reason: str
    next_at: datetime | None = None


@dataclass(frozen=True)
class WorkflowState:
    """State of a job's workflow in Temporal.

    ``status`` is running, completed, failed, cancelled, terminated, timed_out or continued. ``reason`` says why a
    failed or terminated workflow closed; ``reason_code`` is its error code.
    """

    status: str
    started_at: datetime
    closed_at: datetime | None = None
    reason_code: str | None = None
    reason: str | None = None
    waiting: WaitingAttempt | None = None

    @property
    def is_open(self) -> bool:
        """Tell whether the workflow still runs."""
        return self.status == "running"


@dataclass(frozen=True)
class QueueState:
    """A task queue's backlog: the number of tasks that no worker has taken, and the age of the oldest in seconds."""

    name: str
    backlog: int
    oldest_seconds: float
    has_worker: bool
    waits_for: tuple[str, ...] = ()
    """Error codes of what the workers wait for; empty if at least one takes work."""


@dataclass(frozen=True)
class JobWorkflow:
    """A workflow that belongs to a job, by its id."""

    workflow_id: str
    workflow_type: str
    state: WorkflowState


class WorkflowOrchestrator(Protocol):
    """Starts workflows of any type, waits for them and reports on them.

    Methods raise ``JobMissing`` if there is no such workflow, where it is needed.
    """

    async def start(self, workflow: WorkflowRef[Input, Any], request: Input) -> JobHandle:
        """Start a workflow, or join the one with its id, running or closed."""

    async def start_again(self, workflow: WorkflowRef[Any, Any]) -> JobHandle:
        """Restart a workflow that has ended without a result, with the same input; join one that runs or has one."""

    async def result(self, workflow: WorkflowRef[Any, Result]) -> Result:
        """Wait for a workflow's end and return its result. Raises the ``PhotoWorkerError`` that it failed with."""

    async def signal(self, workflow: WorkflowRef[Any, Any], name: str, argument: Contract) -> None:
        """Send a signal. Raises ``JobMissing`` if the workflow does not run."""

    async def cancel(self, workflow: WorkflowRef[Any, Any]) -> None:
        """Request the cancellation of a running workflow; a closed one does not change."""

    async def state(self, workflow: WorkflowRef[Any, Any]) -> WorkflowState | None:
        """Return a workflow's state, None if there is none."""

    async def workflows_of(self, job_id: UUID) -> Sequence[JobWorkflow]:
        """Return every workflow that belongs to a job, of any type, by id. One that began a moment ago may lack."""

    def open_workflows(self) -> AsyncIterator[str]:
        """Yield the ids of the running workflows of the application's types on the task queue."""

    async def has_worker(self) -> bool:
        """Tell whether a worker has polled lately: without one, jobs wait."""

    async def queue_state(self) -> QueueState:
        """Return the state of the task queue."""

    async def erase(self, job_id: UUID) -> bool:
        """Terminate every workflow of a job that runs, delete their histories, and wait until they are gone.

        Returns whether there was any.
        """
