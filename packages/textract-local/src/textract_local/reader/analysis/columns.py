"""Find columns without rules: by blank lanes between words that go through row after row."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from textract_local.reader.analysis.table_words import Piece, Placed, pieces_of

# In letter heights: words closer than _WITHIN belong together, and a lane between columns is at least _LANE wide.
_WITHIN = 0.75
_LANE = 0.75

# A lane may be crossed by this share of the rows, as by a heading over several columns.
_CROSSED = 0.15

# A column has text in at least this share of the rows.
_FILLED = 0.25

# Text with at least this many words a row that fills its column to this share is prose.
_PROSE_WORDS = 4.5
_PROSE_FILL = 0.7

# Text with at least this many words a row is also prose if this share of the rows begins with a lower-case letter.
_GOING_ON_WORDS = 3
_GOING_ON = 0.4


def lanes(rows: Sequence[Sequence[Placed]], letter: float) -> list[tuple[float, float]]:
    """Return the blank lanes between columns, (left, right) each, from left to right."""
    covered = [[piece.box for piece in pieces_of(row, _WITHIN * letter)] for row in rows if row]
    if len(covered) < 2:
        return []
    left = min(row[0].left for row in covered)
    right = max(box.right for row in covered for box in row)
    steps = sorted(
        [(box.left, 1) for row in covered for box in row] + [(box.right, -1) for row in covered for box in row]
    )
    allowed = int(_CROSSED * len(covered))
    found: list[tuple[float, float]] = []
    depth, since = 0, left
    for x, change in steps:
        if depth <= allowed < depth + change:
            if x - since >= _LANE * letter and since > left:
                found.append((since, x))
        elif depth > allowed >= depth + change:
            since = x
        depth += change
    return _filled_only(found, rows, left, right)


def _filled_only(
    found: list[tuple[float, float]], rows: Sequence[Sequence[Placed]], left: float, right: float
) -> list[tuple[float, float]]:
    """Drop lanes until every column has text in enough rows."""
    while found:
        edges = [left, *((start + end) / 2 for start, end in found), right]
        counts = [
            sum(any(edges[index] <= word.box.centre[0] <= edges[index + 1] for word in row) for row in rows)
            for index in range(len(edges) - 1)
        ]
        poorest = min(range(len(counts)), key=lambda index: counts[index])
        if counts[poorest] >= max(_FILLED * len(rows), 2):
            break
        beside = [index for index in (poorest - 1, poorest) if 0 <= index < len(found)]
        found = [
            lane for index, lane in enumerate(found) if index != min(beside, key=lambda i: found[i][1] - found[i][0])
        ]
    return found


def is_prose(pieces: Sequence[Piece]) -> bool:
    """Tell whether a column's pieces, one a row, are running text.

    Running text has many words in rows that are mostly about as long as the longest, or sentences that continue in the
    next row.
    """
    if len(pieces) < 3:
        return False
    widths = [piece.box.width for piece in pieces]
    words = median(len(piece.words) for piece in pieces)
    if words >= _PROSE_WORDS and median(widths) >= _PROSE_FILL * max(widths):
        return True
    going_on = sum(piece.text[0].islower() for piece in pieces)
    return words >= _GOING_ON_WORDS and going_on >= _GOING_ON * len(pieces)


def aligned(pieces: Sequence[Piece], letter: float) -> float:
    """Return the share of pieces that are aligned at their left, right or middle, whichever share is largest."""
    if not pieces:
        return 0.0
    best = 0.0
    for places in (
        [piece.box.left for piece in pieces],
        [piece.box.right for piece in pieces],
        [piece.box.centre[0] for piece in pieces],
    ):
        edge = median(places)
        best = max(best, sum(abs(place - edge) <= 0.5 * letter for place in places) / len(places))
    return best
