"""Workflows of two types that wait for the signal ``finish``, as classes for Temporal and as programs in memory."""

from __future__ import annotations

from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from photo_worker.adapters.memory.orchestrator import Program, Signals
from photo_worker.contracts.base import Contract
from photo_worker.contracts.references import WorkflowType
from photo_worker.errors import JobFailed


class Wait(Contract):
    """Input of both types."""

    text: str

    @property
    def summary(self) -> str:
        return self.text


class Outcome(Contract):
    """How a workflow ends: with ``text`` as its result, or with an error if ``code`` is set."""

    text: str = ""
    code: str = ""


FIRST = WorkflowType("test_waiting_first", Wait, Outcome)
SECOND = WorkflowType("test_waiting_second", Wait, Outcome, suffix="second")


class _Waiting:
    def __init__(self) -> None:
        self._outcome: Outcome | None = None

    async def _wait(self, request: Wait) -> Outcome:
        await workflow.wait_condition(lambda: self._outcome is not None)
        assert self._outcome is not None
        if self._outcome.code:
            raise ApplicationError(self._outcome.text, type=self._outcome.code, non_retryable=True)
        return Outcome(text=f"{request.text}: {self._outcome.text}")


@workflow.defn(name=FIRST.name)
class WaitingFirst(_Waiting):
    """A job's main workflow."""

    @workflow.run
    async def run(self, request: Wait) -> Outcome:
        return await self._wait(request)

    @workflow.signal
    def finish(self, outcome: Outcome) -> None:
        self._outcome = outcome


@workflow.defn(name=SECOND.name)
class WaitingSecond(_Waiting):
    """A further workflow of a job."""

    @workflow.run
    async def run(self, request: Wait) -> Outcome:
        return await self._wait(request)

    @workflow.signal
    def finish(self, outcome: Outcome) -> None:
        self._outcome = outcome


async def _program(request: Any, signals: Signals) -> Contract:
    name, outcome = await signals.next()
    assert name == "finish"
    assert isinstance(outcome, Outcome)
    if outcome.code:
        raise JobFailed(job_id="", reason_code=outcome.code, reason=outcome.text)
    return Outcome(text=f"{request.text}: {outcome.text}")


PROGRAMS: dict[str, Program] = {FIRST.name: _program, SECOND.name: _program}
