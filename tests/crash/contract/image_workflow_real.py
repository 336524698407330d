"""The product's workflow on the real service."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from secrets import token_hex
from typing import Any
from uuid import uuid4

from temporalio.api.enums.v1 import EventType, RetryState
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle, WorkflowHistory
from temporalio.worker import Worker

from photo_worker import policies
from photo_worker.activities.boundary import ErrorBoundary
from photo_worker.adapters.temporal.orchestrator import TemporalOrchestrator
from photo_worker.contracts.image import IMAGE_PROCESSING
from photo_worker.pipelines import workflow_types
from photo_worker.workflows.image import ImageProcessingWorkflow
from photo_worker.workflows.policy_interceptor import PolicyInterceptor
from temporal_replay_gate.histories import patch_ids
from tests.crash.contract.image_workflow import (
    PATIENCE_SECONDS,
    REASON,
    Observed,
    Scenario,
    ScriptedActivities,
    has_obeyed,
    kind_of,
    policies_of,
    request_of,
)
from tests.support.harness import eventually
from tests.support.workers import running


async def played(client: Client, scenario: Scenario) -> Observed:
    def hang(ended: Callable[[], bool]) -> None:
        while not ended():
            acting.over.wait(0.01)

    acting = ScriptedActivities(scenario, hang)
    queue, job_id = f"test-{token_hex(6)}", uuid4()
    orchestrator = TemporalOrchestrator(client, queue, types=workflow_types())
    handle = client.get_workflow_handle(str(job_id))
    with ThreadPoolExecutor(8) as executor:
        worker = Worker(
            client,
            task_queue=queue,
            workflows=[ImageProcessingWorkflow],
            activities=acting.all(),
            activity_executor=executor,
            interceptors=[ErrorBoundary(), PolicyInterceptor({IMAGE_PROCESSING.name: policies_of(scenario)})],
        )
        try:
            first = await orchestrator.start(IMAGE_PROCESSING.of(job_id), request_of(job_id, scenario))
            second = await orchestrator.start(IMAGE_PROCESSING.of(job_id), request_of(job_id, scenario))
            # A lost task is retried after its timeout, which may happen on a busy machine.
            async with asyncio.timeout(PATIENCE_SECONDS), running(worker):
                try:
                    wait = await ask(handle, scenario, acting)
                    await ended(handle)
                finally:
                    # A hanging thread would block the worker's shutdown and hide the cause.
                    acting.over.set()
        finally:
            acting.over.set()
    third = await orchestrator.start(IMAGE_PROCESSING.of(job_id), request_of(job_id, scenario))
    state = await orchestrator.state(IMAGE_PROCESSING.of(job_id))
    assert state is not None
    history = await handle.fetch_history()
    return Observed(
        state.status,
        tuple(name_of(event.event_type) for event in history.events),
        attempts_of(history),
        tuple(acting.reasons),
        (first.joined, second.joined, third.joined),
        (state.status, state.reason_code, state.reason),
        tuple(
            event.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta().total_seconds()
            for event in history.events
            if event.HasField("timer_started_event_attributes")
        ),
        patch_ids(history.to_json_dict()["events"]),
        tuple(ends_of(history)),
        unexpected_in(history),
        wait,
    )


async def ask(handle: WorkflowHandle[Any, Any], scenario: Scenario, acting: ScriptedActivities) -> float | None:
    """Send the scenario's request at its time; return the wait of a retry that was pending then, in seconds."""
    if not scenario.asked:
        return None
    waits: list[float] = []

    async def reached() -> bool:
        if not scenario.between:
            return acting.reached.is_set()
        about = (await handle.describe()).raw_description
        if scenario.between == "timer":
            events = (await handle.fetch_history()).events
            return "TimerStarted" in [name_of(event.event_type) for event in events]
        waits.extend(one.current_retry_interval.ToTimedelta().total_seconds() for one in about.pending_activities)
        return any(one.attempt > 1 for one in about.pending_activities)

    async def obeyed() -> bool:
        events = (await handle.fetch_history()).events
        return has_obeyed([name_of(event.event_type) for event in events])

    await eventually(reached, seconds=PATIENCE_SECONDS)
    if scenario.asked == "terminate":
        await handle.terminate(reason=REASON)
        return None
    await handle.cancel()
    if scenario.released:
        await eventually(obeyed, seconds=PATIENCE_SECONDS)
        acting.released.set()
    # The server returns the difference of two rounded times.
    return round(waits[-1], 2) if waits else None


async def ended(handle: WorkflowHandle[Any, Any]) -> None:
    async def closed() -> bool:
        return (await handle.describe()).status != WorkflowExecutionStatus.RUNNING

    await eventually(closed, seconds=PATIENCE_SECONDS)


def name_of(kind: EventType.ValueType) -> str:
    words = EventType.Name(kind).removeprefix("EVENT_TYPE_").split("_")
    return "".join(word.capitalize() for word in words)


def attempts_of(history: WorkflowHistory) -> tuple[tuple[str, int], ...]:
    names: dict[int, str] = {}
    found: list[tuple[str, int]] = []
    for event in history.events:
        if event.HasField("activity_task_scheduled_event_attributes"):
            names[event.event_id] = event.activity_task_scheduled_event_attributes.activity_type.name
        elif event.HasField("activity_task_started_event_attributes"):
            about = event.activity_task_started_event_attributes
            found.append((names[about.scheduled_event_id], about.attempt))
    return tuple(found)


def ends_of(history: WorkflowHistory) -> Iterator[tuple[str, bool]]:
    for event in history.events:
        if event.HasField("activity_task_failed_event_attributes"):
            failed = event.activity_task_failed_event_attributes
            yield kind_of(failed.failure), failed.retry_state == RetryState.RETRY_STATE_TIMEOUT
        elif event.HasField("activity_task_timed_out_event_attributes"):
            late = event.activity_task_timed_out_event_attributes
            yield kind_of(late.failure), late.retry_state == RetryState.RETRY_STATE_TIMEOUT


def unexpected_in(history: WorkflowHistory) -> dict[str, int]:
    """Count unexpected failures that ended activities, and those that a retry followed.

    A history keeps only the last failure before an activity's final attempt: no scenario has two in a row.
    """
    names: dict[int, str] = {}
    found: Counter[str] = Counter()
    for event in history.events:
        if event.HasField("activity_task_scheduled_event_attributes"):
            names[event.event_id] = event.activity_task_scheduled_event_attributes.activity_type.name
        elif event.HasField("activity_task_started_event_attributes"):
            started = event.activity_task_started_event_attributes
            found[names[started.scheduled_event_id]] += kind_of(started.last_failure) == policies.UNEXPECTED
        elif event.HasField("activity_task_failed_event_attributes"):
            failed = event.activity_task_failed_event_attributes
            found[names[failed.scheduled_event_id]] += kind_of(failed.failure) == policies.UNEXPECTED
    return dict(+found)
