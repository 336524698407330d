from __future__ import annotations

import time

import pytest

from textract_local.reader.analysis.marks import PageMarks
from textract_local.reader.analysis.shapes import Box, RulingLine
from textract_local.reader.analysis.table_model import Table
from textract_local.reader.analysis.tables import find_tables
from textract_local.reader.engine import EngineWord
from textract_support.drawn import MERIDIAN, Drawing, dotted, draw_grid, solid, table_text

# Arithmetic on pixels is the same on every Python.
pytestmark = pytest.mark.single_python

PROSE = [
    "The kitchen was warm when we came back from the garden",
    "with baskets of beans and late tomatoes, and somebody had",
    "already put the large pot on the stove to boil the water",
    "for the jars. We washed the beans, cut their ends and sorted",
    "them by size, which took most of the afternoon and all the",
    "patience that was left after a week of picking in the sun.",
]


def spans(table: Table) -> list[tuple[int, int, int, int]]:
    return [(cell.row, cell.column, cell.rows, cell.columns) for cell in table.merged]


def the_table(page: Drawing) -> Table:
    found = page.tables()
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("stroke", "paper", "ink"),
    [
        (solid(2), "white", "black"),
        (solid(1), "white", "black"),
        (solid(5), "white", "black"),
        (solid(1, (205, 205, 205)), (238, 238, 238), (120, 120, 120)),
        (solid(1, (226, 226, 226)), "white", "black"),
        (dotted(3, 5), "white", "black"),
        (dotted(9, 7), "white", "black"),
    ],
    ids=["ruled", "hairline", "bold", "low-contrast", "pale", "dotted", "dashed"],
)
def test_find_tables_ruled_cells_hold_own_words(stroke, paper, ink) -> None:  # type: ignore[no-untyped-def]
    page = Drawing(paper=paper, ink=ink)
    box = draw_grid(page, MERIDIAN, stroke=stroke)
    table = the_table(page)
    assert page.text(table) == MERIDIAN
    assert not table.merged
    assert max(abs(ours - drawn) for ours, drawn in zip(table.box, box, strict=True)) <= 6
    assert table.kind == "STRUCTURED_TABLE"
    assert table.confidence > 0.9


def test_find_tables_cell_boxes_match_drawing() -> None:
    page = Drawing()
    draw_grid(page, MERIDIAN, at=(100, 150), cell=(220, 56))
    for cell in the_table(page).cells:
        assert cell.box.left == pytest.approx(100 + (cell.column - 1) * 220, abs=3)
        assert cell.box.top == pytest.approx(150 + (cell.row - 1) * 56, abs=3)
        assert cell.box.right == pytest.approx(100 + cell.column * 220, abs=3)
        assert cell.box.bottom == pytest.approx(150 + cell.row * 56, abs=3)


@pytest.mark.parametrize("degrees", [90, -90, 180, 5, -5])
def test_find_tables_rotated_table_reads_as_upright(degrees: float) -> None:
    page = Drawing()
    draw_grid(page, MERIDIAN)
    (table,) = page.after_turning(degrees)
    assert page.text(table) == MERIDIAN


@pytest.mark.parametrize("lines", ["across", "down", "frame", "none"])
def test_find_tables_partial_rules_give_all_rows_and_columns(lines: str) -> None:
    page = Drawing()
    draw_grid(page, MERIDIAN, lines=lines)
    assert page.text(the_table(page)) == MERIDIAN


def test_find_tables_missing_rule_merges_cells() -> None:
    page = Drawing()
    rows = [["Stock list", "", ""], *MERIDIAN[:3], ["", "70", "0.50"]]
    draw_grid(
        page,
        rows,
        without={("beside", 0, 0), ("beside", 0, 1), ("below", 3, 0)},
    )
    table = the_table(page)
    assert spans(table) == [(1, 1, 1, 3), (4, 1, 2, 1)]
    assert page.text(table) == rows
    whole = table.merged[0]
    assert [cell.column for cell in table.cells if whole.covers(cell)] == [1, 2, 3]
    assert whole.box.left == pytest.approx(100, abs=3)
    assert whole.box.right == pytest.approx(760, abs=3)


def test_find_tables_two_by_two_block_is_one_merged_cell() -> None:
    page = Drawing()
    rows = [["a1", "b1", "c1"], ["a2", "b2", "c2"], ["a3", "big", ""], ["a4", "", ""]]
    draw_grid(page, rows, without={("beside", 2, 1), ("beside", 3, 1), ("below", 2, 1), ("below", 2, 2)})
    assert spans(the_table(page)) == [(3, 2, 2, 2)]


def test_find_tables_tinted_rows_without_rules_are_split() -> None:
    page = Drawing()
    for row in (0, 2, 4):
        page.pen.rectangle((100, 150 + row * 56, 760, 150 + (row + 1) * 56), fill=(222, 230, 240))
    draw_grid(page, MERIDIAN, lines="none")
    assert page.text(the_table(page)) == MERIDIAN


def test_find_tables_right_aligned_figures_are_column() -> None:
    page = Drawing()
    items = [("Apples", "3.20"), ("Brown bread", "11.80"), ("Cheese, old", "104.00"), ("Dates", "7.15")]
    for number, (name, price) in enumerate(items):
        page.write(120, 200 + 44 * number, name)
        page.write(700, 200 + 44 * number, price, align="right")
    table = the_table(page)
    assert page.text(table) == [list(item) for item in items]
    assert not table.merged


def test_find_tables_cell_of_several_lines_is_one_cell() -> None:
    page = Drawing()
    draw_grid(page, [["Name", "What"], ["Soup", "of leeks"], ["Stew", "of beans"]], cell=(300, 110))
    page.write(412, 150 + 110 + 50, "and potatoes")
    assert page.text(the_table(page))[1] == ["Soup", "of leeks and potatoes"]


def test_find_tables_two_on_page_are_both_found() -> None:
    page = Drawing(height=1100)
    draw_grid(page, MERIDIAN, at=(100, 120))
    other = [["Day", "Dish"], ["Monday", "Lentils"], ["Tuesday", "Rice"]]
    draw_grid(page, other, at=(100, 640))
    assert [page.text(table) for table in page.tables()] == [MERIDIAN, other]


def test_find_tables_check_boxes_belong_to_their_cells() -> None:
    page = Drawing()
    draw_grid(page, [["Task", "Done"], ["Shopping", ""], ["Cooking", ""]])
    for row, crossed in ((1, True), (2, False)):
        left, top = 100 + 220 + 40, 150 + 56 * row + 14
        page.pen.rectangle((left, top, left + 28, top + 28), outline="black", width=2)
        if crossed:
            page.pen.line((left + 5, top + 5, left + 23, top + 23), fill="black", width=3)
            page.pen.line((left + 23, top + 5, left + 5, top + 23), fill="black", width=3)
    marks, table = page.marks(), the_table(page)
    held = {cell.row: [marks.check_boxes[index].selected for index in cell.check_boxes] for cell in table.cells[1::2]}
    assert held == {1: [], 2: [True], 3: [False]}


def test_find_tables_assigns_header_and_summary_roles() -> None:
    page = Drawing()
    draw_grid(page, [*MERIDIAN, ["Total", "470", "4.45"]])
    table = the_table(page)
    roles = [next(cell.role for cell in table.cells if cell.row == row) for row in range(1, 7)]
    assert roles == ["COLUMN_HEADER", None, None, None, None, "TABLE_SUMMARY"]


def test_find_tables_uniform_rows_have_no_header() -> None:
    page = Drawing()
    draw_grid(page, [[f"Cell {3 * row + column}" for column in range(3)] for row in range(3)])
    assert {cell.role for cell in the_table(page).cells} == {None}


def test_find_tables_caption_is_title_and_marked_note_footer() -> None:
    page = Drawing()
    page.write(100, 100, "Table 3: what we bought")
    draw_grid(page, MERIDIAN)
    page.write(100, 150 + 5 * 56 + 12, "* prices of last week")
    table = the_table(page)
    assert [" ".join(page.lines[a][b].text for a, b in each.words) for each in table.titles] == [
        "Table 3: what we bought"
    ]
    assert [" ".join(page.lines[a][b].text for a, b in each.words) for each in table.footers] == [
        "* prices of last week"
    ]
    assert not table.words & set(table.titles[0].words)


def test_find_tables_merged_first_row_is_title() -> None:
    page = Drawing()
    draw_grid(page, [["Stock list", "", ""], *MERIDIAN], without={("beside", 0, 0), ("beside", 0, 1)})
    table = the_table(page)
    assert [cell.role for cell in table.cells if cell.row == 1] == ["TABLE_TITLE"] * 3
    assert [cell.role for cell in table.cells if cell.row == 2] == ["COLUMN_HEADER"] * 3
    assert [len(title.words) for title in table.titles] == [2]


def test_find_tables_worn_rules_lower_confidence() -> None:
    whole, worn = Drawing(), Drawing()
    draw_grid(whole, MERIDIAN)
    draw_grid(worn, MERIDIAN)
    for row in range(1, 5):
        worn.pen.rectangle((230, 146 + 56 * row, 310, 154 + 56 * row), fill="white")
    assert the_table(worn).confidence < the_table(whole).confidence
    assert worn.text(the_table(worn)) == MERIDIAN


def test_find_tables_prose_in_columns_has_none() -> None:
    one, two = Drawing(), Drawing(width=1700)
    for number, text in enumerate(PROSE):
        one.write(80, 100 + 40 * number, text)
        two.write(80, 100 + 40 * number, text)
        two.write(880, 100 + 40 * number, PROSE[-1 - number])
    assert one.tables() == ()
    assert two.tables() == ()


def test_find_tables_prose_between_rules_has_none() -> None:
    page = Drawing(width=1700)
    for number, text in enumerate(PROSE):
        page.write(80, 100 + 40 * number, text)
        page.write(880, 100 + 40 * number, PROSE[-1 - number])
    for y in (80, 360):
        page.pen.line((80, y, 1600, y), fill="black", width=2)
    assert page.tables() == ()


@pytest.mark.parametrize(
    "rows",
    [
        ["Name: Ada Berg", "Street: Long Lane 4", "Town: Amber", "Country: none"],
        ["Ada Berg", "Long Lane 4", "12345 Amber"],
        ["250 g flour", "2 eggs", "1 pinch of salt", "125 ml milk", "some butter"],
    ],
    ids=["form", "address", "ingredients"],
)
def test_find_tables_list_has_none(rows: list[str]) -> None:
    page = Drawing()
    for number, text in enumerate(rows):
        page.write(100, 120 + 44 * number, text)
    assert page.tables() == ()


def test_find_tables_labels_with_distant_values_have_none() -> None:
    page = Drawing()
    for number, (label, value) in enumerate(
        [("Size:", "42"), ("Weight:", "71"), ("Born:", "1970"), ("Number:", "4711")]
    ):
        page.write(100, 120 + 44 * number, label)
        page.write(360, 120 + 44 * number, value)
    assert page.tables() == ()


def test_find_tables_addresses_side_by_side_have_none() -> None:
    page = Drawing()
    for number, (left, right) in enumerate(
        [
            ("Ada Berg", "Otto Kern"),
            ("Long Lane 4", "Mill Road 11"),
            ("Second floor 2", "Back door 1"),
            ("12345 Amber", "54321 Ebony"),
        ]
    ):
        page.write(100, 120 + 36 * number, left)
        page.write(560, 120 + 36 * number, right)
    assert page.tables() == ()


def test_find_tables_boxes_of_form_have_none() -> None:
    page = Drawing()
    page.pen.rectangle((80, 80, 920, 700), outline="black", width=2)
    page.pen.rectangle((100, 100, 900, 200), outline="black", width=2)
    page.write(120, 130, "Delivery note")
    page.pen.rectangle((100, 240, 480, 360), outline="black", width=2)
    page.write(120, 280, "Sender")
    page.pen.rectangle((520, 240, 900, 360), outline="black", width=2)
    page.write(540, 280, "Receiver")
    assert page.tables() == ()


def test_find_tables_blank_page_has_none() -> None:
    assert Drawing().tables() == ()


def test_find_tables_crowded_page_bounds_time_and_count() -> None:
    lines = tuple(
        tuple(
            EngineWord(str(row * column), 0.9, 40 * column, 30 * row, 40 * column + 20, 30 * row + 18)
            for column in range(66)
        )
        for row in range(150)
    )
    rules = tuple(RulingLine(Box(7 * (row % 5), 2 * row, 2700, 2 * row + 1)) for row in range(1500))
    down = tuple(RulingLine(Box(2 * column, 0, 2 * column + 1, 3000)) for column in range(1500))
    bands = tuple(Box(0, 3 * row, 2000 + row, 3 * row + 2) for row in range(1000))
    begun = time.process_time()
    for marks in (PageMarks(2700, 4500), PageMarks(2700, 4500, rules, (), bands), PageMarks(2700, 4500, rules, down)):
        assert len(find_tables(lines, marks)) <= 200
    assert time.process_time() - begun < 30


def test_find_tables_words_of_one_line_fall_into_several_cells() -> None:
    page = Drawing()
    draw_grid(page, [["Oat", "Rye", "Pea"], ["1", "2", "3"]], cell=(62, 50), text=(8, 10))
    table = the_table(page)
    assert len(page.lines[0]) > 1
    assert table_text(table, page.lines) == [["Oat", "Rye", "Pea"], ["1", "2", "3"]]
