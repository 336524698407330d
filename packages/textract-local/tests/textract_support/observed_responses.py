"""The structure of Textract's responses as observed in recordings of the real service: data of ``response_schema``.

Basis O: observed in 13 recordings with 2,970 blocks (the documents of the truth set); a test counts them
again if they are available. Basis D: the API reference, for the two kinds of blocks that those recordings lack.
A key in brackets is in some blocks of its kind and not in others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_CELL = "BlockType Confidence RowIndex ColumnIndex RowSpan ColumnSpan Geometry Id [Relationships] [EntityTypes]"
_LAYOUT = "BlockType Confidence Geometry Id Relationships"


@dataclass(frozen=True)
class Seen:
    """The structure of blocks of one kind in a synchronous response.

    ``keys`` in their order; ``children`` are kinds of blocks by type of relationship, the types in their order.
    In an asynchronous response each block also has ``Page``, at the position of the service's model.
    """

    keys: str
    children: Mapping[str, frozenset[str]]
    entities: frozenset[str] = frozenset()
    basis: str = "O"

    @property
    def order(self) -> list[str]:
        """All keys in their order."""
        return [key.strip("[]") for key in self.keys.split()]

    @property
    def required(self) -> set[str]:
        """The keys that every block of the kind has."""
        return {key for key in self.keys.split() if not key.startswith("[")}


def _child(*kinds: str) -> Mapping[str, frozenset[str]]:
    return {"CHILD": frozenset(kinds)}


LAYOUTS = (
    "LAYOUT_TITLE",
    "LAYOUT_HEADER",
    "LAYOUT_FOOTER",
    "LAYOUT_SECTION_HEADER",
    "LAYOUT_PAGE_NUMBER",
    "LAYOUT_LIST",
    "LAYOUT_FIGURE",
    "LAYOUT_TABLE",
    "LAYOUT_KEY_VALUE",
    "LAYOUT_TEXT",
)

# Children of the page in recorded responses: all of them, in the order of the blocks. No queries are recorded.
PAGE_CHILDREN = frozenset({"LINE", "TABLE", "KEY_VALUE_SET", "SIGNATURE", "QUERY", "QUERY_RESULT", *LAYOUTS})
# Children that every page with such blocks has.
CERTAIN_PAGE_CHILDREN = PAGE_CHILDREN - {"QUERY", "QUERY_RESULT", "LAYOUT_LIST"}

_WORDS = ("WORD", "SELECTION_ELEMENT", "SIGNATURE")

BLOCKS: Mapping[str, Seen] = {
    # A blank page has no Relationships: empty fields are left out.
    "PAGE": Seen("BlockType Geometry Id [Relationships]", {"CHILD": PAGE_CHILDREN}),
    "LINE": Seen("BlockType Confidence Text Geometry Id Relationships", _child("WORD")),
    "WORD": Seen("BlockType Confidence Text TextType Geometry Id", {}),
    "SELECTION_ELEMENT": Seen("BlockType Confidence Geometry Id SelectionStatus", {}),
    "TABLE": Seen(
        "BlockType Confidence Geometry Id Relationships EntityTypes",
        {
            "CHILD": frozenset({"CELL"}),
            "MERGED_CELL": frozenset({"MERGED_CELL"}),
            "TABLE_TITLE": frozenset({"TABLE_TITLE"}),
            "TABLE_FOOTER": frozenset({"TABLE_FOOTER"}),
        },
        frozenset({"STRUCTURED_TABLE", "SEMI_STRUCTURED_TABLE"}),
    ),
    "CELL": Seen(
        _CELL,
        _child(*_WORDS),
        frozenset({"COLUMN_HEADER", "TABLE_TITLE", "TABLE_FOOTER", "TABLE_SECTION_TITLE", "TABLE_SUMMARY"}),
    ),
    "MERGED_CELL": Seen(
        _CELL.replace("[Relationships]", "Relationships"),
        _child("CELL"),
        frozenset({"COLUMN_HEADER", "TABLE_TITLE", "TABLE_FOOTER", "TABLE_SECTION_TITLE", "TABLE_SUMMARY"}),
    ),
    "TABLE_TITLE": Seen("BlockType Confidence Geometry Id Relationships", _child(*_WORDS)),
    "TABLE_FOOTER": Seen("BlockType Confidence Geometry Id Relationships", _child(*_WORDS)),
    "KEY_VALUE_SET": Seen(
        "BlockType Confidence Geometry Id [Relationships] EntityTypes",
        {"VALUE": frozenset({"KEY_VALUE_SET"}), "CHILD": frozenset(_WORDS)},
        frozenset({"KEY", "VALUE"}),
    ),
    "SIGNATURE": Seen("BlockType Confidence Geometry Id", {}),
    "QUERY": Seen("BlockType Id [Relationships] Query", {"ANSWER": frozenset({"QUERY_RESULT"})}, basis="D"),
    "QUERY_RESULT": Seen("BlockType Confidence Text Geometry Id [Relationships]", _child("WORD"), basis="D"),
    **{kind: Seen(_LAYOUT, _child("LINE")) for kind in LAYOUTS if kind not in {"LAYOUT_FIGURE", "LAYOUT_LIST"}},
    "LAYOUT_FIGURE": Seen("BlockType Confidence Geometry Id [Relationships]", _child("LINE")),
    "LAYOUT_LIST": Seen(_LAYOUT, _child("LAYOUT_TEXT"), basis="D"),
}
