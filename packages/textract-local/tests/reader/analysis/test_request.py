from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textract_local.reader.analysis.marks import PageMarks
from textract_local.reader.analysis.reading import PageReading
from textract_local.reader.analysis.request import Analysis, QuerySpec
from textract_local.reader.analysis.shapes import Box, CheckBox, RulingLine
from textract_local.reader.engine import EngineWord, Frame


@pytest.mark.parametrize(
    ("pages", "asked"),
    [
        ((), {1}),
        (("1",), {1}),
        (("3",), {3}),
        (("*",), {1, 2, 3, 4, 5}),
        (("2-4",), {2, 3, 4}),
        (("2-*",), {2, 3, 4, 5}),
        (("*-2",), {1, 2}),
        (("1", "4-5"), {1, 4, 5}),
        (("4-2",), set()),
        (("-", "--", "1-2-3", "**"), set()),
    ],
)
def test_query_spec_asks_only_its_pages(pages: tuple[str, ...], asked: set[int]) -> None:
    assert {page for page in range(1, 6) if QuerySpec("?", None, pages).asks(page)} == asked


@given(st.text("0123456789*-", min_size=1, max_size=9), st.integers(1, 3000))
def test_query_spec_asks_any_page_text_is_understood(pages: str, page: int) -> None:
    assert QuerySpec("?", None, (pages,)).asks(page) in {True, False}


def test_analysis_of_request_keeps_features_and_queries() -> None:
    config = {"Queries": [{"Text": "Who?", "Alias": "W", "Pages": ["2"]}, {"Text": "What?"}]}
    asked = Analysis.of({"FeatureTypes": ["QUERIES", "TABLES", "TABLES"], "QueriesConfig": config})
    assert asked == Analysis(frozenset({"QUERIES", "TABLES"}), (QuerySpec("Who?", "W", ("2",)), QuerySpec("What?")))
    assert [query.as_json() for query in asked.queries] == config["Queries"]
    assert pickle.loads(pickle.dumps(asked)) == asked  # noqa: S301
    # Without the feature QUERIES, queries are ignored.
    assert Analysis.of({"FeatureTypes": ["LAYOUT"], "QueriesConfig": config}).queries == ()


_number = st.floats(allow_nan=False, allow_infinity=False, width=64)
_box = st.builds(Box, _number, _number, _number, _number)
_word = st.builds(EngineWord, st.text(min_size=1), _number, _number, _number, _number, _number)
_marks = st.builds(
    PageMarks,
    _number,
    _number,
    horizontal=st.lists(st.builds(RulingLine, _box, _number), max_size=2).map(tuple),
    pictures=st.lists(_box, max_size=2).map(tuple),
    check_boxes=st.lists(st.builds(CheckBox, _box, st.booleans(), st.booleans(), _number), max_size=2).map(tuple),
)


@given(
    st.builds(
        PageReading,
        st.builds(Frame, _number, _number, _number, _number, _number),
        st.lists(st.lists(_word, min_size=1, max_size=3).map(tuple), max_size=3).map(tuple),
        st.none() | _marks,
    )
)
def test_page_reading_json_round_trip_is_equal(reading: PageReading) -> None:
    assert PageReading.from_json(reading.to_json()) == reading


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b'{"frame": 1}', b"\xff", b'{"frame":{},"lines":[]}'])
def test_page_reading_from_json_invalid_raises_value_error(text: bytes) -> None:
    with pytest.raises(ValueError, match="PageReading"):
        PageReading.from_json(text)
