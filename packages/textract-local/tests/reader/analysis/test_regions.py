from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textract_local.reader.analysis.reading_order import in_reading_order
from textract_local.reader.analysis.regions import Region
from textract_local.reader.analysis.shapes import Box
from textract_local.reader.layout import Line
from textract_support.sheets import HEIGHT, WIDTH, analysed, layout, marks, of_kind, related, sheet, text

PROSE = ["Beat the butter until it is soft and", "white, then add the sugar and the eggs", "one by one and beat on."]


def paragraph(left: float, top: float, lines: list[str] = PROSE) -> list[Line]:
    return [text(left, top + 28 * number, line) for number, line in enumerate(lines)]


def test_find_regions_recipe_has_title_headers_and_text() -> None:
    page = sheet(
        [
            text(100, 150, "Lemon biscuits", height=60),
            text(100, 260, "Dough", height=30),
            *paragraph(100, 310),
            text(100, 450, "Icing", height=30),
            *paragraph(100, 500),
        ]
    )
    assert layout(page) == [
        ("TITLE", ["Lemon biscuits"]),
        ("SECTION_HEADER", ["Dough"]),
        ("TEXT", PROSE),
        ("SECTION_HEADER", ["Icing"]),
        ("TEXT", PROSE),
    ]


def test_find_regions_columns_are_read_one_after_another() -> None:
    left, right = ["The left column goes", "first and all of it."], ["The right column is", "read after that."]
    page = sheet(
        [
            text(100, 200, "One line over both columns, as wide as they are together."),
            *paragraph(100, 300, left),
            *paragraph(500, 300, right),
            text(100, 500, "One line below both columns, as wide as they are together."),
        ]
    )
    assert [lines for _, lines in layout(page)] == [
        ["One line over both columns, as wide as they are together."],
        left,
        right,
        ["One line below both columns, as wide as they are together."],
    ]


def test_find_regions_list_has_items_as_text() -> None:
    page = sheet([text(100, 300, "- 2 eggs"), text(100, 330, "- 100 g flour"), text(120, 360, "of the fine sort")])
    blocks = analysed(page, "LAYOUT")
    (whole,) = of_kind(blocks, "LAYOUT_LIST")
    items = of_kind(blocks, "LAYOUT_TEXT")
    assert related(whole, "CHILD") == [item["Id"] for item in items]
    by_id = {block["Id"]: block for block in blocks}
    assert [[by_id[line]["Text"] for line in related(item, "CHILD")] for item in items] == [
        ["- 2 eggs"],
        ["- 100 g flour", "of the fine sort"],
    ]


@pytest.mark.parametrize("number", ["5", "- 12 -", "Page 3", "3/12", "Page 1 of 9"])
def test_find_regions_page_number_only_at_page_edge(number: str) -> None:
    body = paragraph(100, 500)
    assert layout(sheet([*body, text(480, 1350, number)]))[-1] == ("PAGE_NUMBER", [number])
    assert layout(sheet([*body, text(480, 800, number)]))[-1] == ("TEXT", [number])


def test_find_regions_lines_in_margins_are_header_and_footer() -> None:
    page = sheet([text(100, 40, "Family recipes"), *paragraph(100, 500), text(100, 1350, "Printed at home")])
    assert [kind for kind, _ in layout(page)] == ["HEADER", "TEXT", "FOOTER"]


def test_find_regions_lines_in_picture_are_figure() -> None:
    drawn = marks(pictures=[Box(100, 200, 500, 500)])
    page = sheet([text(150, 300, "1945"), text(300, 420, "1970"), *paragraph(100, 600)], drawn)
    assert layout(page) == [("FIGURE", ["1945", "1970"]), ("TEXT", PROSE)]


def test_find_regions_text_on_tinted_ground_is_text() -> None:
    page = sheet(paragraph(110, 300), marks(pictures=[Box(100, 280, 700, 420)]))
    assert ("TEXT", PROSE) in layout(page)


def test_find_regions_label_value_rows_are_key_value() -> None:
    rows = [("Period ending:", "7/18/2008"), ("Pay date:", "7/25/2008")]
    lines = [
        text(x, 300 + 30 * row, words)
        for row, pair in enumerate(rows)
        for x, words in zip((100, 400), pair, strict=True)
    ]
    assert [kind for kind, _ in layout(sheet(lines))] == ["KEY_VALUE"]


def test_find_regions_large_field_is_text_not_header() -> None:
    page = sheet([text(100, 300, "Name: Rosalez", height=40), *paragraph(100, 600)])
    assert [kind for kind, _ in layout(page)] == ["TEXT", "TEXT"]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 900),
            st.integers(0, HEIGHT - 20),
            st.integers(8, 60),
            st.lists(st.sampled_from(["-", "1.", "Name:", "flour", "A", "3/4", "Page"]), min_size=1, max_size=6),
        ),
        max_size=14,
    ),
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 900), st.integers(5, 500), st.integers(5, 500)), max_size=3),
)
def test_find_regions_any_page_puts_each_line_in_one_region(
    placed: list[tuple[int, int, int, list[str]]], pictures: list[tuple[int, int, int, int]]
) -> None:
    lines = [text(left, top, " ".join(words), height=height) for left, top, height, words in placed]
    drawn = marks(pictures=[Box(left, top, left + width, top + height) for left, top, width, height in pictures])
    blocks = analysed(sheet(lines, drawn), "LAYOUT")
    held = Counter(
        child
        for block in blocks
        if block["BlockType"].startswith("LAYOUT_") and block["BlockType"] != "LAYOUT_LIST"
        for child in related(block, "CHILD")
    )
    assert held == Counter(block["Id"] for block in of_kind(blocks, "LINE"))


_boxes = st.builds(
    lambda left, top, width, height: Box(left, top, left + width, top + height),
    st.integers(0, WIDTH),
    st.integers(0, HEIGHT),
    st.integers(1, WIDTH),
    st.integers(1, HEIGHT),
)


@given(st.lists(_boxes, max_size=20))
def test_in_reading_order_keeps_all_and_ignores_input_order(boxes: list[Box]) -> None:
    parts = [Region("TEXT", (), box, 1.0) for box in boxes]
    ordered = in_reading_order(parts)
    assert Counter(part.box for part in ordered) == Counter(boxes)
    assert [part.box for part in in_reading_order(parts[::-1])] == [part.box for part in ordered]
