"""The simulated Temporal against the real one: the same course gives the same events, attempts and reasons on both.

The product's workflow runs on both sides, with activities that go as a course says, so that nothing but Temporal's own
part differs: what it writes into a history, when it tries again, what it makes of timeouts, cancellations and ends.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from secrets import token_hex
from typing import Any
from uuid import UUID, uuid4

import pytest
from temporalio import activity
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle, WorkflowHistory
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from photo_worker import policies
from photo_worker.activities.boundary import ErrorBoundary
from photo_worker.config import load_settings, read_environment
from photo_worker.contracts.image import (
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
from photo_worker.errors import ObjectMissing, StorageUnavailable
from photo_worker.orchestration.connection import connect
from photo_worker.orchestration.temporal import TemporalOrchestrator
from photo_worker.workflows.image import ImageProcessingWorkflow
from tests.crash.simulation.gate import current
from tests.crash.simulation.service import Execution
from tests.crash.simulation.world import SimulatedOrchestrator, World
from tests.support.harness import eventually

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

VERIFY, OCR, PERSIST, RECORD = "verify_and_locate_asset", "ocr_textract", "persist_artifacts", "record_failure"
SHA256 = "ab" * 32
REASON = "as the course says"
STEPS = {"VERIFY": VERIFY, "OCR": OCR, "PERSIST": PERSIST, "RECORD_FAILURE": RECORD}

_AMPLE_SECONDS = 30.0
_PATIENCE_SECONDS = 180


@dataclass
class Acting:
    """The product's activities by name and contract, each attempt of which goes as the course says."""

    course: Mapping[tuple[str, int], str]
    hang: Callable[[Callable[[], bool]], None]
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    reasons: list[tuple[str, str]] = field(default_factory=list)
    """Code and message of each failure that the workflow wanted written down."""

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
        match self.course.get((name, activity.info().attempt), "end"):
            case "be away":
                raise StorageUnavailable(store="nowhere", reason="as the course says")
            case "refuse":
                raise ObjectMissing(bucket="photos", key="raw/none.png")
            case "break":
                message = "a defect, as the course says"
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
class Course:
    """How attempts go, and what somebody asks of Temporal once an attempt hangs or waits to be tried again."""

    name: str
    attempts: Mapping[tuple[str, int], str] = field(default_factory=dict)
    asked: str = ""
    """``cancel`` or ``terminate``, once an attempt hangs."""
    released: bool = False
    """Whether the hanging attempt ends when the cancellation has had its effects."""
    between: bool = False
    """Whether it is asked for between two attempts instead."""
    start_to_close: float = _AMPLE_SECONDS
    heartbeat: float | None = None
    initial_interval: float = 0.05
    maximum_attempts: int = 3


COURSES = [
    Course("success"),
    Course("tried again", {(VERIFY, 1): "be away", (OCR, 1): "be away", (OCR, 2): "break", (PERSIST, 1): "be away"}),
    Course("refused", {(VERIFY, 1): "refuse"}),
    Course("refused at the second attempt", {(OCR, 1): "be away", (OCR, 2): "refuse"}),
    Course("a defect to the end", {(OCR, number): "break" for number in (1, 2, 3)}),
    Course("away to the end", {(PERSIST, number): "be away" for number in (1, 2, 3)}),
    Course("the reason is written late", {(VERIFY, 1): "refuse", (RECORD, 1): "be away", (RECORD, 2): "break"}),
    Course("no end in time, then one", {(OCR, 1): "hang"}, start_to_close=1.5),
    Course("no end in time at all", {(OCR, 1): "hang", (OCR, 2): "hang"}, start_to_close=0.5, maximum_attempts=2),
    Course("no sign of life, then an end", {(VERIFY, 1): "hang"}, heartbeat=1.5),
    Course("no sign of life at all", {(OCR, 1): "hang", (OCR, 2): "hang"}, heartbeat=0.5, maximum_attempts=2),
    Course("cancelled in an attempt", {(OCR, 1): "hang"}, asked="cancel"),
    Course(
        "cancelled between attempts",
        {(OCR, 1): "be away", (RECORD, 1): "hang"},
        asked="cancel",
        released=True,
        between=True,
        initial_interval=20.0,
    ),
    Course("cancelled too late", {(PERSIST, 1): "hang"}, asked="cancel", released=True),
    Course("terminated", {(OCR, 1): "hang"}, asked="terminate"),
]


@dataclass(frozen=True)
class Seen:
    """What Temporal shows of one execution."""

    status: str
    events: tuple[str, ...]
    attempts: tuple[tuple[str, int], ...]
    """Of each activity that ended, with the number of its last attempt."""
    reasons: tuple[tuple[str, str], ...]
    joined: tuple[bool, ...]
    """Of each start of the id: the first, one while it ran, one when it had ended."""
    state: tuple[str, str | None, str | None]


@pytest.fixture
async def client(stack_env: dict[str, str]) -> Client:
    return await connect(load_settings(read_environment(stack_env, None)), stack_env)


@pytest.mark.parametrize("course", COURSES, ids=[course.name for course in COURSES])
async def test_the_simulation_goes_as_the_service_goes(
    course: Course, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every event of the history in its order, every attempt, every reason, and what each start is told."""
    for name, step in STEPS.items():
        monkeypatch.setattr(policies, name, scaled(getattr(policies, name), course, step))
    real = await played(client, course)
    # A thread of its own: event loops do not run within one another.
    assert await asyncio.to_thread(simulated, course) == real


def scaled(policy: policies.ActivityPolicy, course: Course, step: str) -> policies.ActivityPolicy:
    """Return a step's policy for a course. Only what hangs has little time: others may be slow on a busy machine."""
    hangs = step in {name for (name, _), what in course.attempts.items() if what == "hang"}
    return replace(
        policy,
        start_to_close_timeout=timedelta(seconds=course.start_to_close if hangs else _AMPLE_SECONDS),
        heartbeat_timeout=timedelta(seconds=course.heartbeat) if hangs and course.heartbeat else None,
        initial_interval=timedelta(seconds=course.initial_interval),
        maximum_interval=timedelta(seconds=max(course.initial_interval, 0.2)),
        maximum_attempts=policy.maximum_attempts and course.maximum_attempts,
    )


def request_of(job_id: UUID) -> ImageProcessingInput:
    return ImageProcessingInput(job_id=str(job_id), bucket="photos", key="raw/none.png")


# -- the real service -------------------------------------------------------------------


async def played(client: Client, course: Course) -> Seen:
    def hang(ended: Callable[[], bool]) -> None:
        while not ended():
            acting.over.wait(0.01)

    acting = Acting(course.attempts, hang)
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
            # The policies of this process, which are the course's.
            workflow_runner=SandboxedWorkflowRunner(
                SandboxRestrictions.default.with_passthrough_modules(policies.__name__)
            ),
        )
        try:
            first = await orchestrator.start_image_processing(request_of(job_id))
            second = await orchestrator.start_image_processing(request_of(job_id))
            # A task that is handed to nobody comes again after its timeout, which a busy machine may need.
            async with asyncio.timeout(_PATIENCE_SECONDS), worker:
                try:
                    await ask(handle, course, acting)
                    await ended(handle)
                finally:
                    # A hanging thread would keep the worker, and the reason for it from being seen.
                    acting.over.set()
        finally:
            acting.over.set()
    third = await orchestrator.start_image_processing(request_of(job_id))
    state = await orchestrator.state(job_id)
    assert state is not None
    history = await handle.fetch_history()
    return Seen(
        state.status,
        tuple(name_of(event.event_type) for event in history.events),
        attempts_of(history),
        tuple(acting.reasons),
        (first.joined, second.joined, third.joined),
        (state.status, state.reason_code, state.reason),
    )


async def ask(handle: WorkflowHandle[Any, Any], course: Course, acting: Acting) -> None:
    if not course.asked:
        return

    async def reached() -> bool:
        if not course.between:
            return acting.reached.is_set()
        pending = (await handle.describe()).raw_description.pending_activities
        return any(about.attempt > 1 for about in pending)

    async def obeyed() -> bool:
        events = (await handle.fetch_history()).events
        return has_obeyed([name_of(event.event_type) for event in events])

    await eventually(reached, seconds=_PATIENCE_SECONDS)
    if course.asked == "terminate":
        await handle.terminate(reason=REASON)
        return
    await handle.cancel()
    if course.released:
        await eventually(obeyed, seconds=_PATIENCE_SECONDS)
        acting.released.set()


def has_obeyed(events: Sequence[str]) -> bool:
    """Tell whether a cancellation has reached the activity, and every workflow task that came of it has ended."""
    told = "ActivityTaskCancelRequested" in events
    # The server begins a task for every end of an activity, together with it.
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


# -- the simulation ------------------------------------------------------------------------


def simulated(course: Course) -> Seen:
    world = World(seed=0)

    def hang(ended: Callable[[], bool]) -> None:
        while not ended():
            world.gate.until(current(), world.now + timedelta(seconds=0.1))

    acting = Acting(course.attempts, hang)
    world.workers[0]._activities = {each.__name__: each for each in acting.all()}
    job_id = uuid4()
    try:
        starts = [start(world, job_id), start(world, job_id)]
        execution = world.service.executions[str(job_id)]
        asked = bool(course.asked)
        for _ in count():
            if execution.status != "running":
                break
            if asked and waits(course, acting, execution):
                asked = False
                if course.asked == "cancel":
                    world.service.cancel(str(job_id))
                else:
                    world.service.terminate(str(job_id), REASON)
            if course.released and has_obeyed(execution.events) and not execution.wanted:
                acting.released.set()
            assert world.step(), "nothing happens any more"
        starts.append(start(world, job_id))
    finally:
        world.close()
    world.gate.quiet = True
    state = asyncio.run(SimulatedOrchestrator(world).state(job_id))
    assert state is not None
    return Seen(
        execution.status,
        tuple(execution.events),
        tuple(execution.attempts),
        tuple(acting.reasons),
        tuple(starts),
        (state.status, state.reason_code, state.reason),
    )


def start(world: World, job_id: UUID) -> bool:
    world.gate.quiet = True
    joined = asyncio.run(SimulatedOrchestrator(world).start_image_processing(request_of(job_id))).joined
    world.gate.quiet = False
    return joined


def waits(course: Course, acting: Acting, execution: Execution) -> bool:
    if not course.between:
        return acting.reached.is_set()
    return any(found.number > 1 for found in execution.activities.values())
