"""Document analysis: the blocks of each feature, and their contents."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from tests.conformance import documents
from tests.conformance.expectation import D, Expectation, O
from tests.conformance.service import ANALYSE, Service, texts

_ANALYZE = "AnalyzeDocument"
_ROWS = (("ITEM", "GRAMS", "PRICE"), ("FLOUR", "250", "1.20"), ("SUGAR", "125", "2.40"))
_TEXT = {"PAGE", "LINE", "WORD"}
_TABLE = {"TABLE", "CELL", "MERGED_CELL", "TABLE_TITLE", "TABLE_FOOTER"}
_OF: Mapping[str, set[str]] = {
    "TABLES": _TABLE | {"SELECTION_ELEMENT"},
    "FORMS": {"KEY_VALUE_SET", "SELECTION_ELEMENT"},
    "SIGNATURES": {"SIGNATURE"},
    "QUERIES": {"QUERY", "QUERY_RESULT"},
}
_QUESTIONS = [
    {"Text": "What is the name of the baker?", "Alias": "BAKER"},
    {"Text": "What is the colour of the moon of Jupiter?"},
]


def _form() -> bytes:
    return documents.png("Name: Anna Miller", "City: Hamburg", "Order: 24681", "Date: 12 March 2024")


def _analysed(service: Service, content: bytes, *features: str) -> list[Any]:
    config = {"QueriesConfig": {"Queries": _QUESTIONS}} if "QUERIES" in features else {}
    response = service.ask(_ANALYZE, Document={"Bytes": content}, FeatureTypes=list(features), **config)
    assert set(response) == {"DocumentMetadata", "Blocks", "AnalyzeDocumentModelVersion"}
    blocks: list[Any] = response["Blocks"]
    return blocks


def _kinds(blocks: list[Any]) -> set[str]:
    return {block["BlockType"] for block in blocks}


def _text_too(service: Service, *, feature: str) -> None:
    content = _form()
    detected = service.ask("DetectDocumentText", Document={"Bytes": content})["Blocks"]
    blocks = _analysed(service, content, feature)
    assert texts(blocks) == texts(detected)
    assert texts(blocks, "WORD") == texts(detected, "WORD")


def _nothing_else(service: Service, *, feature: str) -> None:
    allowed = _OF.get(feature, set())
    for content in (_form(), documents.table(_ROWS)):
        added = _kinds(_analysed(service, content, feature)) - _TEXT
        if feature == "LAYOUT":
            assert added
            assert all(kind.startswith("LAYOUT_") for kind in added)
        else:
            assert added <= allowed


def _cells(blocks: list[Any]) -> dict[tuple[int, int], str]:
    by_id = {block["Id"]: block for block in blocks}
    found = {}
    for cell in blocks:
        if cell["BlockType"] != "CELL":
            continue
        ids = [one for item in cell.get("Relationships", ()) for one in item["Ids"]]
        assert (cell["RowSpan"], cell["ColumnSpan"]) == (1, 1)
        found[cell["RowIndex"], cell["ColumnIndex"]] = " ".join(by_id[one]["Text"] for one in ids)
    return found


def _table(blocks: list[Any]) -> None:
    (table,) = (block for block in blocks if block["BlockType"] == "TABLE")
    children = next(item["Ids"] for item in table["Relationships"] if item["Type"] == "CHILD")
    assert children == [block["Id"] for block in blocks if block["BlockType"] == "CELL"]
    assert set(table["EntityTypes"]) <= {"STRUCTURED_TABLE", "SEMI_STRUCTURED_TABLE"}
    assert _cells(blocks) == {
        (row, column): text for row, cells in enumerate(_ROWS, 1) for column, text in enumerate(cells, 1)
    }


def _ruled_table(service: Service) -> None:
    _table(_analysed(service, documents.table(_ROWS), "TABLES"))


def _table_of_a_job(service: Service) -> None:
    job_id = service.start(documents.table(_ROWS), ANALYSE, FeatureTypes=["TABLES"])
    _table(service.blocks_of(job_id, ANALYSE))


def _cells_in_place(service: Service) -> None:
    blocks = _analysed(service, documents.table(_ROWS), "TABLES")
    boxes = {
        (block["RowIndex"], block["ColumnIndex"]): block["Geometry"]["BoundingBox"]
        for block in blocks
        if block["BlockType"] == "CELL"
    }
    # Three columns of 300 pixels on a page of 1,020, three rows of 90 on one of 390.
    for (row, column), box in boxes.items():
        assert abs(box["Left"] - (60 + 300 * (column - 1)) / 1020) < 0.02
        assert abs(box["Top"] - (60 + 90 * (row - 1)) / 390) < 0.03
        assert abs(box["Width"] - 300 / 1020) < 0.03
        assert abs(box["Height"] - 90 / 390) < 0.05


def _no_table(service: Service) -> None:
    assert not _kinds(_analysed(service, documents.png("LEMON 2468"), "TABLES")) & _TABLE


def _text_of(block: Any, by_id: Mapping[str, Any], kind: str = "CHILD") -> str:
    ids = [one for item in block.get("Relationships", ()) if item["Type"] == kind for one in item["Ids"]]
    return " ".join(by_id[one].get("Text", by_id[one].get("SelectionStatus", "")) for one in ids)


def _pairs(service: Service) -> None:
    blocks = _analysed(service, _form(), "FORMS")
    by_id = {block["Id"]: block for block in blocks}
    found, values = {}, []
    for block in blocks:
        if block["BlockType"] != "KEY_VALUE_SET":
            continue
        if block["EntityTypes"] == ["KEY"]:
            (value,) = next(item["Ids"] for item in block["Relationships"] if item["Type"] == "VALUE")
            values.append(value)
            found[_text_of(block, by_id)] = _text_of(by_id[value], by_id)
    pairs = [block["Id"] for block in blocks if block.get("EntityTypes") == ["VALUE"]]
    assert sorted(values) == sorted(pairs)
    assert found == {
        "Name:": "Anna Miller",
        "City:": "Hamburg",
        "Order:": "24681",
        "Date:": "12 March 2024",
    }


def _layout(service: Service) -> None:
    blocks = _analysed(service, _form(), "LAYOUT")
    by_id = {block["Id"]: block for block in blocks}
    lines = [
        by_id[one]["Text"]
        for block in blocks
        if block["BlockType"].startswith("LAYOUT_") and block["BlockType"] != "LAYOUT_LIST"
        for item in block.get("Relationships", ())
        for one in item["Ids"]
    ]
    assert sorted(lines) == sorted(texts(blocks))


def _queries(service: Service) -> None:
    blocks = _analysed(service, documents.png("Order: 24681"), "QUERIES")
    asked = [block for block in blocks if block["BlockType"] == "QUERY"]
    assert [block["Query"] for block in asked] == _QUESTIONS
    results = {block["Id"]: block for block in blocks if block["BlockType"] == "QUERY_RESULT"}
    answered = [
        one
        for block in asked
        for item in block.get("Relationships", ())
        if item["Type"] == "ANSWER"
        for one in item["Ids"]
    ]
    assert sorted(answered) == sorted(results)
    # The answer to the query is on the page.
    words = set(texts(blocks, "WORD"))
    assert all(set(block["Text"].split()) <= words for block in results.values())


def _no_signature(service: Service) -> None:
    assert "SIGNATURE" not in _kinds(_analysed(service, _form(), "SIGNATURES"))


def _all_in_order(service: Service) -> None:
    blocks = _analysed(service, documents.table(_ROWS), "LAYOUT", "FORMS", "TABLES")
    kinds = [block["BlockType"] for block in blocks]
    firsts = [kind for number, kind in enumerate(kinds) if kind not in kinds[:number]]
    wanted = [kind for kind in ("PAGE", "LINE", "WORD", "TABLE", "CELL", "KEY_VALUE_SET") if kind in firsts]
    assert [kind for kind in firsts if kind in wanted] == wanted
    layouts = [number for number, kind in enumerate(kinds) if kind.startswith("LAYOUT_")]
    assert layouts == list(range(len(kinds) - len(layouts), len(kinds)))


_FEATURES = ("TABLES", "FORMS", "LAYOUT", "QUERIES", "SIGNATURES")

EXPECTATIONS: tuple[Expectation, ...] = (
    *(
        Expectation(
            f"analysis.{name}.{feature}",
            basis,
            f"`{_ANALYZE}` with `{feature}`",
            expected,
            functools.partial(check, feature=feature),
        )
        for feature in _FEATURES
        for name, basis, expected, check in (
            ("text", O, "the LINEs and WORDs of `DetectDocumentText`", _text_too),
            ("nothing-else", D, "of other blocks only those of the feature", _nothing_else),
        )
    ),
    Expectation("analysis.table", O, "a ruled table of 3 x 3", "a TABLE with its CELLs and their words", _ruled_table),
    Expectation("analysis.table-job", O, "the same as a job", "the same", _table_of_a_job),
    Expectation("analysis.cells", O, "a ruled table of 3 x 3", "each CELL where its frame is", _cells_in_place),
    Expectation("analysis.no-table", D, "a page with a line of text", "no TABLE", _no_table),
    Expectation("analysis.form", D, "a page of `Name: value` lines", "a KEY with its VALUE for each", _pairs),
    Expectation("analysis.layout", O, "a page of text", "each LINE in one LAYOUT block", _layout),
    Expectation(
        "analysis.queries",
        D,
        "two questions, one without an answer on the page",
        "a QUERY with text and alias for each; answers are words of the page",
        _queries,
    ),
    Expectation("analysis.no-signature", D, "a page of print", "no SIGNATURE", _no_signature),
    Expectation(
        "analysis.order", O, "TABLES, FORMS and LAYOUT", "tables, then forms, then LAYOUT blocks", _all_in_order
    ),
)
