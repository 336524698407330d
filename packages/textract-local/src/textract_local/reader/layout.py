"""Group an engine's words into Textract's lines, in Textract's order.

Textract's LINE is a run of words on one row without a wide gap, and its LINEs go row by row over
the whole page, even if the text is set in columns (all recorded responses of the truth set;
LAYOUT blocks give the reading order by column).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import median

from textract_local.reader.engine import EngineWord

Line = tuple[EngineWord, ...]

# A gap of this many letter heights begins a new LINE.
_GAP = 1.5

# Two words are level if this share of the lower one's height overlaps the other. A mark such as a quote may overlap
# none of the small letters next to it, so that a word is compared with the last _LATE words of a level.
_SAME_LEVEL = 0.5
_LATE = 3

# Two lines are on the same row if their middles are closer than this share of the lower height.
_SAME_ROW = 0.5


def lines_of(rows: Iterable[Sequence[EngineWord]]) -> list[Line]:
    """Cut rows at wide gaps, and return the lines row by row, each row from left to right."""
    pieces = [piece for row in rows for level in _levels(row) for piece in _cut(level)]
    return [line for row in _rows(pieces) for line in sorted(row, key=lambda line: line[0].left)]


def _levels(row: Sequence[EngineWord]) -> list[list[EngineWord]]:
    """Split a row that the engine merged from two rows.

    From left to right, each word joins the level whose last words it overlaps most, so that rows that rise or fall
    across the page stay whole.
    """
    levels: list[list[EngineWord]] = []
    for word in sorted(row, key=lambda word: word.left):
        shared, level = max(
            ((max(_beside(word, late) for late in level[-_LATE:]), level) for level in levels),
            key=lambda each: each[0],
            default=(0.0, []),
        )
        if shared >= _SAME_LEVEL:
            level.append(word)
        else:
            levels.append([word])
    return levels


def _beside(word: EngineWord, other: EngineWord) -> float:
    """Return the vertical overlap of two words as a share of the lower one's height."""
    shared = min(word.bottom, other.bottom) - max(word.top, other.top)
    return shared / max(min(word.height, other.height), 1e-6)


def _cut(row: Sequence[EngineWord]) -> Iterator[Line]:
    words = sorted(row, key=lambda word: word.left)
    line: list[EngineWord] = []
    heights = sorted(word.height for word in words)
    # The height of capitals: words such as "are" have none.
    height = heights[len(heights) * 3 // 4] if heights else 0.0
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
    """Tell whether a line is on a row, by the row's first line: the last one would merge rows of a slanted page."""
    first = row[0]
    return abs(_middle(line) - _middle(first)) <= _SAME_ROW * min(_height(line), _height(first))


def _middle(line: Line) -> float:
    return sum(word.middle for word in line) / len(line)


def _height(line: Line) -> float:
    return median(word.height for word in line)
