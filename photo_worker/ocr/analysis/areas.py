"""Filled areas of a page: bands of one colour behind text, pictures, and smaller ink that is no text.

Looked at on a small copy of the page, where a letter is some pixels high: areas need no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from photo_worker.ocr.analysis.components import components, runs_in
from photo_worker.ocr.analysis.shapes import Box

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    Mask = NDArray[np.bool_]

# Longest side of the copy.
_SIDE = 900

# Colours that differ less than this in every channel are one colour: what a scanner or JPEG makes of an even tint.
_SAME = 7

# A band is this many letters long and high at least, and of one colour over this share of its box.
_BAND_LENGTH = 3.0
_BAND_HEIGHT = 0.9
_BAND_FILL = 0.55

# Ink that lies closer than this, in letter heights, belongs to one picture; a picture has at least this share of the
# page and, in letter heights, this side. Less is a stroke, and less than _SPECK a speck.
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
    """Return the areas of a page. ``known`` are marks that have been found already; a letter is ``letter`` high."""
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
    """Return even areas of another colour than the paper's; the text on them is looked through."""
    import numpy as np

    even = other & ~written
    # A pixel belongs to its right neighbour's area where both have one colour: edges between two colours part them.
    step = np.abs(np.diff(small, axis=1)).max(axis=2) > _SAME
    even[:, 1:] &= ~step
    drop = np.abs(np.diff(small, axis=0)).max(axis=2) > _SAME
    even[1:] &= ~drop
    # What is written on a band belongs to it where the band goes on at both sides.
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
    """Take a band's own colour out of what is drawn; what stands on it stays."""
    import numpy as np

    rows, columns = slice(int(band.top), int(band.bottom)), slice(int(band.left), int(band.right))
    part = small[rows, columns]
    colour = np.median(part.reshape(-1, 3), axis=0)
    drawn[rows, columns] &= np.abs(part - colour).max(axis=2) > 3 * _SAME


def _inked(drawn: Mask, letter: float) -> tuple[list[Box], list[Box]]:
    """Return pictures and strokes among what is drawn."""
    reach = max(round(_NEAR * letter), 1)
    # Joined both ways: along the rows by closing, across them by closing the picture turned on its side.
    joined = runs_in(drawn).closed(reach).painted(drawn.shape[0])
    joined = runs_in(joined.T).closed(reach).painted(drawn.shape[1]).T
    found = components(runs_in(joined))
    page = drawn.shape[0] * drawn.shape[1]
    pictures, strokes = [], []
    for (left, top, right, bottom), pixels in zip(found.boxes.tolist(), found.pixels.tolist(), strict=True):
        box = Box(left, top, right, bottom)
        if min(box.width, box.height) >= _PICTURE_SIDE * letter and box.area >= _PICTURE_SHARE * page:
            # A frame around the page is no picture of what it holds.
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
