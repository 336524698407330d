"""Building blocks of the image workflow's scenarios: photos, fault injections, and the usual outcomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from photo_worker import errors
from temporal_replay_gate.scenarios import Action, ActivityOutcome, Expected, FaultInjection, Scenario

WORKFLOW = "image_processing_workflow"
VERIFY, OCR, PERSIST, RECORD = "verify_and_locate_asset", "ocr_textract", "persist_artifacts", "record_failure"

DONE = (ActivityOutcome(VERIFY, "completed"), ActivityOutcome(OCR, "completed"), ActivityOutcome(PERSIST, "completed"))

# The name of no engine.
NO_ENGINE = "nobody-has-this"


@dataclass(frozen=True)
class Photo:
    """The object in S3 for a job, and the job's input fields about it."""

    content: str = "photo"
    """photo, damaged (the first bytes only), text, empty, absent, or theirs: a photo under a key of its owner's."""
    engine: str | None = "recorded"
    expect: str | None = None
    job_id: str | None = None
    raw: Any = None
    """Sent unchanged as the workflow's input, in place of a contract."""
    erased: bool = False
    """Mark the job as erased before it starts."""
    lifetime_seconds: int | None = None


def unavailable() -> Exception:
    """Return the error for an unreachable Postgres."""
    return errors.DatabaseUnavailable(database="the jobs' database", reason="the connection was cut")


def storage_unavailable() -> Exception:
    """Return the error for an unreachable S3."""
    return errors.StorageUnavailable(store="the jobs' store", reason="the connection was cut")


def away_for_a_day() -> Exception:
    """Return the error for an S3 that asks the caller to retry only after the job's lifetime."""
    error = errors.StorageUnavailable(store="the jobs' store", reason="503 Slow Down")
    error.retry_after_seconds = 86_460
    return error


def throttled() -> Exception:
    """Return the error for a request that Textract throttles."""
    return errors.OcrThrottled(engine="textract", reason="ThrottlingException")


def defect() -> Exception:
    """Return an error that a defect in the code raises."""
    return ZeroDivisionError("division by zero")


def failed(
    name: str, about: str, code: str, *ran: ActivityOutcome, photo: Photo | None = None, **more: Any
) -> Scenario:
    """Return a scenario that ends as a failure with ``code``, which ``record_failure`` records."""
    recorded = more.pop("recorded", ActivityOutcome(RECORD, "completed"))
    parts = {"events": more.pop("events", {}), "patches": more.pop("patches", ())}
    expected = Expected("failure", (*ran, recorded), failure=code, **parts)
    return Scenario(name, WORKFLOW, about, expected, request=photo or Photo(), **more)


def succeeded(name: str, about: str, *ran: ActivityOutcome, photo: Photo | None = None, **more: Any) -> Scenario:
    """Return a scenario that ends with a result."""
    expected = Expected("success", ran or DONE, events=more.pop("events", {}), patches=more.pop("patches", ()))
    return Scenario(name, WORKFLOW, about, expected, request=photo or Photo(), **more)


def cancelled(name: str, about: str, steps: tuple[Action, ...], *ran: ActivityOutcome, **more: Any) -> Scenario:
    """Return a scenario that is cancelled, with the reason recorded by ``record_failure``."""
    parts = {"events": more.pop("events", {}), "patches": more.pop("patches", ())}
    expected = Expected("cancellation", (*ran, ActivityOutcome(RECORD, "completed")), **parts)
    return Scenario(name, WORKFLOW, about, expected, request=more.pop("photo", Photo()), actions=steps, **more)


def held(activity: str, *attempts: int) -> tuple[FaultInjection, ...]:
    """Hold these attempts of the activity, or all if none is given."""
    return (FaultInjection(activity, "hold", attempts=attempts),)


def fails(
    activity: str, error: Callable[[], Exception], *attempts: int, times: int | None = None
) -> tuple[FaultInjection, ...]:
    """Fail these attempts of the activity, or all if none is given; ``times`` limits the failures in all."""
    return (FaultInjection(activity, "fail", error, attempts, times),)
