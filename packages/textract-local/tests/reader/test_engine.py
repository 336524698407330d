"""The real engine, on pages with known words and places."""

from __future__ import annotations

import cmath
import math
import subprocess
import sys
from statistics import median
from typing import Any

import pytest
from PIL import Image, ImageDraw

from textract_local.reader.ocrust_engine import OcrustEngine, _words
from textract_local.reader.pixels import READING_SIDE
from textract_local.reader.reader import DocumentReader
from textract_support.drawn_documents import pdf_page
from textract_support.pages import encoded, envelope, font, overlap, recipe_page


class _Spoken:
    """A word as the engine returns it."""

    def __init__(self, text: str, confidence: float = 0.9) -> None:
        self.text = text
        self.confidence = confidence
        self.box = _Box()


class _Box:
    x0, y0, x1, y1 = 10.0, 100.0, 60.0, 200.0


def words_of(response: dict[str, Any]) -> dict[str, list[complex]]:
    """Return each word's corners in ratios of the page, as complex numbers."""
    return {
        block["Text"]: [complex(point["X"], point["Y"]) for point in block["Geometry"]["Polygon"]]
        for block in response["Blocks"]
        if block["BlockType"] == "WORD"
    }


@pytest.mark.single_python
@pytest.mark.parametrize("degrees", [0, 90, 180, 270, 5, -5])
def test_reader_words_lie_where_drawn(reader: DocumentReader, degrees: int) -> None:
    image, drawn = recipe_page().turned(degrees)
    response = reader.read(encoded(image), "page.png")
    found = words_of(response)
    assert set(found) == set(drawn)
    overlaps = []
    for text, corners in drawn.items():
        read = [complex(point.real * image.width, point.imag * image.height) for point in found[text]]
        read_box = envelope(tuple((point.real, point.imag) for point in read))
        overlaps.append(overlap(envelope(corners), read_box))
        # The first side of a polygon runs along the text, whichever way that is.
        slant = math.degrees(cmath.phase(read[1] - read[0])) - degrees
        assert abs((slant + 180) % 360 - 180) < 2, text
    assert median(overlaps) > 0.7
    assert min(overlaps) > 0.55
    lines = [block["Text"] for block in response["Blocks"] if block["BlockType"] == "LINE"]
    assert lines == ["Lemon Biscuits", "flour 250 grams", "butter sugar vanilla", "bake for twenty minutes"]


def sideways(*rows: str) -> Image.Image:
    image = Image.new("RGB", (900, 110 + 90 * len(rows)), "white")
    for number, row in enumerate(rows):
        ImageDraw.Draw(image).text((60, 60 + 90 * number), row, fill="black", font=font(48))
    return image


@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("rows", [("HELLO WORLD 12345",), ("HELLO WORLD 12345", "flour 250 grams")])
def test_reader_few_rotated_lines_stay_whole(reader: DocumentReader, rows: tuple[str, ...], degrees: int) -> None:
    upright = sideways(*rows)
    response = reader.read(encoded(upright.rotate(-degrees, expand=True)), "label.png")
    assert [block["Text"] for block in response["Blocks"] if block["BlockType"] == "LINE"] == list(rows)
    # The first side of a polygon runs along the text, whichever way that is.
    for corners in words_of(response).values():
        size = upright.size if degrees == 180 else upright.size[::-1]
        along = corners[1] - corners[0]
        slant = math.degrees(cmath.phase(complex(along.real * size[0], along.imag * size[1]))) - degrees
        assert abs((slant + 180) % 360 - 180) < 2


def test_reader_line_on_rotated_pdf_page_stays_whole(reader: DocumentReader) -> None:
    drawing = b"BT /F1 24 Tf 50 100 Td (HELLO WORLD 12345) Tj ET"
    content = pdf_page(
        b"0 0 400 200",
        drawing,
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        resources=b"/Font << /F1 5 0 R >>",
    ).replace(b"/Type /Page /", b"/Rotate 90 /Type /Page /")
    response = reader.read(content, "label.pdf")
    assert [block["Text"] for block in response["Blocks"] if block["BlockType"] == "LINE"] == ["HELLO WORLD 12345"]


def test_reader_small_page_keeps_its_own_coordinates(reader: DocumentReader) -> None:
    drawn = recipe_page()
    half = drawn.image.resize((500, 350), Image.Resampling.LANCZOS)
    found = words_of(reader.read(encoded(half), "small.png"))
    for text, box in drawn.places.items():
        place = sum(found[text]) / 4
        assert place.real == pytest.approx((box[0] + box[2]) / 2 / 1000, abs=0.02)
        assert place.imag == pytest.approx((box[1] + box[3]) / 2 / 700, abs=0.02)


def test_reader_light_print_on_dark_ground_is_one_line(reader: DocumentReader) -> None:
    image = Image.new("RGB", (1000, 300), "teal")
    draw = ImageDraw.Draw(image)
    draw.text((60, 110), "Lemon Biscuits for eight people", fill="white", font=font(52))
    response = reader.read(encoded(image), "band.png")
    lines = [block["Text"] for block in response["Blocks"] if block["BlockType"] == "LINE"]
    assert lines == ["Lemon Biscuits for eight people"]
    (line,) = (block["Geometry"]["BoundingBox"] for block in response["Blocks"] if block["BlockType"] == "LINE")
    left, _, right, _ = draw.textbbox((60, 110), "Lemon Biscuits for eight people", font=font(52))
    assert (line["Left"] * 1000, line["Width"] * 1000) == pytest.approx((left, right - left), abs=10)


@pytest.mark.single_python
def test_reader_oversized_page_keeps_its_own_coordinates(reader: DocumentReader) -> None:
    drawn = recipe_page()
    large = drawn.image.resize((2 * READING_SIDE, round(1.4 * READING_SIDE)), Image.Resampling.BICUBIC)
    response = reader.read(encoded(large), "large.png")
    # If the page were read in tiles, words at the seams would appear twice.
    assert sorted(block["Text"] for block in response["Blocks"] if block["BlockType"] == "WORD") == sorted(drawn.places)
    for text, corners in words_of(response).items():
        box = drawn.places[text]
        place = sum(corners) / 4
        assert place.real == pytest.approx((box[0] + box[2]) / 2 / 1000, abs=0.01)
        assert place.imag == pytest.approx((box[1] + box[3]) / 2 / 700, abs=0.02)


def test_ocrust_words_degrees_and_dashes_are_normalised() -> None:
    texts = ["180\u2103", "350\u2109", "12\u201314", "salt\u2014pepper", "\u00bd", "cr\u00e8me"]
    spelled = [word.text for word in _words([_Spoken(text) for text in texts])]
    assert spelled == ["180\u00b0C", "350\u00b0F", "12-14", "salt-pepper", "\u00bd", "cr\u00e8me"]


def test_ocrust_words_height_is_trimmed_and_confidence_clamped() -> None:
    (word,) = _words([_Spoken("salt", 1.0000001)])
    assert (word.left, word.right, word.confidence) == (10, 60, 1)
    assert (word.top, word.bottom) == pytest.approx((115, 185))
    assert list(_words([_Spoken(""), _Spoken(" \u3000")])) == []


def test_reader_degrees_on_page_are_normalised(reader: DocumentReader) -> None:
    image = Image.new("RGB", (900, 240), "white")
    ImageDraw.Draw(image).text((60, 80), "Bake at 180 \u00b0C now", fill="black", font=font(64))
    text = " ".join(words_of(reader.read(encoded(image), "oven.png")))
    assert "\u00b0C" in text
    assert "\u2103" not in text


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (40, 40), (2000, 9)])
def test_reader_page_too_small_for_text_is_blank(reader: DocumentReader, size: tuple[int, int]) -> None:
    response = reader.read(encoded(Image.new("L", size, 255)), "dot.png")
    assert [block["BlockType"] for block in response["Blocks"]] == ["PAGE"]


@pytest.mark.parametrize("colour", ["white", "black", (200, 190, 170)])
def test_ocrust_engine_page_of_one_colour_is_not_recognised(monkeypatch: pytest.MonkeyPatch, colour: Any) -> None:
    engine = OcrustEngine()
    monkeypatch.setattr(engine, "_engine", lambda: pytest.fail("it was read"))
    reading = engine.read(Image.new("RGB", (300, 400), colour))
    assert reading.rows == ()
    assert (reading.frame.width, reading.frame.height) == (300, 400)


def test_reader_version_names_engine_and_models(reader: DocumentReader) -> None:
    assert reader.engine == "ocrust"
    engine, models = reader.version.split("+models.")
    assert all(part[0].isdigit() for part in (engine, models))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to its memory")
def test_reader_without_memory_raises_memory_error() -> None:
    # The limit leaves more memory than the engine takes for the page, and less than its models take.
    code = """
import resource, sys
from pathlib import Path
from textract_local.reader.reader import DocumentReader

reader = DocumentReader(threads=1)
reader.warm()
(held,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData")]
most = 1024 * int(held.split()[1]) + 200 * 1024**2
resource.setrlimit(resource.RLIMIT_DATA, (most, most))
try:
    reader.read(sys.stdin.buffer.read(), "page")
except MemoryError:
    print("no memory")
"""
    page = encoded(recipe_page().image.resize((1500, 2000)))
    done = subprocess.run([sys.executable, "-c", code], input=page, capture_output=True, check=False)
    assert done.stdout == b"no memory\n", done.stderr.decode()[-500:]
