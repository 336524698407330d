"""Build page readings from plain descriptions of text, ruling lines and boxes, and analyse them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textract_local.reader.analysis.blocks import page_blocks
from textract_local.reader.analysis.marks import PageMarks
from textract_local.reader.analysis.reading import PageReading
from textract_local.reader.analysis.request import Analysis, QuerySpec
from textract_local.reader.analysis.shapes import Box, CheckBox, RulingLine
from textract_local.reader.engine import EngineWord
from textract_local.reader.layout import Line
from textract_support.pages import frame

WIDTH, HEIGHT = 1000, 1400
FEATURES = ("TABLES", "FORMS", "LAYOUT", "QUERIES", "SIGNATURES")

Block = dict[str, Any]


def text(left: float, top: float, words: str, *, height: float = 20.0, gap: float = 8.0) -> Line:
    """Return a line whose letters are half as wide as high; two spaces in ``words`` make a gap three times as wide."""
    line, space = [], gap
    for word in words.split(" "):
        if not word:
            left, space = left + 2 * gap, gap
            continue
        right = left + 0.5 * height * len(word)
        line.append(EngineWord(word, 0.9, left, top, right, top + height))
        left = right + space
    return tuple(line)


def marks(
    *,
    across: Sequence[tuple[float, float, float]] = (),
    down: Sequence[tuple[float, float, float]] = (),
    check_boxes: Sequence[CheckBox] = (),
    pictures: Sequence[Box] = (),
    strokes: Sequence[Box] = (),
    rectangles: Sequence[Box] = (),
) -> PageMarks:
    """Return a page's marks: rules ``across`` are (left, right, y), rules ``down`` are (x, top, bottom)."""
    return PageMarks(
        WIDTH,
        HEIGHT,
        horizontal=tuple(RulingLine(Box(left, y - 1, right, y + 1)) for left, right, y in across),
        vertical=tuple(RulingLine(Box(x - 1, top, x + 1, bottom)) for x, top, bottom in down),
        check_boxes=tuple(check_boxes),
        pictures=tuple(pictures),
        strokes=tuple(strokes),
        rectangles=tuple(rectangles),
    )


def check_box(left: float, top: float, *, selected: bool) -> CheckBox:
    return CheckBox(Box(left, top, left + 20, top + 20), selected)


def sheet(lines: Sequence[Line], drawn: PageMarks | None = None) -> PageReading:
    """Return the reading of a page with these lines, in the order of rows."""
    ordered = sorted(lines, key=lambda line: (line[0].top, line[0].left))
    return PageReading(frame(WIDTH, HEIGHT), tuple(ordered), drawn or marks())


def analysed(reading: PageReading, *features: str, queries: Sequence[QuerySpec] = (), page: int = 1) -> list[Block]:
    return page_blocks(reading, Analysis(frozenset(features), tuple(queries)), "ab" * 32, page)


def of_kind(blocks: Sequence[Block], kind: str) -> list[Block]:
    return [block for block in blocks if block["BlockType"] == kind]


def related(block: Block, kind: str) -> list[str]:
    return [each for relation in block.get("Relationships", []) if relation["Type"] == kind for each in relation["Ids"]]


def pairs(blocks: Sequence[Block]) -> list[tuple[str, str]]:
    """Return the texts of a response's keys and values."""
    by_id = {block["Id"]: block for block in blocks}

    def shown(block: Block) -> str:
        children = [by_id[child] for child in related(block, "CHILD")]
        return " ".join(child.get("Text") or child["SelectionStatus"] for child in children)

    return [
        (shown(block), shown(by_id[related(block, "VALUE")[0]]))
        for block in blocks
        if block.get("EntityTypes") == ["KEY"]
    ]


def fields(reading: PageReading) -> list[tuple[str, str]]:
    return pairs(analysed(reading, "FORMS"))


def layout(reading: PageReading) -> list[tuple[str, list[str]]]:
    """Return the kinds of a page's regions with their lines, in reading order."""
    blocks = analysed(reading, "LAYOUT")
    by_id = {block["Id"]: block for block in blocks}
    return [
        (
            block["BlockType"].removeprefix("LAYOUT_"),
            [by_id[child].get("Text", "") for child in related(block, "CHILD")],
        )
        for block in blocks
        if block["BlockType"].startswith("LAYOUT_")
    ]


def full_page() -> PageReading:
    """Return a page with content for every feature."""
    drawn = marks(
        across=[(100, 700, y) for y in (600, 640, 680, 720)],
        down=[(x, 600, 720) for x in (100, 300, 500, 700)],
        check_boxes=[check_box(100, 400, selected=True), check_box(300, 400, selected=False)],
        strokes=[Box(120, 900, 300, 950)],
    )
    cells = [text(110 + 200 * column, 610 + 40 * row, f"cell{row}{column}") for row in range(3) for column in range(3)]
    return sheet(
        [
            text(100, 120, "Earnings statement", height=50),
            text(100, 300, "Pay date: 7/25/2008"),
            text(126, 400, "Married"),
            text(326, 400, "Single"),
            *cells,
            text(130, 960, "Signature"),
        ],
        drawn,
    )
