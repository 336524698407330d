"""Commands of a completed workflow task must be recorded in it, else they are red; later commands are the future."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowHandle, WorkflowUpdateStage
from temporalio.worker import Worker

from gate_support.command import check, head, reported
from temporal_replay_gate.replay_pool import CodeUnderTest, ReplayOutcome, ReplayPool, ReplayTask
from tests.replay.code_mutations.busy import Busy
from tests.replay.product import product_code
from tests.support.harness import eventually
from tests.support.mutation import Mutation, mutated, unparsed
from tests.support.workers import running

WAITS = """
import asyncio
from datetime import timedelta
from temporalio import workflow

@workflow.defn(name="waits")
class Waits:
    def __init__(self) -> None:
        self.rung = False

    @workflow.signal
    def ring(self) -> None:
        self.rung = True

    @workflow.signal
    def unheard(self) -> None:
        pass

    @workflow.run
    async def run(self) -> None:
        {first}
        await workflow.wait_condition(lambda: self.rung)
        {then}
        await workflow.wait_condition(lambda: False)
"""
TIMER = "await asyncio.sleep(60)"
ACTIVITY = "workflow.start_activity('cut', start_to_close_timeout=timedelta(seconds=5))"
MEMO = "workflow.upsert_memo({'kept': 1})"
RETURN = "return"
SAYS = {
    TIMER: "The timer that the code asks for",
    ACTIVITY: "The activity 'cut' that the code asks for",
    MEMO: "The memo that the code asks for",
    RETURN: "The end of the workflow with a result that the code asks for",
}
ASKED = [pytest.param(each, id=name) for name, each in zip(("timer", "activity", "memo", "return"), SAYS, strict=True)]


def signal(name: str) -> dict[str, Any]:
    return {
        "eventType": "EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED",
        "workflowExecutionSignaledEventAttributes": {"signalName": name, "input": {}, "identity": "scrubbed"},
    }


def task(first: int, end: str | None = "COMPLETED") -> list[dict[str, Any]]:
    """Return a workflow task whose first event has the id ``first``; it is not finished if ``end`` is None."""
    events: list[dict[str, Any]] = [
        {
            "eventType": "EVENT_TYPE_WORKFLOW_TASK_SCHEDULED",
            "workflowTaskScheduledEventAttributes": {"taskQueue": {"name": "kitchen"}, "attempt": 1},
        },
        {
            "eventType": "EVENT_TYPE_WORKFLOW_TASK_STARTED",
            "workflowTaskStartedEventAttributes": {"scheduledEventId": str(first), "identity": "scrubbed"},
        },
    ]
    if end is not None:
        about = {"scheduledEventId": str(first), "startedEventId": str(first + 1)}
        name = f"workflowTask{end.capitalize()}EventAttributes"
        events.append({"eventType": f"EVENT_TYPE_WORKFLOW_TASK_{end}", name: about})
    return events


def code(directory: Path, *, first: str = "pass", then: str = "pass") -> str:
    (directory / "waits_code.py").write_text(WAITS.format(first=first, then=then), encoding="utf-8")
    return "waits_code:Waits"


def histories(directory: Path, *runs: Sequence[dict[str, Any]]) -> Path:
    """Write runs whose first task, completed by event 4, issued no command; each continues with further events."""
    corpus = directory / "histories"
    corpus.mkdir()
    for number, events in enumerate(runs):
        head(corpus / f"run{number}.json", "waits", *events)
    return corpus


LOOSE = ("--no-coverage", "--no-provenance")


@pytest.mark.parametrize("asked", ASKED)
def test_new_command_in_completed_task_is_drift(tmp_path: Path, asked: str) -> None:
    corpus = histories(
        tmp_path,
        [],
        [signal("unheard")],
        [signal("unheard"), *task(6, None)],
        [signal("unheard"), *task(6)],
        [signal("unheard"), *task(6), signal("unheard"), *task(10, None)],
    )
    status, data = check(tmp_path, corpus, code(tmp_path), *LOOSE)
    assert (status, reported(data)) == (0, [])
    status, data = check(tmp_path, corpus, code(tmp_path, first=asked), *LOOSE)
    assert (status, reported(data)) == (1, ["drift_not_recorded"] * 5)
    for finding in data["findings"]:
        assert SAYS[asked] in finding["what"]
        assert (finding["event_id"], finding["event_type"]) == (4, "WorkflowTaskCompleted")
        assert "workflow.patched(" in finding["fix"]


@pytest.mark.parametrize("asked", ASKED)
def test_new_command_in_later_completed_task_is_drift(tmp_path: Path, asked: str) -> None:
    corpus = histories(tmp_path, [signal("ring"), *task(6)], [signal("ring"), *task(6), signal("unheard")])
    status, data = check(tmp_path, corpus, code(tmp_path, then=asked), *LOOSE)
    assert (status, reported(data)) == (1, ["drift_not_recorded"] * 2)
    assert {finding["event_id"] for finding in data["findings"]} == {8}


@pytest.mark.parametrize("asked", ASKED)
def test_new_command_after_last_completed_task_is_allowed(tmp_path: Path, asked: str) -> None:
    corpus = histories(
        tmp_path,
        [],
        [signal("ring")],
        [signal("ring"), *task(6)[:1]],
        [signal("ring"), *task(6, None)],
        [signal("ring"), *task(6, "FAILED")],
        [signal("ring"), *task(6, "FAILED"), *task(9, None)],
    )
    status, data = check(tmp_path, corpus, code(tmp_path, then=asked), *LOOSE)
    assert (status, data["findings"]) == (0, [])
    assert {each["state"] for each in data["histories"]} == {"partly checked"}


def test_task_without_event_between_is_merged_with_previous(tmp_path: Path) -> None:
    """The SDK replays it so: a worker asks for more time in this way while a local activity runs."""
    corpus = histories(tmp_path, task(5, None))
    status, data = check(tmp_path, corpus, code(tmp_path, first=TIMER), *LOOSE)
    # There is no other finding. The run cannot be mutated either, so the gate reports that its control is impossible.
    assert (status, reported(data)) == (1, ["control_impossible"])


def test_timer_started_one_task_earlier_is_drift(tmp_path: Path) -> None:
    started = {
        "eventType": "EVENT_TYPE_TIMER_STARTED",
        "timerStartedEventAttributes": {
            "timerId": "1",
            "startToFireTimeout": "60s",
            "workflowTaskCompletedEventId": "8",
        },
    }
    corpus = histories(tmp_path, [signal("ring"), *task(6), started])
    status, data = check(tmp_path, corpus, code(tmp_path, then=TIMER), *LOOSE)
    assert (status, reported(data)) == (0, [])
    status, data = check(tmp_path, corpus, code(tmp_path, first=TIMER), *LOOSE)
    assert (status, reported(data)) == (1, ["drift_task"])
    (finding,) = data["findings"]
    assert "event 8 completed, and is now asked for in the workflow task which event 4 completed" in finding["what"]


@pytest.mark.parametrize("line", ["workflow.patched('new')", "workflow.deprecate_patch('old')"])
def test_patch_in_completed_task_is_allowed(tmp_path: Path, line: str) -> None:
    corpus = histories(tmp_path, [], [signal("unheard"), *task(6)])
    status, data = check(tmp_path, corpus, code(tmp_path, first=line), *LOOSE)
    assert (status, data["findings"]) == (0, [])


def test_allow_list_entry_excuses_new_command(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed.toml"
    allowed.write_text(
        "[[drift]]\nworkflow = 'waits'\nwhere = 'timer'\nwhat = 'presence'\nwas = 'false'\nnow = 'true'\n"
        "reason = 'no run waits there'\n",
        encoding="utf-8",
    )
    corpus = histories(tmp_path, [])
    status, data = check(tmp_path, corpus, code(tmp_path, first=TIMER), *LOOSE, "--allow", str(allowed))
    assert (status, reported(data), reported(data, "allowed")) == (0, [], ["drift_not_recorded"])


class Steps:
    """Local activities; the slow one runs until ``go`` is set."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    @activity.defn
    async def quick(self) -> None:
        pass

    @activity.defn
    async def slow(self) -> None:
        await self.go.wait()


async def seen(handle: WorkflowHandle[Any, Any], path: Path, **counts: int) -> Path:
    """Wait until a run's history has at least ``counts`` events of each type, and write it."""

    async def probe() -> bool:
        text = (await handle.fetch_history()).to_json()
        await asyncio.to_thread(path.write_text, text, encoding="utf-8")
        return all(text.count(f'"EVENT_TYPE_{name}"') >= count for name, count in counts.items())

    await eventually(probe)
    return path


def hasty(directory: Path) -> CodeUnderTest:
    """Write a variant whose update waits for one signal instead of two."""
    mutation = Mutation("tests/replay/code_mutations/busy.py", "Busy.stir", "self.rung >= 2", "self.rung >= 1")
    (directory / "hasty.py").write_text(unparsed(mutated([mutation]))[mutation.file], encoding="utf-8")
    return product_code("hasty:Busy", path=(str(directory),))


def replayed(code: CodeUnderTest, paths: Sequence[Path]) -> list[ReplayOutcome]:
    with ReplayPool(code, limit_seconds=60.0) as engine:
        engine.types()
        return engine.run([ReplayTask(path) for path in paths])


@pytest.mark.stack
async def test_stack_histories_of_busy_workflow_have_no_findings(stack_env: dict[str, str], tmp_path: Path) -> None:
    """Local activities over several tasks, a cancelled timer, signals, a query and an update."""
    client = await Client.connect(stack_env["TEMPORAL_TARGET"])
    queue, steps, paths = f"queue-{secrets.token_hex(6)}", Steps(), []
    worker = Worker(client, task_queue=queue, workflows=[Busy], activities=[steps.quick, steps.slow])
    async with running(worker):
        handle = await client.start_workflow(
            Busy.run, id=f"test/{secrets.token_hex(6)}", task_queue=queue, task_timeout=timedelta(seconds=1)
        )
        try:
            paths.append(await seen(handle, tmp_path / "heartbeat.json", WORKFLOW_TASK_COMPLETED=2))
            await handle.signal(Busy.ring)
            paths.append(await seen(handle, tmp_path / "signal.json", TIMER_STARTED=1))
            paths.append(await seen(handle, tmp_path / "more.json", TIMER_STARTED=1, WORKFLOW_TASK_COMPLETED=5))
            steps.go.set()
            paths.append(await seen(handle, tmp_path / "done.json", MARKER_RECORDED=2))
            assert await handle.query(Busy.count) == 1
            update = await handle.start_update(Busy.stir, wait_for_stage=WorkflowUpdateStage.ACCEPTED)
            paths.append(await seen(handle, tmp_path / "update.json", WORKFLOW_EXECUTION_UPDATE_ACCEPTED=1))
            await handle.signal(Busy.ring)
            assert await update.result() == 2
            paths.append(await seen(handle, tmp_path / "response.json", TIMER_STARTED=2))
        finally:
            steps.go.set()
            await handle.terminate()
    paths.append(await seen(handle, tmp_path / "terminated.json", WORKFLOW_EXECUTION_TERMINATED=1))
    outcomes = replayed(product_code("tests.replay.code_mutations.busy:Busy"), paths)
    found = {outcome.task.path.name: [finding.what for finding in outcome.findings] for outcome in outcomes}
    assert found == {path.name: [] for path in paths}
    assert all("quick" in told for outcome in outcomes for told in outcome.issued[:1])
    # The variant responds to the update at once, but the run was recorded before its response.
    (outcome,) = replayed(hasty(tmp_path), [tmp_path / "update.json"])
    assert [(each.code, each.where) for each in outcome.findings] == [("drift_not_recorded", "update presence")]
