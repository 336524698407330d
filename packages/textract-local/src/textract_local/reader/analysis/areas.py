"""Find the filled areas of a page: bands of one colour behind text, pictures, and smaller ink that is not text.

The search uses a small copy of the page, in which a letter is a few pixels high: areas need no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textract_local.reader.analysis.components import components, runs_in
from textract_local.reader.analysis.shapes import Box

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    Mask = NDArray[np.bool_]

# Longest side of the copy.
_SIDE = 900

# Colours that differ by at most this in every channel count as one: a scanner or JPEG varies an even tint that much.
_SAME = 7

# A band is this many letters long and high at least, and of one colour over this share of its box.
_BAND_LENGTH = 3.0
_BAND_HEIGHT = 0.9
_BAND_FILL = 0.55

# Ink that lies closer than _NEAR letter heights belongs to one picture. A picture covers at least _PICTURE_SHARE of the
# page and has sides of at least _PICTURE_SIDE letter heights; smaller ink is a stroke, and below _SPECK a speck.
_NEAR = 0.8
_PICTURE_SHARE = 0.004
_PICTURE_SIDE = 3.0
_SPECK = 0.6
_THINNEST = 0.08

_MOST = 1_500


@dataclass(frozen=True)
class Areas:
    """Bands, pictures and strokes, each from top to bottom, in the page's pixels."""

    bands: tuple[Box, ...]
    pictures: tuple[Box, ...]
    strokes: tuple[Box, ...]


def find_areas(page: Image.Image, words: Sequence[Box], known: Sequence[Box], letter: float) -> Areas:
    """Return the areas of a page. ``known`` are marks found already; ``letter`` is the height of a letter in pixels."""
    import numpy as np
    from PIL import Image as Pillow

    scale = min(_SIDE / max(page.size), 1.0)
    size = max(round(page.width * scale), 1), max(round(page.height * scale), 1)
    small = np.asarray(page.convert("RGB").resize(size, Pillow.Resampling.BOX)).astype(np.int16)
    letter *= scale
    paper = _paper(small)
    other = np.abs(small - paper).max(axis=2) > _SAME
    written = np.zeros(other.shape, dtype=bool)
    for word in words:
        _fill(written, word, scale, 0.15 * (word.bottom - word.top))
    bands = _bands(small, other, written, letter)
    drawn = np.abs(small - paper).max(axis=2) > 3 * _SAME
    drawn &= ~written
    for mark in known:
        _fill(drawn, mark, scale, 2 / scale, value=False)
    for band in bands:
        _paint_over(drawn, small, band)
    pictures, strokes = _inked(drawn, letter)
    pictures = [box for box in pictures if not any(box.shared(band) > 0.7 * box.area for band in bands)]
    return Areas(*(tuple(_back(boxes, scale)) for boxes in (bands, pictures, strokes)))


def _paper(small: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return the page's commonest colour."""
    import numpy as np

    coarse = (small.astype(np.int64) >> 3) @ np.array([1 << 10, 1 << 5, 1])
    commonest = np.bincount(coarse.ravel()).argmax()
    colour: NDArray[np.int16] = np.median(small[coarse == commonest], axis=0).astype(np.int16)
    return colour


def _bands(small: NDArray[np.int16], other: Mask, written: Mask, letter: float) -> list[Box]:
    """Return even areas of another colour than the paper's; text on them does not interrupt them."""
    import numpy as np

    even = other & ~written
    # Clear the pixels at edges between colours, so that each area has one colour.
    step = np.abs(np.diff(small, axis=1)).max(axis=2) > _SAME
    even[:, 1:] &= ~step
    drop = np.abs(np.diff(small, axis=0)).max(axis=2) > _SAME
    even[1:] &= ~drop
    # Text belongs to a band if the band continues on both sides of it.
    runs = runs_in(even).closed(0)
    found = components(runs)
    bands = []
    for (left, top, right, bottom), pixels in zip(found.boxes.tolist(), found.pixels.tolist(), strict=True):
        box = Box(left, top, right, bottom)
        if box.width < _BAND_LENGTH * letter or box.height < _BAND_HEIGHT * letter:
            continue
        text = int(written[top:bottom, left:right].sum())
        if pixels + text >= _BAND_FILL * box.area and pixels >= 0.2 * box.area:
            bands.append((pixels, box))
    largest = sorted(bands, key=lambda band: -band[0])[:_MOST]
    return sorted((box for _, box in largest), key=lambda box: (box.top, box.left))


def _paint_over(drawn: Mask, small: NDArray[np.int16], band: Box) -> None:
    """Clear a band's own colour from the mask of drawn pixels; anything drawn on the band stays."""
    import numpy as np

    rows, columns = slice(int(band.top), int(band.bottom)), slice(int(band.left), int(band.right))
    part = small[rows, columns]
    colour = np.median(part.reshape(-1, 3), axis=0)
    drawn[rows, columns] &= np.abs(part - colour).max(axis=2) > 3 * _SAME


def _inked(drawn: Mask, letter: float) -> tuple[list[Box], list[Box]]:
    """Return the pictures and the strokes among the drawn pixels."""
    reach = max(round(_NEAR * letter), 1)
    # Close gaps along the rows, then along the columns of the transposed mask.
    joined = runs_in(drawn).closed(reach).painted(drawn.shape[0])
    joined = runs_in(joined.T).closed(reach).painted(drawn.shape[1]).T
    found = components(runs_in(joined))
    page = drawn.shape[0] * drawn.shape[1]
    pictures, strokes = [], []
    for (left, top, right, bottom), pixels in zip(found.boxes.tolist(), found.pixels.tolist(), strict=True):
        box = Box(left, top, right, bottom)
        if min(box.width, box.height) >= _PICTURE_SIDE * letter and box.area >= _PICTURE_SHARE * page:
            # A frame around the page is not a picture.
            if pixels >= _THINNEST * box.area:
                pictures.append(box)
        elif max(box.width, box.height) >= _SPECK * letter:
            strokes.append(box)
    return _largest(pictures), _largest(strokes)


def _largest(boxes: list[Box]) -> list[Box]:
    return sorted(sorted(boxes, key=lambda box: -box.area)[:_MOST], key=lambda box: (box.top, box.left))


def _fill(mask: Mask, box: Box, scale: float, air: float, *, value: bool = True) -> None:
    left, top, right, bottom = (round(edge * scale) for edge in box.grown(air))
    mask[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = value


def _back(boxes: Sequence[Box], scale: float) -> list[Box]:
    return [Box(*(edge / scale for edge in box)) for box in boxes]
