from __future__ import annotations

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from photo_worker.media import CONVERTED_TYPES
from textract_local import media


def encoded(kind: str, size: tuple[int, int] = (30, 20)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "white").save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("PNG", media.PNG),
        ("JPEG", media.JPEG),
        ("TIFF", media.TIFF),
        ("PDF", media.PDF),
        ("GIF", "image/gif"),
        ("BMP", "image/bmp"),
        ("WEBP", "image/webp"),
    ],
)
def test_sniff_detects_type_from_content(kind: str, expected: str) -> None:
    assert media.sniff(encoded(kind)) == expected


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_dimensions_are_read_from_header(kind: str) -> None:
    assert media.dimensions(encoded(kind, (123, 45))) == (123, 45)


@given(st.binary(max_size=200))
def test_sniff_and_dimensions_accept_any_bytes(head: bytes) -> None:
    assert media.sniff(head) is None or isinstance(media.sniff(head), str)
    for start in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*"):
        size = media.dimensions(start + head)
        assert size is None or min(size) > 0


@pytest.mark.parametrize(
    ("declared", "plain"),
    [("image/JPG", media.JPEG), ("image/png; charset=binary", media.PNG), ("Image/Tiff", media.TIFF), ("", "")],
)
def test_media_type_normalises_declared_type(declared: str, plain: str) -> None:
    assert media.media_type(declared) == plain


def brands(major: bytes, *others: bytes) -> bytes:
    """Return the head of an ISO base media file."""
    return (16 + 4 * len(others)).to_bytes(4) + b"ftyp" + major + bytes(4) + b"".join(others) + bytes(16)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (brands(b"heic", b"mif1", b"heic"), media.HEIC),
        # A phone's still image that comes with a short film.
        (brands(b"heic", b"mif1", b"msf1", b"hevc"), media.HEIC),
        (brands(b"mif1", b"heic"), media.HEIC),
        (brands(b"heix"), media.HEIC),
        (brands(b"mif1", b"avif"), media.AVIF),
        (brands(b"avif", b"mif1"), media.AVIF),
        (brands(b"hevc", b"msf1", b"heic"), media.HEIC_SEQUENCE),
        (brands(b"isom", b"mp42"), "video/mp4"),
        (b"II+\0\x08\0\0\0", media.BIG_TIFF),
        (b"MM\0+\0\x08\0\0", media.BIG_TIFF),
        (bytes.fromhex("ffd8ffe000044a46fff7000b"), media.JPEG_LS),
        (bytes.fromhex("ffd8ffc3000b"), media.OTHER_JPEG),
        (bytes.fromhex("ffd8ffffc2000b"), media.JPEG),
        (bytes.fromhex("ffd8ff01ffd0ffc0000b"), media.JPEG),
    ],
)
def test_sniff_distinguishes_related_formats(head: bytes, kind: str) -> None:
    assert media.sniff(head) == kind


@pytest.mark.parametrize("process", [{}, {"progressive": True}])
def test_sniff_of_ordinary_jpeg_is_jpeg(process: dict[str, bool]) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((90, 60), 30).save(buffer, "JPEG", **process)
    assert media.sniff(buffer.getvalue()) == media.JPEG


def test_media_type_of_heif_is_heic() -> None:
    assert media.media_type("image/heif") == media.media_type("image/HEIC") == media.HEIC


def zipped(*entries: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (zipped(("[Content_Types].xml", b"<Types/>"), ("word/document.xml", b"")), "an Office document"),
        (zipped(("mimetype", b"application/vnd.oasis.opendocument.text")), "an OpenDocument file"),
        (zipped(("mimetype", b"application/epub+zip")), "an EPUB book"),
        (zipped(("notes.txt", b"salt")), "a ZIP archive"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "an Office document of old form"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b"\xff\x0a" + bytes(20), "a JPEG XL"),
        (brands(b"qt  "), "a video, or the moving part of a live photo"),
        (encoded("GIF"), "a GIF"),
    ],
)
def test_described_names_unsupported_formats(content: bytes, named: str) -> None:
    kind = media.sniff(content)
    assert kind is not None
    assert media.describe_type(kind).startswith(named)
    assert kind not in media.DOCUMENT_TYPES | CONVERTED_TYPES
