"""Draw a page with known text, fields and table, for ``--short`` runs of the analysis benchmarks.

It replaces the truth set, which is not part of this repository, to test that the benchmarks still work. It does not
measure the quality of OCR.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from benchmarks.documents import TruthDocument

_WIDTH, _HEIGHT = 1200, 1000
_SIZE = 30
_LEFT, _TOP = 120, 480
_COLUMN, _ROW = 320, 80

Box = tuple[float, float, float, float]

TITLE = "Order of the kitchen"
FIELDS = (("Name:", "Anna Berg"), ("Number:", "20417"), ("City:", "Leipzig"))
TABLE = (("Item", "Amount", "Price"), ("Butter", "250", "3.10"), ("Flour", "500", "1.20"), ("Sugar", "750", "2.40"))


def drawn_document() -> TruthDocument:
    """Return the page as PNG with the Textract response that describes what was drawn on it."""
    page = _Page()
    title = page.line(TITLE, _LEFT, 80, size=60)
    page.block("LAYOUT_TITLE", page.around(title), CHILD=title)
    lines: list[str] = []
    for number, (label, value) in enumerate(FIELDS):
        top = 220 + 70 * number
        line, words = page.written(f"{label} {value}", _LEFT, top)
        count = len(label.split())
        found = page.block("KEY_VALUE_SET", page.around(words[count:]), ["VALUE"], CHILD=words[count:])
        page.block("KEY_VALUE_SET", page.around(words[:count]), ["KEY"], VALUE=[found], CHILD=words[:count])
        lines.append(line)
    page.block("LAYOUT_KEY_VALUE", page.around(lines), CHILD=lines)
    _table(page)
    file = io.BytesIO()
    page.image.save(file, "PNG")
    return TruthDocument("a drawn order", file.getvalue(), {"Blocks": page.blocks})


def _table(page: _Page) -> None:
    cells, lines = [], []
    for row, texts in enumerate(TABLE):
        for column, text in enumerate(texts):
            left, top = _LEFT + column * _COLUMN, _TOP + row * _ROW
            box = (left, top, left + _COLUMN, top + _ROW)
            page.drawing.rectangle(box, outline="black", width=3)
            line, words = page.written(text, left + 24, top + 22)
            lines.append(line)
            cells.append(
                page.block(
                    "CELL",
                    box,
                    ["COLUMN_HEADER"] if row == 0 else None,
                    {"RowIndex": row + 1, "ColumnIndex": column + 1, "RowSpan": 1, "ColumnSpan": 1},
                    CHILD=words,
                )
            )
    whole = (_LEFT, _TOP, _LEFT + _COLUMN * len(TABLE[0]), _TOP + _ROW * len(TABLE))
    page.block("TABLE", whole, ["STRUCTURED_TABLE"], CHILD=cells)
    page.block("LAYOUT_TABLE", whole, CHILD=lines)


@dataclass
class _Page:
    """An image and the blocks of its content. Boxes are (left, top, right, bottom) in pixels."""

    image: Image.Image = field(default_factory=lambda: Image.new("RGB", (_WIDTH, _HEIGHT), "white"))
    blocks: list[dict[str, Any]] = field(default_factory=list)
    _boxes: dict[str, Box] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.drawing = ImageDraw.Draw(self.image)

    def block(
        self,
        kind: str,
        box: Box,
        entities: list[str] | None = None,
        more: dict[str, Any] | None = None,
        **related: list[str],
    ) -> str:
        """Add a block and return its id; ``related`` has the ids of other blocks by type of relationship."""
        made: dict[str, Any] = {
            "Id": f"block-{len(self.blocks)}",
            "BlockType": kind,
            "Confidence": 99.0,
            **(more or {}),
        }
        left, top, right, bottom = box
        made["Geometry"] = {
            "BoundingBox": {
                "Left": left / _WIDTH,
                "Top": top / _HEIGHT,
                "Width": (right - left) / _WIDTH,
                "Height": (bottom - top) / _HEIGHT,
            }
        }
        if entities:
            made["EntityTypes"] = entities
        made["Relationships"] = [{"Type": name, "Ids": ids} for name, ids in related.items()]
        self.blocks.append(made)
        self._boxes[made["Id"]] = box
        return str(made["Id"])

    def line(self, text: str, left: float, top: float, size: int = _SIZE) -> list[str]:
        """Draw a line and return a list of its id alone."""
        return [self.written(text, left, top, size)[0]]

    def written(self, text: str, left: float, top: float, size: int = _SIZE) -> tuple[str, list[str]]:
        """Draw a line, and return its id and the ids of its words."""
        font = ImageFont.load_default(size)
        words: list[str] = []
        for word in text.split():
            self.drawing.text((left, top), word, font=font, fill="black")
            box = self.drawing.textbbox((left, top), word, font=font)
            words.append(self.block("WORD", box, more={"Text": word}))
            left = box[2] + size * 0.35
        return self.block("LINE", self.around(words), more={"Text": text}, CHILD=words), words

    def around(self, ids: list[str]) -> Box:
        """Return the smallest box that contains these blocks."""
        boxes = [self._boxes[each] for each in ids]
        return (
            min(box[0] for box in boxes),
            min(box[1] for box in boxes),
            max(box[2] for box in boxes),
            max(box[3] for box in boxes),
        )
