"""The reader's responses have the form and the order of what the real Textract returned for the same documents."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest

from benchmarks.analysis_quality import compare, with_recorded_words
from benchmarks.documents import NO_TRUTH, truth_documents
from benchmarks.scoring import lines_of as recorded_lines
from textract_local.reader.blocks import Block, detect_text_response
from textract_local.reader.reader import DocumentReader
from textract_support.pages import frame, word
from textract_support.sheets import FEATURES, analysed, full_page

ORDER = ["PAGE", "LINE", "WORD"]
SHA = "ab" * 32


def shapes(blocks: Sequence[Block]) -> dict[str, set[tuple[str, ...]]]:
    """Return the keys of each kind of block and of its nested objects, in their order."""
    found: dict[str, set[tuple[str, ...]]] = {}
    for block in blocks:
        kind = block["BlockType"]
        found.setdefault(kind, set()).add(tuple(block))
        found.setdefault(f"{kind}.Geometry", set()).add(tuple(block["Geometry"]))
        found.setdefault(f"{kind}.BoundingBox", set()).add(tuple(block["Geometry"]["BoundingBox"]))
        found.setdefault(f"{kind}.Polygon", set()).update(tuple(point) for point in block["Geometry"]["Polygon"])
        found.setdefault(f"{kind}.Relationships", set()).update(
            tuple(relation) for relation in block.get("Relationships", [])
        )
    return found


@pytest.mark.requires_ground_truth
def test_detect_text_response_keys_match_recorded_responses() -> None:
    recorded = [
        block
        for document in truth_documents()
        for block in document.response["Blocks"]
        # Some recordings were edited later and have keys that the API does not return.
        if block["BlockType"] in ORDER and "SearchKey" not in block
    ]
    if not recorded:
        pytest.skip(NO_TRUTH)
    # In an analysis, a word can have more relations than in text detection.
    response = detect_text_response([(word("salt", 10, 10),)], frame(100, 100), SHA)
    assert shapes(response["Blocks"]) == shapes(recorded)


@pytest.mark.single_python
@pytest.mark.requires_ground_truth
@pytest.mark.parametrize("name", ["tx-detect-single-page-1", "tx-reading_order", "trp-multicol"])
def test_lines_of_order_matches_recorded_responses(reader: DocumentReader, name: str) -> None:
    document = next((document for document in truth_documents() if document.name == name), None)
    if document is None:
        pytest.skip(NO_TRUTH)
    wanted, found = recorded_lines(document.response), recorded_lines(reader.read(document.content, name))
    once = {text for text in wanted if wanted.count(text) == 1 and found.count(text) == 1}
    assert len(once) >= 0.6 * len(wanted)
    places = [wanted.index(text) for text in found if text in once]
    # Two lines on one row may swap places if their heights differ.
    ordered = sum(first < second for first, second in pairwise(places))
    assert ordered >= 0.95 * (len(places) - 1), [text for text in found if text in once]


@pytest.mark.requires_ground_truth
@pytest.mark.parametrize(
    ("name", "types", "order", "fields"),
    [
        ("tx-single-page-1", 0.95, 0.99, 0.85),
        ("tx-textractor-singlepage-doc", 0.95, 0.99, 0.8),
        ("tx-matrix", 0.85, 0.99, 0.4),
        ("tx-in-table-title", 0.85, 0.95, 0.2),
        ("tx-receipt", 0.5, 0.95, 0.7),
    ],
)
def test_page_blocks_analysis_agrees_with_recorded_responses(
    name: str, types: float, order: float, fields: float
) -> None:
    document = next((document for document in truth_documents() if document.name == name), None)
    if document is None:
        pytest.skip(NO_TRUTH)
    measures = compare(document.response["Blocks"], with_recorded_words(document)).measures()
    assert measures["layout type by line"] >= types
    assert measures["reading order"] >= order
    assert measures["field F1"] >= fields


@pytest.mark.requires_ground_truth
def test_page_blocks_keys_match_recorded_responses() -> None:
    recorded = [
        block
        for document in truth_documents()
        for block in document.response["Blocks"]
        if "SearchKey" not in block and "childText" not in block
    ]
    if not recorded:
        pytest.skip(NO_TRUTH)
    shapes = {(block["BlockType"], tuple(block)) for block in recorded}
    blocks = analysed(full_page(), *(feature for feature in FEATURES if feature != "QUERIES"))
    assert {(block["BlockType"], tuple(block)) for block in blocks} <= shapes
