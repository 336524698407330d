from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from photo_worker import media


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
def test_types_are_told_by_content(kind: str, expected: str) -> None:
    assert media.sniff(encoded(kind)) == expected


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_dimensions_come_from_the_header(kind: str) -> None:
    assert media.dimensions(encoded(kind, (123, 45))) == (123, 45)


@given(st.binary(max_size=200))
def test_no_bytes_upset_the_header_readers(head: bytes) -> None:
    assert media.sniff(head) is None or isinstance(media.sniff(head), str)
    for start in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*"):
        size = media.dimensions(start + head)
        assert size is None or min(size) > 0


@pytest.mark.parametrize(
    ("declared", "plain"),
    [("image/JPG", media.JPEG), ("image/png; charset=binary", media.PNG), ("Image/Tiff", media.TIFF), ("", "")],
)
def test_declared_types_are_normalised(declared: str, plain: str) -> None:
    assert media.media_type(declared) == plain
