"""Generated documents whose every word is known.

The words are plain English and figures in a large, clear typeface, so that both the real service and the emulator
read them reliably: the tests do not measure the quality of recognition.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from PIL import Image, ImageDraw, ImageFont

_WIDTH = 800
_LEFT = 60
_SIZE = 40
_STEP = 80
INK = 0
PAPER = 255

Lines = Sequence[str]


def sheet(lines: Lines, *, size: int = _SIZE, width: int = _WIDTH) -> Image.Image:
    """Return a page with each text on a line of its own."""
    step = 2 * size
    image = Image.new("L", (width, step * len(lines) + step), PAPER)
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((_LEFT, step * number + step // 2), line, fill=INK, font=_font(size))
    return image


def encoded(pages: Sequence[Image.Image], kind: str, **options: Any) -> bytes:
    """Return pages as a file of Pillow's format ``kind``."""
    file = io.BytesIO()
    several: dict[str, Any] = {"save_all": True, "append_images": list(pages[1:])} if len(pages) > 1 else {}
    pages[0].save(file, kind, **several, **options)
    return file.getvalue()


def png(*lines: str) -> bytes:
    """Return a PNG of these lines."""
    return encoded([sheet(lines)], "PNG")


def many_pages(kind: str, pages: Sequence[Lines]) -> bytes:
    """Return a TIFF or PDF whose pages have these lines."""
    sheets = [sheet(lines) for lines in pages]
    return encoded(sheets, kind, **({"compression": "tiff_lzw"} if kind == "TIFF" else {}))


def turned(degrees: int, *lines: str) -> bytes:
    """Return a PNG whose text is turned clockwise."""
    return encoded([sheet(lines).rotate(-degrees, expand=True, fillcolor=PAPER)], "PNG")


def exif_turned(*lines: str) -> bytes:
    """Return a JPEG whose pixels are rotated, with the EXIF orientation that corrects it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded([sheet(lines).transpose(Image.Transpose.ROTATE_90)], "JPEG", quality=95, exif=exif)


def table(rows: Sequence[Lines]) -> bytes:
    """Return a PNG with a ruled table, every cell in its own frame."""
    width, height, left, top = 300, 90, 60, 60
    columns = len(rows[0])
    image = Image.new("L", (2 * left + columns * width, 2 * top + len(rows) * height), PAPER)
    draw = ImageDraw.Draw(image)
    for row in range(len(rows) + 1):
        draw.line((left, top + row * height, left + columns * width, top + row * height), fill=INK, width=4)
    for column in range(columns + 1):
        draw.line((left + column * width, top, left + column * width, top + len(rows) * height), fill=INK, width=4)
    for row, cells in enumerate(rows):
        for column, text in enumerate(cells):
            draw.text((left + column * width + 30, top + row * height + 22), text, fill=INK, font=_font(_SIZE))
    return encoded([image], "PNG")


@lru_cache(maxsize=1)
def dense() -> bytes:
    """Return a TIFF of 3 pages with over 1,000 blocks in all: 28 lines of 12 figures on each."""
    pages = []
    for page in range(3):
        lines = [
            "  ".join(str(1000 + (page * 336 + line * 12 + column) * 7) for column in range(12)) for line in range(28)
        ]
        pages.append(sheet(lines, size=28, width=1200))
    return encoded(pages, "TIFF", compression="tiff_lzw")


def blank() -> bytes:
    """Return a PNG of a blank page."""
    return encoded([Image.new("L", (400, 300), PAPER)], "PNG")


def padded(content: bytes, size: int) -> bytes:
    """Return a PNG of ``size`` bytes, padded after its end, where readers ignore the bytes."""
    return content + bytes(size - len(content))


@lru_cache(maxsize=8)
def _font(size: int) -> Any:
    return ImageFont.load_default(size)
