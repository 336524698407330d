"""Scenarios on the real service."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from secrets import token_hex
from typing import Any

import pytest
from temporalio.api.enums.v1 import (
    EventType,
    ParentClosePolicy,
    WorkflowTaskFailedCause,
)
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from tests.crash.contract.scenario import PATIENCE_SECONDS, Ask, Family, Run, Scenario, ScenarioOutcome, quiet
from tests.support.harness import eventually
from tests.support.workers import running

_STATUS = {
    WorkflowExecutionStatus.RUNNING: "running",
    WorkflowExecutionStatus.COMPLETED: "completed",
    WorkflowExecutionStatus.FAILED: "failed",
    WorkflowExecutionStatus.CANCELED: "cancelled",
    WorkflowExecutionStatus.TERMINATED: "terminated",
    WorkflowExecutionStatus.CONTINUED_AS_NEW: "continued",
}


async def play(client: Client, family: Family) -> list[ScenarioOutcome]:
    """Play all scenarios of a family at the same time, with one worker."""
    queue = f"test-{token_hex(6)}"
    with ThreadPoolExecutor(8) as executor:
        worker = Worker(
            client,
            task_queue=queue,
            workflows=list(family.workflows),
            activities=list(family.activities(time.sleep)),
            activity_executor=executor,
            workflow_runner=UnsandboxedWorkflowRunner(),
        )
        async with asyncio.timeout(2 * PATIENCE_SECONDS), running(worker):
            return await asyncio.gather(*(_play(client, queue, scenario) for scenario in family.scenarios))


async def _play(client: Client, queue: str, scenario: Scenario) -> ScenarioOutcome:
    main = f"{scenario.name.replace(' ', '-')}-{token_hex(6)}"
    signal, signal_args = scenario.first_signal or (None, ())
    await client.start_workflow(
        _name(scenario.workflow),
        args=scenario.args,
        id=main,
        task_queue=queue,
        task_timeout=timedelta(seconds=scenario.task_timeout),
        start_signal=signal,
        start_signal_args=signal_args,
        id_conflict_policy=WorkflowIDConflictPolicy.UNSPECIFIED,
    )
    responses: list[asyncio.Task[Any]] = []
    for ask in scenario.asks:
        await _until(client, main, ask)
        responses.append(asyncio.create_task(_ask(client.get_workflow_handle(main + ask.to), ask)))
        if ask.awaited:
            await responses[-1]
    ends = {"": None, **scenario.others}
    for name, end in ends.items():
        await _ended(client, main + name, end)
    found = [
        await response
        for response, ask in zip(responses, scenario.asks, strict=True)
        if ask.kind in {"query", "update"}
    ]
    runs = {name: await _runs(client, main + name) for name in ends}
    for name, end in ends.items():
        if end == "running":
            await client.get_workflow_handle(main + name).terminate(reason="the scenario is over")
    return ScenarioOutcome(runs, tuple(found))


def _name(code: type) -> str:
    name: str = code.__temporal_workflow_definition.name  # type: ignore[attr-defined]
    return name


async def _until(client: Client, main: str, ask: Ask) -> None:
    workflow_id = main + (ask.to if ask.of is None else ask.of)

    async def there() -> bool:
        events, first = [[_type(event) for event in await _history(client, each)] for each in (workflow_id, main)]
        return events.count(ask.after) >= ask.times and (ask.busy or (quiet(events) and quiet(first)))

    await _soon(client, workflow_id, there, f"reach {ask.after} for {ask.kind}")


async def _history(client: Client, workflow_id: str, run_id: str | None = None) -> Sequence[HistoryEvent]:
    """Return the events of a workflow, none if there is no such workflow yet."""
    try:
        return (await client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()).events
    except RPCError:
        return ()


async def _ended(client: Client, workflow_id: str, end: str | None) -> None:
    async def there() -> bool:
        try:
            status = (await client.get_workflow_handle(workflow_id).describe()).status
        except RPCError:
            return False
        assert status is not None
        events = [_type(event) for event in await _history(client, workflow_id)]
        found = _STATUS[status]
        return found == end and quiet(events) if end is not None else found not in {"running", "continued"}

    await _soon(client, workflow_id, there, f"end as {end}")


async def _soon(client: Client, workflow_id: str, there: Callable[[], Awaitable[bool]], what: str) -> None:
    try:
        await eventually(there, seconds=PATIENCE_SECONDS)
    except TimeoutError:
        events = " ".join(_type(event) for event in await _history(client, workflow_id))
        pytest.fail(f"{workflow_id} does not {what}: {events}")


async def _ask(handle: WorkflowHandle[Any, Any], ask: Ask) -> Any:
    match ask.kind:
        case "signal":
            await handle.signal(ask.name, args=ask.args)
        case "query":
            try:
                return await handle.query(ask.name, args=ask.args)
            except WorkflowQueryFailedError as error:
                return f"failed: {error.message}"
        case "update":
            try:
                return await handle.execute_update(ask.name, args=ask.args)
            except WorkflowUpdateFailedError as error:
                return f"failed: {error.cause}"
            except RPCError as error:
                return f"refused: {error.status.name}"
        case "cancel":
            await handle.cancel()
        case "terminate":
            await handle.terminate(reason=ask.name)
        case other:
            raise AssertionError(other)
    return None


async def _runs(client: Client, workflow_id: str) -> tuple[Run, ...]:
    about = await client.get_workflow_handle(workflow_id).describe()
    found: list[Run] = []
    run_id: str | None = about.raw_description.workflow_execution_info.first_run_id or about.run_id
    while run_id:
        handle = client.get_workflow_handle(workflow_id, run_id=run_id)
        events = await _history(client, workflow_id, run_id)
        status = (await handle.describe()).status
        assert status is not None
        last = events[-1].workflow_execution_completed_event_attributes
        result = None
        if last.result.payloads:
            (result,) = await client.data_converter.decode(last.result.payloads)
        found.append(Run(_STATUS[status], result, tuple((_type(event), about_of(event)) for event in events)))
        run_id = events[-1].workflow_execution_continued_as_new_event_attributes.new_execution_run_id
    return tuple(found)


def _type(event: HistoryEvent) -> str:
    words = EventType.Name(event.event_type).removeprefix("EVENT_TYPE_").split("_")
    return "".join(word.capitalize() for word in words)


def about_of(event: HistoryEvent) -> str:
    """Return the compared attributes of an event, as the simulation writes them."""
    about: Any = getattr(event, event.WhichOneof("attributes") or "")
    found = _ABOUT.get(_type(event))
    return "" if found is None else str(found(about))


def _started(about: Any) -> str:
    words = [about.workflow_type.name]
    words += ["child"] if about.parent_workflow_execution.workflow_id else []
    return " ".join([*words, *(["continued"] if about.continued_execution_run_id else [])])


def _marker(about: Any) -> str:
    name = "patch-data" if about.marker_name == "core_patch" else "data"
    data = json.loads(about.details[name].payloads[0].data)
    return f"{about.marker_name} {data['id' if about.marker_name == 'core_patch' else 'activity_type']}"


def _child(about: Any) -> str:
    policy = ParentClosePolicy.Name(about.parent_close_policy).removeprefix("PARENT_CLOSE_POLICY_").lower()
    return f"{about.workflow_type.name} {policy}"


def _type_name(about: Any) -> Any:
    return about.workflow_type.name


_ABOUT: Mapping[str, Callable[[Any], Any]] = {
    "WorkflowExecutionStarted": _started,
    "TimerStarted": lambda about: about.start_to_fire_timeout.ToTimedelta().total_seconds(),
    "ActivityTaskScheduled": lambda about: about.activity_type.name,
    "MarkerRecorded": _marker,
    "WorkflowExecutionSignaled": lambda about: about.signal_name,
    "WorkflowExecutionFailed": lambda about: about.failure.message,
    "WorkflowExecutionTerminated": lambda about: about.reason,
    "WorkflowExecutionContinuedAsNew": _type_name,
    "WorkflowExecutionUpdateAccepted": lambda about: about.accepted_request.input.name,
    "WorkflowExecutionUpdateCompleted": lambda about: "success" if about.outcome.HasField("success") else "failure",
    "WorkflowTaskFailed": lambda about: WorkflowTaskFailedCause.Name(about.cause).removeprefix(
        "WORKFLOW_TASK_FAILED_CAUSE_"
    ),
    "SignalExternalWorkflowExecutionInitiated": lambda about: about.signal_name,
    "RequestCancelExternalWorkflowExecutionInitiated": lambda about: (
        "child" if about.child_workflow_only else "external"
    ),
    "StartChildWorkflowExecutionInitiated": _child,
    "StartChildWorkflowExecutionFailed": _type_name,
    "ChildWorkflowExecutionStarted": _type_name,
    "ChildWorkflowExecutionCompleted": _type_name,
    "ChildWorkflowExecutionFailed": _type_name,
    "ChildWorkflowExecutionCanceled": _type_name,
    "ChildWorkflowExecutionTerminated": _type_name,
}
"""The compared attributes of an event by its type."""
