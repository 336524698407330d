"""Build a page's blocks, for text alone and for an analysis, in the order of recorded responses.

The order is PAGE, LINEs, WORDs, SELECTION_ELEMENTs, the blocks of tables, each KEY with its VALUE, SIGNATUREs, each
QUERY with its QUERY_RESULT, LAYOUT blocks (O; the place of queries among other features is C). PAGE names LINEs,
TABLEs, KEY_VALUE_SETs, SIGNATUREs, queries and LAYOUT blocks as its children, in this order (O). Only requested
features appear; check boxes come with tables and with forms (D).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from textract_local.reader.analysis import request
from textract_local.reader.analysis.forms import Field, find_fields
from textract_local.reader.analysis.passages import Page
from textract_local.reader.analysis.queries import answer_query
from textract_local.reader.analysis.reading import PageReading
from textract_local.reader.analysis.regions import KINDS, Region, find_regions
from textract_local.reader.analysis.request import Analysis, QuerySpec
from textract_local.reader.analysis.shapes import Box, CheckBox
from textract_local.reader.analysis.signatures import find_signatures
from textract_local.reader.analysis.table_blocks import table_blocks
from textract_local.reader.analysis.table_model import Table, WordPlace
from textract_local.reader.analysis.tables import find_tables
from textract_local.reader.blocks import Block, Ids, geometry, percent, relation, text_blocks

# The children of PAGE besides LINEs, in this order (O; the place of queries among the others: C).
_CHILDREN = (
    ("TABLE",),
    ("KEY_VALUE_SET",),
    ("SIGNATURE",),
    ("QUERY", "QUERY_RESULT"),
    tuple(f"LAYOUT_{kind}" for kind in KINDS),
)

# The features that check boxes come with.
_WITH_CHECK_BOXES = frozenset({request.TABLES, request.FORMS})


def page_blocks(reading: PageReading, analysis: Analysis | None, seed: str, page: int) -> list[Block]:
    """Return one page's blocks as a synchronous response has them, without ``Page``.

    ``seed`` identifies the document and the engine: equal seeds give equal ids. ``page`` counts from 1.
    ``analysis`` is None if only text is requested.
    """
    ids = Ids(seed, page)
    text = text_blocks(reading.lines, reading.frame, ids)
    if analysis is None:
        return text.in_order()
    word_ids = [[word["Id"] for word in words] for words in text.words]
    found = _Analysis(reading, ids, [line["Id"] for line in text.lines], word_ids).blocks(analysis, page)
    children = [block["Id"] for kinds in _CHILDREN for block in found if block["BlockType"] in kinds]
    if children:
        relations = text.page.setdefault("Relationships", [relation("CHILD", ())])
        relations[0]["Ids"] += children
    return [*text.in_order(), *found]


class _Analysis:
    def __init__(
        self, reading: PageReading, ids: Ids, line_ids: Sequence[str], word_ids: Sequence[Sequence[str]]
    ) -> None:
        self._reading = reading
        self._page = Page(reading)
        self._ids = ids
        self._line_ids = line_ids
        self._word_ids = word_ids
        self._check_boxes: Sequence[CheckBox] = reading.marks.check_boxes if reading.marks else ()
        self._check_box_ids = [ids.next("check box") for _ in self._check_boxes]

    @cached_property
    def _tables(self) -> Sequence[Table]:
        marks = self._reading.marks
        return find_tables(self._reading.lines, marks) if marks else ()

    @cached_property
    def _fields(self) -> Sequence[Field]:
        return find_fields(self._page, self._tables)

    @cached_property
    def _regions(self) -> Sequence[Region]:
        return find_regions(self._page, self._tables, self._fields)

    def blocks(self, analysis: Analysis, page: int) -> list[Block]:
        """Return the blocks that an analysis of the page adds to its text blocks."""
        features, found = analysis.features, list[Block]()
        if features & _WITH_CHECK_BOXES:
            found += map(self._selection, range(len(self._check_boxes)))
        if request.TABLES in features:
            found += table_blocks(
                self._tables,
                word_ids=self._word_ids,
                check_box_ids=self._check_box_ids,
                geometry=self._geometry,
                confidence=percent,
                new_id=lambda: self._ids.next("table"),
            )
        if request.FORMS in features:
            found += [block for field in self._fields for block in self._pair(field)]
        if request.SIGNATURES in features:
            found += [
                self._block("SIGNATURE", signature.box, signature.confidence)
                for signature in find_signatures(self._page, self._fields)
            ]
        if request.QUERIES in features:
            found += [block for query in analysis.queries if query.asks(page) for block in self._answered(query)]
        if request.LAYOUT in features:
            found += [block for region in self._regions for block in self._layout(region)]
        return found

    def _selection(self, index: int) -> Block:
        mark = self._check_boxes[index]
        return {
            "BlockType": "SELECTION_ELEMENT",
            "Confidence": percent(mark.confidence),
            "Geometry": self._geometry(mark.box),
            "Id": self._check_box_ids[index],
            "SelectionStatus": "SELECTED" if mark.selected else "NOT_SELECTED",
        }

    def _pair(self, field: Field) -> tuple[Block, Block]:
        key_box = self._page.box(field.key)
        if field.check_box is not None:
            value_ids, value_box = [self._check_box_ids[field.check_box]], self._check_boxes[field.check_box].box
        elif field.value:
            value_ids, value_box = self._words(field.value), self._page.box(field.value)
        else:
            # An empty value is a dot at the key's end (O).
            value_ids, value_box = [], Box(key_box.right - 1, key_box.bottom - 1, key_box.right, key_box.bottom)
        value = self._block("KEY_VALUE_SET", value_box, field.confidence, value_ids)
        key = self._block("KEY_VALUE_SET", key_box, field.confidence, self._words(field.key))
        key["Relationships"].insert(0, relation("VALUE", [value["Id"]]))
        return key | {"EntityTypes": ["KEY"]}, value | {"EntityTypes": ["VALUE"]}

    def _answered(self, query: QuerySpec) -> list[Block]:
        block: Block = {"BlockType": "QUERY", "Id": self._ids.next("query")}
        found = answer_query(query.text, self._page, self._fields, self._regions)
        if found is None:
            return [block | {"Query": query.as_json()}]
        result: Block = {
            "BlockType": "QUERY_RESULT",
            # Whole numbers, as recorded (O).
            "Confidence": float(round(found.confidence * 100)),
            "Text": self._page.text(found.words),
            "Geometry": self._geometry(self._page.box(found.words)),
            "Id": self._ids.next("query result"),
        }
        return [block | {"Relationships": [relation("ANSWER", [result["Id"]])], "Query": query.as_json()}, result]

    def _layout(self, region: Region) -> list[Block]:
        """Return a region's block; a list's items follow it as LAYOUT_TEXTs of their own (D: Layout)."""
        items = [block for item in region.items for block in self._layout(item)]
        children = [item["Id"] for item in items] or [self._line_ids[line] for line in region.lines]
        return [self._block(f"LAYOUT_{region.kind}", region.box, region.confidence, children), *items]

    def _block(self, kind: str, box: Box, confidence: float, children: Sequence[str] = ()) -> Block:
        block: Block = {
            "BlockType": kind,
            "Confidence": percent(confidence),
            "Geometry": self._geometry(box),
            "Id": self._ids.next(kind),
        }
        if children:
            block["Relationships"] = [relation("CHILD", children)]
        return block

    def _words(self, places: Sequence[WordPlace]) -> list[str]:
        return [self._word_ids[line][word] for line, word in places]

    def _geometry(self, box: Box) -> dict[str, Any]:
        return geometry(*box, self._reading.frame)
