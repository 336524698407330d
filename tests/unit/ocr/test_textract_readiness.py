"""``require_usable``: a worker probes Textract before it takes a job."""

from __future__ import annotations

import pytest

from photo_worker.adapters.memory.object_store import MemoryObjectStore
from photo_worker.adapters.ocr.textract import TextractApi
from photo_worker.adapters.times import TextractTimes
from photo_worker.aws import aws_session
from photo_worker.bootstrap import BackendRegistry
from photo_worker.config import Settings
from photo_worker.errors import OcrThrottled, OcrUnavailable, PhotoWorkerError, ServiceRefused
from photo_worker.ports.object_store import DocumentRef
from tests.support.textract_responses import Reply, backend_at, refusal, textract_responding

# AWS's response to a role whose policy allows DetectDocumentText alone.
NOT_PERMITTED = refusal(
    "AccessDeniedException",
    "User: arn:aws:sts::1:assumed-role/worker/i is not authorized to perform: textract:GetDocumentTextDetection",
)


NO_JOB = refusal("InvalidJobIdException")
NO_DOCUMENT = refusal("InvalidParameterException", "Request has invalid parameters")
OPERATIONS: dict[TextractApi, str] = {"async": "StartDocumentTextDetection", "sync": "DetectDocumentText"}


def look(*replies: Reply, api: TextractApi, times: TextractTimes | None = None) -> list[str]:
    """Probe a Textract that gives these responses, as a worker does; return the operations that were called."""
    with textract_responding(*replies) as served:
        session = aws_session(
            {
                "AWS_ENDPOINT_URL_TEXTRACT": served.url,
                "AWS_DEFAULT_REGION": "eu-central-1",
                "AWS_ACCESS_KEY_ID": "a",
                "AWS_SECRET_ACCESS_KEY": "b",
            }
        )
        BackendRegistry(Settings(textract_api=api), MemoryObjectStore(), session, times=times).require_usable()
        return [str(call["target"]).rpartition(".")[2] for call in served.calls]


def test_require_usable_checks_permissions_of_own_api() -> None:
    look(NOT_PERMITTED, NO_DOCUMENT, api="sync")
    with pytest.raises(ServiceRefused, match="GetDocumentTextDetection"):
        look(NOT_PERMITTED, NO_DOCUMENT, api="async")


@pytest.mark.parametrize("api", ["async", "sync"])
def test_require_usable_without_read_permission_is_refused(api: TextractApi) -> None:
    operation = OPERATIONS[api]
    not_permitted = refusal("AccessDeniedException", f"is not authorized to perform: textract:{operation}")
    with pytest.raises(ServiceRefused, match=operation):
        look(NO_JOB, not_permitted, api=api)


@pytest.mark.parametrize(
    ("api", "times"), [("sync", TextractTimes(sync_read=0.2)), ("async", TextractTimes(job_read=0.2))]
)
def test_require_usable_of_registry_times_out_after_its_times(api: TextractApi, times: TextractTimes) -> None:
    with pytest.raises(OcrUnavailable, match="timeout"):
        look(Reply(held=True), api=api, times=times)


@pytest.mark.parametrize("api", ["async", "sync"])
def test_require_usable_sends_no_document(api: TextractApi) -> None:
    with textract_responding(NO_JOB, NO_DOCUMENT) as served:
        backend_at(served.url, api).require_usable()
    assert len(served.calls) == 2
    assert "S3Object" not in str(served.calls)
    assert "Bytes" not in str(served.calls)


@pytest.mark.parametrize("api", ["async", "sync"])
@pytest.mark.parametrize(
    "reply", [refusal("ProvisionedThroughputExceededException"), refusal("LimitExceededException"), NO_DOCUMENT]
)
def test_require_usable_busy_operation_is_accepted(api: TextractApi, reply: Reply) -> None:
    assert look(NO_JOB, reply, api=api)[-1] == OPERATIONS[api]


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
def test_require_usable_service_error_maps_to_class(
    api: TextractApi, reply: Reply, kind: type[PhotoWorkerError]
) -> None:
    with pytest.raises(kind):
        look(reply, api=api)


@pytest.mark.parametrize("api", ["async", "sync"])
def test_require_usable_unknown_job_is_accepted(api: TextractApi) -> None:
    look(NO_JOB, api=api)


@pytest.mark.parametrize("api", ["async", "sync"])
def test_require_usable_after_refused_read_probes_read_again(api: TextractApi) -> None:
    operation = OPERATIONS[api]
    refused = refusal("AccessDeniedException", f"is not authorized to perform: textract:{operation}")
    with textract_responding(NO_JOB, NO_DOCUMENT, NO_JOB, refused, NO_JOB, refused) as served:
        backend = backend_at(served.url, api)
        backend.require_usable()
        backend.require_usable()
        assert len(served.calls) == 3, "most looks follow on throttled attempts"
        with pytest.raises(ServiceRefused):
            backend.detect_text(DocumentRef("photos", "pie.jpg", "image/jpeg", 1, "0" * 64))
        with pytest.raises(ServiceRefused, match=operation):
            backend.require_usable()
