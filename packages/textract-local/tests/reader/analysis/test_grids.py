from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from hypothesis import given, settings
from hypothesis import strategies as st

from textract_local.reader.analysis.grids import find_grids
from textract_local.reader.analysis.shapes import Box, RulingLine

SIDE = 100.0

Span = tuple[int, int, int, int]


def rules_of(rows: int, columns: int, spans: list[Span]) -> tuple[list[RulingLine], list[RulingLine]]:
    """Return the rules of a grid as unbroken stretches, without those inside merged cells."""
    owner = {
        (row, column): number
        for number, (top, left, height, width) in enumerate(spans)
        for row in range(top, top + height)
        for column in range(left, left + width)
    }

    def parted(first: tuple[int, int], second: tuple[int, int]) -> bool:
        return owner.get(first, -1) != owner.get(second, -2)

    across = [
        RulingLine(Box(start * SIDE, row * SIDE - 1, end * SIDE, row * SIDE + 1))
        for row in range(rows + 1)
        for start, end in stretches(
            row in {0, rows} or parted((row - 1, column), (row, column)) for column in range(columns)
        )
    ]
    down = [
        RulingLine(Box(column * SIDE - 1, start * SIDE, column * SIDE + 1, end * SIDE))
        for column in range(columns + 1)
        for start, end in stretches(
            column in {0, columns} or parted((row, column - 1), (row, column)) for row in range(rows)
        )
    ]
    return across, down


def stretches(drawn: Iterable[bool]) -> Iterator[tuple[int, int]]:
    """Yield the (start, end) of each run of cells with a drawn line."""
    place = 0
    for is_drawn, cells in groupby(drawn):
        count = len(list(cells))
        if is_drawn:
            yield place, place + count
        place += count


@st.composite
def merged_grids(draw: st.DrawFn) -> tuple[int, int, list[Span]]:
    rows, columns = draw(st.integers(2, 7)), draw(st.integers(2, 6))
    taken: set[tuple[int, int]] = set()
    spans: list[Span] = []
    for _ in range(draw(st.integers(0, 4))):
        top, left = draw(st.integers(0, rows - 1)), draw(st.integers(0, columns - 1))
        height, width = draw(st.integers(1, rows - top)), draw(st.integers(1, columns - left))
        cells = {(row, column) for row in range(top, top + height) for column in range(left, left + width)}
        if 1 < len(cells) < rows * columns and not cells & taken:
            taken |= cells
            spans.append((top, left, height, width))
    return rows, columns, spans


def lines_left(rows: int, columns: int, spans: list[Span]) -> tuple[set[int], set[int]]:
    """Return the edges of rows and columns that are drawn at least in part; others cannot be found."""
    across, down = rules_of(rows, columns, spans)
    return (
        {round(rule.box.centre[1] / SIDE) for rule in across},
        {round(rule.box.centre[0] / SIDE) for rule in down},
    )


@settings(max_examples=150, deadline=None)
@given(merged_grids())
def test_find_grids_missing_borders_merge_cells(given_grid: tuple[int, int, list[Span]]) -> None:
    rows, columns, spans = given_grid
    ys, xs = lines_left(rows, columns, spans)
    (grid,) = find_grids(*rules_of(rows, columns, spans), letter=12.0)
    assert (grid.rows, grid.columns) == (len(ys) - 1, len(xs) - 1)
    if len(ys) == rows + 1 and len(xs) == columns + 1:
        assert grid.spans() == sorted(spans)


def test_find_grids_open_corner_merges_nothing() -> None:
    across, down = rules_of(3, 3, [])
    # Without the border beside (0, 0) and the one below (0, 1), three cells around a corner are open to each other.
    down[1] = RulingLine(Box(SIDE - 1, SIDE, SIDE + 1, 3 * SIDE))
    across[1] = RulingLine(Box(0, SIDE - 1, SIDE, SIDE + 1))
    across.append(RulingLine(Box(2 * SIDE, SIDE - 1, 3 * SIDE, SIDE + 1)))
    (grid,) = find_grids(across, down, letter=12.0)
    assert (grid.beside[0][0], grid.below[0][1]) == (0, 0)
    assert grid.spans() == []


def test_find_grids_separate_grids_are_two() -> None:
    across, down = rules_of(2, 2, [])
    moved = [RulingLine(Box(*(edge + 500 for edge in rule.box))) for rule in across]
    more = [RulingLine(Box(*(edge + 500 for edge in rule.box))) for rule in down]
    assert [grid.box.left for grid in find_grids([*across, *moved], [*down, *more], letter=12.0)] == [0, 500]


def test_find_grids_open_sides_end_with_horizontal_rules() -> None:
    across, down = rules_of(3, 3, [])
    inner = [rule for rule in down if 0 < rule.box.centre[0] < 3 * SIDE]
    (grid,) = find_grids(across, inner, letter=12.0)
    assert (grid.rows, grid.columns) == (3, 3)
    assert grid.frame < 1
