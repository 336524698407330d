"""Find tables with rules or bands: whole grids, and rows between rules whose columns are blank lanes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from textract_local.reader.analysis.columns import aligned, is_prose, lanes
from textract_local.reader.analysis.grids import Grid, find_grids
from textract_local.reader.analysis.marks import PageMarks
from textract_local.reader.analysis.shapes import Box
from textract_local.reader.analysis.table_drafts import Draft, Span
from textract_local.reader.analysis.table_words import Piece, Placed, pieces_of, rows_of

# A grid is a table with at least this share of its inner borders drawn and of its cells filled.
_DRAWN = 0.4
_FILLED = 0.15

# Rows between rules are a table if at least this share of the cells has text.
_STRIPE_FILLED = 0.5

# Least share of aligned text, in the mean of the columns; in each column if there are few rows.
_STRIPE_ALIGNED = 0.65

# The rules of one table, or its bands, begin and end within this many letter heights of each other.
_SAME_EXTENT = 1.0

# Lines of text between two rules are rows of their own if at least this share of them fills several columns.
_LIST_ROWS = 0.7

# A heading belongs to every column of which it covers at least this share.
_REACHES = 0.5

# A stripe is at most this many letter heights high: rules farther apart separate the sections of a page.
_HIGHEST_STRIPE = 40.0


def ruled_drafts(marks: PageMarks, words: Sequence[Placed], letter: float) -> list[Draft]:
    """Return the tables with rules or bands, whole grids first."""
    drafts: list[Draft] = []
    for grid in find_grids(marks.horizontal, marks.vertical, letter):
        draft = _from_grid(grid, words, letter)
        if draft and not any(_overlap(draft.box, other.box) for other in drafts):
            drafts.append(draft)
    for ys, left, right in (*_stacks(marks, letter), *_zebras(marks, letter)):
        box = Box(left, ys[0], right, ys[-1])
        if any(_overlap(box, draft.box) for draft in drafts):
            continue
        striped = _striped(box, ys, words, letter)
        if striped:
            drafts.append(striped)
    return drafts


def _overlap(first: Box, second: Box) -> bool:
    return first.shared(second) > 0.2 * min(first.area, second.area)


def _from_grid(grid: Grid, words: Sequence[Placed], letter: float) -> Draft | None:
    inside = [word for word in words if grid.box.holds(*word.box.centre)]
    if grid.columns == 1:
        return _striped(grid.box, grid.ys, inside, letter)
    spans = grid.spans()
    draft = _split_rows(Draft(grid.xs, grid.ys, _borders(grid, spans), tuple(spans), ruled=True), inside, letter)
    cells = draft.rows * draft.columns - sum(rows * columns - 1 for _, _, rows, columns in draft.spans)
    filled = len(draft.words_by_cell(inside))
    if draft.rows < 2 or cells < 4 or grid.drawn() < _DRAWN or filled < max(_FILLED * cells, 2):
        return None
    if not _is_table(grid, spans):
        return None
    return draft


def _is_table(grid: Grid, spans: Sequence[Span]) -> bool:
    """Tell a table from a form of nested boxes: two rows and two columns must have cells that are not merged."""
    covered = {
        (row, column)
        for top, left, rows, columns in spans
        for row in range(top, top + rows)
        for column in range(left, left + columns)
    }
    own = [(row, column) for row in range(grid.rows) for column in range(grid.columns) if (row, column) not in covered]
    return len({row for row, _ in own}) >= 2 and len({column for _, column in own}) >= 2


def _borders(grid: Grid, spans: Sequence[Span]) -> tuple[tuple[float, ...], ...]:
    """Return the drawn share of each cell's borders; borders inside a merged cell do not count."""
    owner = {
        (row, column): number
        for number, (top, left, rows, columns) in enumerate(spans)
        for row in range(top, top + rows)
        for column in range(left, left + columns)
    }

    def share(row: int, column: int) -> float:
        sides = []
        for other, drawn in (
            ((row, column + 1), grid.beside[row][column] if column + 1 < grid.columns else None),
            ((row, column - 1), grid.beside[row][column - 1] if column else None),
            ((row + 1, column), grid.below[row][column] if row + 1 < grid.rows else None),
            ((row - 1, column), grid.below[row - 1][column] if row else None),
        ):
            if drawn is None:
                sides.append(grid.frame)
            elif owner.get((row, column), -1) != owner.get(other, -2):
                sides.append(drawn)
        return sum(sides) / len(sides) if sides else grid.frame

    return tuple(tuple(share(row, column) for column in range(grid.columns)) for row in range(grid.rows))


def _split_rows(draft: Draft, words: Sequence[Placed], letter: float) -> Draft:
    """Split the rows of a grid with few rules into the rows of text that its columns have in common."""
    if draft.rows > 3:
        return draft
    ys = [draft.ys[0]]
    support: list[tuple[float, ...]] = []
    origin: list[int] = []
    for row, bottom in enumerate(draft.ys[1:]):
        edges = [] if _is_spanned(draft, row) else _common_rows(draft, words, row, letter)
        for edge in (*edges, bottom):
            ys.append(edge)
            support.append(draft.support[row])
            origin.append(row)
    if len(ys) == len(draft.ys):
        return draft
    first = {row: origin.index(row) for row in origin}
    spans = tuple((first[row], column, rows, columns) for row, column, rows, columns in draft.spans)
    return Draft(draft.xs, tuple(ys), tuple(support), spans, draft.ruled)


def _is_spanned(draft: Draft, row: int) -> bool:
    return any(top <= row < top + rows and (rows > 1) for top, _, rows, _ in draft.spans)


def _common_rows(draft: Draft, words: Sequence[Placed], row: int, letter: float) -> list[float]:
    """Return the heights to split a row at if its columns have the same lines of text; otherwise none."""
    top, bottom = draft.ys[row], draft.ys[row + 1]
    rows = rows_of([word for word in words if top <= word.middle < bottom], letter)
    if len(rows) < 3:
        return []
    filled = [{draft.at(*word.box.centre) for word in line} - {None} for line in rows]
    columns = [
        sum(any(cell and cell[1] == column for cell in line) for line in filled) for column in range(draft.columns)
    ]
    with_text = [count for count in columns if count]
    if len(with_text) < 2 or sum(count >= _LIST_ROWS * len(rows) for count in with_text) < max(2, 0.6 * len(with_text)):
        return []
    return _between(rows)


def _between(rows: Sequence[Sequence[Placed]]) -> list[float]:
    """Return the heights midway between rows of text."""
    return [
        (max(word.box.bottom for word in upper) + min(word.box.top for word in lower)) / 2
        for upper, lower in pairwise(rows)
    ]


def _stacks(marks: PageMarks, letter: float) -> Iterable[tuple[tuple[float, ...], float, float]]:
    """Yield (heights, left, right) of each stack of horizontal rules with one extent."""
    near = _SAME_EXTENT * letter
    waiting = sorted(marks.horizontal, key=lambda rule: rule.box.top)
    while waiting:
        first = waiting.pop(0)
        stack = [first]
        for rule in list(waiting):
            if abs(rule.box.left - first.box.left) > near or abs(rule.box.right - first.box.right) > near:
                continue
            if rule.box.top - stack[-1].box.bottom > _HIGHEST_STRIPE * letter:
                break
            stack.append(rule)
            waiting.remove(rule)
        if len(stack) >= 2:
            yield tuple(rule.box.centre[1] for rule in stack), first.box.left, first.box.right


def _zebras(marks: PageMarks, letter: float) -> Iterable[tuple[tuple[float, ...], float, float]]:
    """Yield (heights, left, right) of each stack of bands with one extent, with the rows between them."""
    near = _SAME_EXTENT * letter
    waiting = [band for band in marks.bands if band.height <= 8 * letter]
    while waiting:
        stack = [waiting.pop(0)]
        for band in list(waiting):
            if abs(band.left - stack[0].left) > near or abs(band.right - stack[0].right) > near:
                continue
            if band.top - stack[-1].bottom > 2 * stack[-1].height + letter:
                break
            stack.append(band)
            waiting.remove(band)
        if len(stack) < 2:
            continue
        ys = [stack[0].top, stack[0].bottom]
        for band in stack[1:]:
            if band.top - ys[-1] > 0.5 * letter:
                ys.append(band.top)
            ys.append(band.bottom)
        gaps = [lower.top - upper.bottom for upper, lower in pairwise(stack)]
        if min(gaps) > 0.5 * letter:
            # Every other row is tinted: the first and the last row may be plain.
            ys = [ys[0] - min(gaps), *ys, ys[-1] + min(gaps)]
        yield tuple(ys), stack[0].left, stack[0].right


def _striped(box: Box, ys: Sequence[float], words: Sequence[Placed], letter: float) -> Draft | None:
    """Return the table whose rows lie between ``ys``, or None if no blank lanes separate its text into columns."""
    inside = [word for word in words if box.holds(*word.box.centre)]
    rows = rows_of(inside, letter)
    between = lanes(rows, letter)
    if not between:
        return None
    xs = (box.left, *((start + end) / 2 for start, end in between), box.right)
    columns = [
        [Piece(tuple(part)) for row in rows if (part := [word for word in row if start <= word.box.centre[0] < end])]
        for start, end in pairwise(xs)
    ]
    if not _by_line(ys, rows) and 2 * sum(map(is_prose, columns)) >= len(columns):
        return None
    several = sum(len(pieces_of(row, 0.75 * letter)) > 1 for row in rows)
    if several < _STRIPE_FILLED * len(rows):
        return None
    edges = _stripe_rows(xs, ys, rows)
    # Without vertical rules, a table of two rows needs more evidence: three heights and three columns.
    if len(edges) < 3 or (len(edges) == 3 and (len(ys) < 3 or len(columns) < 3)):
        return None
    support = tuple(aligned(column, letter) for column in columns)
    draft = Draft(xs, tuple(edges), (support,) * (len(edges) - 1), (), ruled=True)
    draft = Draft(xs, draft.ys, draft.support, tuple(_crossing(draft, inside, letter)), ruled=True)
    cells = draft.rows * draft.columns
    filled = len(draft.words_by_cell(inside)) + sum(width - 1 for _, _, _, width in draft.spans)
    if filled < _STRIPE_FILLED * cells or draft.confidence < _STRIPE_ALIGNED:
        return None
    return draft if draft.rows > 3 or min(support) >= _STRIPE_ALIGNED else None


def _by_line(ys: Sequence[float], rows: Sequence[Sequence[Placed]]) -> bool:
    """Tell whether rules separate nearly all lines of text, so that no text runs on to the next line."""
    lines = [sum(top <= row[0].middle < bottom for row in rows) for top, bottom in pairwise(ys)]
    return len(ys) > 3 and sum(count <= 1 for count in lines) >= 0.8 * len(lines)


def _stripe_rows(xs: Sequence[float], ys: Sequence[float], rows: Sequence[Sequence[Placed]]) -> list[float]:
    """Return the edges of the rows: the rules, and the middles between lines of text that are rows of their own."""
    edges: list[float] = []
    for top, bottom in pairwise(ys):
        within = [row for row in rows if top <= row[0].middle < bottom]
        if not within:
            continue
        if not edges or edges[-1] < top - 1:
            edges.append(top)
        several = [
            len({sum(word.box.centre[0] >= x for x in xs) for word in row}) >= max(2, 0.6 * (len(xs) - 1))
            for row in within
        ]
        if len(within) > 1 and sum(several) >= _LIST_ROWS * len(within):
            edges += _between(within)
        edges.append(bottom)
    return edges


def _crossing(draft: Draft, words: Sequence[Placed], letter: float) -> Iterable[Span]:
    """Yield the spans of cells that one piece of text covers, such as a heading over several columns."""
    for row, (top, bottom) in enumerate(pairwise(draft.ys)):
        reached = -1
        for piece in pieces_of(_row_between(words, top, bottom), 0.75 * letter):
            # A word that only reaches over an edge belongs to its own column.
            columns = {cell[1] for word in piece.words if (cell := draft.at(word.box.centre[0], (top + bottom) / 2))}
            columns |= {
                column
                for column, (left, right) in enumerate(pairwise(draft.xs))
                if min(piece.box.right, right) - max(piece.box.left, left) >= _REACHES * (right - left)
            }
            if columns and min(columns) > reached and len(columns) > 1:
                reached = max(columns)
                yield row, min(columns), 1, reached - min(columns) + 1


def _row_between(words: Sequence[Placed], top: float, bottom: float) -> list[Placed]:
    """Return the words between two heights from left to right."""
    return sorted((word for word in words if top <= word.middle < bottom), key=lambda word: word.box.left)
