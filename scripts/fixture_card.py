"""What a fixture consists of: the text of a card, and how it becomes a photo."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Cell = tuple[str, str]


@dataclass(frozen=True)
class Recipe:
    """The text of one card. Column layouts and forms interpret the fields differently."""

    title: str
    note: str
    items: tuple[str, ...]
    steps: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...] = ()


@dataclass(frozen=True)
class Camera:
    """How a card becomes a photo. Lengths in pixels, angles in degrees clockwise.

    ``grain`` and ``noise`` are standard deviations of brightness out of 255, ``light`` is the
    factor that all brightness is multiplied with, ``keystone`` the share of the width by which
    the far edge is shorter, and ``margin`` how much table is seen round the card.
    """

    grain: float = 2.0
    noise: float = 0.0
    blur: float = 0.0
    light: float = 1.0
    gradient: float = 0.12
    turn: int = 0
    keystone: float = 0.0
    margin: int = 0
    exif_orientation: int = 1


@dataclass(frozen=True)
class Card:
    """One fixture: text, type face, photo and the file it is stored in."""

    name: str
    recipe: Recipe
    font: str
    tags: tuple[str, ...]
    layout: Literal["card", "columns", "form"] = "card"
    width: int = 1100
    camera: Camera = field(default_factory=Camera)
    suffix: Literal["jpg", "png", "tif", "pdf"] = "jpg"
    quality: int = 62
    min_word_recall: float = 0.95
    unread: tuple[str, ...] = ()
