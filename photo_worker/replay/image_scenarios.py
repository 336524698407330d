"""Every way in which ``image_processing_workflow`` ends, as scenarios on the product's own services.

A missing or damaged object, a wrong type, an unknown engine, a refusal by Textract, and Textract out
of reach are real: S3 and the Textract emulator produce them. Postgres and S3 going away between two
steps, a lost reply, throttling, a defect and a hanging step cannot be had at one moment of one job
on services that others use, so there an interference raises what the adapter would.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from photo_worker import errors
from photo_worker.bootstrap import Application, BackendRegistry, build_activities, workflow_types
from photo_worker.contracts.keys import raw_key
from photo_worker.ports import DetectedText, DocumentRef, ObjectStore, OcrBackend
from photo_worker.replay.scenarios import (
    Await,
    Cancel,
    Expected,
    Interference,
    Playbook,
    Ran,
    Reach,
    Release,
    RestartWorker,
    Scenario,
    Step,
    Terminate,
)

WORKFLOW = "image_processing_workflow"
VERIFY, OCR, PERSIST, RECORD = "verify_and_locate_asset", "ocr_textract", "persist_artifacts", "record_failure"

_DONE = (Ran(VERIFY, "completed"), Ran(OCR, "completed"), Ran(PERSIST, "completed"))
_PNG_START = 2000


@dataclass(frozen=True)
class Photo:
    """What lies in S3 for a job, and what the job says of it."""

    content: str = "photo"
    """photo, damaged (its head alone), text, empty, absent, or theirs: a photo under a name of its owner's."""
    engine: str | None = "recorded"
    expect: str | None = None
    job_id: str | None = None
    raw: Any = None
    """Sent as it is, in place of a contract."""
    erased: bool = False
    """The job is marked as erased before it starts."""


def _unavailable() -> Exception:
    return errors.DatabaseUnavailable(database="the jobs' database", reason="the connection was cut")


def _storage_unavailable() -> Exception:
    return errors.StorageUnavailable(store="the jobs' store", reason="the connection was cut")


def _throttled() -> Exception:
    return errors.OcrThrottled(engine="textract", reason="ThrottlingException")


def _defect() -> Exception:
    return ZeroDivisionError("division by zero")


def _failed(name: str, about: str, code: str, *ran: Ran, photo: Photo | None = None, **more: Any) -> Scenario:
    """Return a scenario that ends as a failure with ``code``, written down by ``record_failure``."""
    recorded = more.pop("recorded", Ran(RECORD, "completed"))
    expected = Expected("failure", (*ran, recorded), failure=code)
    return Scenario(name, WORKFLOW, about, expected, request=photo or Photo(), **more)


def _succeeded(name: str, about: str, *ran: Ran, photo: Photo | None = None, **more: Any) -> Scenario:
    expected = Expected("success", ran or _DONE, events=more.pop("events", {}), patches=more.pop("patches", ()))
    return Scenario(name, WORKFLOW, about, expected, request=photo or Photo(), **more)


def _cancelled(name: str, about: str, steps: tuple[Step, ...], *ran: Ran, **more: Any) -> Scenario:
    expected = Expected("cancellation", (*ran, Ran(RECORD, "completed")))
    return Scenario(name, WORKFLOW, about, expected, request=Photo(), steps=steps, **more)


def _held(activity: str, *attempts: int) -> tuple[Interference, ...]:
    return (Interference(activity, "hold", attempts=attempts),)


def _fails(activity: str, error: Callable[[], Exception], *attempts: int) -> tuple[Interference, ...]:
    return (Interference(activity, "fail", error, attempts),)


SCENARIOS: tuple[Scenario, ...] = (
    _succeeded("success", "A photo is verified, read by Textract and persisted.", photo=Photo(engine="textract")),
    _succeeded("success-configured-engine", "The job names no engine.", photo=Photo(engine=None)),
    _succeeded("success-expected-type", "The job says what it expects.", photo=Photo(expect="image/png")),
    _failed(
        "object-missing", "There is no such object.", "object_missing", Ran(VERIFY, "failed"), photo=Photo("absent")
    ),
    _failed("object-empty", "The upload has no bytes.", "object_empty", Ran(VERIFY, "failed"), photo=Photo("empty")),
    _failed(
        "wrong-type",
        "The object is text that calls itself a PNG.",
        "content_mismatch",
        Ran(VERIFY, "failed"),
        photo=Photo("text"),
    ),
    _failed(
        "type-not-expected",
        "The object is another type than the job expects.",
        "content_type_mismatch",
        Ran(VERIFY, "failed"),
        photo=Photo(expect="image/jpeg"),
    ),
    _failed(
        "ocr-refused",
        "Textract refuses a damaged image.",
        "document_unreadable",
        Ran(VERIFY, "completed"),
        Ran(OCR, "failed"),
        photo=Photo("damaged", engine="textract"),
    ),
    _failed(
        "engine-unknown",
        "The job names an engine that nobody has.",
        "engine_unknown",
        Ran(VERIFY, "completed"),
        Ran(OCR, "failed"),
        photo=Photo(engine="nobody-has-this"),
    ),
    _failed(
        "ocr-unavailable",
        "Textract is out of reach for all attempts.",
        "ocr_unavailable",
        Ran(VERIFY, "completed"),
        Ran(OCR, "failed", 5),
        photo=Photo(engine="textract-away"),
    ),
    _failed(
        "verify-unavailable",
        "Postgres is away while the photo is verified; the reason is written when it is back.",
        "database_unavailable",
        Ran(VERIFY, "failed", 5),
        interferences=(*_fails(VERIFY, _unavailable), *_fails(RECORD, _unavailable, 1, 2)),
        recorded=Ran(RECORD, "completed", 3),
    ),
    _failed(
        "persist-failing",
        "Postgres is away for every attempt to persist.",
        "database_unavailable",
        Ran(VERIFY, "completed"),
        Ran(OCR, "completed"),
        Ran(PERSIST, "failed", 8),
        interferences=_fails(PERSIST, _unavailable),
    ),
    _failed(
        "ocr-defect",
        "A backend has a defect that no attempt gets past.",
        "step_failed",
        Ran(VERIFY, "completed"),
        Ran(OCR, "failed", 5),
        interferences=_fails(OCR, _defect),
    ),
    _failed(
        "verify-timeout",
        "The photo's verification hangs without a heartbeat in every attempt.",
        "step_timeout",
        Ran(VERIFY, "timed_out", 5),
        interferences=(Interference(VERIFY, "hang"),),
        limit=timedelta(minutes=5),
    ),
    Scenario(
        "job-erased",
        WORKFLOW,
        "The job was erased between its submission and its start: nothing is written any more, not even a reason.",
        # What closes it is the failure of the step that writes the reason, which has no type of its own.
        Expected("failure", (Ran(VERIFY, "failed"), Ran(RECORD, "failed"))),
        request=Photo(erased=True),
    ),
    Scenario(
        "job-id-invalid",
        WORKFLOW,
        "The job id is no UUID: no row can carry the reason.",
        Expected("failure", failure="job_id_invalid"),
        request=Photo(job_id="42"),
    ),
    Scenario(
        "contract-invalid",
        WORKFLOW,
        "The input lacks its job id.",
        Expected("failure", failure="contract_invalid"),
        request=Photo(raw={"bucket": "some-bucket", "key": "some-key"}),
    ),
    _succeeded(
        "reply-lost-once",
        "The rows were committed, the reply was lost, and the next attempt finds them.",
        *_DONE[:2],
        Ran(PERSIST, "completed", 2),
        interferences=(Interference(PERSIST, "lose_reply", _unavailable, (1,)),),
    ),
    _succeeded(
        "reply-lost-for-good",
        "The rows were committed and every reply was lost: record_failure finds the job succeeded.",
        *_DONE[:2],
        Ran(PERSIST, "failed", 8),
        Ran(RECORD, "completed"),
        interferences=(Interference(PERSIST, "lose_reply", _unavailable),),
    ),
    _succeeded(
        "verify-retried",
        "S3 is away for two attempts.",
        Ran(VERIFY, "completed", 3),
        *_DONE[1:],
        interferences=_fails(VERIFY, _storage_unavailable, 1, 2),
    ),
    _succeeded(
        "ocr-throttled",
        "Textract asks twice to slow down.",
        _DONE[0],
        Ran(OCR, "completed", 3),
        _DONE[2],
        interferences=_fails(OCR, _throttled, 1, 2),
    ),
    _succeeded(
        "ocr-reply-lost",
        "Textract's answer was stored and the reply lost: the next attempt takes the stored one.",
        _DONE[0],
        Ran(OCR, "completed", 2),
        _DONE[2],
        interferences=(Interference(OCR, "lose_reply", _storage_unavailable, (1,)),),
    ),
    _succeeded(
        "worker-restarted",
        "The worker is replaced during OCR, and the next one starts from the history.",
        interferences=_held(OCR, 1),
        steps=(Reach(OCR), RestartWorker()),
    ),
    _succeeded(
        "source-replaced",
        "The object is replaced while it is read: the job verifies and reads what is there then.",
        _DONE[0],
        Ran(OCR, "failed"),
        *_DONE,
        photo=Photo("theirs", engine="textract-replaced"),
        events={"TimerStarted": 1, "TimerFired": 1},
        patches=("source-replaced",),
    ),
    _cancelled("cancelled-before-start", "Cancelled before a worker ran.", (Cancel(),), worker_after_steps=True),
    _cancelled(
        "cancelled-in-verify",
        "Cancelled while the photo is verified.",
        (Reach(VERIFY), Cancel()),
        Ran(VERIFY, "cancel_requested", None),
        interferences=_held(VERIFY),
    ),
    _cancelled(
        "cancelled-in-ocr",
        "Cancelled while Textract reads.",
        (Reach(OCR), Cancel()),
        Ran(VERIFY, "completed"),
        Ran(OCR, "cancel_requested", None),
        interferences=_held(OCR),
    ),
    _cancelled(
        "cancelled-in-retries",
        "Cancelled while a second attempt of OCR is on its way.",
        (Reach(OCR), Cancel()),
        Ran(VERIFY, "completed"),
        Ran(OCR, "cancel_requested", None),
        interferences=(*_fails(OCR, _throttled, 1), *_held(OCR, 2)),
    ),
    _succeeded(
        "cancelled-in-persist",
        "Cancelled while the rows are written, which is too late.",
        interferences=_held(PERSIST),
        steps=(Reach(PERSIST), Cancel(), Await("ActivityTaskCancelRequested"), Release(PERSIST)),
        events={"WorkflowExecutionCancelRequested": 1, "ActivityTaskCancelRequested": 1},
    ),
    _failed(
        "cancelled-in-record-failure",
        "Cancelled while the reason is written: the row gets it, and the job ends with it.",
        "object_missing",
        Ran(VERIFY, "failed"),
        photo=Photo("absent"),
        interferences=_held(RECORD),
        steps=(Reach(RECORD), Cancel(), Await("WorkflowTaskCompleted", 3), Release(RECORD)),
        recorded=Ran(RECORD, "completed"),
    ),
    Scenario(
        "terminated-in-ocr",
        WORKFLOW,
        "An operator ends the job.",
        Expected("terminated", (Ran(VERIFY, "completed"), Ran(OCR, "cancel_requested", None))),
        request=Photo(),
        interferences=_held(OCR),
        steps=(Reach(OCR), Terminate()),
    ),
)


def playbook(photo: Path) -> Playbook:
    """Return the scenarios of the image workflow around ``photo``, a PNG that Textract can read."""
    png = photo.read_bytes()

    async def prepare(scenario: Scenario, application: Application | None, workflow_id: str) -> Any:
        wanted: Photo = scenario.request
        return wanted.raw or await asyncio.to_thread(_stage_photo, _needed(application), wanted, png, workflow_id)

    return Playbook(scenarios=SCENARIOS, workflows=workflow_types, activities=_activities, prepare=prepare)


def _needed(application: Application | None) -> Application:
    if application is None:
        raise errors.ScenariosUnusable(target="of the product", reason="they are played without its services")
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
        application.store.put(bucket, key, bodies[wanted.content], content_type="image/png")
    # A plain object, as other clients send it; contracts would refuse what a scenario gets wrong.
    return {
        "job_id": wanted.job_id or workflow_id,
        "bucket": bucket,
        "key": key,
        "expected_content_type": wanted.expect,
        "engine": wanted.engine,
    }


def _activities(scenario: Scenario, application: Application | None) -> Sequence[Callable[..., Any]]:
    application = _needed(application)
    registry = BackendRegistry(application.settings, application.store)
    replaced = _Replaced(registry, application.store)

    def backends(engine: str) -> OcrBackend:
        if engine == "textract-away":
            return _away()
        return replaced if engine == "textract-replaced" else registry(engine)

    return build_activities(application, backends)


class _Replaced:
    """Textract, whose first document is replaced by another one while it reads."""

    engine = "textract"

    def __init__(self, backends: Callable[[str], OcrBackend], store: ObjectStore) -> None:
        self._backends = backends
        self._store = store
        self._replaced = False

    def detect_text(self, document: DocumentRef) -> DetectedText:
        if not self._replaced:
            self._replaced = True
            body = self._store.get(document.bucket, document.key, limit_bytes=document.size_bytes)
            # Behind a PNG's end nothing is part of the picture.
            self._store.put(document.bucket, document.key, body + b"another", content_type=document.content_type)
        return self._backends("textract").detect_text(document)


def _away() -> OcrBackend:
    """Return Textract at an address where nothing listens."""
    import boto3

    from photo_worker.ocr.textract import TextractBackend

    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    from botocore.config import Config

    client = boto3.client(
        "textract", endpoint_url=f"http://127.0.0.1:{port}", config=Config(retries={"total_max_attempts": 1})
    )
    return TextractBackend(client)
