"""Contracts of image processing: one model in, one out, for the workflow and each activity.

These are a wire format: they stand in workflow histories. Fields are added with a default,
never renamed or removed. Large results travel as object keys, and every string is bounded, so
that an oversized payload fails where it is made.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
)

JobId = Annotated[str, StringConstraints(max_length=200)]
Bucket = Annotated[str, StringConstraints(max_length=255)]
Key = Annotated[str, StringConstraints(max_length=2048)]
ContentType = Annotated[str, StringConstraints(max_length=255)]
Sha256 = Annotated[str, StringConstraints(max_length=64)]
Name = Annotated[str, StringConstraints(max_length=200)]
Reason = Annotated[str, StringConstraints(max_length=4000)]
LifetimeSeconds = Annotated[int, Field(ge=0, le=31_536_000)]


Revision = Annotated[str, StringConstraints(max_length=1024)]

# Fields that came later, and are left out where nothing is known: what earlier releases wrote stays as it was.
_LATER = frozenset({"version_id", "etag", "modified_at"})

# The engine of a job that names none: whichever backend the worker is configured with.
CONFIGURED_ENGINE = "configured"


class Contract(BaseModel):
    """A model whose instances do not change; unknown fields of a newer release are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @model_serializer(mode="wrap")
    def _without_unknown(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in written(self).items() if value is not None or name not in _LATER}


class ImageProcessingInput(Contract):
    """Start of ``image_processing_workflow``. ``job_id`` is the workflow id and the database key.

    It is the workflow's one argument. A start with none, with two or with anything else ends the workflow as
    ``contract_invalid``, without a row.

    ``job_id`` and ``key`` are only bounded here; the workflow checks their form, so that a bad
    one ends the job with a reason instead of an undecodable payload. ``lifetime_seconds`` is how long the job
    waits for services that are away, counted from its first workflow task; the policies' own without it. Its bounds
    are a year's, as of the setting: a time that no calendar holds would fail the workflow's first task without end.
    """

    job_id: JobId
    bucket: Bucket
    key: Key
    expected_content_type: ContentType | None = None
    engine: Name | None = None
    lifetime_seconds: LifetimeSeconds | None = None


class ImageProcessingResult(Contract):
    """The small manifest that a finished job returns."""

    job_id: JobId
    status: Literal["succeeded"]
    s3_raw_key: Key
    sha256: Sha256
    s3_ocr_key: Key
    ocr_engine: Name
    ocr_version: Name
    page_count: int
    s3_manifest_key: Key


class LocateAssetInput(Contract):
    """Start of ``verify_and_locate_asset``."""

    bucket: Bucket
    key: Key
    expected_content_type: ContentType | None = None
    job_id: JobId | None = None


class ConvertedCopy(Contract):
    """The copy of an asset in a form that OCR reads, with the hash of its own bytes.

    Its name is made of what it was made from and it is written once, so that it has no revision to compare.
    """

    bucket: Bucket
    key: Key
    content_type: ContentType
    size_bytes: int
    sha256: Sha256


# Of a photo that needs no copy nothing is said, so that its payloads are those that earlier releases wrote.
_LEFT_OUT = Field(default=None, exclude_if=lambda value: value is None)


class LocatedAsset(Contract):
    """An asset that exists, has the type it says, and hashes to ``sha256`` (hex).

    ``version_id``, ``etag`` and ``modified_at`` are what S3 says of the object that was read: its version's id where
    the bucket keeps versions, its ETag, and when it was written. ``converted`` is what OCR reads in its place; None
    where OCR reads the asset itself.
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
    """Start of ``ocr_textract``. The optional fields spare a second look at the object.

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
    """Where the full OCR result lies, and what made it."""

    ocr_engine: Name
    ocr_version: Name
    s3_ocr_key: Key
    page_count: int


class PersistInput(Contract):
    """Start of ``persist_artifacts``. ``converted`` is what OCR read, where that was not the asset itself."""

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
    """End of ``persist_artifacts``."""

    s3_manifest_key: Key


class FailureInput(Contract):
    """Start of ``record_failure``: why a job ended without a result."""

    job_id: JobId
    bucket: Bucket
    key: Key
    code: Name
    message: Reason


class FailureResult(Contract):
    """End of ``record_failure``: the status that the job's row has now."""

    status: Name


class Manifest(Contract):
    """``artifacts/{job_id}/manifest.json``: what a job read and what it made.

    The raw object with its ``sha256`` is the original; ``converted`` is the copy of it that OCR read, where there is
    one.
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
