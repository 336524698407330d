"""Queries and signatures: answered if the page shows the answer, and not otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from textract_local.reader.analysis.reading import PageReading
from textract_local.reader.analysis.request import QuerySpec
from textract_local.reader.analysis.shapes import Box
from textract_support.sheets import Block, analysed, marks, of_kind, related, sheet, text

PAGE = sheet(
    [
        text(100, 150, "Annual report", height=60),
        text(100, 300, "Name of package: Textractor"),
        text(100, 340, "Date: 08/14/2022"),
        text(100, 380, "Phone: 212-555-0150"),
        text(500, 380, "Phone: 646-555-0111"),
    ]
)


def answers(reading: PageReading, *queries: QuerySpec, page: int = 1) -> list[tuple[dict[str, Any], str | None]]:
    blocks = analysed(reading, "QUERIES", queries=queries, page=page)
    results: dict[str, Block] = {block["Id"]: block for block in of_kind(blocks, "QUERY_RESULT")}
    found = []
    for block in of_kind(blocks, "QUERY"):
        texts = [results.pop(each)["Text"] for each in related(block, "ANSWER")]
        found.append((block["Query"], texts[0] if texts else None))
    assert not results
    return found


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the name of the package?", "Textractor"),
        ("PACKAGE NAME", "Textractor"),
        ("What are the dates?", "08/14/2022"),
        ("What is the title of the document?", "Annual report"),
        ("What is the due date?", None),
        ("What is the phone?", None),
        ("Who is the president?", None),
        ("The quick brown fox?", None),
        ("What is it?", None),
        ("?", None),
    ],
)
def test_answer_query_question_returns_only_matching_field(question: str, expected: str | None) -> None:
    assert answers(PAGE, QuerySpec(question)) == [({"Text": question}, expected)]


def test_page_blocks_queries_keep_request_order() -> None:
    queries = [
        QuerySpec("Lorem ipsum?", "L"),
        QuerySpec("Date", None, ("1",)),
        QuerySpec("Date", "everywhere", ("*",)),
        QuerySpec("x"),
    ]
    assert [shown for shown, _ in answers(PAGE, *queries)] == [
        {"Text": "Lorem ipsum?", "Alias": "L"},
        {"Text": "Date", "Pages": ["1"]},
        {"Text": "Date", "Alias": "everywhere", "Pages": ["*"]},
        {"Text": "x"},
    ]


def test_page_blocks_queries_for_other_pages_are_left_out() -> None:
    queries = [
        QuerySpec("first"),
        QuerySpec("second", None, ("2",)),
        QuerySpec("from two", None, ("2-*",)),
        QuerySpec("all", None, ("*",)),
    ]
    assert [shown["Text"] for shown, _ in answers(PAGE, *queries, page=2)] == ["second", "from two", "all"]


def test_page_blocks_query_result_has_geometry_and_confidence() -> None:
    blocks = analysed(PAGE, "QUERIES", queries=[QuerySpec("date")])
    (result,) = of_kind(blocks, "QUERY_RESULT")
    (word,) = (block for block in of_kind(blocks, "WORD") if block["Text"] == "08/14/2022")
    assert result["Geometry"] == word["Geometry"]
    assert 50 < result["Confidence"] < 90
    assert result["Confidence"] == round(result["Confidence"])


INK = Box(300, 480, 480, 530)


@pytest.mark.parametrize(
    ("label", "found"),
    [
        (text(300, 540, "Signature"), 1),
        (text(150, 505, "Signed:"), 1),
        (text(300, 540, "Surname"), 0),
        (text(300, 900, "Signature"), 0),
        (text(200, 540, "You have to sign the form before you send it to the office"), 0),
    ],
)
def test_find_signatures_ink_needs_signature_label(label: Any, found: int) -> None:
    blocks = analysed(sheet([label], marks(strokes=[INK])), "SIGNATURES")
    assert len(of_kind(blocks, "SIGNATURE")) == found
    # A label without ink is not a signature.
    assert not of_kind(analysed(sheet([label]), "SIGNATURES"), "SIGNATURE")


@pytest.mark.parametrize("ink", [Box(300, 505, 310, 530), Box(0, 400, 1000, 530), Box(300, 527, 480, 530)])
def test_find_signatures_spots_pictures_and_rules_are_ignored(ink: Box) -> None:
    assert not of_kind(analysed(sheet([text(300, 540, "Signature")], marks(strokes=[ink])), "SIGNATURES"), "SIGNATURE")


def test_find_signatures_field_value_must_exceed_print_size() -> None:
    label = text(100, 300, "Signature:")
    written, printed = text(300, 285, "Jane Doe", height=50), text(300, 300, "Jane Doe")
    (signature,) = of_kind(analysed(sheet([label, written]), "SIGNATURES"), "SIGNATURE")
    assert signature["Geometry"]["BoundingBox"]["Left"] == pytest.approx(0.3)
    assert list(signature) == ["BlockType", "Confidence", "Geometry", "Id"]
    assert not of_kind(analysed(sheet([label, printed]), "SIGNATURES"), "SIGNATURE")
