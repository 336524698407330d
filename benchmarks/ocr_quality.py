"""The thresholds for text quality, measured with the product's own OCR.

    python -m benchmarks.ocr_quality --json .reports/ocr-quality.json --pictures .reports/ocr-quality.html

| measured | threshold |
| --- | --- |
| word recall, pooled over the truth set | at least 0.95 |
| character error rate in row order, pooled over the characters of the truth set | at most 0.03 |
| word recall, pooled over the printed fixtures, at 0, 90, 180, 270 and 5 degrees each | at least 0.95 |
| median word box IoU with the real Textract's, if the geometry aligns | at least 0.6 |

Words are compared as a multiset without case. Without a truth set, its three thresholds are not measured. Reading order
error is the share of neighbouring words that are read in another order (``scoring.reading_order_error``). For the two
worst documents of the truth set, ``--pictures`` draws what was missed in red and what was invented in blue.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.documents import ANGLES, fixtures, truth_documents
from benchmarks.pictures import draw
from benchmarks.scoring import (
    Overlap,
    align,
    character_error_rate,
    edit_distance,
    lines_of,
    reading_order_error,
    row_order_cer,
    row_order_text,
    word_overlap,
    words_of,
)

TRUTH_RECALL = 0.95
TRUTH_ROW_CER = 0.03
PRINTED_RECALL = 0.95
TRUTH_IOU = 0.6

Reader = Callable[[bytes], Mapping[str, Any]]
"""A document's bytes in, a DetectDocumentText response out."""


@dataclass(frozen=True)
class Row:
    """One document at one angle. ``cer`` compares in the reader's own order, ``row_cer`` in row order."""

    name: str
    kind: str
    angle: int
    recall: float
    precision: float
    words: int
    cer: float
    row_cer: float | None = None
    order_error: float | None = None
    iou: float | None = None


@dataclass(frozen=True)
class Bar:
    """One number and its threshold: the minimum to reach, or the maximum."""

    name: str
    value: float
    limit: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether the number is within its threshold."""
        return self.value <= self.limit if self.at_most else self.value >= self.limit


@dataclass(frozen=True)
class Quality:
    """All documents and thresholds of one run, and figures without any; precision is pooled over the truth set."""

    rows: tuple[Row, ...]
    bars: tuple[Bar, ...]
    precision: float | None = None

    @property
    def mean_row_cer(self) -> float | None:
        """The mean over the truth set's documents, which count alike whatever their length."""
        rates = [row.row_cer for row in self.rows if row.row_cer is not None]
        return sum(rates) / len(rates) if rates else None

    @property
    def worst(self) -> tuple[Row, ...]:
        """The two documents with the lowest word recall."""
        return tuple(sorted(self.rows, key=lambda row: row.recall)[:2])

    @property
    def met(self) -> bool:
        """Whether every threshold is met."""
        return all(bar.met for bar in self.bars)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as data for JSON."""
        return {
            "met": self.met,
            "bars": [asdict(bar) | {"met": bar.met} for bar in self.bars],
            "precision": self.precision,
            "mean_row_cer": self.mean_row_cer,
            "worst": [asdict(row) for row in self.worst],
            "documents": [asdict(row) for row in self.rows],
        }

    def documents(self) -> str:
        """Return a table of every document."""
        lines = [
            f"{'document':32} {'angle':>5} {'recall':>7} {'prec.':>6} {'CER':>6} {'row CER':>7} {'order':>6} {'IoU':>6}"
        ]
        lines += [
            f"{row.name:32} {row.angle:>5} {row.recall:>7.3f} {row.precision:>6.3f} {row.cer:>6.3f}"
            f" {_number(row.row_cer):>7} {_number(row.order_error):>6} {_number(row.iou):>6}"
            for row in self.rows
        ]
        return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def measure(read: Reader, *, angles: Sequence[int] = ANGLES) -> Quality:
    """Read the truth set as it is, and the fixtures at every angle; errors of the reader propagate."""
    rows: list[Row] = []
    bars: list[Bar] = []
    pooled = Overlap()
    ious: list[float] = []
    edits = characters = 0
    documents = truth_documents()
    for document in documents:
        response = read(document.content)
        expected, found = words_of(document.response), words_of(response)
        overlap = word_overlap((word.text for word in expected), (word.text for word in found))
        alignment = align(expected, found)
        pooled += overlap
        ious += alignment.ious
        edits += edit_distance(row_order_text(expected), row_order_text(found))
        characters += len(row_order_text(expected))
        rows.append(
            Row(
                name=document.name,
                kind="truth",
                angle=0,
                recall=overlap.recall,
                precision=overlap.precision,
                words=overlap.expected,
                cer=character_error_rate(" ".join(lines_of(document.response)), " ".join(lines_of(response))),
                row_cer=row_order_cer(expected, found),
                order_error=reading_order_error(expected, found),
                iou=median(alignment.ious) if alignment.aligns else None,
            )
        )
    if documents:
        bars.append(Bar("word recall, truth set", pooled.recall, TRUTH_RECALL))
        bars.append(
            Bar("character error rate in row order, truth set", edits / characters, TRUTH_ROW_CER, at_most=True)
        )
        bars.append(Bar("median word box IoU, truth set", median(ious) if ious else 0.0, TRUTH_IOU))
    photos = fixtures()
    for angle in angles:
        printed = Overlap()
        for photo in photos:
            content = photo.at(angle)
            if content is None:
                continue
            response = read(content)
            overlap = word_overlap(photo.words, (word.text for word in words_of(response)))
            kind = "printed" if "printed" in photo.tags else "handwriting-like"
            if kind == "printed":
                printed += overlap
            cer = character_error_rate(" ".join(photo.lines), " ".join(lines_of(response)))
            rows.append(Row(photo.name, kind, angle, overlap.recall, overlap.precision, overlap.expected, cer))
        bars.append(Bar(f"word recall, printed fixtures at {angle} degrees", printed.recall, PRINTED_RECALL))
    return Quality(tuple(rows), tuple(bars), pooled.precision if documents else None)


def product_reader() -> Reader:
    """Return the function with which the product makes a response from a document's bytes."""
    from textract_local import read

    return read


def run(*, angles: Sequence[int] = ANGLES) -> dict[str, Any]:
    """Measure the product."""
    return measure(product_reader(), angles=angles).as_dict()


def table(result: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """Return the lines to show: every threshold, and the two worst documents."""
    lines = []
    for bar in result["bars"]:
        limit = f"{'at most ' if bar['at_most'] else ''}{bar['limit']}"
        lines.append((bar["name"], f"{bar['value']:.3f} (bar {limit}{'' if bar['met'] else ', MISSED'})"))
    if result["precision"] is not None:
        lines += [
            ("word precision, truth set", f"{result['precision']:.3f}"),
            ("mean of the documents' row CER, truth set", f"{result['mean_row_cer']:.3f}"),
        ]
    return lines + [
        ("among the worst", f"{row['name']} at {row['angle']} degrees: {row['recall']:.3f}") for row in result["worst"]
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run the measurement; return 1 if a threshold is missed."""
    parser = argparse.ArgumentParser(description="Measure text quality on the truth set and the fixtures.")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--pictures", type=Path, help="also draw the two worst documents of the truth set (HTML)")
    parser.add_argument("--angles", type=int, nargs="*", default=list(ANGLES))
    options = parser.parse_args(arguments)
    if not truth_documents():
        print("no truth set found (PHOTO_WORKER_TRUTH): measuring on the fixtures alone", file=sys.stderr)
    quality = measure(product_reader(), angles=options.angles)
    print(quality.documents() + "\n")
    for label, value in table(quality.as_dict()):
        print(f"{label:48} {value}")
    if options.pictures:
        worst = sorted((row for row in quality.rows if row.kind == "truth"), key=lambda row: row.recall)[:2]
        draw([row.name for row in worst], product_reader(), options.pictures)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(quality.as_dict(), indent=1) + "\n", "utf-8")
    return int(not quality.met)


if __name__ == "__main__":
    raise SystemExit(main())
