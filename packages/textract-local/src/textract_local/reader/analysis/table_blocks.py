"""Build Textract's blocks of tables.

Order and keys are those of the recordings (O): each TABLE before its CELLs, then the MERGED_CELLs of
all tables, then their TABLE_TITLEs, then their TABLE_FOOTERs. The grid's CELLs always span one row and
one column and keep their words; a MERGED_CELL names the CELLs that it covers. A cell without a role has
no EntityTypes, an empty one no Relationships.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from textract_local.reader.analysis.shapes import Box
from textract_local.reader.analysis.table_model import Cell, MergedCell, Table, TableText

Block = dict[str, Any]


def table_blocks(
    tables: Sequence[Table],
    *,
    word_ids: Sequence[Sequence[str]],
    check_box_ids: Sequence[str],
    geometry: Callable[[Box], dict[str, Any]],
    confidence: Callable[[float], float],
    new_id: Callable[[], str],
) -> list[Block]:
    """Return the blocks of a page's tables, without WORDs and SELECTION_ELEMENTs.

    ``word_ids`` has each line's WORD ids, ``check_box_ids`` the SELECTION_ELEMENT id of each check box;
    ``geometry`` turns a box of the straightened page into a block's Geometry, ``confidence`` turns a confidence of
    0 to 1 into a block's, and ``new_id`` returns a new id with each call.
    """
    making = _TableBlockBuilder(word_ids, check_box_ids, geometry, confidence, new_id)
    made = [making.table(table) for table in tables]
    return [
        *(block for each in made for block in (each.table, *each.cells)),
        *(block for each in made for block in each.merged),
        *(block for each in made for block in each.titles),
        *(block for each in made for block in each.footers),
    ]


class _TableBlocks:
    """The blocks of one table by kind."""

    def __init__(
        self, table: Block, cells: list[Block], merged: list[Block], titles: list[Block], footers: list[Block]
    ) -> None:
        self.table, self.cells, self.merged, self.titles, self.footers = table, cells, merged, titles, footers


class _TableBlockBuilder:
    def __init__(
        self,
        word_ids: Sequence[Sequence[str]],
        check_box_ids: Sequence[str],
        geometry: Callable[[Box], dict[str, Any]],
        confidence: Callable[[float], float],
        new_id: Callable[[], str],
    ) -> None:
        self._word_ids = word_ids
        self._check_box_ids = check_box_ids
        self._geometry = geometry
        self._confidence = confidence
        self._new_id = new_id

    def table(self, table: Table) -> _TableBlocks:
        table_id = self._new_id()
        cells = [self._cell(cell) for cell in table.cells]
        merged = [
            self._merged(
                each,
                [block["Id"] for cell, block in zip(table.cells, cells, strict=True) if each.covers(cell)],
            )
            for each in table.merged
        ]
        titles = [self._passage("TABLE_TITLE", title) for title in table.titles]
        footers = [self._passage("TABLE_FOOTER", footer) for footer in table.footers]
        block: Block = {
            "BlockType": "TABLE",
            "Confidence": self._confidence(table.confidence),
            "Geometry": self._geometry(table.box),
            "Id": table_id,
            "Relationships": [
                {"Type": kind, "Ids": [each["Id"] for each in blocks]}
                for kind, blocks in (
                    ("CHILD", cells),
                    ("MERGED_CELL", merged),
                    ("TABLE_TITLE", titles),
                    ("TABLE_FOOTER", footers),
                )
                if blocks
            ],
            "EntityTypes": [table.kind],
        }
        return _TableBlocks(block, cells, merged, titles, footers)

    def _cell(self, cell: Cell) -> Block:
        children = [self._check_box_ids[index] for index in cell.check_boxes]
        children += [self._word_ids[line][word] for line, word in cell.words]
        return self._spanning("CELL", cell, 1, 1, children)

    def _merged(self, merged: MergedCell, children: list[str]) -> Block:
        return self._spanning("MERGED_CELL", merged, merged.rows, merged.columns, children)

    def _spanning(self, kind: str, cell: Cell | MergedCell, rows: int, columns: int, children: list[str]) -> Block:
        block: Block = {
            "BlockType": kind,
            "Confidence": self._confidence(cell.confidence),
            "RowIndex": cell.row,
            "ColumnIndex": cell.column,
            "RowSpan": rows,
            "ColumnSpan": columns,
            "Geometry": self._geometry(cell.box),
            "Id": self._new_id(),
        }
        if children:
            block["Relationships"] = [{"Type": "CHILD", "Ids": children}]
        if cell.role:
            block["EntityTypes"] = [cell.role]
        return block

    def _passage(self, kind: str, passage: TableText) -> Block:
        return {
            "BlockType": kind,
            "Confidence": self._confidence(passage.confidence),
            "Geometry": self._geometry(passage.box),
            "Id": self._new_id(),
            "Relationships": [
                {"Type": "CHILD", "Ids": [self._word_ids[line][word] for line, word in passage.words]},
            ],
        }
