"""What a file is, by its first bytes: media type and pixel size. Nothing is decoded."""

from __future__ import annotations

import io
from collections.abc import Iterator

PNG = "image/png"
JPEG = "image/jpeg"
TIFF = "image/tiff"
PDF = "application/pdf"

# What Textract reads (Amazon Textract quotas).
DOCUMENT_TYPES = frozenset({PNG, JPEG, TIFF, PDF})

# What stores and uploaders say where nobody told them the type.
UNDECLARED_TYPES = frozenset({"", "application/octet-stream", "binary/octet-stream"})

# The first bytes that tell a type: PDF's may stand behind others.
HEAD_BYTES = 4096

# A PDF may begin with other bytes; readers look for its header in the first 1,024 (ISO 32000-1, annex H.3).
_PDF_HEADER_WINDOW = 1024

_ALIASES = {"image/jpg": JPEG, "image/pjpeg": JPEG, "image/x-png": PNG, "image/tif": TIFF, "application/x-pdf": PDF}


def media_type(declared: str) -> str:
    """Return a Content-Type header's type alone: lower case, no parameters, common aliases resolved."""
    plain = declared.partition(";")[0].strip().lower()
    return _ALIASES.get(plain, plain)


def sniff(head: bytes) -> str | None:
    """Return the media type that the first bytes show, or None where they show none that we know."""
    return next(_matches(head), None)


def _matches(head: bytes) -> Iterator[str]:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        yield PNG
    if head.startswith(b"\xff\xd8\xff"):
        yield JPEG
    if head.startswith((b"II*\x00", b"MM\x00*")):
        yield TIFF
    if b"%PDF-" in head[:_PDF_HEADER_WINDOW]:
        yield PDF
    if head.startswith((b"GIF87a", b"GIF89a")):
        yield "image/gif"
    if head.startswith(b"BM"):
        yield "image/bmp"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        yield "image/webp"
    if head[4:8] == b"ftyp":
        yield {b"avif": "image/avif", b"heic": "image/heic", b"heix": "image/heic", b"mif1": "image/heif"}.get(
            head[8:12], "video/mp4"
        )
    if head.startswith(b"PK\x03\x04"):
        yield "application/zip"


def dimensions(head: bytes) -> tuple[int, int] | None:
    """Return an image's (width, height) in pixels from its header, or None where the header does not show it."""
    # It brings an HTTP client along, which most programs that know media types have no use for.
    import imagesize

    try:
        width, height = imagesize.get(io.BytesIO(head))
    except Exception:
        # Whatever a broken header does to the parser, its size is unknown; decoding reports the damage itself.
        return None
    if width <= 0 or height <= 0:
        return None
    return int(width), int(height)
