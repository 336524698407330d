"""A table as it was found on a page, before it becomes blocks: boxes in pixels of the straightened page.

Words are told by their place, (index of the line, index of the word in it), check boxes by their
index in ``PageMarks.check_boxes``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from photo_worker.ocr.analysis.shapes import Box

WordPlace = tuple[int, int]

# What a cell is to its table, as ``EntityTypes`` tells it: the four that recordings show on cells (O).
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
    """Cells of the grid without a border between them: ``rows`` by ``columns`` of them from (row, column) on."""

    row: int
    column: int
    rows: int
    columns: int
    box: Box
    role: CellRole | None = None
    confidence: float = 1.0

    def covers(self, cell: Cell) -> bool:
        """Tell whether a cell of the grid belongs to this one."""
        return 0 <= cell.row - self.row < self.rows and 0 <= cell.column - self.column < self.columns


@dataclass(frozen=True)
class TableText:
    """A table's title or footer."""

    box: Box
    words: tuple[WordPlace, ...]
    confidence: float = 1.0


@dataclass(frozen=True)
class Table:
    """A table. ``cells`` is the whole grid row by row, also where ``merged`` joins some of it."""

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
