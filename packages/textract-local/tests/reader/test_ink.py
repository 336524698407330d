from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from textract_local.reader.engine import EngineWord
from textract_local.reader.ink import Ink, fit_to_ink
from textract_support.pages import recipe_page


def bars(*spans: tuple[int, int], paper: str = "white", ink: str = "black") -> Image.Image:
    """Return a page with a bar for each word, from 40 to 60 pixels below its top."""
    image = Image.new("RGB", (400, 100), paper)
    for left, right in spans:
        ImageDraw.Draw(image).rectangle((left, 40, right - 1, 59), fill=ink)
    return image


def letters(*spans: tuple[int, int], paper: str, ink: str) -> Image.Image:
    """Return a page like that of ``bars``, but with words of strokes that cover less than the paper between them."""
    strokes = [(left, left + 3) for start, end in spans for left in range(start, end - 3, 6)]
    return bars(*strokes, *((end - 3, end) for _, end in spans), paper=paper, ink=ink)


def seen(left: float, right: float) -> EngineWord:
    return EngineWord("x", 0.9, left, 40, right, 60)


def fitted(image: Image.Image, *words: EngineWord) -> list[tuple[float, float]]:
    return [(word.left, word.right) for word in fit_to_ink(words, Ink(image))]


def test_fit_to_ink_narrow_boxes_extend_to_ink() -> None:
    assert fitted(bars((50, 120), (140, 200)), seen(56, 114), seen(146, 196)) == [(50, 120), (140, 200)]


@pytest.mark.parametrize(("paper", "ink"), [("white", "black"), ("black", "white"), ("teal", "white")])
def test_fit_to_ink_dark_or_light_ink_is_found(paper: str, ink: str) -> None:
    page = letters((50, 120), (140, 200), paper=paper, ink=ink)
    assert fitted(page, seen(56, 114), seen(146, 196)) == [(50, 120), (140, 200)]


def test_fit_to_ink_pale_ink_keeps_boxes() -> None:
    page = letters((50, 120), (140, 200), paper="white", ink="#e0e0e0")
    assert fitted(page, seen(56, 114), seen(146, 196)) == [(56, 114), (146, 196)]


def test_fit_to_ink_wide_boxes_shrink_to_ink() -> None:
    assert fitted(bars((50, 120), (140, 200)), seen(45, 124), seen(136, 206)) == [(50, 120), (140, 200)]


def test_fit_to_ink_rule_between_words_is_excluded() -> None:
    assert fitted(bars((50, 120), (138, 140), (160, 220)), seen(54, 118), seen(164, 216)) == [(50, 120), (160, 220)]


def test_fit_to_ink_without_clear_gap_keeps_edges() -> None:
    # One page has ink without a gap between the words, the other has no ink.
    assert fitted(bars((50, 220)), seen(60, 120), seen(130, 210))[0][1] == 120
    assert fitted(bars(), seen(60, 120)) == [(60, 120)]


def test_fit_to_ink_box_on_blank_paper_keeps_width() -> None:
    assert fitted(bars((100, 150)), seen(60, 62), seen(104, 148)) == [(60, 61), (100, 150)]


@pytest.mark.parametrize("narrower", [3, 6, 9])
def test_fit_to_ink_narrowed_words_recover_drawn_width(narrower: int) -> None:
    drawn = recipe_page()
    rows: dict[int, list[EngineWord]] = {}
    for text, (left, top, right, bottom) in drawn.places.items():
        word = EngineWord(text, 0.9, left + narrower, top, right - narrower, bottom)
        rows.setdefault(int((top + bottom) / 2) // 100, []).append(word)
    ink = Ink(drawn.image)
    for row in rows.values():
        for word in fit_to_ink(row, ink):
            left, _, right, _ = drawn.places[word.text]
            # A letter's box has a small margin of its own.
            assert (word.left, word.right) == pytest.approx((left, right), abs=6)


@given(
    st.lists(
        st.tuples(st.floats(-20, 420), st.floats(-20, 120), st.floats(0.5, 200), st.floats(0.5, 80)),
        max_size=6,
    )
)
def test_fit_to_ink_any_boxes_keep_words_and_positive_width(boxes: list[tuple[float, float, float, float]]) -> None:
    words = [
        EngineWord(f"w{number}", 0.9, left, top, left + width, top + height)
        for number, (left, top, width, height) in enumerate(boxes)
    ]
    found = fit_to_ink(words, Ink(bars((50, 120), (140, 200), (203, 390))))
    assert sorted(word.text for word in found) == sorted(word.text for word in words)
    before = {word.text: word for word in words}
    for word in found:
        given_ = before[word.text]
        assert (word.top, word.bottom) == (given_.top, given_.bottom)
        assert word.left < word.right
