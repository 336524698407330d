"""A table's rows and columns, by whichever method they were found, and the cells that follow from them."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from textract_local.reader.analysis.shapes import Box, CheckBox
from textract_local.reader.analysis.table_model import Cell, MergedCell, WordPlace
from textract_local.reader.analysis.table_words import Placed

Span = tuple[int, int, int, int]
"""Row, column, rows and columns, counted from 0."""


@dataclass(frozen=True)
class Draft:
    """Edges of columns (``xs``) and rows (``ys``), and what supports each cell.

    ``support[r][c]``, 0 to 1, is the share of a cell's borders that is drawn or, if none is, the share
    of its column's text that is aligned. ``ruled`` tells whether rules or bands separate the rows.
    """

    xs: tuple[float, ...]
    ys: tuple[float, ...]
    support: tuple[tuple[float, ...], ...]
    spans: tuple[Span, ...] = ()
    ruled: bool = False

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.ys) - 1

    @property
    def columns(self) -> int:
        """How many columns there are."""
        return len(self.xs) - 1

    @property
    def box(self) -> Box:
        """The table's box."""
        return Box(self.xs[0], self.ys[0], self.xs[-1], self.ys[-1])

    @property
    def confidence(self) -> float:
        """The mean support of the cells."""
        return sum(map(sum, self.support)) / (self.rows * self.columns)

    def at(self, x: float, y: float) -> tuple[int, int] | None:
        """Return the row and the column of a point, or None if it lies outside the table."""
        if not self.box.holds(x, y):
            return None
        return (
            min(bisect_right(self.ys, y), self.rows) - 1,
            min(bisect_right(self.xs, x), self.columns) - 1,
        )

    def words_by_cell(self, words: Sequence[Placed]) -> dict[tuple[int, int], list[Placed]]:
        """Return each cell's words in reading order; a word belongs to the cell that contains its middle."""
        held: dict[tuple[int, int], list[Placed]] = defaultdict(list)
        for word in sorted(words, key=lambda each: each.place):
            cell = self.at(*word.box.centre)
            if cell is not None:
                held[cell].append(word)
        return held

    def cells(
        self, words: Sequence[Placed], check_boxes: Sequence[CheckBox]
    ) -> tuple[tuple[Cell, ...], tuple[MergedCell, ...]]:
        """Return the grid's cells row by row, and the merged cells."""
        held = self.words_by_cell(words)
        marked: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, mark in enumerate(check_boxes):
            cell = self.at(*mark.box.centre)
            if cell is not None:
                marked[cell].append(index)
        least = self._least()
        cells = tuple(
            Cell(
                row + 1,
                column + 1,
                Box(self.xs[column], self.ys[row], self.xs[column + 1], self.ys[row + 1]),
                _places(held.get((row, column), [])),
                tuple(marked.get((row, column), [])),
                confidence=least.get((row, column), self.support[row][column]),
            )
            for row in range(self.rows)
            for column in range(self.columns)
        )
        merged = tuple(
            MergedCell(
                row + 1,
                column + 1,
                rows,
                columns,
                Box(self.xs[column], self.ys[row], self.xs[column + columns], self.ys[row + rows]),
                confidence=least[row, column],
            )
            for row, column, rows, columns in self.spans
        )
        return cells, merged

    def _least(self) -> dict[tuple[int, int], float]:
        """Return the confidence of merged cells' members: the least of their supports, as in the recordings (O)."""
        least = {}
        for row, column, rows, columns in self.spans:
            members = [(r, c) for r in range(row, row + rows) for c in range(column, column + columns)]
            value = min(self.support[r][c] for r, c in members)
            least.update(dict.fromkeys(members, value))
        return least


def _places(words: Sequence[Placed]) -> tuple[WordPlace, ...]:
    return tuple(word.place for word in words)
