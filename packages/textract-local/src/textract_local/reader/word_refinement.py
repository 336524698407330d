"""Refine the words of a first reading: split words that were run together, and add single characters.

Candidates are found in the page's ink, which costs next to nothing, and only then read with the recogniser.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from statistics import median
from typing import TYPE_CHECKING

from textract_local.reader.engine import EngineWord
from textract_local.reader.ink import runs_of, span
from textract_local.reader.layout import lines_of
from textract_local.reader.normalization import is_supported_text, normalize_text

if TYPE_CHECKING:
    from PIL import Image

    from textract_local.reader.ink import Ink, Mask
    from textract_local.reader.recogniser import Glyph, Recogniser

Row = tuple[EngineWord, ...]

# A word is read again if it has a blank of at least _WIDE heights that is also at least this share of the usual gap
# between the words of its row. Over the truth set and the fixtures, one word in fifteen has one.
_WIDE = 0.2
_LIKE_A_GAP = 0.5

# Gaps wider than this, in heights, lie between columns and are ignored when the usual gap is measured.
_BETWEEN_COLUMNS = 1.5

# From this confidence on, the recogniser's own blank splits a word.
_SEEN = 0.5

# If the kind of character changes at a blank, it splits a word when it is this many times as wide as any other blank in
# the word, and at least this many heights wide.
_WIDER = 1.25
_WIDE_ENOUGH = 0.3

# A blank at least this wide, in heights, always splits a word.
_WIDEST_IN_WORD = 1.0

# A character that the first reading left out is added from this confidence on.
_BELIEVED = 0.85

# Characters that may follow a blank at the end of a word without being a word: typesetters set them loosely.
_CLOSING = frozenset(".,;:!?)]}%\u2019'\"\u201d")

# Sizes of a single character, in heights of the words beside it: least and greatest width, least height;
# then the least width and greatest height of a dash, and its greatest distance from their middle.
_NARROWEST, _BROADEST, _LOWEST = 0.06, 1.1, 0.45
_DASH_BROAD, _DASH_HIGH, _DASH_OFF = 0.25, 0.25, 0.25
_DASHES = frozenset("-\u2013\u2014_\u4e00")

_DASH_FILLED = 0.75

# Clear paper beside such a character, in heights, and the share of its box that a solid mark fills.
_CLEAR = 0.15
_SOLID = 0.93

# How far characters reach above and below the middle of their line, in heights.
_BAND = 0.75

# Letters lower than this are not legible.
_LOWEST_PX = 6

# More marks than this are a pattern, not a row of a table; the limit bounds the time of a page.
_MOST = 48


def refine_words(page: Image.Image, ink: Ink, rows: Iterable[Row], recogniser: Recogniser) -> list[Row]:
    """Return the rows of a straightened page with merged words split and single characters added."""
    rows = [tuple(_split_merged_words(page, ink, row, recogniser)) for row in rows]
    for word in list(_recover_isolated_glyphs(page, ink, rows, recogniser)):
        if not _extend_word_box(page, rows, word, recogniser):
            _join(rows, word)
    return rows


def _split_merged_words(page: Image.Image, ink: Ink, row: Row, recogniser: Recogniser) -> Iterator[EngineWord]:
    gaps = [b.left - a.right for a, b in pairwise(row) if b.left - a.right < _BETWEEN_COLUMNS * a.height]
    usual = median(gaps) if gaps else 0.0
    for word in row:
        blanks = _blanks(word, ink)
        widest = max((end - start for start, end in blanks), default=0)
        if len(word.text) > 1 and widest >= max(_WIDE * word.height, _LIKE_A_GAP * usual, 1):
            yield from _split_at_blanks(page, word, blanks, recogniser)
        else:
            yield word


def _blanks(word: EngineWord, ink: Ink) -> list[tuple[float, float]]:
    """Return the (left, right) of a word's inner blanks, in pixels of the page."""
    import numpy as np

    rows, columns = span(word.top, word.bottom), span(word.left, word.right)
    inked = np.any(ink.under([word])[rows, columns], axis=0)
    return [
        (columns.start + start, columns.start + end)
        for start, end in runs_of(~inked, gap=1)
        if start > 0 and end < len(inked)
    ]


def _split_at_blanks(
    page: Image.Image, word: EngineWord, blanks: Sequence[tuple[float, float]], recogniser: Recogniser
) -> list[EngineWord]:
    air = word.height / 4
    left = max(int(word.left - air), 0)
    piece = page.crop((left, max(int(word.top - air), 0), int(word.right + air), int(word.bottom + air)))
    glyphs = recogniser.read(piece)
    text = "".join(glyph.text for glyph in glyphs)
    beyond = len(text) > len(word.text) and normalize_text(text[: len(word.text)]) == word.text
    if len(normalize_text(text)) != len(text) or not (beyond or normalize_text(text) == word.text):
        # The two readings differ, so that the letters before the blank are not known.
        return [word]
    places = [left + glyph.place for glyph in glyphs]
    cuts: list[tuple[int, float, float]] = []
    for index in range(1, len(glyphs)):
        between = [blank for blank in blanks if places[index - 1] < sum(blank) / 2 < places[index]]
        if not between:
            continue
        start, end = max(between, key=lambda blank: blank[1] - blank[0])
        others = [b - a for a, b in blanks if (a, b) != (start, end)]
        alone = end - start >= _WIDER * max(others, default=0.0)
        if _is_gap(glyphs, index, (end - start) / word.height, alone=alone):
            cuts.append((index, start, end))
    if beyond and len(word.text) not in [index for index, _, _ in cuts]:
        return [word]
    return _pieces(word, glyphs, cuts)


def _is_gap(glyphs: Sequence[Glyph], index: int, width: float, *, alone: bool) -> bool:
    """Tell whether the blank before the character at ``index`` separates words; ``width`` is in heights."""
    before, after = glyphs[index - 1].text, glyphs[index]
    if all(glyph.text in _CLOSING for glyph in glyphs[index:]) or width < _WIDE:
        return False
    if after.blank_before >= _SEEN or width >= _WIDEST_IN_WORD:
        return True
    return alone and width >= _WIDE_ENOUGH and _kinds_change(before, after.text)


def _kinds_change(before: str, after: str) -> bool:
    return (
        (before.isalpha() and after.isdigit())
        or (before.isdigit() and after.isalpha())
        or (before.islower() and after.isupper())
        or (before == ":" and after.isalnum())
    )


def _pieces(word: EngineWord, glyphs: Sequence[Glyph], cuts: Sequence[tuple[int, float, float]]) -> list[EngineWord]:
    starts = [(0, word.left), *((index, end) for index, _, end in cuts)]
    ends = [*((index, start) for index, start, _ in cuts), (len(glyphs), word.right)]
    found = []
    for (first, left), (last, right) in zip(starts, ends, strict=True):
        sure = min(glyph.confidence for glyph in glyphs[first:last])
        new = first >= len(word.text)
        if new and sure < _BELIEVED:
            continue
        text = normalize_text("".join(glyph.text for glyph in glyphs[first:last]))
        found.append(replace(word, text=text, left=left, right=right, confidence=sure if new else word.confidence))
    return found


@dataclass(frozen=True)
class _Mark:
    """Isolated ink of a character's size, in pixels of the page; ``row`` is the height of the words beside it."""

    left: int
    top: int
    right: int
    bottom: int
    row: float

    @property
    def is_dash(self) -> bool:
        return self.bottom - self.top <= _DASH_HIGH * self.row

    def piece(self, page: Image.Image) -> Image.Image:
        """Return the mark with the margin that the recogniser expects."""
        height = max(self.bottom - self.top, 0.7 * self.row)
        middle, side, air = (self.top + self.bottom) / 2, height / 2, height * 0.8
        return page.crop((int(self.left - side), int(middle - air), int(self.right + side), int(middle + air)))

    def word(self, glyph: Glyph) -> EngineWord:
        text = "-" if self.is_dash else normalize_text(glyph.text)
        return EngineWord(text, glyph.confidence, self.left, self.top, self.right, self.bottom)


def _join(rows: list[Row], word: EngineWord) -> None:
    """Add a word to the row of a word next to it; if there is none, as a row of its own."""
    for index, row in enumerate(rows):
        if any(_next_to(word, other) for other in row):
            rows[index] = tuple(sorted((*row, word), key=lambda each: each.left))
            return
    rows.append((word,))


def _next_to(word: EngineWord, other: EngineWord) -> bool:
    """Tell whether two words are level and no farther apart than words of one line."""
    gap = max(word.left - other.right, other.left - word.right)
    return other.top <= word.middle <= other.bottom and gap <= _BETWEEN_COLUMNS * other.height


def _extend_word_box(page: Image.Image, rows: list[Row], letter: EngineWord, recogniser: Recogniser) -> bool:
    """Widen a word over the character beside it if that is its own first or last one, and tell whether it did.

    A word's box can leave out a letter that stands as far away as another word, as a 1 among other figures may.
    """
    for index, row in enumerate(rows):
        for place, word in enumerate(row):
            if not _next_to(letter, word) or not _ends_with(word, letter):
                continue
            left, right = min(word.left, letter.left), max(word.right, letter.right)
            top, bottom = min(word.top, letter.top), max(word.bottom, letter.bottom)
            air = word.height / 4
            box = (max(int(left - air), 0), max(int(top - air), 0), int(right + air), int(bottom + air))
            if normalize_text("".join(glyph.text for glyph in recogniser.read(page.crop(box)))) == word.text:
                rows[index] = (*row[:place], replace(word, left=left, right=right), *row[place + 1 :])
                return True
    return False


def _ends_with(word: EngineWord, letter: EngineWord) -> bool:
    """Tell whether a word has the character at its end on the character's side, or was widened over it already."""
    if letter.right <= word.left:
        return word.text.startswith(letter.text)
    return word.text.endswith(letter.text) or letter.right <= word.right


def _recover_isolated_glyphs(
    page: Image.Image, ink: Ink, rows: Sequence[Row], recogniser: Recogniser
) -> Iterator[EngineWord]:
    """Yield single characters on rows that were read, which no word covers."""
    for mark in islice(_marks(ink, rows), _MOST):
        glyphs = recogniser.read(mark.piece(page))
        if len(glyphs) == 1 and _is_believed(mark, glyphs[0]):
            yield mark.word(glyphs[0])


def _is_believed(mark: _Mark, glyph: Glyph) -> bool:
    if mark.is_dash:
        # Only a dash has this shape; the recogniser's choice of dash is ignored.
        return glyph.text in _DASHES
    return glyph.confidence >= _BELIEVED and glyph.text.isalnum() and is_supported_text(glyph.text)


def _marks(ink: Ink, rows: Sequence[Row]) -> Iterator[_Mark]:
    import numpy as np

    for mask in ink.faint:
        covered = np.zeros_like(mask)
        for word in (word for row in rows for word in row):
            high, broad = 0.15 * word.height, 0.25 * word.height
            covered[span(word.top - high, word.bottom + high), span(word.left - broad, word.right + broad)] = True
        # A row spans all columns, which need not be level with each other; each line is level.
        for line in lines_of(rows):
            for mark in _beside(mask, covered, line):
                covered[mark.top : mark.bottom, mark.left : mark.right] = True
                if ink.stands_out(mark.left, mark.top, mark.right, mark.bottom, light=mask is ink.faint[1]):
                    yield mark


def _beside(mask: Mask, covered: Mask, line: Row) -> Iterator[_Mark]:
    """Yield the isolated marks of a character's size that are level with a line, anywhere on the page."""
    import numpy as np

    height = median(word.height for word in line)
    middle = median(word.middle for word in line)
    band = span(middle - _BAND * height, middle + _BAND * height)
    inked = mask[band]
    free = inked & ~covered[band]
    columns = np.any(inked, axis=0)
    clear = max(int(_CLEAR * height), 2)
    for left, right in runs_of(np.any(free, axis=0), gap=1):
        if not _NARROWEST * height <= right - left <= _BROADEST * height:
            continue
        if columns[max(left - clear, 0) : left].any() or columns[right : right + clear].any():
            continue
        lines = np.flatnonzero(np.any(free[:, left:right], axis=1))
        top, bottom = int(lines[0]), int(lines[-1]) + 1
        if top == 0 or bottom == len(free):
            continue
        mark = _Mark(left, band.start + top, right, band.start + bottom, height)
        off = abs((mark.top + mark.bottom) / 2 - middle)
        if mark.is_dash:
            filled = free[top:bottom, left:right].mean() >= _DASH_FILLED
            fits = right - left >= _DASH_BROAD * height and off <= _DASH_OFF * height and filled
        else:
            solid = right - left > 0.35 * height and free[top:bottom, left:right].mean() > _SOLID
            fits = bottom - top >= max(_LOWEST * height, _LOWEST_PX) and not solid
        if fits:
            yield mark
