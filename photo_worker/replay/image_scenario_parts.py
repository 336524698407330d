"""What the image workflow's scenarios are made of: photos, interferences, and the usual ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from photo_worker import errors
from photo_worker.replay.scenarios import Action, ActivityOutcome, Expected, FaultInjection, Scenario

WORKFLOW = "image_processing_workflow"
VERIFY, OCR, PERSIST, RECORD = "verify_and_locate_asset", "ocr_textract", "persist_artifacts", "record_failure"

DONE = (ActivityOutcome(VERIFY, "completed"), ActivityOutcome(OCR, "completed"), ActivityOutcome(PERSIST, "completed"))

# A name that is no engine's.
NO_ENGINE = "nobody-has-this"


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
    lifetime_seconds: int | None = None


def unavailable() -> Exception:
    """Return what Postgres away is."""
    return errors.DatabaseUnavailable(database="the jobs' database", reason="the connection was cut")


def storage_unavailable() -> Exception:
    """Return what S3 away is."""
    return errors.StorageUnavailable(store="the jobs' store", reason="the connection was cut")


def away_for_a_day() -> Exception:
    """Return what S3 is that asks to be left alone for longer than a job lives."""
    error = errors.StorageUnavailable(store="the jobs' store", reason="503 Slow Down")
    error.retry_after_seconds = 86_460
    return error


def throttled() -> Exception:
    """Return what Textract says to a caller that asks too often."""
    return errors.OcrThrottled(engine="textract", reason="ThrottlingException")


def defect() -> Exception:
    """Return what a defect raises."""
    return ZeroDivisionError("division by zero")


def failed(
    name: str, about: str, code: str, *ran: ActivityOutcome, photo: Photo | None = None, **more: Any
) -> Scenario:
    """Return a scenario that ends as a failure with ``code``, written down by ``record_failure``."""
    recorded = more.pop("recorded", ActivityOutcome(RECORD, "completed"))
    parts = {"events": more.pop("events", {}), "patches": more.pop("patches", ())}
    expected = Expected("failure", (*ran, recorded), failure=code, **parts)
    return Scenario(name, WORKFLOW, about, expected, request=photo or Photo(), **more)


def succeeded(name: str, about: str, *ran: ActivityOutcome, photo: Photo | None = None, **more: Any) -> Scenario:
    """Return a scenario that ends with a result."""
    expected = Expected("success", ran or DONE, events=more.pop("events", {}), patches=more.pop("patches", ()))
    return Scenario(name, WORKFLOW, about, expected, request=photo or Photo(), **more)


def cancelled(name: str, about: str, steps: tuple[Action, ...], *ran: ActivityOutcome, **more: Any) -> Scenario:
    """Return a scenario that is cancelled, with the reason written down."""
    parts = {"events": more.pop("events", {}), "patches": more.pop("patches", ())}
    expected = Expected("cancellation", (*ran, ActivityOutcome(RECORD, "completed")), **parts)
    return Scenario(name, WORKFLOW, about, expected, request=more.pop("photo", Photo()), actions=steps, **more)


def held(activity: str, *attempts: int) -> tuple[FaultInjection, ...]:
    """Hold these attempts, or all of them."""
    return (FaultInjection(activity, "hold", attempts=attempts),)


def fails(
    activity: str, error: Callable[[], Exception], *attempts: int, times: int | None = None
) -> tuple[FaultInjection, ...]:
    """Fail these attempts, or all of them; ``times`` bounds how many in all."""
    return (FaultInjection(activity, "fail", error, attempts, times),)
