"""Media types of uploads: those that OCR reads, and those that are converted for it."""

from __future__ import annotations

from textract_local.media import (
    DOCUMENT_TYPES,
    HEAD_BYTES,
    HEIC,
    JPEG,
    PDF,
    PNG,
    TIFF,
    WEBP,
    describe_type,
    dimensions,
    media_type,
    sniff,
)

__all__ = [
    "CONVERTED_TYPES",
    "DOCUMENT_TYPES",
    "HEAD_BYTES",
    "HEIC",
    "JPEG",
    "PDF",
    "PNG",
    "TIFF",
    "UNDECLARED_TYPES",
    "WEBP",
    "describe_type",
    "dimensions",
    "media_type",
    "sniff",
]

# Types of phones and messengers that are converted before OCR.
CONVERTED_TYPES = frozenset({HEIC, WEBP})

# Content types that stores and uploaders use if the type is not known.
UNDECLARED_TYPES = frozenset({"", "application/octet-stream", "binary/octet-stream"})
