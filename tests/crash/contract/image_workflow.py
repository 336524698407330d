"""Scenarios of the product's own workflow, with activities that follow them, and what can be observed."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from temporalio import activity
from temporalio.api.enums.v1 import TimeoutType
from temporalio.api.failure.v1 import Failure

from photo_worker import policies
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
from photo_worker.errors import ObjectMissing, SourceReplaced, StorageUnavailable

VERIFY, OCR, PERSIST, RECORD = "verify_and_locate_asset", "ocr_textract", "persist_artifacts", "record_failure"
SHA256 = "ab" * 32
REASON = "as the scenario says"
STEPS = (VERIFY, OCR, PERSIST, RECORD)

AMPLE_SECONDS = 30.0
_LONG_SECONDS = 600.0
PATIENCE_SECONDS = 200


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
    start_to_close: float = AMPLE_SECONDS
    heartbeat: float | None = None
    initial_interval: float = 0.05
    maximum_attempts: int = 3
    retry_after: float = 0.5
    """The retry delay of a throttling service, in seconds."""
    reread_wait: float = 0.2
    lifetime: int | None = None
    """The job's lifetime in seconds."""
    last_chance: float = AMPLE_SECONDS


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


def scaled(policy: policies.ActivityPolicy, scenario: Scenario, step: str) -> policies.ActivityPolicy:
    """Return a step's policy for a scenario. Only hanging steps have short timeouts: others may be slow when busy."""
    hangs = step in {name for (name, _), what in scenario.calls.items() if what == "hang"}
    return replace(
        policy,
        start_to_close_timeout=timedelta(seconds=scenario.start_to_close if hangs else AMPLE_SECONDS),
        heartbeat_timeout=timedelta(seconds=scenario.heartbeat) if hangs and scenario.heartbeat else None,
        initial_interval=timedelta(seconds=scenario.initial_interval),
        maximum_interval=timedelta(seconds=max(scenario.initial_interval, 0.2)),
        maximum_attempts=policy.maximum_attempts and scenario.maximum_attempts,
    )


def policies_of(scenario: Scenario) -> policies.ImagePolicies:
    """Return the workflow's policies for a scenario."""
    own = policies.IMAGE
    return replace(
        own,
        verify_and_locate_asset=scaled(own.verify_and_locate_asset, scenario, VERIFY),
        ocr_textract=scaled(own.ocr_textract, scenario, OCR),
        persist_artifacts=scaled(own.persist_artifacts, scenario, PERSIST),
        record_failure=scaled(own.record_failure, scenario, RECORD),
        last_chance=timedelta(seconds=scenario.last_chance),
        reread_first_wait=timedelta(seconds=scenario.reread_wait),
        reread_longest_wait=timedelta(seconds=max(scenario.reread_wait, 0.3)),
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


def has_obeyed(events: Sequence[str]) -> bool:
    """Return whether a cancellation has reached the activity and all resulting workflow tasks have ended."""
    told = "ActivityTaskCancelRequested" in events
    # The server schedules a task together with every end of an activity.
    return told and events.count("WorkflowTaskScheduled") == events.count("WorkflowTaskCompleted")
