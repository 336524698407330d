"""What a worker makes of Textract's answer before it takes a job."""

from __future__ import annotations

import pytest

from photo_worker.bootstrap import BackendRegistry
from photo_worker.config import Settings
from photo_worker.errors import OcrThrottled, OcrUnavailable, PhotoWorkerError, ServiceRefused
from photo_worker.ocr.textract import TextractApi
from photo_worker.storage.memory import MemoryObjectStore
from tests.support.textract_answers import Reply, refusal, textract_answering

# As AWS answers a role whose policy names DetectDocumentText alone.
NOT_PERMITTED = refusal(
    "AccessDeniedException",
    "User: arn:aws:sts::1:assumed-role/worker/i is not authorized to perform: textract:GetDocumentTextDetection",
)


def look(reply: Reply, api: TextractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at a Textract that gives this answer, as a worker with these settings does."""
    with textract_answering(reply) as served:
        for name, value in {
            "AWS_ENDPOINT_URL_TEXTRACT": served.url,
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
        }.items():
            monkeypatch.setenv(name, value)
        BackendRegistry(Settings(textract_api=api), MemoryObjectStore()).require_usable()


def test_a_worker_with_the_synchronous_api_needs_the_permission_of_that_one_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    look(NOT_PERMITTED, "sync", monkeypatch)
    with pytest.raises(ServiceRefused, match="GetDocumentTextDetection"):
        look(NOT_PERMITTED, "async", monkeypatch)


@pytest.mark.parametrize("api", ["async", "sync"])
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (refusal("ExpiredTokenException"), ServiceRefused),
        (refusal("UnrecognizedClientException"), ServiceRefused),
        (refusal("InvalidSignatureException", status=403), ServiceRefused),
        (Reply(403, b"<html>No</html>", "text/html"), ServiceRefused),
        (refusal("ThrottlingException"), OcrThrottled),
        (refusal("InternalServerError", status=500), OcrUnavailable),
        (Reply(cut=True), OcrUnavailable),
    ],
)
def test_a_worker_waits_for_credentials_and_service_with_either_api(
    api: TextractApi, reply: Reply, kind: type[PhotoWorkerError], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(kind):
        look(reply, api, monkeypatch)


@pytest.mark.parametrize("api", ["async", "sync"])
def test_that_a_job_is_not_known_is_the_answer_of_a_service_that_works(
    api: TextractApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(refusal("InvalidJobIdException"), api, monkeypatch)
