"""Fit word boxes to their ink, on all four sides.

The engine derives boxes from the places of letters in its recogniser, a letter's width inside their ink
on either side: words come out too narrow, and the gaps between them too wide to tell lines apart by.
Over the truth set, fitting words to their ink raises the median overlap with Textract's boxes from 0.70 to 0.77.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from textract_local.reader.engine import EngineWord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    Mask = NDArray[np.bool_]

# Darker than the pixels around it by this much of the grey scale is ink; half of that is faint ink.
_CONTRAST = 60
_FAINT = 30

# How far an edge may move, in heights of the word: inwards beside a neighbour, and at the end of a row.
_INWARDS = 0.35
_AT_THE_END = 0.6

# A gap between words is at least this wide, in heights; narrower ones lie between letters.
_NARROWEST_GAP = 0.1

# Blanks at least this share as wide as the widest one also lie between words, not between letters.
_ALSO_WIDE = 0.5

# How much paper around a word to sample, in heights: a coloured band reaches that far, and the next row's letters
# are farther away.
_AROUND = 0.4

# How far top and bottom may move outwards, in heights; the blank between a letter and its dot; and the least height
# of letters that are not too pale to be seen.
_UPRIGHT = 0.35
_DOT = 0.2
_LEAST = 0.55

# Ink this close to a word's own ink, in heights, belongs to the word.
_TOUCHING = 0.2


class Ink:
    """The ink of a straightened page: dark on light, or light on dark as in a headline's coloured band."""

    def __init__(self, page: Image.Image) -> None:
        import numpy as np

        self._grey = page.convert("L")
        self._pixels = np.asarray(self._grey)
        self.dark = _darker(self._grey, _CONTRAST)

    def under(self, words: Sequence[EngineWord], *, faint: bool = False) -> Mask:
        """Return the mask of the ink of one row's words, dark or light: whichever differs from the paper around them.

        ``faint`` includes pale ink, down to the soft edges of letters.
        """
        import numpy as np

        inside = np.concatenate([self._within(word, 0.0).ravel() for word in words])
        around = np.concatenate([self._within(word, _AROUND * word.height).ravel() for word in words])
        light = bool(inside.size) and inside.mean() > np.median(around)
        if faint:
            return self.faint[int(light)]
        return self._light if light else self.dark

    @cached_property
    def faint(self) -> tuple[Mask, Mask]:
        """Dark ink and light ink, pale ink included."""
        from PIL import ImageChops

        return _darker(self._grey, _FAINT), _darker(ImageChops.invert(self._grey), _FAINT)

    def stands_out(self, left: int, top: int, right: int, bottom: int, *, light: bool) -> bool:
        """Tell whether a mark is lighter, or darker, than the pixels right around its box."""
        import numpy as np

        ring = self._pixels[span(top - 2, bottom + 1), span(left - 2, right + 1)].astype(np.int16)
        inside = self._pixels[top:bottom, left:right].astype(np.int16)
        paper = float(np.median(np.concatenate([ring[0], ring[-1], ring[:, 0], ring[:, -1]])))
        return bool(inside.max() - paper > _FAINT if light else paper - inside.min() > _FAINT)

    def _within(self, word: EngineWord, more: float) -> NDArray[np.uint8]:
        return self._pixels[span(word.top - more, word.bottom + more), span(word.left - more, word.right + more)]

    @cached_property
    def _light(self) -> Mask:
        from PIL import ImageChops

        return _darker(ImageChops.invert(self._grey), _CONTRAST)


def _darker(grey: Image.Image, by: int) -> Mask:
    import numpy as np
    from PIL import ImageChops, ImageFilter

    # The paper is a wide blur of the page, so that shadows do not count as ink.
    paper = grey.filter(ImageFilter.BoxBlur(25))
    return np.asarray(ImageChops.subtract(paper, grey)) > by


def fit_to_ink(row: Sequence[EngineWord], page: Ink) -> tuple[EngineWord, ...]:
    """Return a row's words from left to right, their left and right edges moved to the ink.

    An edge stays in place if the page shows no clear end of the ink.
    """
    if not row:
        return ()
    ink = page.under(row)
    words = sorted(row, key=lambda word: word.left)
    for index, (word, following) in enumerate(pairwise(tuple(words))):
        gap = _gap(word, following, ink)
        if gap:
            words[index] = replace(words[index], right=max(gap[0], words[index].left + 1))
            words[index + 1] = replace(following, left=min(gap[1], following.right - 1))
    words[0] = _to_the_left(words[0], ink)
    words[-1] = _to_the_right(words[-1], ink)
    return tuple(words)


def fit_height(word: EngineWord, page: Ink) -> EngineWord:
    """Return a word whose top and bottom are those of its letters, as Textract draws its boxes.

    A side stays in place if the letters cannot be told from what lies beyond, such as a rule below them;
    both stay if little of the ink is visible.
    """
    import numpy as np

    reach = _UPRIGHT * word.height
    rows, columns = span(word.top - reach, word.bottom + reach), span(word.left, word.right)
    inked = np.any(page.under([word], faint=True)[rows, columns], axis=1)
    # The letters are the run of ink nearest to the middle of the word, with dots and accents.
    middle = word.middle - rows.start
    runs = runs_of(inked, gap=max(int(_DOT * word.height), 1))
    letters = min(runs, key=lambda run: max(run[0] - middle, middle - run[1], 0.0), default=None)
    if letters is None:
        return word
    top = rows.start + letters[0] if letters[0] > 0 else word.top
    bottom = rows.start + letters[1] if letters[1] < len(inked) else word.bottom
    if bottom - top < (_LEAST * word.height if any(map(str.isalnum, word.text)) else 1):
        return word
    return replace(word, top=top, bottom=bottom)


def runs_of(marked: Mask, *, gap: int) -> list[tuple[int, int]]:
    """Return the (start, end) of marked stretches, joined if fewer than ``gap`` pixels lie between them."""
    import numpy as np

    places = np.flatnonzero(marked)
    if len(places) == 0:
        return []
    breaks = np.flatnonzero(np.diff(places) > gap)
    starts = [int(places[0]), *(int(places[index + 1]) for index in breaks)]
    ends = [*(int(places[index]) + 1 for index in breaks), int(places[-1]) + 1]
    return list(zip(starts, ends, strict=True))


def span(start: float, end: float) -> slice:
    """Return the slice of pixels from ``start`` to ``end``, without negative ones."""
    return slice(max(int(start), 0), max(int(end) + 1, 0))


def _gap(word: EngineWord, following: EngineWord, ink: Mask) -> tuple[float, float] | None:
    """Return the (left, right) of the blank between two words. It may contain a rule, as between two cells."""
    if following.left < word.right:
        return None
    height = min(word.height, following.height)
    start, columns = _columns(
        (word, following), word.right - _INWARDS * height, following.left + _INWARDS * height, ink
    )
    if not columns.any():
        # The words' ink is too pale to be seen, so that blank columns do not show the gap.
        return None
    blanks = runs_of(~columns, gap=1)
    widest = max((end - begin for begin, end in blanks), default=0)
    if widest < max(_NARROWEST_GAP * height, 1):
        return None
    wide = [(begin, end) for begin, end in blanks if end - begin >= max(_ALSO_WIDE * widest, _NARROWEST_GAP * height)]
    return start + wide[0][0], start + wide[-1][1]


def _to_the_left(word: EngineWord, ink: Mask) -> EngineWord:
    reach = _AT_THE_END * word.height
    start, columns = _columns((word,), word.left - reach, word.left + reach, ink)
    ends = [run for run in _clusters(columns, word) if start + run[1] >= word.left - 1]
    return replace(word, left=min(start + ends[0][0], word.right - 1)) if ends else word


def _to_the_right(word: EngineWord, ink: Mask) -> EngineWord:
    reach = _AT_THE_END * word.height
    start, columns = _columns((word,), word.right - reach, word.right + reach, ink)
    ends = [run for run in _clusters(columns, word) if start + run[0] <= word.right + 1]
    return replace(word, right=max(start + ends[-1][1], word.left + 1)) if ends else word


def _clusters(columns: Mask, word: EngineWord) -> list[tuple[int, int]]:
    return runs_of(columns, gap=max(int(_TOUCHING * word.height), 1))


def _columns(words: Iterable[EngineWord], left: float, right: float, ink: Mask) -> tuple[int, Mask]:
    """Return the first column, and for each column whether it has ink at the height of the words."""
    import numpy as np

    words = list(words)
    top, bottom = min(word.top for word in words), max(word.bottom for word in words)
    start = max(int(left), 0)
    part = ink[max(int(top), 0) : max(int(bottom) + 1, 0), start : max(int(right), start)]
    return start, np.any(part, axis=0)
