"""Large photos full of text with the project's own reader, in reading processes with their memory limit."""

from __future__ import annotations

import io
import platform
from collections.abc import Callable

import pytest
from PIL import Image, ImageDraw

from textract_local.server.documents import SYNC, Document
from textract_local.server.spawning import MIB, OWN_READER
from textract_support.recognisers import Make, doc, made, read

__all__ = ["made"]

# The machine may be busy: the duration is not under test.
PAGE_SECONDS = 280.0

LINES = 24
LINE = "flour 200 g sugar 100 g butter 50 g stir and bake for 30 minutes then let it cool down on a rack"


def page(width: int, height: int, *, mode: str = "RGB", angle: float = 0) -> Image.Image:
    """Return a page with lines of text from one side to the other."""
    image = Image.new(mode, (width, height), "white")
    draw = ImageDraw.Draw(image)
    for number in range(LINES):
        draw.text((width // 15, width * (5 + number) // 33), LINE, fill="black", font_size=width // 52)
    return image.rotate(angle, fillcolor="white") if angle else image


def encoded(image: Image.Image, kind: str = "JPEG") -> Document:
    file = io.BytesIO()
    image.save(file, kind, **({"quality": 85} if kind == "JPEG" else {"compress_level": 1}))
    assert file.tell() < SYNC.most_bytes
    return Document.of(file.getvalue(), "page")


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "document",
    [
        pytest.param(lambda: encoded(page(3000, 4000)), id="12 megapixels"),
        pytest.param(lambda: encoded(page(3000, 4000, angle=7)), id="12 megapixels askew"),
        pytest.param(lambda: encoded(page(3000, 4000, angle=45)), id="12 megapixels half turned"),
        pytest.param(lambda: encoded(page(9400, 9400, mode="RGBA"), "PNG"), id="88 megapixels, transparent"),
    ],
)
async def test_own_reader_dense_page_fits_memory_limit(made: Make, document: Callable[[], Document]) -> None:
    ours = made(reader=OWN_READER, page_seconds=PAGE_SECONDS)
    words = (await read(ours, document())).split()
    # Nearly all of them: the engine's accuracy is not under test.
    assert words.count("butter") > 0.8 * LINES


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is glibc's")
async def test_page_free_blocks_are_returned_while_it_is_read(made: Make) -> None:
    ours = made(trim_bytes=150 * MIB)
    assert await read(ours, doc("pancakes", fragments=True)) == "pancakes"
