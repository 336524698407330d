"""The interface of a text engine: an upright image in, words with boxes and confidences out.

Engines straighten a page before they read it. Boxes are axis-aligned in that straightened frame,
in which rows are level; ``Frame`` maps them back to the given image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL import Image

Point = tuple[float, float]


@dataclass(frozen=True)
class EngineWord:
    """A word in the straightened frame, in pixels; confidence is 0 to 1."""

    text: str
    confidence: float
    left: float
    top: float
    right: float
    bottom: float

    @property
    def height(self) -> float:
        """Height in pixels of the straightened frame."""
        return self.bottom - self.top

    @property
    def middle(self) -> float:
        """The vertical centre."""
        return (self.top + self.bottom) / 2

    def scaled(self, by: float) -> EngineWord:
        """Return the word in a frame of another scale."""
        return replace(self, left=self.left * by, top=self.top * by, right=self.right * by, bottom=self.bottom * by)


@dataclass(frozen=True)
class Frame:
    """The transform from the straightened page to the given image.

    ``width`` and ``height`` are the image's pixels; the straightened page has ``page_width`` and
    ``page_height``. The page was turned by ``rotation`` degrees (clockwise) and scaled
    about the centre to become upright; turning by 90 degrees swaps its sides.
    """

    width: float
    height: float
    page_width: float
    page_height: float
    rotation: float = 0.0

    def to_image(self, x: float, y: float) -> Point:
        """Map a point of the straightened page to the image, both in pixels."""
        angle = math.radians(-self.rotation)
        cos, sin = math.cos(angle), math.sin(angle)
        # The straightened page is the smallest that holds the whole turned image.
        scale = self.page_width / (self.width * abs(cos) + self.height * abs(sin))
        dx, dy = (x - self.page_width / 2) / scale, (y - self.page_height / 2) / scale
        return dx * cos - dy * sin + self.width / 2, dx * sin + dy * cos + self.height / 2


@dataclass(frozen=True)
class EngineReading:
    """What an engine read of one page: words in the straightened frame, in the engine's rows."""

    frame: Frame
    rows: tuple[tuple[EngineWord, ...], ...]


class TextEngine(Protocol):
    """Reads the text of one image. Safe to call from several threads."""

    @property
    def name(self) -> str:
        """The engine's name, such as ``ocrust``."""

    @property
    def version(self) -> str:
        """The version of the engine and its models; another version may read the same page differently."""

    def warm(self) -> None:
        """Load the models, so that the first page does not wait for them."""

    def read(self, image: Image.Image) -> EngineReading:
        """Read an RGB image that is upright as far as its EXIF orientation goes."""
