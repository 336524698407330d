from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textract_local.reader.layout import Line
from textract_support.sheets import analysed, check_box, fields, marks, pairs, related, sheet, text


def test_find_fields_value_after_colon_is_paired() -> None:
    page = sheet([text(100, 100, "Due date: 01/31/2016"), text(100, 140, "Name of package: Textractor")])
    assert fields(page) == [("Due date:", "01/31/2016"), ("Name of package:", "Textractor")]


def test_find_fields_several_on_one_line_are_separated() -> None:
    page = sheet([text(60, 100, "State: CA  Zip code: 12345  Phone: 646-555-0111")])
    assert fields(page) == [("State:", "CA"), ("Zip code:", "12345"), ("Phone:", "646-555-0111")]


def test_find_fields_distant_value_in_row_is_paired() -> None:
    page = sheet([text(100, 100, "Pay date:"), text(400, 100, "7/25/2008")])
    assert fields(page) == [("Pay date:", "7/25/2008")]


def test_find_fields_value_beyond_ruling_line_is_ignored() -> None:
    lines = [text(100, 100, "Pay date:"), text(400, 100, "Statement")]
    assert fields(sheet(lines, marks(down=[(350, 80, 200)]))) == []


def test_find_fields_address_below_label_is_its_value() -> None:
    page = sheet([text(100, 100, "To:"), text(100, 126, "Test Business"), text(100, 152, "123 Somewhere St")])
    assert fields(page) == [("To:", "Test Business 123 Somewhere St")]


def test_find_fields_number_sign_before_digits_is_label() -> None:
    assert fields(sheet([text(100, 100, "REF # 1498308145")])) == [("REF #", "1498308145")]
    assert fields(sheet([text(100, 100, "See # below")])) == []


def test_find_fields_label_and_amount_alone_in_row_are_paired() -> None:
    page = sheet(
        [text(100, 100, "Subtotal"), text(400, 100, "$1699.96"), text(100, 130, "Tax"), text(400, 130, "$110.50")]
    )
    assert fields(page) == [("Subtotal", "$1699.96"), ("Tax", "$110.50")]


def test_find_fields_label_row_above_number_row_is_paired() -> None:
    labels = (*text(60, 100, "FILE"), *text(160, 100, "DEPT."), *text(260, 100, "CLOCK"))
    numbers = (*text(60, 124, "1265"), *text(160, 124, "12345"), *text(260, 124, "98765"))
    expected = [("FILE", "1265"), ("DEPT.", "12345"), ("CLOCK", "98765")]
    assert fields(sheet([labels, numbers])) == expected
    apart = [text(word.left, word.top, word.text) for word in (*labels, *numbers)]
    assert fields(sheet(apart)) == expected


@pytest.mark.parametrize(
    "line",
    [
        "Whisk the eggs with the sugar until they are pale and thick.",
        "There is one thing that nobody who bakes this ever forgets: butter.",
        "Tip: the dough may rest for a night and then for one more hour before it goes into the oven.",
        "Serves 4 to 6 people",
        "12:30",
    ],
)
def test_find_fields_prose_has_none(line: str) -> None:
    assert fields(sheet([text(100, 100, line)])) == []


def test_find_fields_wrapped_sentence_is_not_label() -> None:
    page = sheet(
        [text(100, 100, "Before you begin you should know the most important"), text(100, 126, "rule: patience")]
    )
    assert fields(page) == []


@pytest.mark.parametrize(
    "rest", [[text(100, 126, "Golden rule: patience")], [text(100, 126, "Golden rule"), text(300, 126, "$5.00")]]
)
def test_find_fields_sentence_continuation_is_not_field(rest: list[Line]) -> None:
    before = text(100, 100, "Whoever bakes with butter or with oil follows the")
    assert fields(sheet(rest)) != []
    assert fields(sheet([before, *rest])) == []


def test_find_fields_heading_over_list_is_not_label() -> None:
    page = sheet([text(100, 100, "Ingredients:"), text(100, 126, "- 2 eggs"), text(100, 152, "- 100 g flour")])
    assert fields(page) == []


def test_find_fields_check_box_is_value_of_adjacent_text() -> None:
    drawn = marks(check_boxes=[check_box(100, 100, selected=True), check_box(100, 140, selected=False)])
    page = sheet([text(130, 100, "Studio"), text(130, 140, "Mobile Home")], drawn)
    assert fields(page) == [("Studio", "SELECTED"), ("Mobile Home", "NOT_SELECTED")]


def test_find_fields_check_box_label_over_rule_is_one_field() -> None:
    drawn = marks(check_boxes=[check_box(100, 100, selected=True)], across=[(195, 600, 122)])
    assert fields(sheet([text(130, 100, "Other:")], drawn)) == [("Other:", "SELECTED")]


def test_find_fields_check_box_label_with_colon_is_one_field() -> None:
    page = sheet([text(130, 100, "Other:   Date:")], marks(check_boxes=[check_box(100, 100, selected=True)]))
    assert fields(page) == [("Other:", "SELECTED"), ("Date:", "")]


def test_find_fields_check_box_skips_label_of_other_box() -> None:
    drawn = marks(check_boxes=[check_box(100, 100, selected=True), check_box(166, 100, selected=False)])
    page = sheet([text(126, 100, "Yes"), text(206, 100, "No")], drawn)
    assert fields(page) == [("Yes", "SELECTED"), ("No", "NOT_SELECTED")]


def test_find_fields_check_box_label_is_not_preceding_value() -> None:
    drawn = marks(check_boxes=[check_box(290, 100, selected=True)], across=[(170, 240, 122)])
    page = sheet([text(100, 100, "Name:"), text(250, 100, "Yes")], drawn)
    assert fields(page) == [("Name:", ""), ("Yes", "SELECTED")]


def test_find_fields_label_row_with_check_box_is_not_paired() -> None:
    labels = [text(60, 100, "FILE"), text(160, 100, "DEPT."), text(260, 100, "CLOCK")]
    numbers = [text(60, 124, "1265"), text(160, 124, "12345"), text(260, 124, "98765")]
    drawn = marks(check_boxes=[check_box(30, 100, selected=True)])
    assert fields(sheet([*labels, *numbers], drawn)) == [("FILE", "SELECTED")]


def test_find_fields_check_boxes_in_row_take_nearest_text() -> None:
    drawn = marks(check_boxes=[check_box(100, 100, selected=True), check_box(200, 100, selected=False)])
    page = sheet([text(126, 100, "Yes"), text(226, 100, "No")], drawn)
    assert fields(page) == [("Yes", "SELECTED"), ("No", "NOT_SELECTED")]


def test_find_fields_empty_value_needs_a_rule() -> None:
    lines = [text(100, 100, "Email address:")]
    assert fields(sheet(lines, marks(across=[(245, 600, 122)]))) == [("Email address:", "")]
    assert fields(sheet(lines)) == []


def test_find_fields_label_in_ruled_box_takes_line_below() -> None:
    drawn = marks(across=[(90, 400, 95), (90, 400, 160)], down=[(90, 95, 160), (400, 95, 160)])
    assert fields(sheet([text(100, 100, "City"), text(100, 130, "Anytown")], drawn)) == [("City", "Anytown")]


def test_find_fields_small_labels_over_values_must_repeat() -> None:
    def card(names: list[tuple[str, str]]) -> list[tuple[str, str]]:
        lines = []
        for row, (label, value) in enumerate(names):
            lines += [text(100, 100 + 60 * row, label, height=12), text(106, 114 + 60 * row, value, height=22)]
        return fields(sheet(lines))

    found = [("ISS", "03/18/2018"), ("EXP", "01/20/2028"), ("DOB", "03/18/2001")]
    assert card(found) == found
    assert card(found[:2]) == []


def test_page_blocks_empty_value_lies_at_end_of_key() -> None:
    blocks = analysed(sheet([text(100, 100, "Email address:")], marks(across=[(245, 600, 122)])), "FORMS")
    key, value = (block for block in blocks if block["BlockType"] == "KEY_VALUE_SET")
    assert (key["EntityTypes"], value["EntityTypes"]) == (["KEY"], ["VALUE"])
    assert related(key, "VALUE") == [value["Id"]]
    assert "Relationships" not in value
    end = key["Geometry"]["BoundingBox"]["Left"] + key["Geometry"]["BoundingBox"]["Width"]
    box = value["Geometry"]["BoundingBox"]
    assert box["Left"] + box["Width"] == pytest.approx(end)
    assert 0 < box["Width"] < 0.002


@given(
    st.lists(
        st.tuples(
            st.integers(0, 900),
            st.integers(0, 1300),
            st.lists(st.sampled_from(["Name:", "No.", "#", "-", "12/03", "$5", "Total", "of", "a.", ":"]), min_size=1),
        ),
        max_size=12,
    )
)
def test_page_blocks_fields_use_each_word_at_most_once(placed: list[tuple[int, int, list[str]]]) -> None:
    page = sheet([text(left, top, " ".join(words)) for left, top, words in placed])
    blocks = analysed(page, "FORMS")
    words = {block["Id"] for block in blocks if block["BlockType"] == "WORD"}
    used = [child for block in blocks if block["BlockType"] == "KEY_VALUE_SET" for child in related(block, "CHILD")]
    assert len(used) == len(set(used))
    assert set(used) <= words
    assert all(key for key, _ in pairs(blocks))
