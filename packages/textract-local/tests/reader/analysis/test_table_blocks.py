from __future__ import annotations

from itertools import count
from typing import Any

from textract_local.reader.analysis.shapes import Box
from textract_local.reader.analysis.table_blocks import table_blocks
from textract_local.reader.analysis.table_model import Cell, MergedCell, Table, TableText

BOX = Box(0, 0, 10, 10)


def made() -> list[dict[str, Any]]:
    number = count(1)
    table = Table(
        box=BOX,
        rows=1,
        columns=2,
        cells=(
            Cell(1, 1, BOX, words=((0, 1), (1, 0)), check_boxes=(0,), role="COLUMN_HEADER", confidence=0.5),
            Cell(1, 2, BOX, role="COLUMN_HEADER"),
        ),
        merged=(MergedCell(1, 1, 1, 2, BOX, role="COLUMN_HEADER"),),
        titles=(TableText(BOX, ((0, 0),)),),
        footers=(TableText(BOX, ((1, 1),), 0.25),),
        kind="SEMI_STRUCTURED_TABLE",
    )
    plain = Table(box=BOX, rows=1, columns=1, cells=(Cell(1, 1, BOX, words=((0, 0),)),))
    return table_blocks(
        [table, plain],
        word_ids=[["w00", "w01"], ["w10", "w11"]],
        check_box_ids=["c0"],
        geometry=lambda box: {"box": list(box)},
        confidence=lambda value: value * 100,
        new_id=lambda: f"id{next(number)}",
    )


def test_table_blocks_cells_follow_table_and_shared_parts_last() -> None:
    assert [block["BlockType"] for block in made()] == [
        "TABLE", "CELL", "CELL", "TABLE", "CELL", "MERGED_CELL", "TABLE_TITLE", "TABLE_FOOTER",
    ]  # fmt: skip


def test_table_blocks_table_relates_parts_by_kind() -> None:
    blocks = made()
    by_id = {block["Id"]: block["BlockType"] for block in blocks}
    assert len(by_id) == len(blocks)
    table, plain = (block for block in blocks if block["BlockType"] == "TABLE")
    assert [(each["Type"], [by_id[one] for one in each["Ids"]]) for each in table["Relationships"]] == [
        ("CHILD", ["CELL", "CELL"]),
        ("MERGED_CELL", ["MERGED_CELL"]),
        ("TABLE_TITLE", ["TABLE_TITLE"]),
        ("TABLE_FOOTER", ["TABLE_FOOTER"]),
    ]
    assert table["EntityTypes"] == ["SEMI_STRUCTURED_TABLE"]
    assert [each["Type"] for each in plain["Relationships"]] == ["CHILD"]


def test_table_blocks_cells_relate_words_and_merged_cells() -> None:
    blocks = made()
    first, second, _ = (block for block in blocks if block["BlockType"] == "CELL")
    assert first["Relationships"] == [{"Type": "CHILD", "Ids": ["c0", "w01", "w10"]}]
    assert first["Confidence"] == 50
    assert "Relationships" not in second
    assert (first["RowSpan"], first["ColumnSpan"]) == (1, 1)
    (merged,) = (block for block in blocks if block["BlockType"] == "MERGED_CELL")
    assert merged["Relationships"] == [{"Type": "CHILD", "Ids": [first["Id"], second["Id"]]}]
    assert (merged["RowSpan"], merged["ColumnSpan"]) == (1, 2)


def test_table_blocks_keys_follow_order_of_recordings() -> None:
    spanning = [
        "BlockType", "Confidence", "RowIndex", "ColumnIndex", "RowSpan", "ColumnSpan", "Geometry", "Id",
        "Relationships", "EntityTypes",
    ]  # fmt: skip
    keys: dict[str, list[str]] = {
        "TABLE": ["BlockType", "Confidence", "Geometry", "Id", "Relationships", "EntityTypes"],
        "CELL": spanning,
        "MERGED_CELL": spanning,
        "TABLE_TITLE": ["BlockType", "Confidence", "Geometry", "Id", "Relationships"],
        "TABLE_FOOTER": ["BlockType", "Confidence", "Geometry", "Id", "Relationships"],
    }
    for block in made():
        assert list(block) == [key for key in keys[block["BlockType"]] if key in block]
