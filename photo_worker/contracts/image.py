"""Contracts of image processing: one input and one result model for the workflow and each activity.

These are a wire format and part of workflow histories. New fields have a default; fields are never renamed or removed.
Large results are passed as object keys, and every string has a maximum length, so that an oversized payload fails where
it is made.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
    StringConstraints,
)

from photo_worker.contracts.base import Contract
from photo_worker.contracts.references import WorkflowType

REASON_LENGTH = 4000
"""The most characters of a reason; a longer one is cut instead of refused."""

JobId = Annotated[str, StringConstraints(max_length=200)]
Bucket = Annotated[str, StringConstraints(max_length=255)]
Key = Annotated[str, StringConstraints(max_length=2048)]
ContentType = Annotated[str, StringConstraints(max_length=255)]
Sha256 = Annotated[str, StringConstraints(max_length=64)]
Name = Annotated[str, StringConstraints(max_length=200)]
Reason = Annotated[str, StringConstraints(max_length=REASON_LENGTH)]
LifetimeSeconds = Annotated[int, Field(ge=0, le=31_536_000)]


Revision = Annotated[str, StringConstraints(max_length=1024)]

# The engine of a job that names none: the worker uses the backend in its settings.
CONFIGURED_ENGINE = "configured"


class ImageProcessingInput(Contract):
    """Input of ``image_processing_workflow``. ``job_id`` is the workflow id and the database key.

    It is the workflow's only argument. A start with another number of arguments or with another type ends the workflow
    with ``contract_invalid`` and without a row.

    Only the length of ``job_id`` and ``key`` is limited here; the workflow checks their form, so that a malformed one
    ends the job with a reason instead of an undecodable payload. ``lifetime_seconds`` is how long the job waits for
    unavailable services, counted from its first workflow task; the default is in ``policies``. It is at most a year,
    like the setting: a date out of range would fail the workflow's first task forever.
    """

    job_id: JobId
    bucket: Bucket
    key: Key
    expected_content_type: ContentType | None = None
    engine: Name | None = None
    lifetime_seconds: LifetimeSeconds | None = None

    @property
    def summary(self) -> str:
        """The photo's location."""
        return f"s3://{self.bucket}/{self.key}"


class ImageProcessingResult(Contract):
    """Result of ``image_processing_workflow``: the keys and hashes of a finished job."""

    job_id: JobId
    status: Literal["succeeded"]
    s3_raw_key: Key
    sha256: Sha256
    s3_ocr_key: Key
    ocr_engine: Name
    ocr_version: Name
    page_count: int
    s3_manifest_key: Key


IMAGE_PROCESSING = WorkflowType("image_processing_workflow", ImageProcessingInput, ImageProcessingResult)


class LocateAssetInput(Contract):
    """Input of ``verify_and_locate_asset``."""

    bucket: Bucket
    key: Key
    expected_content_type: ContentType | None = None
    job_id: JobId | None = None


class ConvertedCopy(Contract):
    """The copy of an asset in a format that OCR reads, with the hash of its own bytes.

    Its key is derived from the asset, and it is written once, so there is no revision to compare.
    """

    bucket: Bucket
    key: Key
    content_type: ContentType
    size_bytes: int
    sha256: Sha256


# Omitted for a photo that needs no copy, so that its payloads stay as earlier releases wrote them.
_LEFT_OUT = Field(default=None, exclude_if=lambda value: value is None)


class LocatedAsset(Contract):
    """Result of ``verify_and_locate_asset``: an asset that exists, has the declared type, and has the hash ``sha256``.

    ``version_id`` (if the bucket keeps versions), ``etag`` and ``modified_at`` identify the object that was read, as S3
    reports it. ``converted`` is the copy that OCR reads instead; None if OCR reads the asset itself.
    """

    bucket: Bucket
    key: Key
    content_type: ContentType
    size_bytes: int
    sha256: Sha256
    version_id: Revision | None = None
    etag: Revision | None = None
    modified_at: Revision | None = None
    converted: ConvertedCopy | None = _LEFT_OUT


class OcrInput(Contract):
    """Input of ``ocr_textract``. The optional fields save a second request for the object's properties.

    ``engine`` is a backend's name, or ``CONFIGURED_ENGINE``.
    """

    bucket: Bucket
    key: Key
    engine: Name = "textract"
    job_id: JobId | None = None
    sha256: Sha256 | None = None
    content_type: ContentType | None = None
    size_bytes: int | None = None
    version_id: Revision | None = None
    etag: Revision | None = None
    modified_at: Revision | None = None


class OcrResult(Contract):
    """Result of ``ocr_textract``: the key of the full OCR response, and the engine that made it."""

    ocr_engine: Name
    ocr_version: Name
    s3_ocr_key: Key
    page_count: int


class PersistInput(Contract):
    """Input of ``persist_artifacts``. ``converted`` is the copy that OCR read, if it did not read the asset itself."""

    job_id: JobId
    s3_raw_key: Key
    sha256: Sha256
    ocr_s3_key: Key
    ocr_engine: Name
    ocr_version: Name
    page_count: int
    bucket: Bucket | None = None
    content_type: ContentType | None = None
    size_bytes: int | None = None
    version_id: Revision | None = None
    etag: Revision | None = None
    modified_at: Revision | None = None
    converted: ConvertedCopy | None = _LEFT_OUT


class PersistResult(Contract):
    """Result of ``persist_artifacts``."""

    s3_manifest_key: Key


class FailureInput(Contract):
    """Input of ``record_failure``: why a job ended without a result."""

    job_id: JobId
    bucket: Bucket
    key: Key
    code: Name
    message: Reason


class FailureResult(Contract):
    """Result of ``record_failure``: the status that the job's row has now."""

    status: Name


class Manifest(Contract):
    """``artifacts/{job_id}/manifest.json``: what a job read and what it produced.

    The raw object with its ``sha256`` is the original; ``converted`` is the copy of it that OCR read, if there is one.
    """

    schema_version: Literal[1] = 1
    job_id: JobId
    s3_raw_bucket: Bucket
    s3_raw_key: Key
    sha256: Sha256
    content_type: ContentType | None = None
    size_bytes: int | None = None
    version_id: Revision | None = None
    etag: Revision | None = None
    converted: ConvertedCopy | None = _LEFT_OUT
    s3_ocr_key: Key
    ocr_engine: Name
    ocr_version: Name
    page_count: int = Field(ge=1)
