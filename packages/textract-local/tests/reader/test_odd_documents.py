"""Odd and hostile documents: read if the picture is sound, otherwise refused with their kind in the message."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from textract_local.errors import DocumentProtected, UnreadableDocument, UnsupportedDocument
from textract_local.reader.analysis.marks import find_marks
from textract_local.reader.document import load_image
from textract_local.reader.metadata import without_metadata
from textract_local.reader.pixels import READING_SIDE
from textract_support.drawn_documents import assert_shows_the_card, card, pdf, pdf_page
from textract_support.pages import encoded

MIB = 1024**2


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(extra: bytes, *, before_picture: bool = True) -> bytes:
    """Return the card with extra chunks before, or after, those of its picture."""
    content = encoded(card())
    place = 8 + 25 if before_picture else content.index(b"IEND") - 4
    return content[:place] + extra + content[place:]


def packed(size: int) -> bytes:
    """Return ``size`` zero bytes compressed, without holding all of them in memory."""
    packing, piece = zlib.compressobj(9), bytes(MIB)
    return b"".join(packing.compress(piece) for _ in range(size // MIB)) + packing.flush()


METADATA: dict[str, Callable[[], bytes]] = {
    "colour profile": lambda: png_with(chunk(b"iCCP", b"icc\0\0" + packed(2 * MIB))),
    "packed text": lambda: png_with(chunk(b"zTXt", b"Comment\0\0" + packed(2 * MIB))),
    "packed text behind the picture": lambda: png_with(
        chunk(b"zTXt", b"Comment\0\0" + packed(2 * MIB)), before_picture=False
    ),
    "international text": lambda: png_with(chunk(b"iTXt", b"Comment\0\1\0\0\0" + packed(2 * MIB))),
    "long text": lambda: png_with(chunk(b"tEXt", b"Comment\0" + b"a" * 2 * MIB)),
    "many packed texts": lambda: png_with(chunk(b"zTXt", b"Comment\0\0" + packed(MIB)) * 80),
    "damaged profile": lambda: png_with(chunk(b"iCCP", b"icc\0\0no zlib at all")),
}


@pytest.mark.parametrize("make", METADATA.values(), ids=METADATA.keys())
def test_load_image_odd_png_metadata_keeps_picture(make: Callable[[], bytes]) -> None:
    assert_shows_the_card(load_image(make(), "card.png"))


@pytest.mark.parametrize(
    ("kind", "start", "shown"), [(b"iCCP", b"icc\0\0", "colour profile"), (b"zTXt", b"Comment\0\0", "text")]
)
def test_load_image_bomb_in_metadata_is_refused_by_kind(kind: bytes, start: bytes, shown: str) -> None:
    with pytest.raises(UnreadableDocument, match=f"its {shown} is a decompression bomb") as caught:
        load_image(png_with(chunk(kind, start + packed(80 * MIB))), "card.png")
    # The file has only 80 kB.
    assert "too large" not in caught.value.message


def test_without_metadata_many_packed_texts_bounds_unpacking(monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked, unpacking = 0, zlib.decompressobj

    class Counting:
        """Stands in for ``zlib.decompressobj()`` and counts the bytes that it returns."""

        def __init__(self) -> None:
            self._unpacking = unpacking()

        def decompress(self, data: bytes, most: int) -> bytes:
            nonlocal unpacked
            piece = self._unpacking.decompress(data, most)
            unpacked += len(piece)
            return piece

        @property
        def unconsumed_tail(self) -> bytes:
            return self._unpacking.unconsumed_tail

    text, exif = packed(40 * MIB), packed(MIB)[:70]
    monkeypatch.setattr(zlib, "decompressobj", Counting)
    # A file of 1 MB that would unpack to 1.2 GB.
    many = chunk(b"zTXt", b"Comment\0\0" + text) * 25 + chunk(b"zTXt", b"Raw profile type exif\0\0" + exif) * 5000
    without_metadata(io.BytesIO(png_with(many)), "card.png")
    assert 0 < unpacked < 200 * MIB
    assert_shows_the_card(load_image(png_with(many), "card.png"))


def test_load_image_png_xmp_orientation_is_applied() -> None:
    turned = b'<x:xmpmeta xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"></x:xmpmeta>'
    content = encoded(card().transpose(Image.Transpose.ROTATE_90))
    text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + turned)
    assert_shows_the_card(load_image(content[:33] + text + content[33:], "card.png"))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_load_image_broken_header_names_format_not_decoder(kind: str) -> None:
    content = bytearray(encoded(card(), kind))
    if kind == "TIFF":
        # An empty directory.
        content[4:8], content[8:10] = struct.pack("<I", 8), bytes(2)
    else:
        # No frame at all.
        content[2:] = b"\xff\xd9"
    with pytest.raises(UnreadableDocument) as caught:
        load_image(bytes(content), "card")
    assert f"broken {kind}" in caught.value.message
    assert not any(word in caught.value.message for word in ("MPO", "BytesIO", "0x"))


def jpeg_of(frame: int, precision: int = 8) -> bytes:
    """Return the card's JPEG with another process or depth in its header."""
    content = bytearray(encoded(card(), "JPEG"))
    place = content.index(b"\xff\xc0")
    content[place + 1], content[place + 4] = frame, precision
    return bytes(content)


def tiff_of(tag: int, value: int) -> bytes:
    """Return the card's TIFF with another value in one entry of its directory."""
    content = bytearray(encoded(card(), "TIFF"))
    (start,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, start)
    for place in range(start + 2, start + 2 + 12 * entries, 12):
        if struct.unpack_from("<H", content, place) == (tag,):
            struct.pack_into("<HII", content, place + 2, 4, 1, value)
            return bytes(content)
    raise AssertionError(tag)


ODD: dict[str, tuple[bytes, str]] = {
    "JPEG-LS": (jpeg_of(0xF7), "is a JPEG-LS"),
    "lossless": (jpeg_of(0xC3), "is a lossless or hierarchical JPEG"),
    "hierarchical": (jpeg_of(0xC5), "is a lossless or hierarchical JPEG"),
    "12 bits": (jpeg_of(0xC1, 12), "is a JPEG of 12 bits a sample"),
    "BigTIFF": (b"II+\0\x08\0\0\0" + bytes(64), "is a BigTIFF"),
    "big-endian BigTIFF": (b"MM\0+\0\x08\0\0" + bytes(64), "is a BigTIFF"),
    "TIFF of 24 bits": (tiff_of(258, 24), "is a TIFF of 1 samples a pixel with 24 bits each"),
    "JBIG in a TIFF": (tiff_of(259, 34661), "is a TIFF packed as JBIG"),
    "JPEG 2000 in a TIFF": (tiff_of(259, 34712), "is a TIFF packed as JPEG 2000"),
}


@pytest.mark.parametrize(("content", "says"), ODD.values(), ids=ODD.keys())
def test_load_image_unsupported_encoding_is_named(content: bytes, says: str) -> None:
    with pytest.raises(UnsupportedDocument, match=says):
        load_image(content, "card")


def paged(entries: bytes, drawing: bytes = b"0 0 0 rg 0 0 100 100 re f", box: bytes = b"0 0 400 200") -> bytes:
    """Return a PDF of one page with these entries in its page dictionary."""
    return pdf(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [%s] /Contents 4 0 R %s >>" % (box, entries),
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawing), drawing),
    )


def test_load_image_pdf_crop_box_outside_page_is_ignored() -> None:
    image = load_image(paged(b"/CropBox [5000 5000 6000 6000]"), "page.pdf")
    assert image.size == (1112, 556)
    assert (image.getpixel((100, 500)), image.getpixel((900, 100))) == ((0, 0, 0), (255, 255, 255))


def test_load_image_pdf_crop_box_within_page_is_applied() -> None:
    assert load_image(paged(b"/CropBox [0 0 72 36]"), "page.pdf").size == (200, 100)


def test_load_image_tiny_pdf_page_is_one_pixel() -> None:
    assert load_image(pdf_page(b"0 0 0.001 0.001"), "page.pdf").size == (1, 1)


@pytest.mark.parametrize(("width", "height"), [(28, 37), (60, 60), (125, 1)])
def test_load_image_large_pdf_page_is_drawn_smaller(width: int, height: int) -> None:
    points = (72 * width, 72 * height)
    drawing = b"0 0 0 rg 0 0 %d %d re f" % (points[0] // 2, points[1])
    image = load_image(pdf_page(b"0 0 %d %d" % points, drawing), "plan.pdf")
    assert max(image.size) == READING_SIDE
    assert image.width / image.height == pytest.approx(width / height, rel=0.05)
    dark, light = ((round(image.width * share), image.height // 2) for share in (0.25, 0.75))
    assert (image.getpixel(dark), image.getpixel(light)) == ((0, 0, 0), (255, 255, 255))


def test_load_image_pdf_with_password_is_refused_as_protected() -> None:
    content = pdf(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 72 72] >>",
        b"<< /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >>" % (b"41" * 32, b"42" * 32),
        trailer=b"/Encrypt 4 0 R /ID [<00> <00>]",
    )
    with pytest.raises(DocumentProtected) as caught:
        load_image(content, "secret.pdf")
    assert caught.value.message == "The document 'secret.pdf' is protected by a password."


# Runs in its own process, because a peak never falls. Prints MiB.
MEASURE = """
import resource, sys
from textract_local.reader.analysis.marks import find_marks
from textract_local.reader.document import load_image
import PIL.PngImagePlugin, PIL.TiffImagePlugin
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
before = peak()
image = load_image(open(sys.argv[1], "rb").read(), "large")
assert image.mode == "RGB" and max(image.size) == 3000, image.size
print(peak() - before)
"""


@pytest.mark.parametrize("mode", ["RGBA", "I;16", "LA"])
def test_load_image_large_picture_is_held_in_memory_once(tmp_path: Path, mode: str) -> None:
    width, height = 9900, 9000
    bytes_a_pixel = {"RGBA": 4, "I;16": 2, "LA": 4}[mode]
    image = Image.new(mode, (width, height))
    path = tmp_path / "large.png"
    path.write_bytes(encoded(image, "PNG", compress_level=1))
    del image
    completed = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True, timeout=120
    )
    assert float(completed.stdout) < 1.35 * width * height * bytes_a_pixel / MIB


def test_load_image_large_jpeg_is_decoded_smaller() -> None:
    large = card().resize((6000, 4000), Image.Resampling.NEAREST)
    image = load_image(encoded(large, "JPEG", quality=90), "large.jpg")
    assert image.size == (READING_SIDE, 2000)
    assert_shows_the_card(image.resize((60, 40)))


def test_load_image_transparent_colour_becomes_white() -> None:
    see_through = card().convert("RGB").point(lambda value: value if value < 200 else 7)
    image = load_image(encoded(see_through, transparency=(7, 7, 7)), "card.png")
    assert image.getpixel((50, 20)) == (255, 255, 255)


SIDES = (1, 2, 3, 500, 9999)


@pytest.mark.parametrize(("width", "height"), [(w, h) for w in SIDES for h in SIDES if min(w, h) < 3])
def test_find_marks_page_one_pixel_wide_finds_nothing(width: int, height: int) -> None:
    # Pixels of one colour would be skipped as a blank page.
    image = Image.frombytes("L", (width, height), bytes(255 * (n % 2) for n in range(width * height)))
    marks = find_marks(load_image(encoded(image), "thread.png"), [])
    assert (marks.horizontal, marks.vertical, marks.check_boxes) == ((), (), ())
