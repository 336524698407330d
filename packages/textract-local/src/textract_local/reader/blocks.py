"""Textract's block structure for text, as recorded responses of the real service show it.

Per page: PAGE, then all LINEs, then all WORDs in line order. LINE.Text is its words joined by a
space, LINE.Confidence the mean of theirs on a scale of 100. A BoundingBox is the envelope of a
Polygon of four points, in ratios of the page. The keys of each block and their order are those of the
recordings; empty fields are left out.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from textract_local.reader.engine import EngineWord, Frame, Point
from textract_local.reader.layout import Line

# "DetectDocumentTextModelVersion" of every recording.
MODEL_VERSION = "1.0"

_CORNERS: Sequence[Point] = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))

Block = dict[str, Any]


class Ids:
    """A page's block ids: the same for the same document, so that reading it again gives the same bytes.

    They have the form of the random UUIDs that the service gives (version 4).
    """

    def __init__(self, seed: str, page: int = 1) -> None:
        """``seed`` identifies the document; ``page`` counts from 1."""
        document = uuid5(NAMESPACE_OID, seed)
        self._space = document if page == 1 else uuid5(document, f"page {page}")
        self._counts: Counter[str] = Counter()

    def next(self, role: str = "") -> str:
        """Return the next id of a role. Each role counts by itself, so that one feature changes no id of another."""
        self._counts[role] += 1
        name = f"{role} {self._counts[role]}" if role else str(self._counts[role])
        return str(UUID(bytes=uuid5(self._space, name).bytes, version=4))


@dataclass(frozen=True)
class TextBlocks:
    """A page's text: its PAGE, its LINEs, and the WORDs of each LINE."""

    page: Block
    lines: tuple[Block, ...]
    words: tuple[tuple[Block, ...], ...]

    def in_order(self) -> list[Block]:
        """Return PAGE, all LINEs, all WORDs."""
        return [self.page, *self.lines, *(word for words in self.words for word in words)]


def detect_text_response(lines: Sequence[Line], frame: Frame, sha256: str) -> dict[str, Any]:
    """Return the DetectDocumentText response for a page of ``lines``."""
    return {
        "DocumentMetadata": {"Pages": 1},
        "Blocks": text_blocks(lines, frame, Ids(sha256)).in_order(),
        "DetectDocumentTextModelVersion": MODEL_VERSION,
    }


def text_blocks(lines: Sequence[Line], frame: Frame, ids: Ids) -> TextBlocks:
    """Return one page's PAGE, LINE and WORD blocks. A page without text has a PAGE block alone."""
    page: Block = {"BlockType": "PAGE", "Geometry": _geometry(_CORNERS), "Id": ids.next()}
    line_ids = [ids.next() for _ in lines]
    words = tuple(tuple(_word(word, frame, ids.next()) for word in line) for line in lines)
    line_blocks = tuple(
        _line(line, of_line, frame, line_id) for line, of_line, line_id in zip(lines, words, line_ids, strict=True)
    )
    if line_ids:
        page["Relationships"] = [relation("CHILD", line_ids)]
    return TextBlocks(page, line_blocks, words)


def relation(kind: str, ids: Iterable[str]) -> dict[str, Any]:
    """Return an entry of Relationships of a type, such as CHILD."""
    return {"Type": kind, "Ids": list(ids)}


def geometry(left: float, top: float, right: float, bottom: float, frame: Frame) -> dict[str, Any]:
    """Return the Geometry of a box that is given in pixels of the straightened page."""
    return _geometry(_ratios(left, top, right, bottom, frame))


def percent(share: float) -> float:
    """Return a share of 0 to 1 as a Confidence, on the service's scale of 100."""
    return _single(min(max(share, 0.0), 1.0) * 100)


def _line(line: Line, words: Sequence[Block], frame: Frame, block_id: str) -> Block:
    return {
        "BlockType": "LINE",
        "Confidence": _single(sum(word["Confidence"] for word in words) / len(words)),
        "Text": " ".join(word["Text"] for word in words),
        "Geometry": geometry(
            min(word.left for word in line),
            min(word.top for word in line),
            max(word.right for word in line),
            max(word.bottom for word in line),
            frame,
        ),
        "Id": block_id,
        "Relationships": [relation("CHILD", (word["Id"] for word in words))],
    }


def _word(word: EngineWord, frame: Frame, block_id: str) -> Block:
    return {
        "BlockType": "WORD",
        "Confidence": _single(word.confidence * 100),
        "Text": word.text,
        "TextType": "PRINTED",
        "Geometry": geometry(word.left, word.top, word.right, word.bottom, frame),
        "Id": block_id,
    }


def _ratios(left: float, top: float, right: float, bottom: float, frame: Frame) -> list[Point]:
    """Return a box of the straightened page as the text's four corners in ratios of the image."""
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    points = (frame.to_image(x, y) for x, y in corners)
    return [(_ratio(x / frame.width), _ratio(y / frame.height)) for x, y in points]


def _geometry(corners: Sequence[Point]) -> dict[str, Any]:
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    left, top = min(xs), min(ys)
    return {
        "BoundingBox": {
            "Width": _single(max(xs) - left),
            "Height": _single(max(ys) - top),
            "Left": left,
            "Top": top,
        },
        "Polygon": [{"X": x, "Y": y} for x, y in corners],
    }


def _ratio(value: float) -> float:
    return _single(min(max(value, 0.0), 1.0))


def _single(value: float) -> float:
    """Round to single precision, as the service's numbers are."""
    single: float = struct.unpack("f", struct.pack("f", value))[0]
    return single
