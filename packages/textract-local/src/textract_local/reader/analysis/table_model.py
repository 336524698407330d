"""A table as it was found on a page, before it becomes blocks: boxes in pixels of the straightened page.

Words are referred to by place, (index of the line, index of the word in it), check boxes by their
index in ``PageMarks.check_boxes``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from textract_local.reader.analysis.shapes import Box

WordPlace = tuple[int, int]

# A cell's role in its table, as in ``EntityTypes``: the four that recordings show on cells (O).
CellRole = Literal["COLUMN_HEADER", "TABLE_TITLE", "TABLE_SECTION_TITLE", "TABLE_SUMMARY"]

# "EntityTypes" of a TABLE (O).
TableKind = Literal["STRUCTURED_TABLE", "SEMI_STRUCTURED_TABLE"]


@dataclass(frozen=True)
class Cell:
    """One cell of the grid; ``row`` and ``column`` count from 1. Confidences are 0 to 1."""

    row: int
    column: int
    box: Box
    words: tuple[WordPlace, ...] = ()
    check_boxes: tuple[int, ...] = ()
    role: CellRole | None = None
    confidence: float = 1.0


@dataclass(frozen=True)
class MergedCell:
    """A block of ``rows`` by ``columns`` grid cells without borders between them; (row, column) is its first cell."""

    row: int
    column: int
    rows: int
    columns: int
    box: Box
    role: CellRole | None = None
    confidence: float = 1.0

    def covers(self, cell: Cell) -> bool:
        """Tell whether a grid cell belongs to this merged cell."""
        return 0 <= cell.row - self.row < self.rows and 0 <= cell.column - self.column < self.columns


@dataclass(frozen=True)
class TableText:
    """A table's title or footer."""

    box: Box
    words: tuple[WordPlace, ...]
    confidence: float = 1.0


@dataclass(frozen=True)
class Table:
    """A table. ``cells`` is the whole grid row by row, including the cells that ``merged`` joins."""

    box: Box
    rows: int
    columns: int
    cells: tuple[Cell, ...]
    merged: tuple[MergedCell, ...] = ()
    titles: tuple[TableText, ...] = ()
    footers: tuple[TableText, ...] = ()
    kind: TableKind = "STRUCTURED_TABLE"
    confidence: float = 1.0

    @property
    def words(self) -> frozenset[WordPlace]:
        """Return the words in the table's cells."""
        return frozenset(word for cell in self.cells for word in cell.words)
