"""Tiny generated documents: a word or two that OCR reads in a twentieth of a second."""

from __future__ import annotations

import io
import random

from PIL import Image, ImageDraw, ImageFont

_INGREDIENTS = ("salt", "rice", "flour", "butter", "sugar", "onion", "lemon", "bread", "honey", "cream")
_SIZE = (150, 44)
_FONT_PX = 24


def words_of(number: int) -> str:
    """Return the text of document ``number``, different for each number below a hundred million."""
    return f"{random.Random(number).choice(_INGREDIENTS)} {number:05d}"  # noqa: S311 - not a secret


def png_of(text: str) -> bytes:
    """Return a picture of a line of text."""
    stored = io.BytesIO()
    _picture(text).save(stored, "PNG")
    return stored.getvalue()


def webp_of(text: str) -> bytes:
    """Return the same image in a format that OCR does not accept."""
    stored = io.BytesIO()
    _picture(text).save(stored, "WEBP", lossless=True, method=0)
    return stored.getvalue()


def _picture(text: str) -> Image.Image:
    image = Image.new("L", _SIZE, 255)
    ImageDraw.Draw(image).text((6, 6), text, fill=0, font=ImageFont.load_default(_FONT_PX))
    return image


def damaged(text: str) -> bytes:
    """Return a file that begins as a PNG and cannot be decoded."""
    return png_of(text)[:60]
