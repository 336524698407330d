from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from textract_local.reader.engine import EngineWord
from textract_local.reader.layout import Line, lines_of
from textract_support.pages import word

_words = st.builds(
    lambda text, left, top, height: word(text, left, top, height=height),
    st.text("abcdef", min_size=1, max_size=6),
    st.floats(0, 2000),
    st.floats(0, 2000),
    st.floats(5, 60),
)
_rows = st.lists(st.lists(_words, max_size=6), max_size=8)


def texts(lines: Sequence[Line]) -> list[str]:
    return [" ".join(word.text for word in line) for line in lines]


@given(rows=_rows)
def test_lines_of_any_rows_keeps_every_word(rows: list[list[EngineWord]]) -> None:
    assert Counter(each for line in lines_of(rows) for each in line) == Counter(each for row in rows for each in row)


@given(rows=_rows)
def test_lines_of_orders_words_without_wide_gaps(rows: list[list[EngineWord]]) -> None:
    for line in lines_of(rows):
        assert [each.left for each in line] == sorted(each.left for each in line)
        tallest = max(each.height for row in rows for each in row)
        reach = line[0].right
        for each in line[1:]:
            assert each.left - reach <= 1.5 * tallest
            reach = max(reach, each.right)


@given(rows=_rows, by=st.floats(0.2, 5))
def test_lines_of_scaled_page_gives_same_lines(rows: list[list[EngineWord]], by: float) -> None:
    # Skip examples at a threshold, which rounding may cross.
    steps = [[word(each.text, round(each.left), round(each.top), height=20) for each in row] for row in rows]
    if any(abs(b.middle - a.middle) == 10 or b.left - a.right == 30 for row in steps for a in row for b in row):
        return
    scaled = [[each.scaled(2.0 ** round(by)) for each in row] for row in steps]
    assert texts(lines_of(scaled)) == texts(lines_of(steps))


@given(st.permutations(range(4)))
def test_lines_of_permuted_rows_gives_same_lines(order: list[int]) -> None:
    rows = [
        [word("2", 10, 100), word("eggs", 40, 100)],
        [word("flour", 600, 103)],
        [word("Biscuits", 10, 20, height=40)],
        [word("bake", 10, 150)],
    ]
    assert texts(lines_of([rows[place] for place in order])) == ["Biscuits", "2 eggs", "flour", "bake"]


def test_lines_of_wide_gap_splits_row() -> None:
    near, far = word("near", 100, 0, width=50), word("far", 180.1, 0)
    assert texts(lines_of([[near, far]])) == ["near", "far"]
    assert texts(lines_of([[near, word("far", 179.9, 0)]])) == ["near far"]


def test_lines_of_columns_are_read_row_by_row() -> None:
    left = [[word(f"left-{number}", 0, 40 * number)] for number in range(3)]
    right = [[word(f"right-{number}", 700, 40 * number + 4)] for number in range(3)]
    assert texts(lines_of([*left, *right])) == ["left-0", "right-0", "left-1", "right-1", "left-2", "right-2"]


def test_lines_of_descending_lines_do_not_merge_into_one_row() -> None:
    rows = [[word(f"step-{number}", 500 - 100 * number, 8 * number)] for number in range(5)]
    # step-1 is on the row of step-0, to the left of it; step-2 starts a new row.
    assert texts(lines_of(rows)) == ["step-1", "step-0", "step-3", "step-2", "step-4"]


def test_lines_of_empty_rows_is_empty() -> None:
    assert lines_of([]) == []
    assert lines_of([[]]) == []


def test_lines_of_merged_rows_are_split() -> None:
    merged = [
        word("order", 0, 100, height=20),
        word("read", 10, 132, height=20),
        word("on", 60, 101, height=20),
        word("last.", 70, 133, height=20),
    ]
    assert texts(lines_of([merged])) == ["order on", "read last."]


def test_lines_of_raised_and_lowered_marks_stay_in_row() -> None:
    row = [word("1", 0, 100, height=20), word("°", 12, 98, height=8), word("C", 22, 100, height=20)]
    assert texts(lines_of([[*row, word(",", 36, 116, height=6)]])) == ["1 ° C ,"]
