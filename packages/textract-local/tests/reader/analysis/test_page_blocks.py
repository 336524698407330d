"""``page_blocks``: rules that the blocks of any analysed page satisfy."""

from __future__ import annotations

import json
from itertools import chain, combinations
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trp import Document as FirstDocument
from trp.trp2 import TDocumentSchema

from textract_local.reader.analysis.blocks import page_blocks
from textract_local.reader.analysis.reading import PageReading
from textract_local.reader.analysis.request import Analysis, QuerySpec
from textract_local.reader.analysis.shapes import Box
from textract_local.reader.blocks import detect_text_response
from textract_local.server.model import TextractModel
from textract_support.sheets import (
    FEATURES,
    Block,
    analysed,
    check_box,
    full_page,
    marks,
    of_kind,
    related,
    sheet,
    text,
)

COMBINATIONS = list(chain.from_iterable(combinations(FEATURES, size) for size in range(1, len(FEATURES) + 1)))
QUERIES = (QuerySpec("What is the pay date?", "PAY"), QuerySpec("Lorem ipsum?"))

# The order of a response's blocks, and the block types of each feature.
ORDER = ["PAGE", "LINE", "WORD", "SELECTION_ELEMENT", "TABLE", "KEY_VALUE_SET", "SIGNATURE", "QUERY", "LAYOUT"]
OF_FEATURE = {
    "TABLES": {"TABLE", "SELECTION_ELEMENT"},
    "FORMS": {"KEY_VALUE_SET", "SELECTION_ELEMENT"},
    "LAYOUT": {"LAYOUT"},
    "QUERIES": {"QUERY"},
    "SIGNATURES": {"SIGNATURE"},
}


def family(block: Block) -> str:
    kind: str = block["BlockType"]
    for of_many in ("LAYOUT", "QUERY"):
        if kind.startswith(of_many):
            return of_many
    return "TABLE" if kind.startswith("TABLE") or kind in {"CELL", "MERGED_CELL"} else kind


def check(blocks: list[Block]) -> None:
    """Check the rules of every response: the API's model, unique and known ids, order, and the children of PAGE."""
    response = {"DocumentMetadata": {"Pages": 1}, "Blocks": blocks, "AnalyzeDocumentModelVersion": "1.0"}
    TextractModel().check_response("AnalyzeDocument", response)
    ids = [block["Id"] for block in blocks]
    assert len(set(ids)) == len(ids)
    assert {UUID(block_id).version for block_id in ids} == {4}
    assert {child for block in blocks for each in block.get("Relationships", []) for child in each["Ids"]} <= set(ids)
    assert all(each["Ids"] for block in blocks for each in block.get("Relationships", []))
    assert [ORDER.index(family(block)) for block in blocks] == sorted(ORDER.index(family(block)) for block in blocks)
    assert "Page" not in chain.from_iterable(blocks)
    named = related(blocks[0], "CHILD")
    kinds = {block["Id"]: block["BlockType"] for block in blocks}
    expected = [
        block["Id"]
        for block in blocks
        if block["BlockType"].startswith(("LAYOUT_", "QUERY"))
        or block["BlockType"] in {"LINE", "TABLE", "KEY_VALUE_SET", "SIGNATURE"}
    ]
    assert named == expected, [kinds[each] for each in named]


@pytest.mark.parametrize("features", COMBINATIONS, ids="+".join)
def test_page_blocks_contain_only_requested_features(features: tuple[str, ...]) -> None:
    blocks = analysed(full_page(), *features, queries=QUERIES)
    check(blocks)
    asked = set().union(*(OF_FEATURE[feature] for feature in features))
    assert {family(block) for block in blocks} == {"PAGE", "LINE", "WORD"} | asked


def test_page_blocks_feature_is_independent_of_others() -> None:
    together = analysed(full_page(), *FEATURES, queries=QUERIES)
    for feature in FEATURES:
        alone = analysed(full_page(), feature, queries=QUERIES)
        assert [each for each in alone if each["BlockType"] != "PAGE"] == [
            each for each in together if family(each) in {"LINE", "WORD"} | OF_FEATURE[feature]
        ]


def test_page_blocks_without_analysis_equal_text_detection() -> None:
    page = full_page()
    detected = detect_text_response(page.lines, page.frame, "ab" * 32)["Blocks"]
    assert json.dumps(page_blocks(page, None, "ab" * 32, 1)) == json.dumps(detected)
    assert json.dumps(analysed(page, "TABLES")[1 : len(detected)]) == json.dumps(detected[1:])


def test_page_blocks_without_marks_still_analyse_text() -> None:
    page = full_page()
    blocks = analysed(PageReading(page.frame, page.lines), *FEATURES, queries=QUERIES)
    check(blocks)
    assert {family(block) for block in blocks} == {"PAGE", "LINE", "WORD", "KEY_VALUE_SET", "QUERY", "LAYOUT"}


def test_page_blocks_ids_depend_on_seed_and_page() -> None:
    def ids(seed: str, page: int) -> list[str]:
        queries = (QuerySpec("What is the pay date?", None, ("*",)),)
        return [block["Id"] for block in page_blocks(full_page(), Analysis(frozenset(FEATURES), queries), seed, page)]

    assert ids("a", 1) == ids("a", 1)
    assert not set(ids("a", 1)) & set(ids("a", 2))
    assert not set(ids("a", 1)) & set(ids("b", 1))


def test_page_blocks_empty_page_is_page_and_queries() -> None:
    assert [list(block) for block in analysed(sheet([]), "TABLES", "FORMS", "LAYOUT", "SIGNATURES")] == [
        ["BlockType", "Geometry", "Id"]
    ]
    blocks = analysed(sheet([]), *FEATURES, queries=[QuerySpec("Who?")])
    assert [block["BlockType"] for block in blocks] == ["PAGE", "QUERY"]
    assert related(blocks[0], "CHILD") == [blocks[1]["Id"]]


def test_page_blocks_rotated_page_has_image_coordinates() -> None:
    page = full_page()
    turned = PageReading(type(page.frame)(1400, 1000, 1000, 1400, 90.0), page.lines, page.marks)
    upright, blocks = analysed(page, *FEATURES), analysed(turned, *FEATURES)
    check(blocks)
    assert [block["BlockType"] for block in blocks] == [block["BlockType"] for block in upright]
    boxes = [block["Geometry"]["BoundingBox"] for block in (*of_kind(upright, "TABLE"), *of_kind(blocks, "TABLE"))]
    assert boxes[0]["Width"] == pytest.approx(boxes[1]["Height"], abs=1e-6)
    assert boxes[0]["Height"] == pytest.approx(boxes[1]["Width"], abs=1e-6)


def test_page_blocks_are_read_by_both_response_parsers() -> None:
    response: dict[str, Any] = {
        "DocumentMetadata": {"Pages": 1},
        "Blocks": analysed(full_page(), *FEATURES, queries=QUERIES),
        "AnalyzeDocumentModelVersion": "1.0",
    }
    (page,) = FirstDocument(response).pages
    assert [(field.key.text, field.value.text) for field in page.form.fields if field.value] == [
        ("Pay date:", "7/25/2008"),
        ("Married", "SELECTED"),
        ("Single", "NOT_SELECTED"),
    ]
    assert [[cell.text.strip() for cell in row.cells] for row in page.tables[0].rows] == [
        [f"cell{row}{column}" for column in range(3)] for row in range(3)
    ]
    second = TDocumentSchema().load(response)
    # The parser returns them in the order of a set.
    responses = {alias: text_ for _, alias, text_ in second.get_query_answers(second.pages[0])}
    assert responses == {"PAY": "7/25/2008", None: ""}


_marks = st.builds(
    marks,
    across=st.lists(st.tuples(st.integers(0, 400), st.integers(500, 999), st.integers(0, 1399)), max_size=6),
    down=st.lists(st.tuples(st.integers(0, 999), st.integers(0, 500), st.integers(600, 1399)), max_size=6),
    check_boxes=st.lists(
        st.builds(check_box, st.integers(0, 970), st.integers(0, 1370), selected=st.booleans()), max_size=4
    ),
    pictures=st.lists(st.just(Box(200, 200, 500, 600)), max_size=1),
    strokes=st.lists(st.just(Box(600, 600, 800, 650)), max_size=1),
)
_words = st.lists(
    st.one_of(st.sampled_from(["Name:", "#", "-", "12", "Signature", "$5"]), st.text("aB3:.", min_size=1, max_size=6)),
    min_size=1,
    max_size=5,
)
_lines = st.lists(st.tuples(st.integers(-20, 990), st.integers(-20, 1390), st.integers(1, 90), _words), max_size=14)


@given(_lines, _marks, st.sampled_from(COMBINATIONS), st.integers(1, 3))
def test_page_blocks_any_page_is_consistent(
    lines: list[tuple[int, int, int, list[str]]], drawn: Any, features: tuple[str, ...], page: int
) -> None:
    reading = sheet([text(left, top, " ".join(words), height=height) for left, top, height, words in lines], drawn)
    check(analysed(reading, *features, queries=[QuerySpec("Name", None, ("*",)), QuerySpec("x")], page=page))
