"""Scenarios for every outcome of ``image_processing_workflow``, on the product's own services.

A missing or damaged object, a wrong type, an unknown engine, a refusal by Textract, and an unreachable
Textract are real: S3 and the Textract emulator produce them. An outage of Postgres or S3 between two
steps, a lost response, throttling, a defect and a hanging step cannot be produced at a given moment of one
job on shared services, so a fault injection raises the error that the adapter would raise.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from photo_worker.activities.boundary import to_application_error, unexpected
from photo_worker.bootstrap import Application, BackendRegistry, build_activities, workflow_classes
from photo_worker.contracts.keys import raw_key
from photo_worker.errors import PhotoWorkerError, UnknownEngine
from photo_worker.ports.object_store import DocumentRef, ObjectStore
from photo_worker.ports.ocr import DetectedText, OcrBackend
from temporal_replay_gate.errors import ScenariosUnusable
from temporal_replay_gate.scenarios import (
    ActivityOutcome,
    Cancel,
    FaultInjection,
    Scenario,
    ScenarioSuite,
    WaitForEvent,
)
from tests.replay.scenarios.image_parts import (
    DONE,
    NO_ENGINE,
    OCR,
    PERSIST,
    RECORD,
    VERIFY,
    Photo,
    cancelled,
    defect,
    failed,
    fails,
    storage_unavailable,
    succeeded,
    throttled,
    unavailable,
)
from tests.replay.scenarios.images_before_lifetime import BEFORE_LIFETIME_SCENARIOS

_PNG_START = 2000

# The patch id in the workflow.
LIFETIME = "job-lifetime"

# Seconds, the shortest lifetime that the contract accepts. A step that begins late still has half a minute.
_SOON = 1

# These run differently since jobs have a lifetime; _OTHERWISE has the scenarios that replace them.
_CHANGED = frozenset(
    {"ocr-unavailable", "verify-unavailable", "persist-failing", "ocr-defect", "verify-timeout", "reply-lost-for-good"}
)
# These end before the workflow checks the lifetime.
_WITHOUT_MARK = frozenset({"job-id-invalid", "contract-invalid"})


def _with_lifetime(scenario: Scenario) -> Scenario:
    """Return a scenario as it runs since jobs have a lifetime, under a name of its own."""
    expected = replace(scenario.expected, patches=(LIFETIME, *scenario.expected.patches))
    return replace(scenario, name=f"lifetime-{scenario.name}", expected=expected)


_OTHERWISE: tuple[Scenario, ...] = (
    failed(
        "ocr-expired",
        "Textract is out of reach until the job's lifetime is over.",
        "job_expired",
        DONE[0],
        ActivityOutcome(OCR, "failed", None),
        photo=Photo(engine="textract-away", lifetime_seconds=_SOON),
        limit=timedelta(minutes=4),
    ),
    succeeded(
        "ocr-outlasted",
        "Textract asks more often to slow down than attempts were once counted.",
        DONE[0],
        ActivityOutcome(OCR, "completed", 7),
        DONE[2],
        injections=fails(OCR, throttled, *range(1, 7)),
        limit=timedelta(minutes=4),
    ),
    succeeded(
        "verify-outlasted",
        "Postgres is away for more attempts than were once counted.",
        ActivityOutcome(VERIFY, "completed", 7),
        *DONE[1:],
        injections=fails(VERIFY, unavailable, *range(1, 7)),
        limit=timedelta(minutes=4),
    ),
    succeeded(
        "persist-outlasted",
        "Postgres is away while the rows are written, for more attempts than were once counted.",
        *DONE[:2],
        ActivityOutcome(PERSIST, "completed", 9),
        injections=fails(PERSIST, unavailable, *range(1, 9)),
        limit=timedelta(minutes=4),
    ),
    failed(
        "reason-late",
        "There is no such object, and Postgres is away while that is written down.",
        "object_missing",
        ActivityOutcome(VERIFY, "failed"),
        photo=Photo("absent"),
        injections=fails(RECORD, unavailable, 1, 2),
        recorded=ActivityOutcome(RECORD, "completed", 3),
    ),
    failed(
        "ocr-defect",
        "A backend has a defect that no attempt gets past: each is an activity of its own.",
        "step_failed",
        DONE[0],
        *[ActivityOutcome(OCR, "failed")] * 5,
        injections=fails(OCR, defect),
    ),
    succeeded(
        "ocr-defect-once",
        "A backend fails unexpectedly, and the next attempt gets past it.",
        DONE[0],
        ActivityOutcome(OCR, "failed"),
        *DONE[1:],
        injections=fails(OCR, defect, times=1),
        events={"TimerFired": 1},
    ),
    cancelled(
        "cancelled-behind-defect",
        "Cancelled while the workflow waits to try again what failed unexpectedly.",
        (WaitForEvent("TimerStarted", 3), Cancel()),
        DONE[0],
        *[ActivityOutcome(OCR, "failed")] * 3,
        injections=fails(OCR, defect),
    ),
    succeeded(
        "source-replaced",
        "The object is replaced while it is read: the job verifies and reads what is there then.",
        DONE[0],
        ActivityOutcome(OCR, "failed"),
        *DONE,
        photo=Photo("theirs", engine="textract-replaced"),
        events={"TimerStarted": 1, "TimerFired": 1},
        patches=("source-replaced",),
    ),
    cancelled(
        "cancelled-before-rereading",
        "Cancelled while the workflow waits to read an object again that is replaced each time.",
        # The third wait takes 4 s: long enough for a cancellation.
        (WaitForEvent("TimerStarted", 3), Cancel()),
        *[DONE[0], ActivityOutcome(OCR, "failed")] * 3,
        photo=Photo("theirs", engine="textract-replaced-always"),
        events={"TimerStarted": 3, "TimerFired": 2, "TimerCanceled": 1},
        patches=("source-replaced",),
    ),
    failed(
        "verify-expired",
        "The photo's verification hangs without a heartbeat until the job's lifetime is over.",
        "job_expired",
        ActivityOutcome(VERIFY, "timed_out", None),
        photo=Photo(lifetime_seconds=_SOON),
        injections=(FaultInjection(VERIFY, "hang"),),
        keep=("until the end, and did not end in its time",),
        limit=timedelta(minutes=5),
    ),
    succeeded(
        "reply-lost-to-the-end",
        "The rows were committed and every reply was lost: record_failure finds the job succeeded.",
        *DONE[:2],
        ActivityOutcome(PERSIST, "failed", None),
        ActivityOutcome(RECORD, "completed"),
        photo=Photo(lifetime_seconds=_SOON),
        injections=(FaultInjection(PERSIST, "lose_reply", storage_unavailable),),
        limit=timedelta(minutes=4),
    ),
)

SCENARIOS: tuple[Scenario, ...] = (
    *(_with_lifetime(one) for one in BEFORE_LIFETIME_SCENARIOS if one.name not in _CHANGED | _WITHOUT_MARK),
    *map(_with_lifetime, _OTHERWISE),
    *(one for one in BEFORE_LIFETIME_SCENARIOS if one.name in _WITHOUT_MARK),
)


def scenario_suite(photo: Path) -> ScenarioSuite:
    """Return the scenarios of the image workflow; they process ``photo``, a PNG that Textract can read."""
    png = photo.read_bytes()

    async def prepare(scenario: Scenario, application: Application | None, workflow_id: str) -> Any:
        wanted: Photo = scenario.request
        return wanted.raw or await asyncio.to_thread(_stage_photo, _needed(application), wanted, png, workflow_id)

    return ScenarioSuite(
        scenarios=SCENARIOS,
        workflows=workflow_classes,
        activities=_activities,
        prepare=prepare,
        application=True,
        raised=as_production_raises,
    )


def as_production_raises(error: Exception) -> Exception:
    """Return an activity's error as the worker's error boundary raises it."""
    return to_application_error(error) if isinstance(error, PhotoWorkerError) else unexpected(error)


def _needed(application: Application | None) -> Application:
    if application is None:
        raise ScenariosUnusable(target="of the product", reason="they are played without its services")
    return application


def _stage_photo(application: Application, wanted: Photo, png: bytes, workflow_id: str) -> dict[str, Any]:
    bodies = {"photo": png, "damaged": png[:_PNG_START], "text": b"flour, butter and sugar\n" * 9, "empty": b""}
    bodies["theirs"] = png
    bucket = application.settings.s3_bucket
    application.store.ensure_bucket(bucket)
    if wanted.erased:
        application.repository.mark_erased(UUID(workflow_id))
    if wanted.content == "absent":
        key = f"absent/{uuid4()}.png"
    elif wanted.content == "theirs":
        key = f"theirs/{uuid4()}.png"
        application.store.put(bucket, key, png, content_type="image/png")
    else:
        key = raw_key(hashlib.sha256(bodies[wanted.content]).hexdigest(), ".png")
        # Another scenario may be reading the object.
        application.store.put_new(bucket, key, bodies[wanted.content], content_type="image/png")
    # A plain dict, as other clients send it; a contract would refuse the wrong values of a scenario.
    return {
        "job_id": wanted.job_id or workflow_id,
        "bucket": bucket,
        "key": key,
        "expected_content_type": wanted.expect,
        "engine": wanted.engine,
        "lifetime_seconds": wanted.lifetime_seconds,
    }


def _activities(scenario: Scenario, application: Application | None) -> Sequence[Callable[..., Any]]:
    application = _needed(application)
    registry = BackendRegistry(application.settings, application.store, application.session)
    own = {
        "textract-replaced": _Replaced(registry, application.store, times=1),
        "textract-replaced-always": _Replaced(registry, application.store),
    }

    def backends(engine: str) -> OcrBackend:
        if engine == NO_ENGINE:
            # Earlier releases ended a job with an engine that its worker did not have; today's job waits.
            raise UnknownEngine(engine=engine, known="others")
        return _away() if engine == "textract-away" else own.get(engine) or registry(engine)

    return build_activities(application, backends)


class _Replaced:
    """A Textract backend whose documents are replaced while it reads: ``times`` times, or always if None."""

    engine = "textract"

    def __init__(self, backends: Callable[[str], OcrBackend], store: ObjectStore, *, times: int | None = None) -> None:
        self._backends = backends
        self._store = store
        self._left = times

    def detect_text(self, document: DocumentRef) -> DetectedText:
        if self._left != 0:
            self._left = None if self._left is None else self._left - 1
            body = self._store.get(document.bucket, document.key, limit_bytes=document.size_bytes)
            # Bytes after the end of a PNG are not part of the image.
            self._store.put(document.bucket, document.key, body + b"another", content_type=document.content_type)
        return self._backends("textract").detect_text(document)


def _away() -> OcrBackend:
    """Return a Textract backend with an endpoint on which nothing listens."""
    import boto3

    from photo_worker.adapters.ocr.textract import TextractBackend

    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    from botocore.config import Config

    client = boto3.client(
        "textract", endpoint_url=f"http://127.0.0.1:{port}", config=Config(retries={"total_max_attempts": 1})
    )
    return TextractBackend(client)
