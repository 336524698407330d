"""Find tables without rules or bands: text whose columns are aligned row after row.

A chain is a blank lane between two pieces of text that goes down through neighbouring rows. Chains that
separate the same pieces belong to one table. A group of chains must look like a table and not like columns of
prose or a form: enough rows, every column aligned, cells that are filled and short.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from textract_local.reader.analysis.columns import aligned, is_prose
from textract_local.reader.analysis.table_drafts import Draft
from textract_local.reader.analysis.table_words import Piece, Placed, pieces_of, rows_of

# In letter heights: the least gap between pieces, and the least width of a lane in all its rows.
_GAP = 0.8
_LANE = 0.7

# The gap between pieces is also at least _USUAL times the usual space between words; wider gaps than _WIDEST_SPACE
# letter heights do not count as spaces.
_USUAL = 1.7
_WIDEST_SPACE = 1.4

# Rows of one table are at most this far apart, in letter heights, and in multiples of the table's usual distance.
_NEXT_ROW = 2.6
_EVEN = 1.7

# Greatest ratio of letter heights between rows of one table: labels in small print above values differ more.
_ONE_SIZE = 1.45

# Least share of a column's text that is aligned, and of cells with text.
_ALIGNED = 0.75
_FILLED = 0.7

# At most so many lanes are tried, the longest.
_MOST_CHAINS = 500

# Most words of a column's cells in the mean.
_WORDS = 6.0

# A column consists of labels if at least this share of its pieces ends with a colon.
_LABELS = 0.4

# A lane this many times as wide as the table's usual one, and this many letter heights wide, separates two tables.
_APART = 5.0
_APART_LETTERS = 10.0


@dataclass
class _Chain:
    """A lane; ``sides`` has the pieces on its left and right, by row."""

    left: float
    right: float
    sides: dict[int, tuple[Piece, Piece]] = field(default_factory=dict)

    @property
    def last(self) -> int:
        return max(self.sides)

    @property
    def width(self) -> float:
        return self.right - self.left


def open_drafts(words: Sequence[Placed], letter: float) -> list[Draft]:
    """Return the tables without rules among words that belong to no table yet."""
    lines = rows_of(words, letter)
    gap = max(_GAP * letter, _USUAL * _usual_space(lines, letter))
    rows = [pieces_of(row, gap) for row in lines]
    chains = [chain for chain in _chains(rows, letter) if len(chain.sides) >= 2 and not _beside_prose(chain)]
    chains = sorted(chains, key=lambda chain: -len(chain.sides))[:_MOST_CHAINS]
    drafts: list[Draft] = []
    for group in _tables(chains, letter):
        for numbers in _even_runs(group, rows):
            draft = _draft(group, numbers, letter)
            if draft and not any(draft.box.shared(other.box) for other in drafts):
                drafts.append(draft)
    return drafts


def _usual_space(rows: Sequence[Sequence[Placed]], letter: float) -> float:
    """Return the usual space between words; fixed-width print, as on receipts, has wide ones.

    This is the lower third of the gaps: on a page with many columns, most gaps lie between columns.
    """
    spaces = sorted(
        space
        for row in rows
        for left, right in pairwise(row)
        if 0 < (space := right.box.left - left.box.right) <= _WIDEST_SPACE * letter
    )
    return spaces[len(spaces) // 3] if spaces else 0.0


def _chains(rows: Sequence[Sequence[Piece]], letter: float) -> list[_Chain]:
    done: list[_Chain] = []
    growing: list[_Chain] = []
    for number, row in enumerate(rows):
        if number and _top(row) - _bottom(rows[number - 1]) > _NEXT_ROW * letter:
            done += growing
            growing = []
        gaps = [(left, right) for left, right in pairwise(row)]
        taken: set[int] = set()
        kept: list[_Chain] = []
        for chain in sorted(growing, key=lambda each: -len(each.sides)):
            best = max(
                (index for index in range(len(gaps)) if index not in taken),
                key=lambda index: _common(chain, gaps[index]),
                default=None,
            )
            if best is not None and _common(chain, gaps[best]) >= _LANE * letter:
                taken.add(best)
                left, right = gaps[best]
                chain.left, chain.right = max(chain.left, left.box.right), min(chain.right, right.box.left)
                chain.sides[number] = gaps[best]
                kept.append(chain)
            elif number - chain.last <= 1 and not _crossed(chain, row):
                kept.append(chain)
            else:
                done.append(chain)
        fresh = [
            _Chain(left.box.right, right.box.left, {number: (left, right)})
            for index, (left, right) in enumerate(gaps)
            if index not in taken
        ]
        growing = kept + fresh
    return done + growing


def _common(chain: _Chain, gap: tuple[Piece, Piece]) -> float:
    return min(chain.right, gap[1].box.left) - max(chain.left, gap[0].box.right)


def _crossed(chain: _Chain, row: Sequence[Piece]) -> bool:
    return any(piece.box.left < chain.right and piece.box.right > chain.left for piece in row)


def _top(row: Sequence[Piece]) -> float:
    return min(piece.box.top for piece in row)


def _bottom(row: Sequence[Piece]) -> float:
    return max(piece.box.bottom for piece in row)


def _beside_prose(chain: _Chain) -> bool:
    return any(is_prose([sides[side] for sides in chain.sides.values()]) for side in (0, 1))


def _tables(chains: Sequence[_Chain], letter: float) -> Iterable[list[_Chain]]:
    """Yield groups of chains that separate the same pieces in at least two rows, from left to right."""
    waiting = sorted(chains, key=lambda chain: (min(chain.sides), chain.left))
    while waiting:
        group = [waiting.pop(0)]
        while True:
            joined = [chain for chain in waiting if any(_neighbours(chain, other) for other in group)]
            if not joined:
                break
            group += joined
            waiting = [chain for chain in waiting if chain not in joined]
        yield from _apart(sorted(group, key=lambda chain: chain.left), letter)


def _neighbours(first: _Chain, second: _Chain) -> bool:
    common = first.sides.keys() & second.sides.keys()
    shared = sum(
        first.sides[row][1] == second.sides[row][0] or second.sides[row][1] == first.sides[row][0] for row in common
    )
    return shared >= max(2, 0.5 * min(len(first.sides), len(second.sides)))


def _apart(group: list[_Chain], letter: float) -> Iterable[list[_Chain]]:
    """Split tables that stand side by side, at a lane much wider than the others."""
    part: list[_Chain] = []
    usual = median(chain.width for chain in group)
    for chain in group:
        if len(group) > 1 and chain.width > max(_APART * usual, _APART_LETTERS * letter):
            if part:
                yield part
            part = []
        else:
            part.append(chain)
    if part:
        yield part


def _even_runs(group: Sequence[_Chain], rows: Sequence[Sequence[Piece]]) -> Iterable[list[int]]:
    """Yield runs of a table's rows, split at a larger distance than usual or a change of size."""
    numbers = sorted({number for chain in group for number in chain.sides})
    # A row belongs to the table if at least half of the lanes go through it.
    numbers = [number for number in numbers if 2 * sum(number in chain.sides for chain in group) >= len(group)]
    if len(numbers) < 2:
        return
    pitch = median(_top(rows[below]) - _top(rows[above]) for above, below in pairwise(numbers))
    run = [numbers[0]]
    for above, below in pairwise(numbers):
        sizes = sorted(_size(rows[number]) for number in (above, below))
        if _top(rows[below]) - _top(rows[above]) > _EVEN * pitch or sizes[1] > _ONE_SIZE * sizes[0]:
            yield run
            run = []
        run.append(below)
    yield run


def _size(row: Sequence[Piece]) -> float:
    return median(word.box.height for piece in row for word in piece.words)


def _draft(group: Sequence[_Chain], numbers: Sequence[int], letter: float) -> Draft | None:
    """Return a table of some of the rows that chains go through, or None if they do not look like a table."""
    numbers = list(numbers)
    while len(numbers) >= 2:
        columns = _columns(group, numbers)
        verdict = _aligned_columns(columns, letter)
        if min(verdict) >= _ALIGNED:
            return _checked(group, columns, numbers, verdict, letter)
        # A heading or a total may be aligned otherwise: try the table without its first or last row.
        without = [min(_aligned_columns(_columns(group, rest), letter)) for rest in (numbers[1:], numbers[:-1])]
        numbers = numbers[1:] if without[0] >= without[1] else numbers[:-1]
    return None


def _columns(group: Sequence[_Chain], numbers: Sequence[int]) -> list[dict[int, list[Piece]]]:
    columns: list[dict[int, list[Piece]]] = [{} for _ in range(len(group) + 1)]
    for index, chain in enumerate(group):
        for number in numbers:
            if number in chain.sides:
                left, right = chain.sides[number]
                for column, piece in ((index, left), (index + 1, right)):
                    held = columns[column].setdefault(number, [])
                    if piece not in held:
                        held.append(piece)
    return columns


def _aligned_columns(columns: Sequence[dict[int, list[Piece]]], letter: float) -> list[float]:
    return [aligned([piece for held in column.values() for piece in held[:1]], letter) for column in columns]


def _checked(
    group: Sequence[_Chain],
    columns: Sequence[dict[int, list[Piece]]],
    numbers: Sequence[int],
    support: Sequence[float],
    letter: float,
) -> Draft | None:
    pieces = [[piece for held in column.values() for piece in held] for column in columns]
    cells = [piece for column in pieces for piece in column]
    if len(cells) < _FILLED * len(numbers) * len(columns) or any(not column for column in pieces):
        return None
    if any(sum(len(piece.words) for piece in column) > _WORDS * len(column) for column in pieces):
        return None
    if len(columns) < 4 and any(_labels(column) for column in pieces[:-1]):
        return None
    if not _enough(pieces, len(numbers)):
        return None
    rows = [[piece for column in columns for piece in column.get(number, [])] for number in numbers]
    left, right = min(piece.box.left for piece in cells), max(piece.box.right for piece in cells)
    air = 0.3 * letter
    xs = (left - air, *((chain.left + chain.right) / 2 for chain in group), right + air)
    ys = (
        _top(rows[0]) - air,
        *((_bottom(above) + _top(below)) / 2 for above, below in pairwise(rows)),
        _bottom(rows[-1]) + air,
    )
    return Draft(xs, ys, (tuple(support),) * len(rows))


def _labels(column: Sequence[Piece]) -> bool:
    return sum(piece.text.endswith(":") for piece in column) >= _LABELS * len(column)


def _enough(columns: Sequence[Sequence[Piece]], rows: int) -> bool:
    """Tell whether there are enough rows: three, with figures if there are two columns; two with four columns."""
    if len(columns) == 2:
        return rows >= 3 and any(_figures(column) for column in columns)
    return rows >= 3 or len(columns) >= 4


def _figures(column: Sequence[Piece]) -> bool:
    """Tell whether a column has prices, amounts or dates, and not house numbers after streets."""
    return sum(2 * sum(word.is_figure for word in piece.words) >= len(piece.words) for piece in column) >= (
        0.75 * len(column)
    )
