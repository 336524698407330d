from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textract_local.reader.blocks import Block, detect_text_response
from textract_local.reader.engine import EngineWord, Frame
from textract_support.pages import frame, word

ORDER = ["PAGE", "LINE", "WORD"]
SHA = "ab" * 32

_places = st.floats(-50, 3000)
_sizes = st.floats(0.5, 400)
_words = st.builds(
    lambda text, confidence, left, top, width, height: EngineWord(
        text, confidence, left, top, left + width, top + height
    ),
    st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=8),
    st.floats(0, 1),
    _places,
    _places,
    _sizes,
    _sizes,
)
_lines = st.lists(st.lists(_words, min_size=1, max_size=5).map(tuple), max_size=6)
_frames = st.builds(
    lambda width, height, rotation, scale: frame(width, height, rotation=rotation, scale=scale),
    st.integers(20, 4000),
    st.integers(20, 4000),
    st.sampled_from([0.0, 90.0, 180.0, 270.0, -90.0, 5.0, -12.3]),
    st.floats(0.3, 3),
)
_hashes = st.binary(min_size=32, max_size=32).map(bytes.hex)


def of_kind(response: dict[str, Any], kind: str) -> list[Block]:
    return [block for block in response["Blocks"] if block["BlockType"] == kind]


def children(block: Block) -> list[str]:
    return [child for relation in block.get("Relationships", []) for child in relation["Ids"]]


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from numbers(item)


@given(lines=_lines, page=_frames)
def test_detect_text_response_orders_page_lines_words(lines: list[tuple[EngineWord, ...]], page: Frame) -> None:
    response = detect_text_response(lines, page, SHA)
    assert response["DocumentMetadata"] == {"Pages": 1}
    assert response["DetectDocumentTextModelVersion"] == "1.0"
    kinds = [ORDER.index(block["BlockType"]) for block in response["Blocks"]]
    assert kinds == sorted(kinds)
    (page_block,) = of_kind(response, "PAGE")
    line_blocks, word_blocks = of_kind(response, "LINE"), of_kind(response, "WORD")
    assert children(page_block) == [block["Id"] for block in line_blocks]
    assert [child for block in line_blocks for child in children(block)] == [block["Id"] for block in word_blocks]
    assert [block["Text"] for block in word_blocks] == [each.text for line in lines for each in line]
    assert [block["Text"] for block in line_blocks] == [" ".join(each.text for each in line) for line in lines]


@given(lines=_lines, page=_frames)
def test_detect_text_response_line_confidence_is_mean_of_words(
    lines: list[tuple[EngineWord, ...]], page: Frame
) -> None:
    response = detect_text_response(lines, page, SHA)
    confidences = {block["Id"]: block["Confidence"] for block in of_kind(response, "WORD")}
    for block in of_kind(response, "LINE"):
        of_words = [confidences[child] for child in children(block)]
        assert abs(block["Confidence"] - sum(of_words) / len(of_words)) < 1e-4
    assert all(0 <= confidence <= 100 for confidence in confidences.values())
    given_ = [each.confidence * 100 for line in lines for each in line]
    assert list(confidences.values()) == pytest.approx(given_, abs=1e-4)


@given(lines=_lines, page=_frames)
def test_detect_text_response_box_is_envelope_of_polygon(lines: list[tuple[EngineWord, ...]], page: Frame) -> None:
    for block in detect_text_response(lines, page, SHA)["Blocks"]:
        box, points = block["Geometry"]["BoundingBox"], block["Geometry"]["Polygon"]
        assert len(points) == 4
        xs, ys = [point["X"] for point in points], [point["Y"] for point in points]
        assert (box["Left"], box["Top"]) == (min(xs), min(ys))
        assert (box["Left"] + box["Width"], box["Top"] + box["Height"]) == pytest.approx((max(xs), max(ys)), abs=1e-6)
        assert all(0 <= ratio <= 1 for ratio in [*xs, *ys, *box.values()])


@given(lines=_lines, page=_frames)
def test_detect_text_response_numbers_are_single_precision(lines: list[tuple[EngineWord, ...]], page: Frame) -> None:
    found = list(numbers(detect_text_response(lines, page, SHA)["Blocks"]))
    assert found == [struct.unpack("f", struct.pack("f", number))[0] for number in found]
    assert all(math.isfinite(number) for number in found)


@given(lines=_lines, page=_frames, first=_hashes, second=_hashes)
def test_detect_text_response_ids_are_unique_and_deterministic(
    lines: list[tuple[EngineWord, ...]], page: Frame, first: str, second: str
) -> None:
    response = detect_text_response(lines, page, first)
    ids = [block["Id"] for block in response["Blocks"]]
    assert [str(UUID(block_id)) for block_id in ids] == ids
    assert {UUID(block_id).version for block_id in ids} == {4}
    assert len(set(ids)) == len(ids)
    assert json.dumps(detect_text_response(lines, page, first)) == json.dumps(response)
    others = {block["Id"] for block in detect_text_response(lines, page, second)["Blocks"]}
    assert first == second or not others & set(ids)


@given(
    rotation=st.floats(-180, 180),
    scale=st.floats(0.3, 3),
    width=st.floats(10, 200),
    height=st.floats(10, 60),
)
def test_detect_text_response_polygon_starts_at_text_top_left(
    rotation: float, scale: float, width: float, height: float
) -> None:
    page = frame(1600, 1200, rotation=rotation, scale=scale)
    left, top = page.page_width / 2 - width / 2, page.page_height / 2 - height / 2
    response = detect_text_response([(word("salt", left, top, width=width, height=height),)], page, SHA)
    for block in of_kind(response, "LINE") + of_kind(response, "WORD"):
        top_left, top_right, bottom_right, bottom_left = (
            complex(point["X"] * 1600, point["Y"] * 1200) for point in block["Geometry"]["Polygon"]
        )
        along, down = top_right - top_left, bottom_left - top_left
        assert abs(along) == pytest.approx(width / scale, abs=0.01)
        assert abs(down) == pytest.approx(height / scale, abs=0.01)
        # A quarter turn clockwise from along to down, as y grows downwards.
        assert (down / along).real == pytest.approx(0, abs=0.01)
        assert (down / along).imag > 0
        assert abs(bottom_right - (top_left + along + down)) < 0.01


def test_detect_text_response_line_box_covers_its_words() -> None:
    page = frame(1000, 500)
    response = detect_text_response([(word("two", 100, 50), word("eggs", 200, 45, height=30))], page, SHA)
    (line,) = of_kind(response, "LINE")
    assert line["Geometry"]["BoundingBox"] == pytest.approx(
        {"Left": 0.1, "Top": 0.09, "Width": 0.148, "Height": 0.06}, abs=1e-6
    )


def test_detect_text_response_without_text_is_one_page_block() -> None:
    assert [list(block) for block in detect_text_response([], frame(100, 100), SHA)["Blocks"]] == [
        ["BlockType", "Geometry", "Id"]
    ]


def test_detect_text_response_keys_follow_api_order() -> None:
    response = detect_text_response([(word("salt", 10, 10),)], frame(100, 100), SHA)
    assert list(response) == ["DocumentMetadata", "Blocks", "DetectDocumentTextModelVersion"]
    assert [list(block) for block in response["Blocks"]] == [
        ["BlockType", "Geometry", "Id", "Relationships"],
        ["BlockType", "Confidence", "Text", "Geometry", "Id", "Relationships"],
        ["BlockType", "Confidence", "Text", "TextType", "Geometry", "Id"],
    ]
