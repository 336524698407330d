"""The words of a page for finding tables: their places, rows of text, and pieces of rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from textract_local.reader.analysis.shapes import Box, around
from textract_local.reader.analysis.table_model import WordPlace
from textract_local.reader.layout import Line

# Words whose middles are this close, in letter heights, stand in one row.
_SAME_ROW = 0.5


@dataclass(frozen=True)
class Placed:
    """A word and its place among the page's lines."""

    place: WordPlace
    box: Box
    text: str
    confidence: float

    @property
    def middle(self) -> float:
        """The vertical centre."""
        return (self.box.top + self.box.bottom) / 2

    @property
    def has_digit(self) -> bool:
        """Whether the word contains a digit."""
        return any(character.isdigit() for character in self.text)

    @property
    def is_figure(self) -> bool:
        """Whether the word has more digits than letters."""
        digits = sum(character.isdigit() for character in self.text)
        return digits > sum(character.isalpha() for character in self.text)


@dataclass(frozen=True)
class Piece:
    """Words of one row without a wide gap between them."""

    words: tuple[Placed, ...]

    @cached_property
    def box(self) -> Box:
        """The box around the words."""
        return around(word.box for word in self.words)

    @property
    def text(self) -> str:
        """The words, with spaces between them."""
        return " ".join(word.text for word in self.words)


def placed_words(lines: Sequence[Line]) -> list[Placed]:
    """Return all words of a page in the order of its lines."""
    return [
        Placed((number, index), Box(word.left, word.top, word.right, word.bottom), word.text, float(word.confidence))
        for number, line in enumerate(lines)
        for index, word in enumerate(line)
    ]


def letter_height(words: Sequence[Placed]) -> float:
    """Return the median height of words, in pixels, at least 1. ``words`` must not be empty."""
    return max(median(word.box.height for word in words), 1.0)


def rows_of(words: Iterable[Placed], letter: float) -> list[list[Placed]]:
    """Return rows of text from top to bottom, each from left to right."""
    rows: list[list[Placed]] = []
    heads: list[float] = []
    for word in sorted(words, key=lambda each: (each.middle, each.box.left)):
        if rows and word.middle - heads[-1] <= _SAME_ROW * letter:
            rows[-1].append(word)
            heads[-1] = sum(each.middle for each in rows[-1]) / len(rows[-1])
        else:
            rows.append([word])
            heads.append(word.middle)
    return [sorted(row, key=lambda each: each.box.left) for row in rows]


def pieces_of(row: Sequence[Placed], gap: float) -> list[Piece]:
    """Cut a row at every gap of at least ``gap`` pixels between two words."""
    pieces: list[list[Placed]] = []
    end = 0.0
    for word in row:
        if pieces and word.box.left - end < gap:
            pieces[-1].append(word)
        else:
            pieces.append([word])
        end = max(end, word.box.right) if len(pieces[-1]) > 1 else word.box.right
    return [Piece(tuple(piece)) for piece in pieces]
