"""Documents whose contents the clients must return: a table, a form, and enough pages for paging."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw, ImageFont

TABLE = (
    ("Ingredient", "Amount", "Unit"),
    ("Oats", "250", "grams"),
    ("Butter", "125", "grams"),
    ("Honey", "3", "spoons"),
)
FORM = {"Recipe:": "Lemon Oat Biscuits", "Oven:": "180 degrees", "Time:": "25 minutes"}

# Enough for two responses of 1,000 blocks, on pages that are quick to read.
LONG_PAGES = 5
LONG_LINES = 40
LONG_WORDS = ("flour", "butter", "sugar", "lemon", "honey")

_WHITE, _BLACK = 255, 0


def table_page() -> bytes:
    """Return a PNG with one ruled table."""
    image, draw, font = _sheet(1240, 900, 34)
    left, top, width, height = 120, 160, 330, 90
    for row, texts in enumerate(TABLE):
        for column, text in enumerate(texts):
            x, y = left + column * width, top + row * height
            draw.rectangle((x, y, x + width, y + height), outline=_BLACK, width=3)
            draw.text((x + 24, y + 24), text, fill=_BLACK, font=font)
    return _file(image, "PNG")


def form_page() -> bytes:
    """Return a PNG with labels that end in a colon, and a value beside each."""
    image, draw, font = _sheet(1240, 700, 36)
    for number, (label, value) in enumerate(FORM.items()):
        draw.text((120, 140 + 120 * number), label, fill=_BLACK, font=font)
        draw.text((420, 140 + 120 * number), value, fill=_BLACK, font=font)
    return _file(image, "PNG")


def long_pdf() -> bytes:
    """Return a PDF of ``LONG_PAGES`` pages; each line ends with the page's and its own number."""
    pages = []
    for page in range(1, LONG_PAGES + 1):
        image, draw, font = _sheet(1100, 1500, 24)
        for line in range(LONG_LINES):
            text = " ".join((*LONG_WORDS, f"{page:02}{line:02}"))
            draw.text((80, 60 + 35 * line), text, fill=_BLACK, font=font)
        pages.append(image)
    file = io.BytesIO()
    pages[0].save(file, "PDF", save_all=True, append_images=pages[1:], resolution=130)
    return file.getvalue()


def _sheet(width: int, height: int, size: int) -> tuple[Image.Image, ImageDraw.ImageDraw, ImageFont.FreeTypeFont]:
    image = Image.new("L", (width, height), _WHITE)
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return image, ImageDraw.Draw(image), font


def _file(image: Image.Image, form: str) -> bytes:
    file = io.BytesIO()
    image.save(file, form, dpi=(150, 150))
    return file.getvalue()
