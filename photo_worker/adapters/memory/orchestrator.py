"""The ``WorkflowOrchestrator`` port in memory, for tests and trials: no server, no worker, no history."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import UUID

from photo_worker.contracts.base import Contract
from photo_worker.contracts.references import Input, Result, WorkflowRef, job_of
from photo_worker.errors import TERMINATED, JobCancelled, JobFailed, JobMissing, PhotoWorkerError
from photo_worker.ports.orchestrator import JobHandle, JobWorkflow, QueueState, WorkflowState

_WITH_RESULT = frozenset({"running", "completed"})


@dataclass
class Signals:
    """The signals that a workflow has received and not read."""

    _queue: asyncio.Queue[tuple[str, Contract]] = field(default_factory=asyncio.Queue)

    async def next(self) -> tuple[str, Contract]:
        """Wait for the next signal; return its name and argument."""
        return await self._queue.get()

    def put(self, name: str, argument: Contract) -> None:
        """Add a signal."""
        self._queue.put_nowait((name, argument))


Program: TypeAlias = Callable[[Any, Signals], Awaitable[Contract]]
"""The behaviour of a workflow type: from its input to its result, or a ``PhotoWorkerError`` that fails it."""


@dataclass
class _Run:
    kind: str
    request: Contract
    signals: Signals = field(default_factory=Signals)
    task: asyncio.Task[None] | None = None
    result: Contract | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class MemoryOrchestrator:
    """Workflows by id. ``programs`` run those of their types, by name; all others stay open until a test ends them.

    ``states`` holds the state of each workflow by its id; a test may set or delete one. ``started`` holds the input of
    each start in order, those that joined included. ``queue`` is what ``queue_state`` returns.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        programs: Mapping[str, Program] | None = None,
        task_queue: str = "recipe-process",
    ) -> None:
        self._now = now
        self._programs = dict(programs or {})
        self._runs: dict[str, _Run] = {}
        self.states: dict[str, WorkflowState] = {}
        self.queue = QueueState(task_queue, backlog=0, oldest_seconds=0.0, has_worker=True)
        self.started: list[Any] = []

    async def start(self, workflow: WorkflowRef[Input, Any], request: Input) -> JobHandle:
        """Start a workflow, or join the one with its id, running or closed."""
        self.started.append(request)
        if workflow.workflow_id in self.states:
            return JobHandle(workflow.job_id, "run", joined=True)
        self._run(workflow, request)
        return JobHandle(workflow.job_id, "run", joined=False)

    async def start_again(self, workflow: WorkflowRef[Any, Any]) -> JobHandle:
        """Restart a workflow that has ended without a result, with the same input; join one that runs or has one."""
        if self._require(workflow).status in _WITH_RESULT:
            return JobHandle(workflow.job_id, "run", joined=True)
        known = self._runs.get(workflow.workflow_id)
        self._run(workflow, None if known is None else known.request)
        return JobHandle(workflow.job_id, "run again", joined=False)

    async def result(self, workflow: WorkflowRef[Any, Result]) -> Result:
        """Wait for a workflow's end and return its result.

        Raises:
            JobFailed: with the reason in the state; also if the workflow was terminated or timed out.
            JobCancelled: if it was cancelled.
            JobMissing: if there is none, or it was erased meanwhile.
        """
        while (state := self._require(workflow)).is_open:
            run = self._runs.get(workflow.workflow_id)
            if run is None:
                raise RuntimeError(f"nothing runs {workflow.workflow_id}: a test has set its state")
            await run.changed.wait()
            run.changed.clear()
        if state.status == "completed":
            result = self._runs[workflow.workflow_id].result
            return workflow.type.result.model_validate(result.model_dump() if result is not None else {})
        raise _failure(workflow.job_id, state)

    async def signal(self, workflow: WorkflowRef[Any, Any], name: str, argument: Contract) -> None:
        """Send a signal. Raises ``JobMissing`` if the workflow does not run."""
        run = self._runs.get(workflow.workflow_id)
        if not self._require(workflow).is_open or run is None:
            raise JobMissing(job_id=workflow.job_id)
        run.signals.put(name, argument)

    async def cancel(self, workflow: WorkflowRef[Any, Any]) -> None:
        """Cancel a running workflow; a closed one does not change."""
        if self._require(workflow).is_open:
            self._end(workflow.workflow_id, "cancelled", JobCancelled())

    async def state(self, workflow: WorkflowRef[Any, Any]) -> WorkflowState | None:
        """Return a workflow's state, None if there is none."""
        return self.states.get(workflow.workflow_id)

    async def workflows_of(self, job_id: UUID) -> Sequence[JobWorkflow]:
        """Return every workflow that belongs to a job, of any type, by id."""
        return [
            JobWorkflow(name, self._runs[name].kind if name in self._runs else "", state)
            for name, state in sorted(self.states.items())
            if job_of(name) == job_id
        ]

    async def open_workflows(self) -> AsyncIterator[str]:
        """Yield the ids of the running workflows."""
        for workflow_id in [name for name, state in self.states.items() if state.is_open]:
            yield workflow_id

    async def has_worker(self) -> bool:
        """Tell whether a worker polls, as ``queue`` says."""
        return self.queue.has_worker

    async def queue_state(self) -> QueueState:
        """Return ``queue``."""
        return self.queue

    async def erase(self, job_id: UUID) -> bool:
        """End and delete every workflow of a job; tell whether there was any."""
        names = [name for name in self.states if job_of(name) == job_id]
        for name in names:
            del self.states[name]
            run = self._runs.pop(name, None)
            if run is not None:
                self._stop(run)
        return bool(names)

    def terminate(self, workflow: WorkflowRef[Any, Any], reason: str) -> None:
        """End a workflow as an operator does."""
        said = JobFailed(job_id=workflow.job_id, reason_code=TERMINATED, reason=reason)
        self._end(workflow.workflow_id, "terminated", said)

    def _require(self, workflow: WorkflowRef[Any, Any]) -> WorkflowState:
        if workflow.workflow_id not in self.states:
            raise JobMissing(job_id=workflow.job_id)
        return self.states[workflow.workflow_id]

    def _run(self, workflow: WorkflowRef[Any, Any], request: Any) -> None:
        name, run = workflow.workflow_id, _Run(workflow.type.name, request)
        self._runs[name] = run
        self.states[name] = WorkflowState("running", self._now())
        if (program := self._programs.get(workflow.type.name)) is not None:
            run.task = asyncio.ensure_future(self._perform(name, run, program))

    async def _perform(self, name: str, run: _Run, program: Program) -> None:
        try:
            run.result = await program(run.request, run.signals)
        except PhotoWorkerError as error:
            self._close(name, run, "failed", error)
        else:
            self._close(name, run, "completed")

    def _end(self, name: str, status: str, reason: PhotoWorkerError) -> None:
        run = self._runs.get(name) or _Run("", Contract())
        self._close(name, run, status, reason)
        self._stop(run)

    def _close(self, name: str, run: _Run, status: str, reason: PhotoWorkerError | None = None) -> None:
        self.states[name] = WorkflowState(
            status,
            self.states[name].started_at,
            self._now(),
            reason_code=str(reason.context.get("reason_code") or reason.code) if reason else None,
            reason=str(reason.context.get("reason") or reason.message) if reason else None,
        )
        run.changed.set()

    def _stop(self, run: _Run) -> None:
        run.changed.set()
        if run.task is not None:
            run.task.cancel()


def _failure(job_id: UUID, state: WorkflowState) -> PhotoWorkerError:
    if state.status == "cancelled":
        return JobCancelled()
    return JobFailed(job_id=job_id, reason_code=state.reason_code or "unknown", reason=state.reason or "")
