"""``refine_words`` with fake recognisers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from PIL import Image, ImageDraw

from textract_local.reader.engine import EngineWord
from textract_local.reader.ink import Ink, fit_height
from textract_local.reader.normalization import is_supported_text
from textract_local.reader.recogniser import Glyph
from textract_local.reader.word_refinement import refine_words


class Told:
    """A recogniser that reads every piece as the given glyphs, and records the pieces."""

    def __init__(self, *glyphs: Glyph) -> None:
        self.glyphs = glyphs
        self.pieces: list[Image.Image] = []

    def read(self, piece: Image.Image) -> tuple[Glyph, ...]:
        self.pieces.append(piece)
        return self.glyphs


class Sized:
    """A recogniser that reads marks by their width, and everything else as ``whole``."""

    def __init__(self, marks: dict[int, list[Glyph]], whole: Sequence[Glyph]) -> None:
        self.marks, self.whole = marks, whole

    def read(self, piece: Image.Image) -> tuple[Glyph, ...]:
        # A piece has a margin of half the mark's height on either side.
        return tuple(self.marks.get(piece.width - 20, self.whole))


def page(*spans: tuple[int, int], top: int = 40, bottom: int = 60) -> Image.Image:
    """Return a page with a bar for each letter, from 40 to 60 pixels below its top."""
    image = Image.new("RGB", (400, 100), "white")
    for left, right in spans:
        ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), fill="black")
    return image


def texts(rows: Sequence[Sequence[EngineWord]]) -> list[list[str]]:
    return [[word.text for word in row] for row in rows]


# Four letters, with a blank of 10 pixels (half their height) in the middle; a piece begins 5 pixels before its word.
LETTERS = ((100, 112), (114, 126), (136, 148), (150, 162))
PLACES = (11.0, 25.0, 47.0, 61.0)


def glyphs(text: str, blank: float, places: Sequence[float] = PLACES) -> list[Glyph]:
    return [
        Glyph(character, 0.99, blank if index == 2 else 0.0, place)
        for index, (character, place) in enumerate(zip(text, places, strict=True))
    ]


def looked(text: str, read: str, blank: float) -> list[list[str]]:
    image = page(*LETTERS)
    word = EngineWord(text, 0.97, 100, 40, 162, 60)
    return texts(refine_words(image, Ink(image), [(word,)], Told(*glyphs(read, blank))))


def test_refine_words_blank_seen_by_recogniser_splits_word() -> None:
    assert looked("ofit", "ofit", 0.9) == [["of", "it"]]
    assert looked("ofit", "ofit", 0.1) == [["ofit"]]


@pytest.mark.parametrize("text", ["of20", "20of", "ofIt"])
def test_refine_words_character_kind_change_at_blank_splits(text: str) -> None:
    assert looked(text, text, 0.0) == [[text[:2], text[2:]]]


def test_refine_words_different_second_reading_keeps_word() -> None:
    assert looked("ofit", "otit", 0.9) == [["ofit"]]


def test_refine_words_loose_punctuation_stays_attached() -> None:
    assert looked("it?!", "it?!", 0.9) == [["it?!"]]


def test_refine_words_split_parts_end_at_blank() -> None:
    image = page(*LETTERS)
    word = EngineWord("ofit", 0.97, 100, 40, 162, 60)
    ((first, second),) = refine_words(image, Ink(image), [(word,)], Told(*glyphs("ofit", 0.9)))
    assert (first.left, first.right, second.left, second.right) == (100, 126, 136, 162)
    assert first.confidence == second.confidence == 0.97


def test_refine_words_without_blank_is_not_read_again() -> None:
    image = page((100, 126), (128, 162))
    recogniser = Told()
    word = EngineWord("ofit", 0.97, 100, 40, 162, 60)
    assert refine_words(image, Ink(image), [(word,)], recogniser) == [(word,)]
    assert recogniser.pieces == []


def alone(image: Image.Image, *read: Glyph) -> list[list[str]]:
    word = EngineWord("ofit", 0.97, 100, 40, 162, 60)
    return texts(refine_words(image, Ink(image), [(word,)], Told(*read)))


def test_refine_words_lone_confident_character_is_added() -> None:
    image = page((100, 162), (300, 306))
    assert alone(image, Glyph("7", 0.95, 0.0, 10)) == [["ofit"], ["7"]]
    # It is not added if the recogniser is unsure, or if it reads a pictogram.
    assert alone(image, Glyph("7", 0.6, 0.0, 10)) == [["ofit"]]
    assert alone(image, Glyph("\u7530", 0.95, 0.0, 10)) == [["ofit"]]


def test_refine_words_character_one_space_away_joins_row() -> None:
    assert alone(page((100, 162), (182, 188)), Glyph("7", 0.95, 0.0, 10)) == [["ofit", "7"]]
    assert alone(page((74, 80), (100, 162)), Glyph("7", 0.95, 0.0, 10)) == [["7", "ofit"]]
    assert alone(page((100, 162), (200, 206)), Glyph("7", 0.95, 0.0, 10)) == [["ofit"], ["7"]]


@pytest.mark.parametrize(("text", "left"), [("7ofit", 72), ("ofit7", 182)])
def test_refine_words_character_outside_box_extends_word(text: str, left: int) -> None:
    image = page((100, 162), (left, left + 6))
    word = EngineWord(text, 0.97, 100, 40, 162, 60)

    def look(around: str) -> list[tuple[EngineWord, ...]]:
        whole = glyphs(around, 0.0, range(len(around)))
        return refine_words(image, Ink(image), [(word,)], Sized({6: [Glyph("7", 0.95, 0.0, 10)]}, whole))

    ((whole,),) = look(text)
    assert (whole.text, whole.left, whole.right) == (text, min(left, 100), max(left + 6, 162))
    # If both together read as more than the word, the character is a neighbour like the word's end.
    assert sorted(texts(look(f"7{text}7"))[0]) == ["7", text]


def test_refine_words_marks_off_row_or_crowded_are_ignored() -> None:
    image = page((100, 162))
    ImageDraw.Draw(image).rectangle((300, 2, 307, 20), fill="black")
    assert alone(image, Glyph("7", 0.95, 0.0, 10)) == [["ofit"]]
    assert alone(page((100, 162), (300, 308), (309, 360)), Glyph("7", 0.95, 0.0, 10)) == [["ofit"]]


def test_is_supported_text_pictograms_are_refused() -> None:
    assert [
        text for text in ("\u2605", "\u6587", "\u00bd", "\u20ac", "cr\u00e8me", "<>") if is_supported_text(text)
    ] == [
        "\u00bd",
        "\u20ac",
        "cr\u00e8me",
        "<>",
    ]


def test_fit_height_matches_ink_of_letters() -> None:
    image = page((100, 112), (114, 126), top=38, bottom=66)
    fitted = fit_height(EngineWord("py", 0.9, 100, 40, 126, 60), Ink(image))
    assert (fitted.top, fitted.bottom) == pytest.approx((38, 66), abs=1)
    # Without ink, the box stays.
    blank = EngineWord("py", 0.9, 200, 40, 226, 60)
    assert fit_height(blank, Ink(image)) == blank
