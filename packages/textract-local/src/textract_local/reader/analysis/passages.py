"""A page's lines with their boxes, and queries for their neighbours on a row and in a column."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from textract_local.reader.analysis.reading import PageReading
from textract_local.reader.analysis.shapes import Box, RulingLine, around
from textract_local.reader.analysis.table_model import WordPlace
from textract_local.reader.engine import EngineWord

# Two lines share a row if they overlap vertically by more than this share of the lower one's height.
_SAME_ROW = 0.5


@dataclass(frozen=True)
class Passage:
    """One LINE of the page: its index among the lines, its words and the box around them."""

    index: int
    words: tuple[EngineWord, ...]
    box: Box

    @cached_property
    def height(self) -> float:
        """The height of its letters, in pixels."""
        return median(word.height for word in self.words)

    @cached_property
    def text(self) -> str:
        """Its words, joined by a space."""
        return " ".join(word.text for word in self.words)

    def places(self, first: int = 0, end: int | None = None) -> tuple[WordPlace, ...]:
        """Return the places of its words from ``first`` up to, but not including, ``end``."""
        return tuple((self.index, number) for number in range(*slice(first, end).indices(len(self.words))))

    def beside(self, other: Passage) -> bool:
        """Tell whether two lines stand on the same row."""
        return overlap(self.box.top, self.box.bottom, other.box.top, other.box.bottom) > _SAME_ROW

    def above(self, other: Passage) -> bool:
        """Tell whether the other line stands lower, in the same column."""
        return other.box.centre[1] > self.box.bottom and _spread(self.box, other.box) > 0


class Page:
    """A page reading with lookups for its words, lines and ruling lines."""

    def __init__(self, reading: PageReading) -> None:
        self.reading = reading
        self.width, self.height = reading.frame.page_width, reading.frame.page_height
        self.passages = [Passage(index, line, box_of(line)) for index, line in enumerate(reading.lines) if line]

    @cached_property
    def letter_height(self) -> float:
        """The median height of the text's letters, in pixels; 1 if there is no text."""
        heights = sorted((passage.height, len(passage.text)) for passage in self.passages)
        half, seen = sum(letters for _, letters in heights) / 2, 0
        for height, letters in heights:
            seen += letters
            if seen >= half:
                return max(height, 1.0)
        return 1.0

    def word(self, place: WordPlace) -> EngineWord:
        """Return the word at a place."""
        return self.reading.lines[place[0]][place[1]]

    def text(self, places: Iterable[WordPlace]) -> str:
        """Return the words at ``places``, joined by a space."""
        return " ".join(self.word(place).text for place in places)

    def box(self, places: Iterable[WordPlace]) -> Box:
        """Return the box around the words at ``places``, of which there must be at least one."""
        return box_of([self.word(place) for place in places])

    def confidence(self, places: Iterable[WordPlace]) -> float:
        """Return the mean confidence of the words at ``places``, 0 to 1; 1 if there are none."""
        found = [self.word(place).confidence for place in places]
        return sum(found) / len(found) if found else 1.0

    def right_of(self, passage: Passage) -> Passage | None:
        """Return the next line on the same row, or None if there is none or a ruling line separates them."""
        beside = [
            other
            for other in self.level_with(passage.box)
            if other.box.left >= passage.box.right and passage.beside(other)
        ]
        found = min(beside, key=lambda other: other.box.left, default=None)
        if found is None or self._divided(passage.box, found.box):
            return None
        return found

    def row_of(self, passage: Passage) -> list[Passage]:
        """Return all lines on a line's row, itself among them, from left to right."""
        row = [other for other in self.level_with(passage.box) if other.index == passage.index or passage.beside(other)]
        return sorted(row, key=lambda other: other.box.left)

    def below(self, passage: Passage) -> Passage | None:
        """Return the nearest line below in the same column, or None if there is none or a ruling line lies between."""
        begin = bisect_right(self._by_top, passage.box.bottom - self._tallest, key=_top)
        found = next(
            (
                other
                for other in self._by_top[begin:]
                if other.index != passage.index and passage.above(other) and other.box.top > passage.box.top
            ),
            None,
        )
        if found is None:
            return None
        rules = _between(self._horizontal, passage.box.centre[1], found.box.centre[1], axis=1)
        return None if any(_spread(rule.box, found.box) > 0 for rule in rules) else found

    def over(self, passage: Passage) -> Passage | None:
        """Return the nearest line above in the same column."""
        end = bisect_left(self._by_top, passage.box.centre[1], key=_top)
        above = (
            other for other in reversed(self._by_top[:end]) if other.index != passage.index and other.above(passage)
        )
        return next(above, None)

    def cell_of(self, passage: Passage) -> Box | None:
        """Return the box of the nearest ruling lines around a line, or None if a side is open."""
        x, y = passage.box.centre
        across = [rule.box for rule in self._horizontal if rule.box.left <= x <= rule.box.right]
        down = [rule.box for rule in self._vertical if rule.box.top <= y <= rule.box.bottom]
        top = max((rule.bottom for rule in across if rule.centre[1] < y), default=None)
        bottom = min((rule.top for rule in across if rule.centre[1] > y), default=None)
        left = max((rule.right for rule in down if rule.centre[0] < passage.box.left + 1), default=None)
        right = min((rule.left for rule in down if rule.centre[0] > passage.box.right - 1), default=None)
        if top is None or bottom is None or left is None or right is None:
            return None
        return Box(left, top, right, bottom)

    @cached_property
    def _by_top(self) -> list[Passage]:
        return sorted(self.passages, key=_top)

    @cached_property
    def _tallest(self) -> float:
        return max((passage.box.height for passage in self.passages), default=0.0)

    def level_with(self, box: Box) -> list[Passage]:
        """Return the lines that may overlap a box vertically, from top to bottom."""
        begin = bisect_left(self._by_top, box.top - self._tallest, key=_top)
        return self._by_top[begin : bisect_right(self._by_top, box.bottom, key=_top)]

    def _divided(self, left: Box, right: Box) -> bool:
        middle = left.centre[1]
        rules = _between(self._vertical, left.right - 1, right.left + 1, axis=0)
        return any(rule.box.top <= middle <= rule.box.bottom for rule in rules)

    @cached_property
    def _horizontal(self) -> Sequence[RulingLine]:
        marks = self.reading.marks
        return sorted(marks.horizontal, key=lambda rule: rule.box.centre[1]) if marks else ()

    @cached_property
    def _vertical(self) -> Sequence[RulingLine]:
        marks = self.reading.marks
        return sorted(marks.vertical, key=lambda rule: rule.box.centre[0]) if marks else ()


def box_of(words: Sequence[EngineWord]) -> Box:
    """Return the box around words, of which there must be at least one."""
    return around(Box(word.left, word.top, word.right, word.bottom) for word in words)


def _top(passage: Passage) -> float:
    return passage.box.top


def overlap(first: float, last: float, other_first: float, other_last: float) -> float:
    """Return the overlap of two ranges as a share of the shorter one; negative if they lie apart."""
    shorter = max(min(last - first, other_last - other_first), 1e-6)
    return (min(last, other_last) - max(first, other_first)) / shorter


def _between(rules: Sequence[RulingLine], first: float, last: float, *, axis: int) -> Sequence[RulingLine]:
    """Return the rules whose middles lie between two positions; ``rules`` are sorted by their middles."""
    begin = bisect_right(rules, first, key=lambda rule: rule.box.centre[axis])
    return rules[begin : bisect_left(rules, last, key=lambda rule: rule.box.centre[axis])]


def _spread(first: Box, second: Box) -> float:
    return overlap(first.left, first.right, second.left, second.right)
