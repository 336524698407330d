"""Compare tables with those in recorded responses of the real Textract: detection, cells, spans, roles.

    python -m benchmarks.table_quality --words both --json .reports/table-quality.json

``recorded`` uses Textract's own words, so that only the analysis is measured; ``own`` reads the page with the
project's OCR engine first. Needs the truth set, which is not part of this repository; ``--short`` only tests that it
works, on a page that is drawn here. A table is found if the IoU of its box and the service's is at least one
half. Cells of found tables are compared as (row, column, text), the text as letters and digits alone; if the
service has one more row or column at the beginning, one shift for the whole table aligns them. Cells of tables
that were not found count as missed, and those of tables that the service does not have as surplus.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import comparison_cli
from benchmarks.analysis_quality import with_own_words, with_recorded_words
from benchmarks.documents import truth_documents
from benchmarks.scoring import Overlap, box_iou

# Two tables are the same if the IoU of their boxes is at least this.
SAME = 0.5

# By how many rows and columns the start of a table may differ from the service's.
_SHIFT = 2

_NOTHING = Overlap()

Block = Mapping[str, Any]
Place = tuple[int, int]


@dataclass(frozen=True)
class FoundTable:
    """A table of a response: texts and roles by (row, column), spans as (row, column, rows, columns)."""

    box: tuple[float, float, float, float]
    texts: Mapping[Place, str]
    spans: frozenset[tuple[int, int, int, int]]
    roles: Mapping[Place, str]
    kind: str
    titles: int


@dataclass(frozen=True)
class Agreement:
    """Counts of one document; add them to pool documents. ``kinds`` and ``titles`` count tables found by both."""

    tables: Overlap = _NOTHING
    cells: Overlap = _NOTHING
    spans: Overlap = _NOTHING
    roles: Overlap = _NOTHING
    kinds: Overlap = _NOTHING
    titles: Overlap = _NOTHING

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            self.tables + other.tables,
            self.cells + other.cells,
            self.spans + other.spans,
            self.roles + other.roles,
            self.kinds + other.kinds,
            self.titles + other.titles,
        )

    def measures(self) -> dict[str, float]:
        """Return shares from 0 to 1; 1 if there is nothing to agree on."""
        return {
            "tables found": self.tables.recall,
            "tables right": self.tables.precision,
            "cell F1": f1(self.cells),
            "span F1": f1(self.spans),
            "role F1": f1(self.roles),
            "kind": self.kinds.recall,
            "title F1": f1(self.titles),
        }


def f1(overlap: Overlap) -> float:
    """Return the harmonic mean of recall and precision; 1 if nothing was expected and nothing found."""
    if not overlap.expected and not overlap.found:
        return 1.0
    return 2 * overlap.matched / (overlap.expected + overlap.found)


def tables_of(blocks: Iterable[Block]) -> list[FoundTable]:
    """Return the tables of a response in its order."""
    by_id = {block["Id"]: block for block in blocks}
    return [_table(block, by_id) for block in by_id.values() if block["BlockType"] == "TABLE"]


def _table(block: Block, by_id: Mapping[str, Block]) -> FoundTable:
    box = block["Geometry"]["BoundingBox"]
    cells = [by_id[each] for each in _related(block, "CHILD") if by_id[each]["BlockType"] == "CELL"]
    merged = [by_id[each] for each in _related(block, "MERGED_CELL")]
    return FoundTable(
        box=(box["Left"], box["Top"], box["Width"], box["Height"]),
        texts={
            (cell["RowIndex"], cell["ColumnIndex"]): text
            for cell in cells
            if (text := _plain(" ".join(by_id[word].get("Text", "") for word in _related(cell, "CHILD"))))
        },
        spans=frozenset(
            (cell["RowIndex"], cell["ColumnIndex"], cell["RowSpan"], cell["ColumnSpan"]) for cell in merged
        ),
        roles={
            (cell["RowIndex"], cell["ColumnIndex"]): cell["EntityTypes"][0] for cell in cells if cell.get("EntityTypes")
        },
        kind=block["EntityTypes"][0],
        titles=len(_related(block, "TABLE_TITLE")),
    )


def _related(block: Block, kind: str) -> list[str]:
    return [
        each for relation in block.get("Relationships") or () if relation["Type"] == kind for each in relation["Ids"]
    ]


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.casefold())


def compare(truth: Sequence[Block], response: Sequence[Block]) -> Agreement:
    """Compare the tables of two responses for one page."""
    expected, found = tables_of(truth), tables_of(response)
    pairs = _pairs(expected, found)
    total = Agreement(
        tables=Overlap(len(pairs), len(expected), len(found)),
        cells=_count(0, [table.texts for table in expected], [table.texts for table in found]),
        spans=_count(0, [table.spans for table in expected], [table.spans for table in found]),
        roles=_count(0, [table.roles for table in expected], [table.roles for table in found]),
    )
    for one, other in pairs:
        total += _agreement(one, other)
    return total


def _count(matched: int, expected: Iterable[Any], found: Iterable[Any]) -> Overlap:
    return Overlap(matched, sum(map(len, expected)), sum(map(len, found)))


def _pairs(expected: Sequence[FoundTable], found: Sequence[FoundTable]) -> list[tuple[FoundTable, FoundTable]]:
    candidates = sorted(
        ((box_iou(one.box, other.box), i, j) for i, one in enumerate(expected) for j, other in enumerate(found)),
        reverse=True,
    )
    pairs: dict[int, int] = {}
    for share, i, j in candidates:
        if share >= SAME and i not in pairs and j not in pairs.values():
            pairs[i] = j
    return [(expected[i], found[j]) for i, j in pairs.items()]


def _agreement(expected: FoundTable, found: FoundTable) -> Agreement:
    """Count what two tables have in common; the counts of each table alone are added elsewhere."""
    shifts = [(down, right) for down in range(-_SHIFT, _SHIFT + 1) for right in range(-_SHIFT, _SHIFT + 1)]
    # Of the shifts that align most cells, the smallest.
    down, right = max(
        shifts, key=lambda shift: (len(_moved(found.texts, shift) & set(expected.texts.items())), -sum(map(abs, shift)))
    )
    cells = _moved(found.texts, (down, right)) & set(expected.texts.items())
    roles = _moved(found.roles, (down, right)) & set(expected.roles.items())
    spans = {(row + down, column + right, *size) for row, column, *size in found.spans} & set(expected.spans)
    return Agreement(
        cells=Overlap(matched=len(cells)),
        spans=Overlap(matched=len(spans)),
        roles=Overlap(matched=len(roles)),
        kinds=Overlap(int(expected.kind == found.kind), 1, 1),
        titles=Overlap(min(expected.titles, found.titles), expected.titles, found.titles),
    )


def _moved(values: Mapping[Place, str], shift: tuple[int, int]) -> set[tuple[Place, str]]:
    return {((row + shift[0], column + shift[1]), value) for (row, column), value in values.items()}


def main(arguments: list[str] | None = None) -> int:
    # Responses of DetectDocumentText have no tables, and neither have recordings without analysis.
    documents = [
        each
        for each in truth_documents()
        if {block["BlockType"] for block in each.response["Blocks"]} - {"PAGE", "LINE", "WORD"}
    ]
    return comparison_cli.measure(
        __doc__,
        arguments,
        documents,
        nothing=Agreement,
        compare=compare,
        with_recorded_words=with_recorded_words,
        with_own_words=with_own_words,
        counts=lambda each: f"{each.tables.matched} of {each.tables.expected} tables, {each.tables.found} found",
    )


if __name__ == "__main__":
    sys.exit(main())
