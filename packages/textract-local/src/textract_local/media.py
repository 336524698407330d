"""Media type and pixel size of a file from its first bytes, without decoding it."""

from __future__ import annotations

import io
from collections.abc import Iterator

PNG = "image/png"
JPEG = "image/jpeg"
TIFF = "image/tiff"
PDF = "application/pdf"

HEIC = "image/heic"
WEBP = "image/webp"

# Types that Textract reads (Amazon Textract quotas).
DOCUMENT_TYPES = frozenset({PNG, JPEG, TIFF, PDF})

# Related types that are not supported; they are distinguished so that a refusal can name them.
BIG_TIFF = "image/x-bigtiff"
JPEG_LS = "image/jls"
OTHER_JPEG = "image/x-jpeg-other"
HEIC_SEQUENCE = "image/heic-sequence"
AVIF = "image/avif"
OFFICE = "application/x-office-open-xml"
OPEN_DOCUMENT = "application/vnd.oasis.opendocument"
EPUB = "application/epub+zip"

_NAMES = {
    BIG_TIFF: "a BigTIFF (a TIFF with 64-bit offsets)",
    JPEG_LS: "a JPEG-LS (image/jls)",
    OTHER_JPEG: "a lossless or hierarchical JPEG",
    HEIC_SEQUENCE: "a sequence of HEIC images (image/heic-sequence)",
    AVIF: "an AVIF (image/avif)",
    "image/gif": "a GIF",
    "image/bmp": "a BMP",
    "image/jp2": "a JPEG 2000",
    "image/jxl": "a JPEG XL",
    "image/svg+xml": "an SVG drawing",
    "video/mp4": "a video, or the moving part of a live photo",
    OFFICE: "an Office document (as .docx, .xlsx or .pptx)",
    "application/x-ole-storage": "an Office document of old form (as .doc or .xls)",
    OPEN_DOCUMENT: "an OpenDocument file (as .odt)",
    EPUB: "an EPUB book",
    "application/zip": "a ZIP archive",
}

# Bytes that suffice to detect a type; a PDF's header may follow other bytes.
HEAD_BYTES = 4096

# A PDF may begin with other bytes; readers look for its header in the first 1,024 (ISO 32000-1, annex H.3).
_PDF_HEADER_WINDOW = 1024

_ALIASES = {"image/jpg": JPEG, "image/pjpeg": JPEG, "image/x-png": PNG, "image/tif": TIFF, "application/x-pdf": PDF}
# HEIF is the container; phones call the same file by either name.
_ALIASES |= {"image/heif": HEIC, "image/heif-sequence": HEIC_SEQUENCE, "image/x-webp": WEBP}

# Brands of ISO base media files (ISO/IEC 23008-12, annex B; AV1 Image File Format, 6).
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"mif1", b"mif2"})
_HEIC_SEQUENCE_BRANDS = frozenset({b"hevc", b"hevx", b"hevm", b"hevs", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
# These name only the container; the codec is among the compatible brands.
_PLAIN_BRANDS = frozenset({b"mif1", b"mif2", b"msf1"})
_BRANDS_BYTES = 512

# Frame headers of JPEG (ITU-T T.81, table B.1; T.87 for JPEG-LS): baseline to progressive, then arithmetic coding.
_JPEG_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_JPEG_OTHER_FRAMES = frozenset({0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF})
_JPEG_LS_FRAME = 0xF7
# Markers without a length of their own: TEM, RST0 to RST7, SOI.
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})


def media_type(declared: str) -> str:
    """Return the media type of a Content-Type header in lower case, without parameters, common aliases resolved."""
    plain = declared.partition(";")[0].strip().lower()
    return _ALIASES.get(plain, plain)


def sniff(head: bytes) -> str | None:
    """Return the media type that the first bytes show, or None if they match no known signature."""
    return next(_matches(head), None)


def _matches(head: bytes) -> Iterator[str]:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        yield PNG
    if head.startswith(b"\xff\xd8\xff"):
        yield _jpeg_kind(head)
    if head.startswith((b"II*\x00", b"MM\x00*")):
        yield TIFF
    if head.startswith((b"II+\x00", b"MM\x00+")):
        yield BIG_TIFF
    if b"%PDF-" in head[:_PDF_HEADER_WINDOW]:
        yield PDF
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        yield WEBP
    if head[4:8] == b"ftyp":
        yield _iso_kind(head)
    yield from _foreign(head)


def _foreign(head: bytes) -> Iterator[str]:
    """Yield matching types that are not supported, so that a refusal can name them."""
    if head.startswith((b"GIF87a", b"GIF89a")):
        yield "image/gif"
    if head.startswith(b"BM"):
        yield "image/bmp"
    if head.startswith((b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")):
        yield "image/jp2"
    if head.startswith((b"\x00\x00\x00\x0cJXL \r\n\x87\n", b"\xff\x0a")):
        yield "image/jxl"
    if head.startswith(b"PK\x03\x04"):
        yield _zip_kind(head)
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        yield "application/x-ole-storage"
    if (
        head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<?xml", b"<svg", b"<!--", b"<!DOCTYPE svg"))
        and b"<svg" in head
    ):
        yield "image/svg+xml"


def describe_type(kind: str) -> str:
    """Return the name of a media type for messages, such as "a GIF"."""
    return _NAMES.get(kind, kind)


def _jpeg_kind(head: bytes) -> str:
    """Return the kind of JPEG by its first frame header; plain JPEG if that header is not within ``head``."""
    at = 2
    while at + 4 <= len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _JPEG_BARE:
            at += 2
        elif marker in _JPEG_FRAMES:
            return JPEG
        elif marker == _JPEG_LS_FRAME:
            return JPEG_LS
        elif marker in _JPEG_OTHER_FRAMES:
            return OTHER_JPEG
        else:
            at += 2 + int.from_bytes(head[at + 2 : at + 4])
    return JPEG


def _zip_kind(head: bytes) -> str:
    """Return a ZIP archive's type by its first entry (ISO/IEC 29500-2; OpenDocument 1.3, part 2; EPUB OCF)."""
    name_bytes, extra_bytes = int.from_bytes(head[26:28], "little"), int.from_bytes(head[28:30], "little")
    name, content = head[30 : 30 + name_bytes], head[30 + name_bytes + extra_bytes :]
    if name in {b"[Content_Types].xml", b"_rels/.rels"} or name.startswith((b"word/", b"xl/", b"ppt/")):
        return OFFICE
    if name == b"mimetype":
        return next((kind for kind in (OPEN_DOCUMENT, EPUB) if content.startswith(kind.encode())), "application/zip")
    return "application/zip"


def _iso_kind(head: bytes) -> str:
    """Return an ISO base media file's type by its brands; the major one decides unless it names only the container."""
    size = min(int.from_bytes(head[:4]), _BRANDS_BYTES, len(head))
    major, others = head[8:12], {head[at : at + 4] for at in range(16, size - 3, 4)}
    if major in _AVIF_BRANDS or (major in _PLAIN_BRANDS and others & _AVIF_BRANDS):
        return AVIF
    if major in _HEIC_BRANDS:
        return HEIC
    return HEIC_SEQUENCE if major in _HEIC_SEQUENCE_BRANDS else "video/mp4"


def dimensions(head: bytes) -> tuple[int, int] | None:
    """Return an image's (width, height) in pixels from its header, or None if the header does not show it."""
    # imagesize imports an HTTP client, which most programs that use media types do not need.
    import imagesize

    try:
        width, height = imagesize.get(io.BytesIO(head))
    except Exception:
        # The parser may raise anything on a broken header. The size is unknown then, and decoding reports the damage.
        return None
    if width <= 0 or height <= 0:
        return None
    return int(width), int(height)
