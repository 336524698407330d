"""Long lines of small print, and pages with rules, dots or shadows that must not be read as such."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from PIL import Image, ImageDraw

from textract_local.reader.engine import EngineWord
from textract_local.reader.ink import Ink
from textract_local.reader.long_lines import read_long_lines
from textract_local.reader.reader import DocumentReader
from textract_support.pages import encoded, font, recipe_page

# These tests cover pixels and the engine's wheel; test_reader and test_blocks read pages on the other Pythons.
pytestmark = pytest.mark.single_python

FOOTER = (
    "These biscuits keep for three weeks in a tin and taste better after the second day; store them away from light"
    " and heat, never beside onions, and write the date of baking on the lid so that nobody has to guess how old they"
    " are when the next guests come to the house and ask for something sweet with their coffee or tea on a Sunday"
)


def landscape() -> Image.Image:
    image = Image.new("RGB", (2800, 900), "white")
    ImageDraw.Draw(image).text((150, 150), "Lemon Oat Biscuits", fill="black", font=font(80))
    return image


def texts(reader: DocumentReader, image: Image.Image) -> list[str]:
    response = reader.read(encoded(image), "page.png")
    return [block["Text"] for block in response["Blocks"] if block["BlockType"] == "WORD"]


class Told:
    """A ``read`` function that records its images and reads nothing."""

    def __init__(self) -> None:
        self.given: list[Image.Image] = []

    def __call__(self, image: Image.Image) -> Iterable[EngineWord]:
        self.given.append(image)
        return []


def test_reader_long_footer_is_read_in_place(reader: DocumentReader) -> None:
    image = landscape()
    draw = ImageDraw.Draw(image)
    left, top, right, bottom = draw.textbbox((60, 840), FOOTER, font=font(17))
    assert right < image.width
    assert right - left >= 60 * (bottom - top)
    draw.text((60, 840), FOOTER, fill="black", font=font(17))
    response = reader.read(encoded(image), "page.png")
    found = [block["Text"] for block in response["Blocks"] if block["BlockType"] == "WORD"]
    assert found[:3] == ["Lemon", "Oat", "Biscuits"]
    wanted = FOOTER.split()
    assert sum(word in found for word in wanted) >= 0.9 * len(wanted), found
    # Its words appear once each, from left to right, at the foot of the page.
    places = [
        block["Geometry"]["BoundingBox"]
        for block in response["Blocks"]
        if block["BlockType"] == "WORD" and block["Text"] not in {"Lemon", "Oat", "Biscuits"}
    ]
    assert all(abs((place["Top"] + place["Height"] / 2) * 900 - (top + bottom) / 2) < 12 for place in places)
    lefts = [place["Left"] for place in places]
    assert lefts == sorted(lefts)


def page_full_of_rules() -> Image.Image:
    image = Image.new("RGB", (1200, 900), "white")
    draw = ImageDraw.Draw(image)
    for number in range(20):
        draw.line((60, 60 + 40 * number, 1140, 60 + 40 * number), fill="black", width=1 + number % 9)
    return image


def dotted_leaders() -> Image.Image:
    image = Image.new("RGB", (1200, 400), "white")
    draw = ImageDraw.Draw(image)
    for number in range(5):
        for left in range(60, 1140, 24):
            draw.ellipse((left, 60 + 60 * number, left + 6, 66 + 60 * number), fill="black")
    return image


def squared_paper() -> Image.Image:
    image = page_full_of_rules()
    draw = ImageDraw.Draw(image)
    for left in range(60, 1141, 40):
        draw.line((left, 60, left, 820), fill="black", width=2)
    return image


def shadow() -> Image.Image:
    image = Image.new("RGB", (1200, 900), "white")
    for row in range(900):
        image.paste((255 - row // 9,) * 3, (0, row, 1200, row + 1))
    return image


@pytest.mark.parametrize("draw", [page_full_of_rules, squared_paper, dotted_leaders, shadow])
def test_reader_page_without_letters_has_no_words(reader: DocumentReader, draw: object) -> None:
    assert callable(draw)
    assert [text for text in texts(reader, draw()) if any(letter.isalnum() for letter in text)] == []


def test_reader_rules_under_text_add_no_words(reader: DocumentReader) -> None:
    drawn = recipe_page()
    image = drawn.image.copy()
    for top in (70, 200, 330, 460, 590):
        ImageDraw.Draw(image).line((60, top, 940, top), fill="black", width=4)
    assert sorted(texts(reader, image)) == sorted(drawn.places)


def test_read_long_lines_covered_ink_is_not_read() -> None:
    drawn, told = recipe_page(), Told()
    words = [EngineWord(text, 0.9, *box) for text, box in drawn.places.items()]
    assert read_long_lines(drawn.image, Ink(drawn.image).dark, [words], told) == []
    assert told.given == []


@pytest.mark.parametrize("draw", [page_full_of_rules, squared_paper])
def test_read_long_lines_rules_are_not_read(draw: object) -> None:
    assert callable(draw)
    told, image = Told(), draw()
    assert read_long_lines(image, Ink(image).dark, [], told) == []
    assert told.given == []


def test_read_long_lines_short_lines_are_not_read() -> None:
    drawn, told = recipe_page(), Told()
    assert read_long_lines(drawn.image, Ink(drawn.image).dark, [], told) == []
    assert told.given == []


def test_read_long_lines_known_line_is_not_read() -> None:
    image, told = landscape(), Told()
    draw = ImageDraw.Draw(image)
    draw.text((60, 840), FOOTER, fill="black", font=font(17))
    title = EngineWord("Lemon Oat Biscuits", 0.9, 140, 150, 900, 260)
    footer = EngineWord(FOOTER, 0.9, *draw.textbbox((60, 840), FOOTER, font=font(17)))
    assert read_long_lines(image, Ink(image).dark, [[title], [footer]], told) == []
    assert told.given == []
    read_long_lines(image, Ink(image).dark, [[title]], told)
    assert len(told.given) == 1


def test_read_long_lines_pieces_return_to_page_position() -> None:
    image = landscape()
    ImageDraw.Draw(image).text((60, 840), FOOTER, fill="black", font=font(17))
    title = EngineWord("Lemon Oat Biscuits", 0.9, 140, 150, 900, 260)

    def ink(stacked: Image.Image) -> Iterable[EngineWord]:
        """Read each row of the stacked page as one word, exactly as wide as its ink."""
        rows = stacked.convert("L").point(lambda value: 255 * (value < 128))
        height = None
        for top in range(rows.height):
            part = rows.crop((0, top, rows.width, top + 1)).getbbox()
            if part and height is None:
                height = top
            if not part and height is not None:
                box = rows.crop((0, height, rows.width, top)).getbbox()
                assert box
                yield EngineWord("row", 0.9, box[0], height, box[2], top)
                height = None

    (row,) = read_long_lines(image, Ink(image).dark, [[title]], ink)
    assert len(row) > 3
    box = ImageDraw.Draw(image).textbbox((60, 840), FOOTER, font=font(17))
    assert row[0].left == pytest.approx(box[0], abs=2)
    assert row[-1].right == pytest.approx(box[2], abs=2)
    assert min(word.top for word in row) == pytest.approx(box[1], abs=2)
    assert max(word.bottom for word in row) == pytest.approx(box[3], abs=2)
