"""Run the contract of OCR backends for ``textract`` with either API, at the stack's emulator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import pytest

from photo_worker.adapters.ocr.textract import TextractApi, TextractBackend, make_client
from photo_worker.adapters.s3.object_store import BotoObjectStore
from photo_worker.errors import OcrRefused, ServiceRefused
from photo_worker.ports.object_store import DocumentRef
from photo_worker.ports.ocr import OcrBackend
from tests.contracts.ocr_backend import Place, ReadingBackendContract, as_stored, photo, place_in
from tests.support.resources import session_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.stack


class TextractBackendContract(ReadingBackendContract):
    api: ClassVar[TextractApi]
    engine = "textract"
    # The service has no code of its own for an image of too many pixels.
    codes = dict.fromkeys(
        ["side of 10,001 pixels", "decompression bomb", "lying header"],
        "document_unsupported",
    )

    @pytest.fixture
    def backend(self, stack_env: dict[str, str]) -> Iterator[TextractBackend]:
        client = make_client(session=session_of(stack_env), api=self.api)
        yield TextractBackend(client, api=self.api)
        client.close()

    @pytest.fixture
    def place(self, s3_client: S3Client, bucket: str) -> Place:
        return place_in(BotoObjectStore(s3_client), bucket)

    def test_detect_text_missing_object_is_refused(self, backend: OcrBackend, place: Place) -> None:
        # The service responds alike if the object is missing or not accessible; the activity checks which.
        with pytest.raises(OcrRefused, match=r"nowhere\.jpg"):
            backend.detect_text(replace(place(photo("clean-print")), key="nowhere.jpg"))

    def test_detect_text_missing_bucket_is_ocr_refused(self, backend: TextractBackend) -> None:
        with pytest.raises(OcrRefused, match="pw-test-nowhere"):
            backend.detect_text(DocumentRef("pw-test-nowhere", "a.jpg", "image/jpeg", 1, "ab" * 32))

    def test_detect_text_endpoint_of_other_service_is_refused(self, stack_env: dict[str, str], place: Place) -> None:
        document = place(photo("clean-print"))
        elsewhere = f"{stack_env['AWS_ENDPOINT_URL_TEXTRACT']}/not-textract"
        client = make_client(session=session_of(stack_env), endpoint_url=elsewhere, api=self.api)
        backend = TextractBackend(client, api=self.api)
        with pytest.raises(ServiceRefused, match="not-textract") as caught:
            backend.detect_text(document)
        assert not caught.value.retryable


class TestJobs(TextractBackendContract):
    api = "async"

    def test_detect_text_job_response_equals_synchronous(
        self, backend: TextractBackend, stack_env: dict[str, str], place: Place
    ) -> None:
        document = place(photo("two-columns"))
        client = make_client(session=session_of(stack_env), api="sync")
        other = TextractBackend(client, api="sync").detect_text(document)
        client.close()
        assert as_stored(backend.detect_text(document)) == as_stored(other)


class TestOneCall(TextractBackendContract):
    api = "sync"
