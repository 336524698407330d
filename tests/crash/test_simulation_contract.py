"""The simulated Temporal compared with the real one: each scenario gives the same events, attempts and failures.

The product's workflow runs on both sides with activities that follow the scenario, so that only Temporal differs: the
events that it records, its retries, and its handling of timeouts, cancellations and ends.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from secrets import token_hex
from typing import Any
from uuid import UUID, uuid4

import pytest
from temporalio import activity
from temporalio.api.enums.v1 import EventType, RetryState, TimeoutType
from temporalio.api.failure.v1 import Failure
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle, WorkflowHistory
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from photo_worker import policies
from photo_worker.activities.boundary import ErrorBoundary
from photo_worker.config import load_settings, read_environment
from photo_worker.contracts.image import (
    IMAGE_PROCESSING,
    FailureInput,
    FailureResult,
    ImageProcessingInput,
    LocateAssetInput,
    LocatedAsset,
    OcrInput,
    OcrResult,
    PersistInput,
    PersistResult,
)
from photo_worker.errors import ObjectMissing, SourceReplaced, StorageUnavailable
from photo_worker.orchestration.connection import connect
from photo_worker.orchestration.temporal import TemporalOrchestrator
from photo_worker.workflows.image import ImageProcessingWorkflow
from temporal_replay_gate.histories import patch_ids
from tests.crash.simulation.gate import current
from tests.crash.simulation.service import Execution
from tests.crash.simulation.world import SimulatedOrchestrator, World
from tests.support.harness import eventually
from tests.support.workers import running

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

VERIFY, OCR, PERSIST, RECORD = "verify_and_locate_asset", "ocr_textract", "persist_artifacts", "record_failure"
SHA256 = "ab" * 32
REASON = "as the scenario says"
STEPS = {"VERIFY": VERIFY, "OCR": OCR, "PERSIST": PERSIST, "RECORD_FAILURE": RECORD}

_AMPLE_SECONDS = 30.0
_LONG_SECONDS = 600.0
_PATIENCE_SECONDS = 200


@dataclass
class ScriptedActivities:
    """Activities with the product's names and contracts, each call of which follows the scenario."""

    scenario: Scenario
    hang: Callable[[Callable[[], bool]], None]
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    reasons: list[tuple[str, str]] = field(default_factory=list)
    """Code and message of each failure that the workflow recorded."""
    calls: Counter[str] = field(default_factory=Counter)
    """The number of started attempts by activity type. A further activity of a type starts with attempt 1 again."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @activity.defn(no_thread_cancel_exception=True)
    def verify_and_locate_asset(self, request: LocateAssetInput) -> LocatedAsset:
        self._act(VERIFY)
        return LocatedAsset(
            bucket=request.bucket, key=request.key, content_type="image/png", size_bytes=1, sha256=SHA256
        )

    @activity.defn(no_thread_cancel_exception=True)
    def ocr_textract(self, request: OcrInput) -> OcrResult:
        self._act(OCR)
        return OcrResult(ocr_engine="textract", ocr_version="1.0", s3_ocr_key=f"artifacts/{request.key}", page_count=1)

    @activity.defn(no_thread_cancel_exception=True)
    def persist_artifacts(self, request: PersistInput) -> PersistResult:
        self._act(PERSIST)
        return PersistResult(s3_manifest_key=f"artifacts/{request.s3_raw_key}/manifest.json")

    @activity.defn(no_thread_cancel_exception=True)
    def record_failure(self, request: FailureInput) -> FailureResult:
        self.reasons.append((request.code, request.message))
        self._act(RECORD)
        return FailureResult(status="failed")

    def _act(self, name: str) -> None:
        with self.lock:
            self.calls[name] += 1
            number = self.calls[name]
        match self.scenario.calls.get((name, number), "end"):
            case "be away":
                raise StorageUnavailable(store="nowhere", reason=REASON)
            case "slow down":
                throttled = StorageUnavailable(store="nowhere", reason=REASON)
                throttled.retry_after_seconds = self.scenario.retry_after
                raise throttled
            case "replace":
                raise SourceReplaced(bucket="photos", key="raw/none.png")
            case "refuse":
                raise ObjectMissing(bucket="photos", key="raw/none.png")
            case "break":
                message = "a defect, as the scenario says"
                raise ValueError(message)
            case "hang":
                self.reached.set()
                self.hang(lambda: self.released.is_set() or self.over.is_set())
            case "end":
                return
            case other:
                raise AssertionError(other)

    def all(self) -> list[Callable[..., Any]]:
        return [self.verify_and_locate_asset, self.ocr_textract, self.persist_artifacts, self.record_failure]


@dataclass(frozen=True)
class Scenario:
    """The outcomes of attempts, and the request to Temporal while an attempt hangs or waits for its retry."""

    name: str
    calls: Mapping[tuple[str, int], str] = field(default_factory=dict)
    """The outcome of each call by activity type and number, counted from 1 over all activities of the type."""
    asked: str = ""
    """``cancel`` or ``terminate``, once an attempt hangs."""
    released: bool = False
    """Whether the hanging attempt ends after the cancellation has taken effect."""
    between: str = ""
    """``attempts`` or ``timer`` if the request comes between two attempts, or while a timer runs, instead."""
    start_to_close: float = _AMPLE_SECONDS
    heartbeat: float | None = None
    initial_interval: float = 0.05
    maximum_attempts: int = 3
    retry_after: float = 0.5
    """The retry delay of a throttling service, in seconds."""
    reread_wait: float = 0.2
    lifetime: int | None = None
    """The job's lifetime in seconds."""
    last_chance: float = _AMPLE_SECONDS


SCENARIOS = [
    Scenario("success"),
    Scenario("tried again", {(VERIFY, 1): "be away", (OCR, 1): "be away", (OCR, 2): "break", (PERSIST, 1): "be away"}),
    Scenario("refused", {(VERIFY, 1): "refuse"}),
    Scenario("refused at the second attempt", {(OCR, 1): "be away", (OCR, 2): "refuse"}),
    Scenario("a defect to the end", {(OCR, number): "break" for number in (1, 2, 3)}),
    Scenario("away to the end", {(PERSIST, number): "be away" for number in (1, 2, 3)}),
    Scenario("the reason is written late", {(VERIFY, 1): "refuse", (RECORD, 1): "be away", (RECORD, 2): "break"}),
    Scenario("no end in time, then one", {(OCR, 1): "hang"}, start_to_close=1.5),
    Scenario("no end in time at all", {(OCR, 1): "hang", (OCR, 2): "hang"}, start_to_close=0.5, maximum_attempts=2),
    Scenario("no sign of life, then an end", {(VERIFY, 1): "hang"}, heartbeat=1.5),
    Scenario("no sign of life at all", {(OCR, 1): "hang", (OCR, 2): "hang"}, heartbeat=0.5, maximum_attempts=2),
    Scenario("cancelled in an attempt", {(OCR, 1): "hang"}, asked="cancel"),
    Scenario(
        "cancelled between attempts",
        {(OCR, 1): "be away", (RECORD, 1): "hang"},
        asked="cancel",
        released=True,
        between="attempts",
        initial_interval=20.0,
    ),
    Scenario("cancelled too late", {(PERSIST, 1): "hang"}, asked="cancel", released=True),
    Scenario("terminated", {(OCR, 1): "hang"}, asked="terminate"),
    # Unexpected errors: each ends its activity; they are counted for each step, separately from outages.
    Scenario("a defect in every step", {(VERIFY, 1): "break", (OCR, 1): "break", (PERSIST, 1): "break"}),
    Scenario(
        "a defect between outages",
        {(OCR, 1): "be away", (OCR, 2): "be away", (OCR, 3): "break", (OCR, 4): "be away", (OCR, 5): "break"},
    ),
    Scenario(
        "cancelled behind a defect",
        {(OCR, 1): "break"},
        asked="cancel",
        between="timer",
        initial_interval=_LONG_SECONDS,
    ),
    # The retry delay of a service, instead of the policy's.
    Scenario("told to come later", {(OCR, 1): "slow down"}),
    Scenario(
        "cancelled when told to come later",
        {(OCR, 1): "slow down"},
        asked="cancel",
        between="attempts",
        retry_after=_LONG_SECONDS,
    ),
    Scenario("told to come when it is over", {(OCR, 1): "slow down"}, retry_after=_LONG_SECONDS, lifetime=1),
    # The job's lifetime, which limits an activity with all its attempts.
    Scenario("over before another attempt", {(OCR, 1): "be away"}, lifetime=1, initial_interval=_LONG_SECONDS),
    Scenario("over before another timeout", {(OCR, 1): "hang"}, lifetime=1, start_to_close=1.0, initial_interval=60.0),
    Scenario("over in the first attempt", {(OCR, 1): "hang"}, lifetime=1, last_chance=2.5),
    Scenario("over in the second attempt", {(OCR, 1): "be away", (OCR, 2): "hang"}, lifetime=1, last_chance=2.5),
    # An object that is replaced while it is read: a second patch, and a timer before the next reading.
    Scenario("replaced", {(OCR, 1): "replace"}),
    Scenario("replaced twice", {(OCR, 1): "replace", (OCR, 2): "replace"}),
    Scenario("replaced when it is over", {(OCR, 1): "replace", (OCR, 2): "replace"}, lifetime=4, reread_wait=5.0),
    Scenario(
        "cancelled before it is read again",
        {(OCR, 1): "replace"},
        asked="cancel",
        between="timer",
        reread_wait=_LONG_SECONDS,
    ),
]


@dataclass(frozen=True)
class Observed:
    """The observable result of one execution in Temporal."""

    status: str
    events: tuple[str, ...]
    attempts: tuple[tuple[str, int], ...]
    """Each ended activity with the number of its last attempt."""
    reasons: tuple[tuple[str, str], ...]
    joined: tuple[bool, ...]
    """Whether each start joined an execution: the first one, one while it ran, one after it had ended."""
    state: tuple[str, str | None, str | None]
    timers: tuple[float, ...]
    """The duration of each timer in seconds."""
    patches: tuple[str, ...]
    """The patches with a marker."""
    ends: tuple[tuple[str, bool], ...]
    """For each activity that failed or timed out: the kind of its last failure, and whether its time was over."""
    unexpected: Mapping[str, int]
    """The number of reported unexpected failures by activity type."""
    wait: float | None
    """The wait for the next attempt in seconds, if the request comes between two attempts."""


@pytest.fixture
async def client(stack_env: dict[str, str]) -> Client:
    return await connect(load_settings(read_environment(stack_env, None)), stack_env)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
async def test_simulated_temporal_behaves_as_real_service(
    scenario: Scenario, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compares all events of the history in order, all attempts, all failures, and the result of each start."""
    for name, step in STEPS.items():
        monkeypatch.setattr(policies, name, scaled(getattr(policies, name), scenario, step))
    monkeypatch.setattr(policies, "LAST_CHANCE", timedelta(seconds=scenario.last_chance))
    monkeypatch.setattr(policies, "REREAD_FIRST_WAIT", timedelta(seconds=scenario.reread_wait))
    monkeypatch.setattr(policies, "REREAD_LONGEST_WAIT", timedelta(seconds=max(scenario.reread_wait, 0.3)))
    real = await played(client, scenario)
    # In a separate thread: event loops cannot be nested.
    assert await asyncio.to_thread(simulated, scenario) == real


def scaled(policy: policies.ActivityPolicy, scenario: Scenario, step: str) -> policies.ActivityPolicy:
    """Return a step's policy for a scenario. Only hanging steps have short timeouts: others may be slow when busy."""
    hangs = step in {name for (name, _), what in scenario.calls.items() if what == "hang"}
    return replace(
        policy,
        start_to_close_timeout=timedelta(seconds=scenario.start_to_close if hangs else _AMPLE_SECONDS),
        heartbeat_timeout=timedelta(seconds=scenario.heartbeat) if hangs and scenario.heartbeat else None,
        initial_interval=timedelta(seconds=scenario.initial_interval),
        maximum_interval=timedelta(seconds=max(scenario.initial_interval, 0.2)),
        maximum_attempts=policy.maximum_attempts and scenario.maximum_attempts,
    )


def request_of(job_id: UUID, scenario: Scenario) -> ImageProcessingInput:
    return ImageProcessingInput(
        job_id=str(job_id), bucket="photos", key="raw/none.png", lifetime_seconds=scenario.lifetime
    )


def kind_of(failure: Failure) -> str:
    """Return the type of an application's failure, or the type of a timeout."""
    if failure.HasField("timeout_failure_info"):
        return TimeoutType.Name(failure.timeout_failure_info.timeout_type)
    return failure.application_failure_info.type


# -- the real service -------------------------------------------------------------------


async def played(client: Client, scenario: Scenario) -> Observed:
    def hang(ended: Callable[[], bool]) -> None:
        while not ended():
            acting.over.wait(0.01)

    acting = ScriptedActivities(scenario, hang)
    queue, job_id = f"test-{token_hex(6)}", uuid4()
    orchestrator = TemporalOrchestrator(client, queue)
    handle = client.get_workflow_handle(str(job_id))
    with ThreadPoolExecutor(8) as executor:
        worker = Worker(
            client,
            task_queue=queue,
            workflows=[ImageProcessingWorkflow],
            activities=acting.all(),
            activity_executor=executor,
            interceptors=[ErrorBoundary()],
            # Uses the policies of this process, which are the scenario's.
            workflow_runner=SandboxedWorkflowRunner(
                SandboxRestrictions.default.with_passthrough_modules(policies.__name__)
            ),
        )
        try:
            first = await orchestrator.start(IMAGE_PROCESSING.of(job_id), request_of(job_id, scenario))
            second = await orchestrator.start(IMAGE_PROCESSING.of(job_id), request_of(job_id, scenario))
            # A lost task is retried after its timeout, which may happen on a busy machine.
            async with asyncio.timeout(_PATIENCE_SECONDS), running(worker):
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

    await eventually(reached, seconds=_PATIENCE_SECONDS)
    if scenario.asked == "terminate":
        await handle.terminate(reason=REASON)
        return None
    await handle.cancel()
    if scenario.released:
        await eventually(obeyed, seconds=_PATIENCE_SECONDS)
        acting.released.set()
    # The server returns the difference of two rounded times.
    return round(waits[-1], 2) if waits else None


def has_obeyed(events: Sequence[str]) -> bool:
    """Return whether a cancellation has reached the activity and all resulting workflow tasks have ended."""
    told = "ActivityTaskCancelRequested" in events
    # The server schedules a task together with every end of an activity.
    return told and events.count("WorkflowTaskScheduled") == events.count("WorkflowTaskCompleted")


async def ended(handle: WorkflowHandle[Any, Any]) -> None:
    async def closed() -> bool:
        return (await handle.describe()).status != WorkflowExecutionStatus.RUNNING

    await eventually(closed, seconds=_PATIENCE_SECONDS)


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


# -- the simulation ------------------------------------------------------------------------


def simulated(scenario: Scenario) -> Observed:
    world = World(seed=0)

    def hang(ended: Callable[[], bool]) -> None:
        while not ended():
            world.gate.until(current(), world.now + timedelta(seconds=0.1))

    acting = ScriptedActivities(scenario, hang)
    world.workers[0]._activities = {each.__name__: each for each in acting.all()}
    job_id = uuid4()
    try:
        starts = [start(world, job_id, scenario), start(world, job_id, scenario)]
        execution = world.service.executions[str(job_id)]
        asked = bool(scenario.asked)
        wait: float | None = None
        for _ in count():
            if execution.status != "running":
                break
            if asked and waits(scenario, acting, execution):
                asked = False
                if scenario.between == "attempts":
                    (pending,) = execution.activities.values()
                    wait = (pending.due - world.now).total_seconds()
                if scenario.asked == "cancel":
                    world.service.cancel(str(job_id))
                else:
                    world.service.terminate(str(job_id), REASON)
            if scenario.released and has_obeyed(execution.events) and not execution.wanted:
                acting.released.set()
            assert world.step(), "nothing happens any more"
        starts.append(start(world, job_id, scenario))
    finally:
        world.close()
    world.gate.quiet = True
    state = asyncio.run(SimulatedOrchestrator(world).state(IMAGE_PROCESSING.of(job_id)))
    assert state is not None
    return Observed(
        execution.status,
        tuple(execution.events),
        tuple(execution.attempts),
        tuple(acting.reasons),
        tuple(starts),
        (state.status, state.reason_code, state.reason),
        tuple(
            command.start_timer.start_to_fire_timeout.ToTimedelta().total_seconds()
            for task in execution.done
            for command in task.commands
            if command.HasField("start_timer")
        ),
        tuple(
            sorted(
                command.set_patch_marker.patch_id
                for task in execution.done
                for command in task.commands
                if command.HasField("set_patch_marker")
            )
        ),
        tuple(simulated_ends(execution)),
        dict(+execution.unexpected),
        wait,
    )


def simulated_ends(execution: Execution) -> Iterator[tuple[str, bool]]:
    for task in execution.done:
        for job in task.jobs:
            if job.resolve_activity.result.HasField("failed"):
                failure = job.resolve_activity.result.failed.failure
                late = failure.activity_failure_info.retry_state == RetryState.RETRY_STATE_TIMEOUT
                yield kind_of(failure.cause), late


def start(world: World, job_id: UUID, scenario: Scenario) -> bool:
    world.gate.quiet = True
    starting = SimulatedOrchestrator(world).start(IMAGE_PROCESSING.of(job_id), request_of(job_id, scenario))
    joined = asyncio.run(starting).joined
    world.gate.quiet = False
    return joined


def waits(scenario: Scenario, acting: ScriptedActivities, execution: Execution) -> bool:
    if not scenario.between:
        return acting.reached.is_set()
    if scenario.between == "timer":
        return bool(execution.timers)
    return any(found.number > 1 for found in execution.activities.values())
