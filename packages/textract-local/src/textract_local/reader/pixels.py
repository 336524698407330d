"""Turn decoded pictures into page images: RGB, upright, transparent parts white, at most ``READING_SIDE`` a side.

The largest picture that is decoded has 89 million pixels of 4 bytes in memory. It is converted and scaled in strips, so
that memory never holds a second picture of this size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

# Longest side that is read. From about twice the detector's side on, reading was measured to take five times as
# long and gigabytes of memory, and words came back doubled, as if the page were read in overlapping tiles.
# Letters that are lost by scaling down to this are too small for the detector anyway (the truth set's largest page:
# word recall 0.97 instead of 0.95).
READING_SIDE = 3000

# Values that white may have in grey of more than 8 bits: a ratio, 8, 12 or 16 bits.
_WHITES = (1, 255, 4095, 65535)

# Rows of a strip, before it is scaled down: a strip of the widest picture then has some 10 MB.
_STRIP_ROWS = 256


def page_of(image: Image.Image, orientation: object = None) -> Image.Image:
    """Return a picture as a page, turned as its EXIF ``orientation`` says: RGB, of at most ``READING_SIDE`` a side."""
    return at_most(_upright(_flat(image), orientation), READING_SIDE)


def at_most(image: Image.Image, side: int) -> Image.Image:
    """Scale an image down if a side is longer than ``side``. Blocks have ratios of the page, which stay the same."""
    from PIL import Image as Pillow

    scale = side / max(image.size)
    if scale >= 1:
        return image
    smaller = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
    return image.resize(smaller, Pillow.Resampling.LANCZOS)


def _upright(image: Image.Image, orientation: object) -> Image.Image:
    from PIL import Image as Pillow

    turns = {
        2: Pillow.Transpose.FLIP_LEFT_RIGHT,
        3: Pillow.Transpose.ROTATE_180,
        4: Pillow.Transpose.FLIP_TOP_BOTTOM,
        5: Pillow.Transpose.TRANSPOSE,
        6: Pillow.Transpose.ROTATE_270,
        7: Pillow.Transpose.TRANSVERSE,
        8: Pillow.Transpose.ROTATE_90,
    }
    turn = turns.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _flat(image: Image.Image) -> Image.Image:
    """Return RGB pixels, transparent ones white. A picture far larger than ``READING_SIDE`` is scaled down."""
    from PIL import Image as Pillow

    by = max(max(image.size) // READING_SIDE, 1)
    if image.mode == "RGB" and by == 1 and "transparency" not in image.info:
        return image
    flatten = _flattener(image)
    page = Pillow.new("RGB", (-(-image.width // by), -(-image.height // by)), "white")
    for top, strip in _strips(image, _STRIP_ROWS * by):
        flat = flatten(strip)
        page.paste(flat.reduce(by) if by > 1 else flat, (0, top // by))
    return page


def _strips(image: Image.Image, rows: int) -> Iterator[tuple[int, Image.Image]]:
    """Yield the parts of a picture from top to bottom, each with its first row."""
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _flattener(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """Return a function that converts a strip of this picture to RGB."""
    if image.mode.startswith("I") or image.mode == "F":
        white = _white(image)
        return lambda strip: _narrow(strip, white)
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        return _over_paper
    return lambda strip: strip.convert("RGB")


def _over_paper(strip: Image.Image) -> Image.Image:
    from PIL import Image as Pillow

    over = strip.convert("RGBA")
    paper = Pillow.new("RGB", over.size, "white")
    paper.paste(over, mask=over.getchannel("A"))
    return paper


def _white(image: Image.Image) -> float:
    """Return the value of white in wide grey, which no format states: the narrowest usual range with every pixel.

    Stretching to the brightest and darkest pixels would turn the grain of an empty page into print.
    """
    high = max(float(_wide(strip).getextrema()[1]) for _, strip in _strips(image, _STRIP_ROWS))  # type: ignore[arg-type]
    return next((float(white) for white in _WHITES if high <= white), high)


def _wide(strip: Image.Image) -> Image.Image:
    return strip.convert("I") if strip.mode.startswith("I;") else strip


def _narrow(strip: Image.Image, white: float) -> Image.Image:
    """Scale wide and floating-point grey to 8 bits, which ``convert`` only clips."""
    grey = _wide(strip).convert("F").point(lambda value: value * (255.0 / white) + 0)
    return grey.convert("L").convert("RGB")
