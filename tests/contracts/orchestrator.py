"""What every ``WorkflowOrchestrator`` does, whatever the workflow type."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest

from photo_worker.contracts.references import WorkflowRef, job_of
from photo_worker.errors import JobCancelled, JobFailed, JobMissing
from photo_worker.ports.orchestrator import WorkflowOrchestrator
from tests.support.harness import eventually
from tests.support.waiting_workflows import FIRST, SECOND, Outcome, Wait

Ref = WorkflowRef[Wait, Outcome]


class OrchestratorContract:
    """Subclasses give ``orchestrator``, whose workers run the two types of ``waiting_workflows``."""

    @pytest.fixture
    def orchestrator(self) -> WorkflowOrchestrator:
        raise NotImplementedError

    @pytest.fixture
    def first(self) -> Ref:
        return FIRST.of(uuid4())

    @pytest.fixture
    def second(self, first: Ref) -> Ref:
        """Another workflow of the same job."""
        return SECOND.of(first.job_id)

    async def test_state_without_workflow_is_none(self, orchestrator: WorkflowOrchestrator, first: Ref) -> None:
        assert await orchestrator.state(first) is None
        assert await orchestrator.workflows_of(first.job_id) == []

    async def test_start_joins_workflow_with_its_id(
        self, orchestrator: WorkflowOrchestrator, first: Ref, second: Ref
    ) -> None:
        handles = [await orchestrator.start(each, Wait(text="w")) for each in (first, first, second, second)]
        assert [handle.joined for handle in handles] == [False, True, False, True]
        assert {handle.job_id for handle in handles} == {first.job_id}
        for each in (first, second):
            state = await orchestrator.state(each)
            assert state is not None
            assert (state.status, state.is_open, state.closed_at) == ("running", True, None)
        await orchestrator.signal(first, "finish", Outcome(text="done"))
        await orchestrator.result(first)
        assert (await orchestrator.start(first, Wait(text="w"))).joined, "a closed one is joined too"

    async def test_result_is_that_of_own_workflow(
        self, orchestrator: WorkflowOrchestrator, first: Ref, second: Ref
    ) -> None:
        for each, text in ((first, "one"), (second, "two")):
            await orchestrator.start(each, Wait(text=text))
        waiting = [asyncio.create_task(orchestrator.result(each)) for each in (first, second)]
        await orchestrator.signal(second, "finish", Outcome(text="b"))
        await orchestrator.signal(first, "finish", Outcome(text="a"))
        assert await asyncio.gather(*waiting) == [Outcome(text="one: a"), Outcome(text="two: b")]
        state = await orchestrator.state(first)
        assert state is not None
        assert (state.status, state.is_open, state.reason_code) == ("completed", False, None)
        assert state.closed_at is not None

    async def test_failure_has_code_and_reason(self, orchestrator: WorkflowOrchestrator, second: Ref) -> None:
        await orchestrator.start(second, Wait(text="w"))
        await orchestrator.signal(second, "finish", Outcome(text="no flour", code="out_of_flour"))
        with pytest.raises(JobFailed) as caught:
            await orchestrator.result(second)
        assert (caught.value.context["reason_code"], caught.value.context["reason"]) == ("out_of_flour", "no flour")
        state = await orchestrator.state(second)
        assert state is not None
        assert (state.status, state.reason_code, state.reason) == ("failed", "out_of_flour", "no flour")

    async def test_cancel_ends_own_workflow_only(
        self, orchestrator: WorkflowOrchestrator, first: Ref, second: Ref
    ) -> None:
        for each in (first, second):
            await orchestrator.start(each, Wait(text="w"))
        await orchestrator.cancel(second)
        with pytest.raises(JobCancelled):
            await orchestrator.result(second)
        states = [await orchestrator.state(each) for each in (first, second)]
        assert [state.status for state in states if state] == ["running", "cancelled"]
        await orchestrator.cancel(second)

    async def test_calls_about_missing_workflow_say_so(self, orchestrator: WorkflowOrchestrator, first: Ref) -> None:
        missing = first
        with pytest.raises(JobMissing):
            await orchestrator.result(missing)
        with pytest.raises(JobMissing):
            await orchestrator.cancel(missing)
        with pytest.raises(JobMissing):
            await orchestrator.start_again(missing)
        with pytest.raises(JobMissing):
            await orchestrator.signal(missing, "finish", Outcome())

    async def test_signal_to_closed_workflow_is_refused(self, orchestrator: WorkflowOrchestrator, first: Ref) -> None:
        await orchestrator.start(first, Wait(text="w"))
        await orchestrator.signal(first, "finish", Outcome(text="done"))
        await orchestrator.result(first)
        with pytest.raises(JobMissing):
            await orchestrator.signal(first, "finish", Outcome(text="again"))

    async def test_start_again_runs_failed_one_with_same_input(
        self, orchestrator: WorkflowOrchestrator, second: Ref
    ) -> None:
        await orchestrator.start(second, Wait(text="the same"))
        assert (await orchestrator.start_again(second)).joined, "it runs"
        await orchestrator.signal(second, "finish", Outcome(text="x", code="once"))
        with pytest.raises(JobFailed):
            await orchestrator.result(second)
        assert not (await orchestrator.start_again(second)).joined
        await orchestrator.signal(second, "finish", Outcome(text="now"))
        assert await orchestrator.result(second) == Outcome(text="the same: now")
        assert (await orchestrator.start_again(second)).joined, "it has a result"

    async def test_workflows_of_job_are_all_of_its_types(
        self, orchestrator: WorkflowOrchestrator, first: Ref, second: Ref
    ) -> None:
        other = FIRST.of(uuid4())
        for each in (first, second, other):
            await orchestrator.start(each, Wait(text="w"))

        async def names(job_id: UUID) -> list[tuple[str, str]]:
            found = await orchestrator.workflows_of(job_id)
            assert all(one.state.is_open for one in found)
            return [(one.workflow_id, one.workflow_type) for one in found]

        assert await names(first.job_id) == [
            (first.workflow_id, FIRST.name),
            (second.workflow_id, SECOND.name),
        ]
        assert await names(other.job_id) == [(other.workflow_id, FIRST.name)]
        assert {job_of(each.workflow_id) for each in (first, second)} == {first.job_id}

    async def test_open_workflows_are_the_running_ones(
        self, orchestrator: WorkflowOrchestrator, first: Ref, second: Ref
    ) -> None:
        closed = FIRST.of(uuid4())
        for each in (first, second, closed):
            await orchestrator.start(each, Wait(text="w"))
        await orchestrator.signal(closed, "finish", Outcome(text="done"))
        await orchestrator.result(closed)

        async def listed() -> bool:
            found = {name async for name in orchestrator.open_workflows()}
            return found == {first.workflow_id, second.workflow_id}

        await eventually(listed)

    async def test_erase_deletes_every_workflow_of_job(
        self, orchestrator: WorkflowOrchestrator, first: Ref, second: Ref
    ) -> None:
        other = FIRST.of(uuid4())
        for each in (first, second, other):
            await orchestrator.start(each, Wait(text="w"))
        assert await orchestrator.erase(first.job_id) is True
        assert [await orchestrator.state(each) for each in (first, second)] == [None, None]
        assert await orchestrator.workflows_of(first.job_id) == []
        state = await orchestrator.state(other)
        assert state is not None
        assert state.is_open
        assert await orchestrator.erase(first.job_id) is False
        assert not (await orchestrator.start(second, Wait(text="anew"))).joined
        assert await orchestrator.erase(first.job_id) is True, "a further workflow alone is found"

    async def test_queue_state_has_worker(self, orchestrator: WorkflowOrchestrator) -> None:
        async def polls() -> bool:
            return await orchestrator.has_worker()

        await eventually(polls)
        assert (await orchestrator.queue_state()).has_worker
