"""Read long lines of small print, which the engine detects but cannot recognise.

A line that is some sixty times as long as it is high, such as a footer across a landscape page, is
squeezed into the recogniser's fixed width and comes back empty. Here such lines are found as ink
that no word covers, cut at their widest gaps, and stacked into a page of their own to be read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from textract_local.reader.engine import EngineWord, Frame
from textract_local.reader.ink import runs_of, span

if TYPE_CHECKING:
    from PIL import Image

    from textract_local.reader.ink import Mask

# Letters lower than this are not legible; a line of higher ones is not too long for the recogniser.
_LOWEST_PX = 6
_HIGHEST_PX = 80

# A strip is long from _LONG times its height on. Its pieces are about _PIECE heights long.
_LONG = 30.0
_PIECE = 14.0

# Ink covers between these shares of a strip of text; rules are denser, specks sparser.
_SPARSEST = 0.04
_DENSEST = 0.6


@dataclass(frozen=True)
class _Piece:
    """A part of the straightened page, in its pixels, and its position on the stacked page."""

    left: int
    top: int
    right: int
    bottom: int
    stacked_left: int = 0
    stacked_top: int = 0

    def back(self, word: EngineWord) -> EngineWord:
        """Map a word of the stacked page to the straightened page."""
        dx, dy = self.left - self.stacked_left, self.top - self.stacked_top
        return replace(word, left=word.left + dx, right=word.right + dx, top=word.top + dy, bottom=word.bottom + dy)

    def holds(self, word: EngineWord) -> bool:
        """Tell whether a word of the stacked page lies on this piece."""
        top, bottom = self.stacked_top, self.stacked_top + self.bottom - self.top
        return top <= word.middle <= bottom


def straighten(image: Image.Image, frame: Frame) -> Image.Image:
    """Return the page upright and in the engine's scale. Most pages are so already, and are not copied."""
    from PIL import Image as Pillow

    if not frame.rotation and image.width == frame.page_width and image.height == frame.page_height:
        return image
    x0, y0 = frame.to_image(0, 0)
    x1, y1 = frame.to_image(1, 0)
    x2, y2 = frame.to_image(0, 1)
    size = round(frame.page_width), round(frame.page_height)
    return image.transform(
        size,
        Pillow.Transform.AFFINE,
        (x1 - x0, x2 - x0, x0, y1 - y0, y2 - y0, y0),
        Pillow.Resampling.BICUBIC,
        fillcolor="white",
    )


def read_long_lines(
    page: Image.Image,
    ink: Mask,
    rows: Sequence[Sequence[EngineWord]],
    read: Callable[[Image.Image], Iterable[EngineWord]],
) -> list[tuple[EngineWord, ...]]:
    """Return the rows of words that the first reading of a straightened page left out.

    ``ink`` is the mask of the page's ink; ``read`` reads the stacked page.
    """
    strips = list(_uncovered_strips(ink, [word for row in rows for word in row]))
    if not strips:
        return []
    found = []
    for strip in strips:
        pieces, stacked = _stack(page, strip)
        words = [piece.back(word) for word in read(stacked) for piece in pieces if piece.holds(word)]
        if words:
            found.append(tuple(sorted(words, key=lambda word: word.left)))
    return found


def _uncovered_strips(ink: Mask, words: Iterable[EngineWord]) -> Iterator[tuple[_Piece, Mask]]:
    """Yield long, low bands of ink outside all words, with the ink in them."""
    import numpy as np

    left = ink.copy()
    for word in words:
        # Half a height more on every side: descenders reach out of a word's box.
        air = word.height * 0.5
        left[span(word.top - air, word.bottom + air), span(word.left - air, word.right + air)] = False
    for top, bottom in runs_of(np.any(left, axis=1), gap=1):
        if not _LOWEST_PX <= bottom - top <= _HIGHEST_PX:
            continue
        band = left[top:bottom]
        height = bottom - top
        for start, end in runs_of(np.any(band, axis=0), gap=3 * height):
            if end - start >= _LONG * height and _SPARSEST <= band[:, start:end].mean() <= _DENSEST:
                yield _Piece(start, top, end, bottom), band[:, start:end]


def _stack(page: Image.Image, strip: tuple[_Piece, Mask]) -> tuple[list[_Piece], Image.Image]:
    """Cut a strip at gaps; return the pieces, and a white page with them one below the other."""
    from PIL import Image as Pillow

    whole, ink = strip
    height = whole.bottom - whole.top
    edge = max(height // 3, 3)
    cuts = [0, *_cuts(ink, height), whole.right - whole.left]
    pieces = []
    for index, (start, end) in enumerate(pairwise(cuts)):
        pieces.append(
            _Piece(
                left=max(whole.left + start - edge, 0) if index == 0 else whole.left + start,
                top=max(whole.top - edge, 0),
                right=whole.left + end,
                bottom=min(whole.bottom + edge, page.height),
                stacked_left=2 * height,
                stacked_top=height + index * 3 * height,
            )
        )
    width = max(piece.right - piece.left for piece in pieces) + 4 * height
    stacked = Pillow.new("RGB", (width, (3 * len(pieces) + 2) * height), "white")
    for piece in pieces:
        part = page.crop((piece.left, piece.top, piece.right, piece.bottom))
        stacked.paste(part, (piece.stacked_left, piece.stacked_top))
    return pieces, stacked


def _cuts(ink: Mask, height: int) -> list[int]:
    """Return the columns to cut at: about every ``_PIECE`` heights, in the middle of the widest gap nearby."""
    import numpy as np

    blank: Mask = ~np.any(ink, axis=0)
    width = ink.shape[1]
    count = max(round(width / (_PIECE * height)), 1)
    cuts: list[int] = []
    for index in range(1, count):
        ideal = index * width // count
        near = slice(max(ideal - 4 * height, 0), min(ideal + 4 * height, width))
        gaps = runs_of(blank[near], gap=1)
        if gaps:
            start, end = max(gaps, key=lambda run: run[1] - run[0])
            cuts.append(near.start + (start + end) // 2)
    return cuts
