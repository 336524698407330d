"""Draw a recipe card and photograph it: text, paper, light, lens and file format.

Everything random comes from a legacy ``RandomState`` seeded with the card's name, whose
stream NumPy keeps frozen (NEP 19), so one Pillow version always writes the same bytes.
"""

from __future__ import annotations

import io
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from scripts.fixture_card import Camera, Card

INK = (44, 40, 46)
PAPER = (246, 242, 231)
TABLE = (122, 96, 74)
# A PDF contains its creation time; a fixed one keeps its bytes the same.
EPOCH = time.gmtime(0)

Floats = NDArray[np.float32]
FontAt = Callable[[int, bool], ImageFont.FreeTypeFont]
"""A type face: the font for a size in pixels, bold or not."""


@dataclass(frozen=True)
class Photo:
    """A finished fixture: the file, its pixels before encoding, and the text in it."""

    content: bytes
    pixels: Image.Image
    lines: tuple[str, ...]


@dataclass
class _Sheet:
    """Text placed on a card of known width and growing height."""

    width: int
    font: FontAt
    lines: list[str]
    placed: list[tuple[float, float, str, ImageFont.FreeTypeFont]]
    rules: list[tuple[float, float, float]]
    y: float

    @property
    def unit(self) -> float:
        return self.width / 40

    def write(self, x: float, text: str, scale: float = 1.0, *, bold: bool = False) -> float:
        """Place one row of text and return its height."""
        size = round(self.unit * scale)
        self.placed.append((x, self.y, text, self.font(size, bold)))
        self.lines.append(text)
        return size * 1.75


def render(card: Card, font: FontAt) -> Photo:
    """Make one fixture in the given type face.

    ``Photo.pixels`` are what the camera saw, before encoding and before EXIF turns the rows.
    """
    random = np.random.RandomState(zlib.crc32(card.name.encode()))
    sheet = _Sheet(card.width, font, [], [], [], card.width / 16)
    {"card": _card, "columns": _columns, "form": _form}[card.layout](sheet, card)
    upright = _photograph(_ink(sheet), card.camera, random)
    return Photo(_encode(upright, card), upright, tuple(sheet.lines))


def _heading(sheet: _Sheet, card: Card) -> float:
    left = sheet.width / 12
    sheet.y += sheet.write(left, card.recipe.title, 1.7, bold=True)
    sheet.y += sheet.write(left, card.recipe.note)
    sheet.y += sheet.unit * 0.7
    return left


def _card(sheet: _Sheet, card: Card) -> None:
    left = _heading(sheet, card)
    for text in card.recipe.items:
        sheet.y += sheet.write(left, text)
    sheet.y += sheet.unit * 0.9
    for text in card.recipe.steps:
        sheet.y += sheet.write(left, text)
    sheet.y += sheet.unit


def _columns(sheet: _Sheet, card: Card) -> None:
    left = _heading(sheet, card)
    top, ends = sheet.y, []
    for x, texts in ((left, card.recipe.items), (sheet.width * 0.53, card.recipe.steps)):
        sheet.y = top
        for index, text in enumerate(texts):
            sheet.y += sheet.write(x, text, bold=index == 0)
        ends.append(sheet.y)
    sheet.y = max(ends) + sheet.unit


def _form(sheet: _Sheet, card: Card) -> None:
    left = _heading(sheet, card)
    for row in card.recipe.cells:
        height = 0.0
        for x, (label, value) in zip((left, sheet.width * 0.56), row, strict=True):
            height = sheet.write(x, label, bold=True)
            sheet.write(x + sheet.unit * 5.5, value)
            sheet.rules.append((x + sheet.unit * 5.2, sheet.y + height * 0.84, x + sheet.unit * 15))
        sheet.y += height * 1.25
    sheet.y += sheet.unit
    for text in card.recipe.steps:
        sheet.y += sheet.write(left, text)
    sheet.y += sheet.unit


def _ink(sheet: _Sheet) -> Image.Image:
    mask = Image.new("L", (sheet.width, round(sheet.y)))
    draw = ImageDraw.Draw(mask)
    for x, y, text, font in sheet.placed:
        draw.text((round(x), round(y)), text, fill=255, font=font)
    for start, y, end in sheet.rules:
        draw.line((round(start), round(y), round(end), round(y)), fill=150, width=max(1, sheet.width // 600))
    return mask


def _photograph(mask: Image.Image, camera: Camera, random: np.random.RandomState) -> Image.Image:
    height, width = mask.height, mask.width
    paper = np.asarray(PAPER, np.float32) * _light(width, height, camera, random)[..., None]
    if camera.grain:
        paper += _grain(width, height, camera.grain, random)[..., None]
    cover = np.asarray(mask, np.float32)[..., None] / 255
    image = _image(paper * (1 - cover) + np.asarray(INK, np.float32) * cover)
    if camera.margin:
        image = _lay_on_table(image, camera, random)
    if camera.turn:
        image = turn(image, camera.turn, fill=PAPER)
    if camera.blur:
        image = image.filter(ImageFilter.GaussianBlur(camera.blur))
    if camera.light != 1 or camera.noise:
        pixels = np.asarray(image, np.float32) * np.float32(camera.light)
        pixels += random.normal(0, camera.noise, (*pixels.shape[:2], 1)).astype(np.float32)
        image = _image(pixels)
    return image


def turn(image: Image.Image, degrees: float, *, fill: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """Turn clockwise: right angles without loss, others bicubic on a page grown to fit."""
    lossless = {
        0: None,
        90: Image.Transpose.ROTATE_270,
        180: Image.Transpose.ROTATE_180,
        270: Image.Transpose.ROTATE_90,
    }
    if degrees % 360 in lossless:
        step = lossless[int(degrees % 360)]
        return image if step is None else image.transpose(step)
    return image.rotate(-degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=fill)


def _light(width: int, height: int, camera: Camera, random: np.random.RandomState) -> Floats:
    """Brightness that falls off away from one corner."""
    corner = random.uniform(0, 1, 2).round()
    across = np.abs(np.linspace(0, 1, width, dtype=np.float32) - corner[0])
    down = np.abs(np.linspace(0, 1, height, dtype=np.float32) - corner[1])
    fall: Floats = (across[None, :] + down[:, None]).astype(np.float32) / 2
    return 1 - np.float32(camera.gradient) * fall


def _grain(width: int, height: int, strength: float, random: np.random.RandomState) -> Floats:
    """Return the brightness of paper fibres: coarse noise with fine noise added."""
    clouds = random.normal(0, 1, (12, 12)).astype(np.float32)
    coarse = np.asarray(Image.fromarray(clouds).resize((width, height), Image.Resampling.BICUBIC))
    fine = random.normal(0, 1, (height // 2 + 1, width // 2 + 1)).astype(np.float32)
    fine = fine.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    grain: Floats = (coarse * 1.5 + fine * 0.5).astype(np.float32) * np.float32(strength)
    return grain


def _lay_on_table(card: Image.Image, camera: Camera, random: np.random.RandomState) -> Image.Image:
    """Put the card on a table, seen from its lower edge so that the upper one looks shorter."""
    margin = camera.margin
    size = (card.width + 2 * margin, card.height + 2 * margin)
    table = np.asarray(TABLE, np.float32) + _grain(*size, 4.0, random)[..., None]
    inset = card.width * camera.keystone / 2
    right, bottom = margin + card.width, margin + card.height
    corners = [(margin + inset, margin), (right - inset, margin), (right, bottom), (margin, bottom)]
    source = [(0, 0), (card.width, 0), (card.width, card.height), (0, card.height)]
    warp = partial(
        Image.Image.transform,
        size=size,
        method=Image.Transform.PERSPECTIVE,
        data=_perspective(corners, source),
        resample=Image.Resampling.BICUBIC,
    )
    image = _image(table)
    image.paste(warp(card), mask=warp(Image.new("L", card.size, 255)))
    return image


def _perspective(seen: Sequence[tuple[float, float]], source: Sequence[tuple[float, float]]) -> tuple[float, ...]:
    """Return the eight coefficients with which Pillow maps a point of the output to its source."""
    rows, values = [], []
    for (x, y), (u, v) in zip(seen, source, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    # Rounded, so that the last bits of one machine's linear algebra do not reach the pixels.
    return tuple(round(float(value), 12) for value in np.linalg.solve(np.array(rows), np.array(values)))


def _image(pixels: NDArray[np.floating[Any]]) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _encode(image: Image.Image, card: Card) -> bytes:
    file = io.BytesIO()
    if card.suffix == "png":
        image.convert("L").save(file, "PNG", optimize=True)
    elif card.suffix == "tif":
        image.convert("L").save(file, "TIFF", compression="tiff_lzw")
    elif card.suffix == "pdf":
        image.save(
            file,
            "PDF",
            resolution=150,
            quality=card.quality,
            title=card.recipe.title,
            creationDate=EPOCH,
            modDate=EPOCH,
        )
    else:
        exif = Image.Exif()
        if card.camera.exif_orientation == 6:
            # Orientation 6: the viewer turns the stored rows a quarter clockwise.
            image = turn(image, 270)
            exif[0x0112] = 6
        image.save(file, "JPEG", quality=card.quality, optimize=True, exif=exif)
    return file.getvalue()
