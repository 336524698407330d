"""``load_image``: a document gives the right picture or the right error, and never takes much memory."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from textract_local.errors import (
    DocumentError,
    DocumentProtected,
    DocumentTooLarge,
    ImageTooLarge,
    TextractLocalError,
    UnreadableDocument,
    UnsupportedDocument,
)
from textract_local.limits import IMAGE_PIXEL_LIMIT, IMAGE_SIDE_LIMIT_PX
from textract_local.reader.document import check_size, load_image
from textract_support.bad_inputs import BAD_INPUTS, certificate_pdf, wide_png
from textract_support.drawn_documents import CORNER, DARK, LIGHT, assert_shows_the_card, card, pdf, pdf_page, stream
from textract_support.pages import encoded

REFUSED: dict[str, type[TextractLocalError]] = {
    "zero bytes": UnreadableDocument,
    "text named PNG": UnsupportedDocument,
    "HTML named JPEG": UnsupportedDocument,
    "truncated JPEG": UnreadableDocument,
    "truncated PNG": UnreadableDocument,
    "truncated TIFF": UnreadableDocument,
    "truncated PDF": UnreadableDocument,
    "damaged PNG": UnreadableDocument,
    "side of 10,001 pixels": ImageTooLarge,
    "decompression bomb": ImageTooLarge,
    "lying header": ImageTooLarge,
    "over 10 MB": DocumentTooLarge,
    "GIF": UnsupportedDocument,
    "two-page TIFF": UnsupportedDocument,
    "two-page PDF": UnsupportedDocument,
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_load_image_bad_input_is_refused_by_name(name: str) -> None:
    with pytest.raises(REFUSED[name]) as caught:
        load_image(BAD_INPUTS[name].content(), "their photo.jpg")
    assert type(caught.value) is REFUSED[name]
    assert "their photo.jpg" in caught.value.message


def test_load_image_lying_header_is_quoted() -> None:
    with pytest.raises(ImageTooLarge, match="2147483647 x 2147483647"):
        load_image(BAD_INPUTS["lying header"].content(), "lying.png")


def wide_grey(top: int, mode: str = "I;16") -> Image.Image:
    """Return the card in 16 bits, with ``top`` as white."""
    kind = ">H" if mode.endswith("B") else "<H"
    pixels = b"".join(struct.pack(kind, value * top // 255) for value in card().tobytes())
    return Image.frombytes(mode, card().size, pixels)


def palette_with_transparency() -> bytes:
    image = Image.frombytes("P", card().size, bytes([DARK, CORNER, LIGHT].index(grey) for grey in card().tobytes()))
    image.putpalette([value for grey in (DARK, CORNER, LIGHT) for value in (grey, grey, grey)])
    return encoded(image, transparency=2)


GOOD: dict[str, Callable[[], bytes]] = {
    "PNG": lambda: encoded(card()),
    "RGB JPEG": lambda: encoded(card().convert("RGB"), "JPEG", quality=95),
    "CMYK JPEG": lambda: encoded(card().convert("CMYK"), "JPEG", quality=95),
    "16-bit PNG": lambda: encoded(wide_grey(65535)),
    "12 bits in a 16-bit PNG": lambda: encoded(wide_grey(4095)),
    "16-bit TIFF": lambda: encoded(wide_grey(65535), "TIFF"),
    "16-bit TIFF of the other byte order": lambda: encoded(wide_grey(65535, "I;16B"), "TIFF"),
    "32-bit TIFF": lambda: encoded(wide_grey(65535).convert("I"), "TIFF"),
    "floating-point TIFF up to 1": lambda: encoded(card().convert("F").point(lambda v: v * (1 / 255) + 0), "TIFF"),
    "floating-point TIFF up to 255": lambda: encoded(card().convert("F"), "TIFF"),
    "LZW TIFF": lambda: encoded(card(), "TIFF", compression="tiff_lzw"),
    "deflated TIFF": lambda: encoded(card().convert("RGB"), "TIFF", compression="tiff_adobe_deflate"),
    "JPEG in a TIFF": lambda: encoded(card().convert("RGB"), "TIFF", compression="jpeg", quality=95),
    "JPEG with trailing garbage": lambda: encoded(card(), "JPEG", quality=95) + b"\x00garbage" * 500,
    "MPO": lambda: encoded(card().convert("RGB"), "MPO", quality=95, save_all=True, append_images=[card()]),
    "RGBA PNG": lambda: encoded(card().convert("RGBA")),
    "grey with alpha": lambda: encoded(card().convert("LA")),
}


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD.keys())
def test_load_image_supported_format_keeps_picture(make: Callable[[], bytes]) -> None:
    assert_shows_the_card(load_image(make(), "card"))


@pytest.mark.parametrize("compression", [None, "group4", "tiff_ccitt"])
def test_load_image_fax_is_black_on_white(compression: str | None) -> None:
    page = card().point(lambda value: 255 * (value > 200)).convert("1")
    image = load_image(encoded(page, "TIFF", compression=compression), "fax.tif")
    assert [image.getpixel(place) for place in ((20, 30), (50, 20))] == [(0, 0, 0), (255, 255, 255)]


@pytest.mark.parametrize("mode", ["P", "RGBA", "LA"])
def test_load_image_transparent_pixels_become_white(mode: str) -> None:
    if mode == "P":
        content = palette_with_transparency()
    else:
        see_through = card().convert(mode)
        see_through.putalpha(card().point(lambda value: 255 * (value < 200)))
        content = encoded(see_through)
    image = load_image(content, "card.png")
    assert image.getpixel((50, 20)) == (255, 255, 255)
    assert image.getpixel((20, 30)) == (DARK, DARK, DARK)


def test_load_image_faint_grain_is_not_amplified() -> None:
    grain = Image.frombytes("I;16", (64, 64), struct.pack("<4096H", *(65000 + 16 * (n % 2) for n in range(4096))))
    shades = {pixel for _, pixel in load_image(encoded(grain), "empty.png").getcolors() or []}
    assert shades
    assert all(abs(band - 252) <= 1 for shade in shades if isinstance(shade, tuple) for band in shade)


ORIENTED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "MPO"])
@pytest.mark.parametrize("orientation", ORIENTED)
def test_load_image_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    # The pixels as a camera in that orientation stores them (EXIF 2.32, 4.6.4, Orientation).
    held = ORIENTED[orientation]
    stored = card() if held is None else card().transpose(held)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, object] = {} if kind in {"PNG", "TIFF"} else {"quality": 95}
    assert_shows_the_card(load_image(encoded(stored.convert("RGB"), kind, exif=exif, **options), "held"))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_load_image_invalid_orientation_is_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert_shows_the_card(load_image(encoded(card(), "JPEG", quality=95, exif=exif), "odd.jpg"))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("exif", [b"Exif\x00\x00", b"Exif\x00\x00II*\x00\xff\xff\xff\xff", b"Exif\x00\x00not a TIFF"])
def test_load_image_damaged_exif_is_ignored(kind: str, exif: bytes) -> None:
    assert_shows_the_card(load_image(encoded(card(), kind, quality=95, exif=exif), "odd"))


def test_load_image_pdf_is_drawn_at_200_dpi() -> None:
    content = pdf_page(b"0 0 72 36", b"0 0 0 rg 0 18 36 18 re f")
    image = load_image(content, "page.pdf")
    assert (image.mode, image.size) == ("RGB", (200, 100))
    places = {(20, 20): (0, 0, 0), (150, 20): (255, 255, 255), (20, 80): (255, 255, 255)}
    assert {place: image.getpixel(place) for place in places} == places


def test_load_image_pdf_form_values_are_drawn() -> None:
    field = (
        b"<< /Type /Annot /Subtype /Widget /FT /Tx /T (name) /V (x) /F 4 /Rect [0 0 36 36]"
        b" /AP << /N 6 0 R >> /P 3 0 R >>"
    )
    appearance = stream(b"1 0 0 rg 0 0 36 36 re f", b"/Type /XObject /Subtype /Form /BBox [0 0 36 36]")
    content = pdf_page(
        b"0 0 72 36", b"", field, appearance, catalogue=b"/AcroForm << /Fields [5 0 R] /DR << >> /DA () >>"
    )
    pixel = load_image(content, "form.pdf").getpixel((50, 50))
    assert isinstance(pixel, tuple)
    # Red, even if the viewer tints form fields.
    assert pixel[0] > 150
    assert pixel[1] < 100


def picture(width: int, height: int, entries: bytes = b"") -> bytes:
    """Return a PDF image object of that many pixels, all black and highly compressed."""
    packed = zlib.compressobj(9)
    row = bytes((width + 7) // 8)
    data = b"".join(packed.compress(row) for _ in range(height)) + packed.flush()
    return stream(
        data,
        b"/Type /XObject /Subtype /Image /Width %d /Height %d /BitsPerComponent 1"
        b" /ColorSpace /DeviceGray /Filter /FlateDecode %s" % (width, height, entries),
    )


def picture_pdf(width: int, height: int, *, times: int = 1) -> bytes:
    """Return a PDF whose page draws a picture of that many pixels."""
    drawing = b"100 0 0 100 0 0 cm " + b"/P Do " * times
    return pdf_page(b"0 0 100 100", drawing, picture(width, height), resources=b"/XObject << /P 5 0 R >>")


def masked_pdf(mask: int, kind: bytes = b"/SMask 6 0 R") -> bytes:
    """Return a PDF with a small picture under a mask of that many pixels a side."""
    shown = picture(10, 10, kind)
    through = picture(mask, mask, b"" if b"SMask" in kind else b"/ImageMask true")
    drawing = b"100 0 0 100 0 0 cm /P Do"
    return pdf_page(b"0 0 100 100", drawing, shown, through, resources=b"/XObject << /P 5 0 R >>")


def pattern_pdf(side: int) -> bytes:
    """Return a PDF whose page is filled with a pattern of a picture of that many pixels a side."""
    cell = stream(
        b"10 0 0 10 0 0 cm /P Do",
        b"/Type /Pattern /PatternType 1 /PaintType 1 /TilingType 1 /BBox [0 0 10 10] /XStep 10 /YStep 10"
        b" /Resources << /XObject << /P 6 0 R >> >>",
    )
    drawing = b"/Pattern cs /T scn 0 0 100 100 re f"
    return pdf_page(b"0 0 100 100", drawing, cell, picture(side, side), resources=b"/Pattern << /T 5 0 R >>")


def test_load_image_pdf_scan_is_drawn() -> None:
    assert load_image(picture_pdf(1000, 1000), "scan.pdf").getpixel((100, 100)) == (0, 0, 0)


@pytest.mark.parametrize("times", [1, 3])
def test_load_image_pdf_masks_and_patterns_are_drawn(times: int) -> None:
    assert load_image(picture_pdf(4000, 4000, times=times), "scan.pdf").getpixel((100, 100)) == (0, 0, 0)
    assert load_image(pattern_pdf(1000), "page.pdf").getpixel((100, 100)) == (0, 0, 0)
    # The soft mask hides all of the picture.
    assert load_image(masked_pdf(1000), "page.pdf").getpixel((100, 100)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("content", "kind", "says"),
    [
        (pdf_page(b"0 0 100000 100000"), ImageTooLarge, "277778 x 277778"),
        (pdf_page(b"0 0 9001 100"), ImageTooLarge, "9000 points"),
        (picture_pdf(30_000, 30_000), ImageTooLarge, "30000 x 30000"),
        (picture_pdf(8_000, 8_000, times=6), ImageTooLarge, "in all are drawn for a page"),
        (masked_pdf(20_000), ImageTooLarge, "20000 x 20000"),
        (masked_pdf(20_000, b"/Mask 6 0 R"), ImageTooLarge, "20000 x 20000"),
        (pattern_pdf(20_000), ImageTooLarge, "20000 x 20000"),
        (
            pdf(b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [] /Count 0 >>"),
            UnreadableDocument,
            "page",
        ),
        (b"%PDF-1.7\n%%EOF\n", UnreadableDocument, "damaged"),
        (b"junk" * 200 + b"%PDF-1.7\n" + bytes(500), UnreadableDocument, "damaged"),
        (
            pdf(
                b"<< /Type /Catalog /Pages 2 0 R >>",
                b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
                b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 72 72] >>",
                b"<< /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >>" % (b"41" * 32, b"42" * 32),
                trailer=b"/Encrypt 4 0 R /ID [<00> <00>]",
            ),
            DocumentProtected,
            "password",
        ),
        (certificate_pdf(), DocumentProtected, "certificate"),
    ],
    ids=[
        "huge",
        "too-long",
        "picture-bomb",
        "picture-drawn-often",
        "soft-mask-bomb",
        "mask-bomb",
        "picture-bomb-in-a-pattern",
        "no-page",
        "nothing-in-it",
        "junk",
        "encrypted",
        "for-a-certificate",
    ],
)
def test_load_image_undrawable_pdf_is_refused(content: bytes, kind: type[DocumentError], says: str) -> None:
    with pytest.raises(kind) as caught:
        load_image(content, "page.pdf")
    assert type(caught.value) is kind
    assert says.lower() in caught.value.message.lower()
    # PDFium still works afterwards.
    assert load_image(pdf_page(b"0 0 72 36"), "page.pdf").size == (200, 100)


def chained_tiff(pages: int) -> bytes:
    """Return a TIFF of ``pages`` pages that all share the same pixel rows."""
    content = bytearray(encoded(card(), "TIFF"))
    (first,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, first)
    directory, size = bytes(content[first : first + 2 + 12 * count]), 6 + 12 * count
    start = len(content)
    struct.pack_into("<I", content, first + size - 4, start)
    for number in range(1, pages):
        content += directory + struct.pack("<I", start + size * number if number + 1 < pages else 0)
    return bytes(content)


def test_load_image_long_tiff_chain_is_refused_quickly() -> None:
    content = chained_tiff(80_000)
    begun = time.process_time()
    with pytest.raises(UnsupportedDocument, match="several pages"):
        load_image(content, "chain.tif")
    assert time.process_time() - begun < 1


def test_load_image_self_referencing_tiff_terminates() -> None:
    content = bytearray(encoded(card(), "TIFF"))
    (first,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * count, first)
    try:
        image = load_image(bytes(content), "loop.tif")
    except DocumentError:
        return
    assert_shows_the_card(image)


def test_load_image_tiff_palette_out_of_range_is_unreadable() -> None:
    image = Image.new("P", (40, 40))
    image.putpalette([9] * 768)
    content = bytearray(encoded(image, "TIFF"))
    (directory,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, directory)
    places = [directory + 2 + 12 * number for number in range(entries)]
    (colours,) = (place for place in places if struct.unpack_from("<H", content, place) == (320,))
    # Declare the same bytes as half as many 32-bit numbers.
    struct.pack_into("<HI", content, colours + 2, 4, 384)
    with pytest.raises(UnreadableDocument):
        load_image(bytes(content), "palette.tif")


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150, deadline=None)
@given(
    content=st.sampled_from([make() for make in GOOD.values()] + [pdf_page(b"0 0 72 36", b"0 0 36 18 re f")]),
    harm=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6),
    kept=st.floats(0.3, 1),
)
def test_load_image_damaged_content_gives_image_or_input_error(
    content: bytes, harm: list[tuple[float, int]], kept: float
) -> None:
    damaged = bytearray(content[: max(int(len(content) * kept), 1)])
    for place, value in harm:
        damaged[min(int(place * len(damaged)), len(damaged) - 1)] = value
    try:
        image = load_image(bytes(damaged), "damaged")
    except DocumentError:
        return
    assert image.mode == "RGB"
    check_size(*image.size, "damaged")


@given(width=st.floats(0.1, 20_000), height=st.floats(0.1, 20_000))
def test_check_size_over_side_or_area_limit_is_refused(width: float, height: float) -> None:
    if max(width, height) <= IMAGE_SIDE_LIMIT_PX and width * height <= IMAGE_PIXEL_LIMIT:
        check_size(width, height, "x")
        return
    with pytest.raises(ImageTooLarge) as caught:
        check_size(width, height, "x")
    assert f"{round(width)} x {round(height)}" in caught.value.message


def test_load_image_size_found_by_decoder_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textract_local.media.dimensions", lambda content: None)
    for content in (wide_png(), BAD_INPUTS["decompression bomb"].content(), BAD_INPUTS["lying header"].content()):
        with pytest.raises(ImageTooLarge):
            load_image(content, "x.png")


MEASURE = """
import resource, sys
from textract_local.errors import TextractLocalError
from textract_local.reader.document import load_image
import PIL.Image, PIL.PngImagePlugin, PIL.TiffImagePlugin, pypdfium2, pypdfium2.raw
contents = [open(path, "rb").read() for path in sys.argv[1:]]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for content in contents:
    try:
        load_image(content, "x")
        sys.exit("it was read")
    except TextractLocalError:
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_load_image_refused_bombs_take_little_memory(tmp_path: Path) -> None:
    contents = {
        "bomb.png": BAD_INPUTS["decompression bomb"].content(),
        "lying.png": BAD_INPUTS["lying header"].content(),
        "picture.pdf": picture_pdf(30_000, 30_000),
        "page.pdf": pdf_page(b"0 0 100000 100000"),
        "chain.tif": chained_tiff(80_000),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    completed = subprocess.run(
        [sys.executable, "-c", MEASURE, *(str(tmp_path / name) for name in contents)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    kibibytes = int(completed.stdout) / (1024 if sys.platform == "darwin" else 1)
    assert kibibytes < 48 * 1024
