"""What a page shows besides its text, as plain data in pixels of the straightened page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Box(NamedTuple):
    """An upright box in pixels of the straightened page."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Width in pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Height in pixels."""
        return self.bottom - self.top

    @property
    def area(self) -> float:
        """Area in square pixels."""
        return max(self.width, 0.0) * max(self.height, 0.0)

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the box."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def holds(self, x: float, y: float) -> bool:
        """Tell whether a point lies in the box."""
        return self.left <= x <= self.right and self.top <= y <= self.bottom

    def grown(self, by: float) -> Box:
        """Return the box with ``by`` pixels more on every side."""
        return Box(self.left - by, self.top - by, self.right + by, self.bottom + by)

    def shared(self, other: Box) -> float:
        """Return the area that two boxes have in common."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0.0) * max(height, 0.0)


def around(boxes: Iterable[Box]) -> Box:
    """Return the smallest box that holds all of ``boxes``, of which there is at least one."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return Box(min(lefts), min(tops), max(rights), max(bottoms))


@dataclass(frozen=True)
class Rule:
    """A ruling line. ``box`` is as thick as the line is; ``solid`` is the share of its length that has ink (0 to 1)."""

    box: Box
    solid: float = 1.0


@dataclass(frozen=True)
class CheckBox:
    """A check box or, where ``round``, a radio button; ``confidence`` (0 to 1) is that of ``selected``."""

    box: Box
    selected: bool
    round: bool = False
    confidence: float = 1.0


@dataclass(frozen=True)
class PageMarks:
    """The marks of one page, each kind from top to bottom.

    ``horizontal`` and ``vertical`` are ruling lines; ``bands`` are filled areas behind text, such as
    zebra rows and header bars; ``rectangles`` are closed frames; ``pictures`` are large areas of ink
    or colour that are no text; ``strokes`` are smaller areas of ink that are neither text nor anything
    of the above, such as handwriting that was not read, logos and stamps.
    """

    width: float
    height: float
    horizontal: tuple[Rule, ...] = ()
    vertical: tuple[Rule, ...] = ()
    bands: tuple[Box, ...] = ()
    rectangles: tuple[Box, ...] = ()
    check_boxes: tuple[CheckBox, ...] = ()
    pictures: tuple[Box, ...] = ()
    strokes: tuple[Box, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Return the marks as JSON values; ``from_json`` reads them."""
        return {
            "width": self.width,
            "height": self.height,
            "horizontal": [[*rule.box, rule.solid] for rule in self.horizontal],
            "vertical": [[*rule.box, rule.solid] for rule in self.vertical],
            "bands": [list(box) for box in self.bands],
            "rectangles": [list(box) for box in self.rectangles],
            "check_boxes": [[*mark.box, mark.selected, mark.round, mark.confidence] for mark in self.check_boxes],
            "pictures": [list(box) for box in self.pictures],
            "strokes": [list(box) for box in self.strokes],
        }

    @classmethod
    def from_json(cls, stored: dict[str, object]) -> PageMarks:
        """Return the marks that ``as_json`` told. Raises ``KeyError``, ``TypeError`` or ``ValueError`` for others."""
        return cls(
            width=_number(stored["width"]),
            height=_number(stored["height"]),
            horizontal=tuple(_rule(row) for row in _rows(stored["horizontal"])),
            vertical=tuple(_rule(row) for row in _rows(stored["vertical"])),
            bands=tuple(_box(row) for row in _rows(stored["bands"])),
            rectangles=tuple(_box(row) for row in _rows(stored["rectangles"])),
            check_boxes=tuple(_check_box(row) for row in _rows(stored["check_boxes"])),
            pictures=tuple(_box(row) for row in _rows(stored["pictures"])),
            strokes=tuple(_box(row) for row in _rows(stored["strokes"])),
        )


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(value)
    return float(value)


def _rows(value: object) -> Iterable[Sequence[object]]:
    if not isinstance(value, list):
        raise TypeError(value)
    return value


def _box(row: Sequence[object]) -> Box:
    left, top, right, bottom = row
    return Box(_number(left), _number(top), _number(right), _number(bottom))


def _rule(row: Sequence[object]) -> Rule:
    *box, solid = row
    return Rule(_box(box), _number(solid))


def _check_box(row: Sequence[object]) -> CheckBox:
    *box, selected, is_round, confidence = row
    return CheckBox(_box(box), bool(selected), bool(is_round), _number(confidence))
