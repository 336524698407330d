"""What Temporal is told of an error decides whether an attempt is made, and paid, again."""

from __future__ import annotations

import pytest

from photo_worker.activities.boundary import to_application_error
from photo_worker.errors import (
    DatabaseUnavailable,
    JobConflict,
    OcrThrottled,
    PhotoWorkerError,
    ServiceRefused,
    StorageUnavailable,
    UnreadableDocument,
)


@pytest.mark.parametrize(
    "error",
    [
        UnreadableDocument(name="pie.jpg", reason="it is cut off"),
        JobConflict(job_id="1", known="a", asked="b"),
        ServiceRefused(service="S3", reason="AccessDenied"),
    ],
    ids=lambda error: error.code,
)
def test_what_would_fail_again_is_not_tried_again(error: PhotoWorkerError) -> None:
    assert to_application_error(error).non_retryable


@pytest.mark.parametrize(
    "error",
    [
        DatabaseUnavailable(database="d", reason="it is away"),
        StorageUnavailable(store="s", reason="it is away"),
        OcrThrottled(engine="textract", reason="too many requests"),
    ],
    ids=lambda error: error.code,
)
def test_what_may_pass_is_tried_again(error: PhotoWorkerError) -> None:
    assert not to_application_error(error).non_retryable


def test_the_code_and_the_hint_travel_with_it() -> None:
    error = OcrThrottled(engine="textract", reason="too many requests")
    told = to_application_error(error)
    assert (told.type, told.message, list(told.details)) == (error.code, error.message, [error.hint])
