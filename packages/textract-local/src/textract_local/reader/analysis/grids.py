"""Build grids of ruling lines: rows, columns and the missing borders between their cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from textract_local.reader.analysis.shapes import Box, RulingLine, around

# Rules touch if they are within _TOUCH letter heights; parallel rules within _ONE_LINE are one line of the grid.
_TOUCH = 0.6
_ONE_LINE = 0.7

# A border exists if rules cover this share of it.
_BORDER = 0.5

# More lines than this in one direction are not a table.
_MOST_LINES = 300


@dataclass(frozen=True)
class Grid:
    """A grid; ``xs`` and ``ys`` are the edges of its columns and rows, in pixels of the straightened page.

    ``beside[r][c]`` is the drawn share of the border between cell (r, c) and its right neighbour,
    ``below[r][c]`` that of the border to the cell below; ``frame`` is that of the outer border. Rows and columns count
    from 0.
    """

    xs: tuple[float, ...]
    ys: tuple[float, ...]
    beside: tuple[tuple[float, ...], ...]
    below: tuple[tuple[float, ...], ...]
    frame: float

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.ys) - 1

    @property
    def columns(self) -> int:
        """How many columns there are."""
        return len(self.xs) - 1

    @property
    def box(self) -> Box:
        """The grid's box."""
        return Box(self.xs[0], self.ys[0], self.xs[-1], self.ys[-1])

    def cell(self, row: int, column: int) -> Box:
        """Return a cell's box."""
        return Box(self.xs[column], self.ys[row], self.xs[column + 1], self.ys[row + 1])

    def drawn(self) -> float:
        """Return the mean drawn share of the borders between cells, 0 to 1."""
        shares = [share for row in (*self.beside, *self.below) for share in row]
        return sum(shares) / len(shares) if shares else 0.0

    def spans(self) -> list[tuple[int, int, int, int]]:
        """Return (row, column, rows, columns) of each rectangle of cells without borders between them."""
        found = []
        for members in self._open_groups():
            rows, columns = [row for row, _ in members], [column for _, column in members]
            top, left = min(rows), min(columns)
            height, width = max(rows) - top + 1, max(columns) - left + 1
            if len(members) == height * width and len(members) < self.rows * self.columns:
                found.append((top, left, height, width))
        return sorted(found)

    def _open_groups(self) -> Iterable[list[tuple[int, int]]]:
        seen: set[tuple[int, int]] = set()
        for start in ((row, column) for row in range(self.rows) for column in range(self.columns)):
            if start in seen:
                continue
            members, waiting = [], [start]
            seen.add(start)
            while waiting:
                cell = waiting.pop()
                members.append(cell)
                for neighbour in self._open_to(*cell):
                    if neighbour not in seen:
                        seen.add(neighbour)
                        waiting.append(neighbour)
            if len(members) > 1:
                yield members

    def _open_to(self, row: int, column: int) -> Iterable[tuple[int, int]]:
        if column + 1 < self.columns and self.beside[row][column] < _BORDER:
            yield row, column + 1
        if column and self.beside[row][column - 1] < _BORDER:
            yield row, column - 1
        if row + 1 < self.rows and self.below[row][column] < _BORDER:
            yield row + 1, column
        if row and self.below[row - 1][column] < _BORDER:
            yield row - 1, column


def find_grids(horizontal: Sequence[RulingLine], vertical: Sequence[RulingLine], letter: float) -> list[Grid]:
    """Return a grid for every group of rules that touch each other, from top to bottom."""
    grids = (_grid(across, down, letter) for across, down in _groups(horizontal, vertical, _TOUCH * letter))
    return sorted((grid for grid in grids if grid), key=lambda grid: (grid.ys[0], grid.xs[0]))


def _groups(
    horizontal: Sequence[RulingLine], vertical: Sequence[RulingLine], near: float
) -> Iterable[tuple[list[RulingLine], list[RulingLine]]]:
    import numpy as np

    if not horizontal or not vertical:
        return
    across = np.array([rule.box for rule in horizontal])
    down = np.array([rule.box for rule in vertical])
    x, y = (down[:, 0] + down[:, 2]) / 2, (across[:, 1] + across[:, 3]) / 2
    touching = (
        (across[:, None, 0] - near <= x)
        & (x <= across[:, None, 2] + near)
        & (down[None, :, 1] - near <= y[:, None])
        & (y[:, None] <= down[None, :, 3] + near)
    )
    left_over = set(range(len(horizontal)))
    while left_over:
        rows, columns = {left_over.pop()}, set[int]()
        while True:
            more_columns = set(np.flatnonzero(touching[sorted(rows)].any(axis=0)).tolist())
            more_rows = rows | set(np.flatnonzero(touching[:, sorted(more_columns)].any(axis=1)).tolist())
            if more_columns == columns and more_rows == rows:
                break
            rows, columns = more_rows, more_columns
        left_over -= rows
        if columns:
            yield [horizontal[row] for row in sorted(rows)], [vertical[column] for column in sorted(columns)]


def _grid(across: list[RulingLine], down: list[RulingLine], letter: float) -> Grid | None:
    whole = around(rule.box for rule in (*across, *down))
    ys = _lines([(rule.box.centre[1], rule) for rule in across], whole.top, whole.bottom, letter)
    xs = _lines([(rule.box.centre[0], rule) for rule in down], whole.left, whole.right, letter)
    if not 2 <= len(xs) <= _MOST_LINES or not 2 <= len(ys) <= _MOST_LINES:
        return None
    beside = tuple(
        tuple(_cover(rules, top, bottom, down=True) for _, rules in xs[1:-1]) for (top, _), (bottom, _) in pairwise(ys)
    )
    below = tuple(
        tuple(_cover(rules, left, right, down=False) for (left, _), (right, _) in pairwise(xs)) for _, rules in ys[1:-1]
    )
    frame = [
        _cover(rules, start, end, down=is_down)
        for rules, start, end, is_down in (
            (ys[0][1], whole.left, whole.right, False),
            (ys[-1][1], whole.left, whole.right, False),
            (xs[0][1], whole.top, whole.bottom, True),
            (xs[-1][1], whole.top, whole.bottom, True),
        )
    ]
    return Grid(tuple(x for x, _ in xs), tuple(y for y, _ in ys), beside, below, sum(frame) / len(frame))


def _lines(
    placed: list[tuple[float, RulingLine]], first: float, last: float, letter: float
) -> list[tuple[float, list[RulingLine]]]:
    """Return the grid's lines in one direction, with the rules on each; an open side gets a line without rules."""
    lines: list[tuple[list[float], list[RulingLine]]] = []
    for place, rule in sorted(placed, key=lambda each: each[0]):
        if lines and place - sum(lines[-1][0]) / len(lines[-1][0]) <= _ONE_LINE * letter:
            lines[-1][0].append(place)
            lines[-1][1].append(rule)
        else:
            lines.append(([place], [rule]))
    found = [(sum(places) / len(places), rules) for places, rules in lines]
    if found[0][0] - first > letter:
        found.insert(0, (first, []))
    if last - found[-1][0] > letter:
        found.append((last, []))
    return found


def _cover(rules: Sequence[RulingLine], start: float, end: float, *, down: bool) -> float:
    """Return the share of the border from ``start`` to ``end`` that rules cover."""
    stretches = sorted((rule.box.top, rule.box.bottom) if down else (rule.box.left, rule.box.right) for rule in rules)
    covered, reached = 0.0, start
    for begin, stop in stretches:
        covered += max(min(stop, end) - max(begin, reached), 0.0)
        reached = max(reached, min(stop, end))
    return min(covered / max(end - start, 1.0), 1.0)
