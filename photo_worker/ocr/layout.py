"""From an engine's words to Textract's lines, in Textract's order.

Textract's LINE is a run of words on one row without a wide gap, and its LINEs go row by row over
the whole page, also where the text is set in columns (all recorded answers of the truth set;
reading order by column is what LAYOUT blocks are for).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import median

from photo_worker.ocr.engine import EngineWord

Line = tuple[EngineWord, ...]

# A gap of this many letter heights begins a new LINE.
_GAP = 1.5

# Words whose middles are this many heights of the tallest apart stand on two rows: even set solid, rows are
# farther apart, and no mark within a row stands out by as much.
_NEXT_ROW = 0.9

# Two lines stand on the same row where the middle of one lies within this share of the other's height.
_SAME_ROW = 0.5


def lines_of(rows: Iterable[Sequence[EngineWord]]) -> list[Line]:
    """Cut rows at wide gaps, and return the lines row by row, each row from left to right."""
    pieces = [piece for row in rows for level in _levels(row) for piece in _cut(level)]
    return [line for row in _rows(pieces) for line in sorted(row, key=lambda line: line[0].left)]


def _levels(row: Sequence[EngineWord]) -> Iterator[list[EngineWord]]:
    """Take apart what an engine merged into one row although it stands on two."""
    level: list[EngineWord] = []
    for word in sorted(row, key=lambda word: word.middle):
        if level and word.middle - level[0].middle > _NEXT_ROW * max(word.height for word in row):
            yield level
            level = []
        level.append(word)
    if level:
        yield level


def _cut(row: Sequence[EngineWord]) -> Iterator[Line]:
    words = sorted(row, key=lambda word: word.left)
    line: list[EngineWord] = []
    height = median(word.height for word in words) if words else 0.0
    for word in words:
        if line and word.left - max(before.right for before in line) > _GAP * height:
            yield tuple(line)
            line = []
        line.append(word)
    if line:
        yield tuple(line)


def _rows(lines: Iterable[Line]) -> list[list[Line]]:
    rows: list[list[Line]] = []
    for line in sorted(lines, key=_middle):
        if rows and _on_row(rows[-1], line):
            rows[-1].append(line)
        else:
            rows.append([line])
    return rows


def _on_row(row: list[Line], line: Line) -> bool:
    """Compare with the row's first line: comparing with the last would let a slanted page run together."""
    first = row[0]
    return abs(_middle(line) - _middle(first)) <= _SAME_ROW * min(_height(line), _height(first))


def _middle(line: Line) -> float:
    return sum(word.middle for word in line) / len(line)


def _height(line: Line) -> float:
    return median(word.height for word in line)
