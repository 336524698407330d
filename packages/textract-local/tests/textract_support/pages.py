"""Pages with known words and places, for tests of reading and layout."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from textract_local.reader.engine import EngineWord, Frame, Point

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    loaded = ImageFont.load_default(size)
    assert isinstance(loaded, ImageFont.FreeTypeFont)
    return loaded


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def frame(width: float, height: float, *, rotation: float = 0.0, scale: float = 1.0) -> Frame:
    """Return the frame of a page that an engine turned and scaled: the smallest that holds the whole image."""
    cos, sin = abs(math.cos(math.radians(rotation))), abs(math.sin(math.radians(rotation)))
    return Frame(width, height, scale * (width * cos + height * sin), scale * (width * sin + height * cos), rotation)


def word(text: str, left: float, top: float, *, width: float = 0.0, height: float = 20.0) -> EngineWord:
    return EngineWord(text, 0.9, left, top, left + (width or 12 * len(text)), top + height)


@dataclass(frozen=True)
class DrawnPage:
    """A page and the ink box of each of its words, which are all different."""

    image: Image.Image
    places: dict[str, Box]

    def turned(self, degrees: float) -> tuple[Image.Image, dict[str, tuple[Point, ...]]]:
        """Return the page turned clockwise on white, and each word's corners there: TL, TR, BR, BL of the text."""
        image = self.image.rotate(-degrees, Image.Resampling.BICUBIC, expand=True, fillcolor="white")
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

        def place(x: float, y: float) -> Point:
            dx, dy = x - self.image.width / 2, y - self.image.height / 2
            return dx * cos - dy * sin + image.width / 2, dx * sin + dy * cos + image.height / 2

        return image, {
            text: (place(left, top), place(right, top), place(right, bottom), place(left, bottom))
            for text, (left, top, right, bottom) in self.places.items()
        }


def recipe_page() -> DrawnPage:
    """Return a small card of four rows with wide spacing."""
    rows = ["Lemon Biscuits", "flour 250 grams", "butter sugar vanilla", "bake for twenty minutes"]
    image = Image.new("RGB", (1000, 700), "white")
    draw = ImageDraw.Draw(image)
    places: dict[str, Box] = {}
    for number, row in enumerate(rows):
        left = 110.0
        for text in row.split():
            box = draw.textbbox((left, 100 + 130 * number), text, font=font(52))
            draw.text((left, 100 + 130 * number), text, fill="black", font=font(52))
            places[text] = (box[0], box[1], box[2], box[3])
            left = box[2] + 26
    return DrawnPage(image, places)


def envelope(corners: tuple[Point, ...]) -> Box:
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    return min(xs), min(ys), max(xs), max(ys)


def overlap(first: Box, second: Box) -> float:
    """Return the intersection over union of two boxes."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return shared / (areas - shared)
