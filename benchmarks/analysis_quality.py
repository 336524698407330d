"""Compare document analysis with recorded responses of the real Textract: fields, layout, reading order.

    python -m benchmarks.analysis_quality --words both --json .reports/analysis-quality.json

``recorded`` uses Textract's own words, so that only the analysis is measured; ``own`` reads the page with the
project's OCR engine first. Needs the truth set, which is not part of this repository; ``--short`` only tests that
it works, on a page that is drawn here. Fields are equal if label and value are, comparing letters and digits
without case; many of the service's own fields have a low confidence, so that those of at least 80 are also
counted separately.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import comparison_cli
from benchmarks.documents import TruthDocument, truth_documents
from textract_local import Analysis, DocumentReader, EngineWord, Frame, PageRequest, load_image
from textract_local.reader.analysis.blocks import page_blocks
from textract_local.reader.analysis.marks import find_marks
from textract_local.reader.analysis.reading import PageReading

# Fields of at least this confidence count as certain.
SURE = 80.0

# Lines of two responses are the same if the IoU of their boxes is at least this.
_SAME = 0.3

ANALYSIS = Analysis(frozenset({"TABLES", "FORMS", "LAYOUT"}))

Block = Mapping[str, Any]
Field = tuple[str, str]


@dataclass(frozen=True)
class Agreement:
    """Counts of one document; add them to pool documents.

    ``fields``, ``sure`` and ``found`` count the service's fields, its certain fields, and ours;
    ``lines`` are the service's lines in its layout, ``typed`` those of the same type in ours; of ``pairs`` of
    lines, ``ordered`` come in the same order.
    """

    fields: int = 0
    sure: int = 0
    found: int = 0
    equal: int = 0
    equal_sure: int = 0
    lines: int = 0
    typed: int = 0
    pairs: int = 0
    ordered: int = 0

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(*(mine + its for mine, its in zip(self.counts(), other.counts(), strict=True)))

    def counts(self) -> tuple[int, ...]:
        """Return the counts in the order of the class."""
        return (
            self.fields, self.sure, self.found, self.equal, self.equal_sure,
            self.lines, self.typed, self.pairs, self.ordered,
        )  # fmt: skip

    def measures(self) -> dict[str, float]:
        """Return shares from 0 to 1; 1 if there is nothing to agree on."""
        precision, recall = _share(self.equal, self.found), _share(self.equal, self.fields)
        return {
            "field precision": precision,
            "field recall": recall,
            "field F1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
            "recall of sure fields": _share(self.equal_sure, self.sure),
            "layout type by line": _share(self.typed, self.lines),
            "reading order": _share(self.ordered, self.pairs),
        }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def compare(truth: Sequence[Block], response: Sequence[Block]) -> Agreement:
    """Compare the blocks of two analyses of one page."""
    expected, sure = Counter(fields_of(truth)), Counter(fields_of(truth, SURE))
    found = Counter(fields_of(response))
    mates = _mates(truth, response)
    kinds, known = layout_of(truth), layout_of(response)
    order = [line for line in kinds if mates.get(line) in known]
    place = {line: number for number, line in enumerate(known)}
    ordered = sum(
        place[mates[first]] < place[mates[second]] for index, first in enumerate(order) for second in order[index + 1 :]
    )
    return Agreement(
        fields=expected.total(),
        sure=sure.total(),
        found=found.total(),
        equal=(expected & found).total(),
        equal_sure=(sure & found).total(),
        lines=len(kinds),
        typed=sum(known.get(mates.get(line, "")) == kind for line, kind in kinds.items()),
        pairs=len(order) * (len(order) - 1) // 2,
        ordered=ordered,
    )


def fields_of(blocks: Iterable[Block], least: float = 0.0) -> list[Field]:
    """Return a response's labels with their values of at least this confidence, as letters and digits alone."""
    by_id = {block["Id"]: block for block in blocks}

    def text(block: Block) -> str:
        words = (by_id[child] for child in _related(block, "CHILD"))
        return _plain(" ".join(word.get("Text") or word.get("SelectionStatus", "") for word in words))

    return [
        (text(block), text(by_id[_related(block, "VALUE")[0]]))
        for block in by_id.values()
        if block.get("EntityTypes") == ["KEY"] and block["Confidence"] >= least
    ]


def layout_of(blocks: Iterable[Block]) -> dict[str, str]:
    """Return the type of each line's layout region by the line's id, in reading order."""
    by_id = {block["Id"]: block for block in blocks}
    kinds: dict[str, str] = {}
    for block in by_id.values():
        if block["BlockType"].startswith("LAYOUT_"):
            for child in _related(block, "CHILD"):
                lines = [child] if by_id[child]["BlockType"] == "LINE" else _related(by_id[child], "CHILD")
                kinds |= {line: block["BlockType"] for line in lines if line not in kinds}
    return kinds


def _related(block: Block, kind: str) -> list[str]:
    return [
        each for relation in block.get("Relationships") or () if relation["Type"] == kind for each in relation["Ids"]
    ]


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.casefold())


def _mates(truth: Sequence[Block], response: Sequence[Block]) -> dict[str, str]:
    """Return our lines matched to the service's by their boxes, as ids."""
    ours = [block for block in response if block["BlockType"] == "LINE"]
    mates = {}
    for line in truth:
        if line["BlockType"] == "LINE" and ours:
            best = max(ours, key=lambda other: _overlap(line, other))
            if _overlap(line, best) >= _SAME:
                mates[line["Id"]] = best["Id"]
    return mates


def _overlap(first: Block, second: Block) -> float:
    one, other = first["Geometry"]["BoundingBox"], second["Geometry"]["BoundingBox"]
    width = min(one["Left"] + one["Width"], other["Left"] + other["Width"]) - max(one["Left"], other["Left"])
    height = min(one["Top"] + one["Height"], other["Top"] + other["Height"]) - max(one["Top"], other["Top"])
    shared = max(width, 0.0) * max(height, 0.0)
    return float(shared / (one["Width"] * one["Height"] + other["Width"] * other["Height"] - shared))


def with_recorded_words(document: TruthDocument) -> list[dict[str, Any]]:
    """Analyse a document with the words that the service read."""
    image = load_image(document.content, document.name)
    width, height = image.size
    by_id = {block["Id"]: block for block in document.response["Blocks"]}
    lines = tuple(
        tuple(_word(by_id[child], width, height) for child in _related(block, "CHILD"))
        for block in by_id.values()
        if block["BlockType"] == "LINE"
    )
    reading = PageReading(Frame(width, height, width, height), lines, find_marks(image, lines))
    return page_blocks(reading, ANALYSIS, document.name, 1)


def _word(block: Block, width: int, height: int) -> EngineWord:
    box = block["Geometry"]["BoundingBox"]
    left, top = box["Left"] * width, box["Top"] * height
    right, bottom = left + box["Width"] * width, top + box["Height"] * height
    return EngineWord(block["Text"], block["Confidence"] / 100, left, top, right, bottom)


def with_own_words(document: TruthDocument, reader: DocumentReader) -> list[dict[str, Any]]:
    """Analyse a document as the emulator does."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "document")
        path.write_bytes(document.content)
        return list(reader.page(PageRequest(path, document.name, 1, document.name, analysis=ANALYSIS)).blocks)


def main(arguments: list[str] | None = None) -> int:
    documents = [each for each in truth_documents() if layout_of(each.response["Blocks"])]
    return comparison_cli.measure(
        __doc__,
        arguments,
        documents,
        nothing=Agreement,
        compare=compare,
        with_recorded_words=with_recorded_words,
        with_own_words=with_own_words,
        counts=lambda each: f"{each.found} fields for {each.fields}",
    )


if __name__ == "__main__":
    sys.exit(main())
