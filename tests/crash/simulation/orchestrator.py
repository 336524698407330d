"""The product's port to Temporal over the simulated server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from photo_worker.adapters.temporal.converter import ContractPayloadConverter
from photo_worker.contracts.base import Contract
from photo_worker.contracts.references import Input, Result, WorkflowRef, job_of
from photo_worker.errors import JobCancelled, JobFailed, JobMissing
from photo_worker.ports.orchestrator import JobHandle, JobWorkflow, QueueState, WorkflowState
from tests.crash.simulation.execution import Execution, Stale
from tests.crash.simulation.gate import current
from tests.crash.simulation.port_errors import TEMPORAL

if TYPE_CHECKING:
    from tests.crash.simulation.world import World


class SimulatedOrchestrator:
    """``ports.WorkflowOrchestrator`` over the simulated service."""

    def __init__(self, world: World, queue: str) -> None:
        self._world, self._queue = world, queue

    def _call(self, name: str, effect: Callable[[], Any]) -> Any:
        return self._world.gate.call(f"orchestrator.{name}", effect, errors=TEMPORAL)

    async def start(self, workflow: WorkflowRef[Input, Any], request: Input) -> JobHandle:
        payloads = ContractPayloadConverter().to_payloads([request])
        found, new = self._call(
            "start", lambda: self._world.service.start(workflow.workflow_id, workflow.type.name, payloads)
        )
        return JobHandle(workflow.job_id, found.run_id, joined=not new)

    async def start_again(self, workflow: WorkflowRef[Any, Any]) -> JobHandle:
        def effect() -> tuple[Execution, bool]:
            try:
                return self._world.service.start_again(workflow.workflow_id)
            except KeyError as error:
                raise JobMissing(job_id=workflow.job_id) from error

        found, new = self._call("start_again", effect)
        return JobHandle(workflow.job_id, found.run_id, joined=not new)

    async def signal(self, workflow: WorkflowRef[Any, Any], name: str, argument: Contract) -> None:
        payloads = ContractPayloadConverter().to_payloads([argument])

        def effect() -> None:
            try:
                self._world.service.signal(workflow.workflow_id, name, payloads)
            except (KeyError, Stale) as error:
                raise JobMissing(job_id=workflow.job_id) from error

        self._call("signal", effect)

    async def cancel(self, workflow: WorkflowRef[Any, Any]) -> None:
        def effect() -> None:
            try:
                self._world.service.cancel(workflow.workflow_id)
            except KeyError as error:
                raise JobMissing(job_id=workflow.job_id) from error
            except Stale:
                return

        self._call("cancel", effect)

    async def state(self, workflow: WorkflowRef[Any, Any]) -> WorkflowState | None:
        found: WorkflowState | None = self._call(
            "state", lambda: state_of(self._world.service.executions.get(workflow.workflow_id))
        )
        return found

    async def workflows_of(self, job_id: UUID) -> Sequence[JobWorkflow]:
        def effect() -> list[JobWorkflow]:
            known = self._world.service.executions
            found = [(name, known[name], state_of(known[name])) for name in sorted(known) if job_of(name) == job_id]
            return [JobWorkflow(name, one.kind, state) for name, one, state in found if state is not None]

        found: list[JobWorkflow] = self._call("workflows_of", effect)
        return found

    async def open_workflows(self) -> AsyncIterator[str]:
        found = self._call(
            "open_workflows",
            lambda: [one.workflow_id for one in self._world.service.executions.values() if one.status == "running"],
        )
        for each in found:
            yield each

    async def queue_state(self) -> QueueState:
        return QueueState(self._queue, 0, 0.0, True)

    async def result(self, workflow: WorkflowRef[Any, Result]) -> Result:
        while True:
            found, state = self._call("result", lambda: self._known(workflow))
            if not state.is_open:
                break
            await self._wait()
        if state.status == "completed":
            (result,) = ContractPayloadConverter().from_payloads([found.result], [workflow.type.result])
            assert isinstance(result, workflow.type.result)
            return result
        if state.status == "cancelled":
            raise JobCancelled
        raise JobFailed(job_id=workflow.job_id, reason_code=state.reason_code or "unknown", reason=state.reason or "")

    def _known(self, workflow: WorkflowRef[Any, Any]) -> tuple[Execution, WorkflowState]:
        found = self._world.service.executions.get(workflow.workflow_id)
        state = state_of(found)
        if found is None or state is None:
            raise JobMissing(job_id=workflow.job_id)
        return found, state

    async def _wait(self) -> None:
        """Let the deployment go on: a client's process waits a second, a test runs the next step itself."""
        world = self._world
        if not world.gate.quiet:
            world.gate.until(current(), world.now + timedelta(seconds=1))
            return
        world.gate.quiet = False
        try:
            world.step()
        finally:
            world.gate.quiet = True
        await asyncio.sleep(0)

    async def has_worker(self) -> bool:
        return True

    async def erase(self, job_id: UUID) -> bool:
        def effect() -> bool:
            service = self._world.service
            names = [name for name in sorted(service.executions) if job_of(name) == job_id]
            for name in names:
                with suppress(Stale, KeyError):
                    service.terminate(name)
            return sum(service.delete(name) for name in names) > 0

        return bool(self._call("erase", effect))


def state_of(found: Execution | None) -> WorkflowState | None:
    """Return the state of an execution as Temporal describes it; None without one."""
    if found is None:
        return None
    code = reason = None
    if found.status == "terminated":
        code, reason = "terminated", f"the workflow was terminated by an operator: {found.reason}"
    elif found.status == "cancelled":
        code, reason = JobCancelled.code, JobCancelled().message
    elif found.failure is not None:
        code, reason = found.failure.application_failure_info.type, found.failure.message
    return WorkflowState(found.status, found.started, found.closed, code, reason)
