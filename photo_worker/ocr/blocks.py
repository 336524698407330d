"""Textract's block structure, as recorded answers of the real DetectDocumentText show it.

Per page: PAGE, then all LINEs, then all WORDs in line order. LINE.Text is its words joined by a
space, LINE.Confidence the mean of theirs on a scale of 100. A BoundingBox is the envelope of a
Polygon of four points, in ratios of the page. Key order, and which keys stand on which block, are
those of the recordings; empty fields are left out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from photo_worker.ocr.engine import EngineWord, Frame, Point
from photo_worker.ocr.layout import Line

# "DetectDocumentTextModelVersion" of every recording.
MODEL_VERSION = "1.0"

_CORNERS: Sequence[Point] = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))

Block = dict[str, Any]


class _Ids:
    """Block ids: the same for the same document, so that reading it again gives the same bytes.

    They have the form of the random UUIDs that the service gives (version 4).
    """

    def __init__(self, sha256: str) -> None:
        self._space = uuid5(NAMESPACE_OID, sha256)
        self._count = 0

    def next(self) -> str:
        self._count += 1
        return str(UUID(bytes=uuid5(self._space, str(self._count)).bytes, version=4))


def detect_text_response(lines: Sequence[Line], frame: Frame, sha256: str) -> dict[str, Any]:
    """Return the answer of DetectDocumentText for a page of ``lines``."""
    return {
        "DocumentMetadata": {"Pages": 1},
        "Blocks": page_blocks(lines, frame, sha256),
        "DetectDocumentTextModelVersion": MODEL_VERSION,
    }


def page_blocks(lines: Sequence[Line], frame: Frame, sha256: str) -> list[Block]:
    """Return one page's PAGE, LINE and WORD blocks. A page without text has its PAGE alone."""
    ids = _Ids(sha256)
    page_id = ids.next()
    line_ids = [ids.next() for _ in lines]
    line_blocks: list[Block] = []
    word_blocks: list[Block] = []
    for line, line_id in zip(lines, line_ids, strict=True):
        words = [_word(word, frame, ids.next()) for word in line]
        word_blocks += words
        line_blocks.append(_line(line, words, frame, line_id))
    page: Block = {"BlockType": "PAGE", "Geometry": _geometry(_CORNERS), "Id": page_id}
    if line_ids:
        page["Relationships"] = _children(line_ids)
    return [page, *line_blocks, *word_blocks]


def _line(line: Line, words: Sequence[Block], frame: Frame, block_id: str) -> Block:
    return {
        "BlockType": "LINE",
        "Confidence": _single(sum(word["Confidence"] for word in words) / len(words)),
        "Text": " ".join(word["Text"] for word in words),
        "Geometry": _geometry(
            _ratios(
                min(word.left for word in line),
                min(word.top for word in line),
                max(word.right for word in line),
                max(word.bottom for word in line),
                frame,
            )
        ),
        "Id": block_id,
        "Relationships": _children([word["Id"] for word in words]),
    }


def _word(word: EngineWord, frame: Frame, block_id: str) -> Block:
    return {
        "BlockType": "WORD",
        "Confidence": _single(word.confidence * 100),
        "Text": word.text,
        "TextType": "PRINTED",
        "Geometry": _geometry(_ratios(word.left, word.top, word.right, word.bottom, frame)),
        "Id": block_id,
    }


def _children(ids: Iterable[str]) -> list[dict[str, Any]]:
    return [{"Type": "CHILD", "Ids": list(ids)}]


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
