"""Find what is drawn on a page besides its text: ruling lines, bands, frames, check boxes, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

from textract_local.reader.analysis.areas import find_areas
from textract_local.reader.analysis.check_boxes import find_check_boxes
from textract_local.reader.analysis.ruling_lines import find_ruling_lines
from textract_local.reader.analysis.shapes import Box, CheckBox, RulingLine
from textract_local.reader.layout import Line

if TYPE_CHECKING:
    from PIL import Image

# Longest side of the image that is searched, in pixels, as for the engine. It bounds time and memory.
_LONGEST = 3000

# Frames are built from at most so many rules of either direction, the longest.
_MOST_SIDES = 300


@dataclass(frozen=True)
class PageMarks:
    """The marks of one page in pixels of the straightened page, each kind from top to bottom.

    ``horizontal`` and ``vertical`` are ruling lines; ``bands`` are evenly filled areas behind text, such
    as zebra rows and header bars; ``rectangles`` are closed frames of ruling lines; ``pictures`` are large
    areas of ink or colour that are not text; ``strokes`` are smaller areas of ink that are neither text nor
    any of the above, such as handwriting that was not read, logos and icons.
    """

    width: float
    height: float
    horizontal: tuple[RulingLine, ...] = ()
    vertical: tuple[RulingLine, ...] = ()
    bands: tuple[Box, ...] = ()
    rectangles: tuple[Box, ...] = ()
    check_boxes: tuple[CheckBox, ...] = ()
    pictures: tuple[Box, ...] = ()
    strokes: tuple[Box, ...] = ()


def find_marks(straight: Image.Image, lines: Sequence[Line]) -> PageMarks:
    """Return the marks of a straightened page; ``lines`` are its words in that page's pixels.

    The size of the engine's largest page bounds time and memory: a larger page is searched in a smaller copy.
    """
    import numpy as np
    from PIL import Image as Pillow

    scale = min(_LONGEST / max(straight.size), 1.0)
    page = straight
    if scale < 1:
        size = max(round(straight.width * scale), 1), max(round(straight.height * scale), 1)
        page = straight.resize(size, Pillow.Resampling.BOX)
    words = [
        Box(word.left * scale, word.top * scale, word.right * scale, word.bottom * scale)
        for line in lines
        for word in line
    ]
    letter = _letter(words, page.width, page.height)
    grey = np.asarray(page.convert("L"))
    horizontal, vertical = find_ruling_lines(grey, words, letter)
    check_boxes = find_check_boxes(grey, words, letter)
    horizontal, vertical = (
        [rule for rule in rules if not any(_is_side(rule.box, mark.box, letter) for mark in check_boxes)]
        for rules in (horizontal, vertical)
    )
    known = [rule.box for rule in (*horizontal, *vertical)] + [mark.box for mark in check_boxes]
    areas = find_areas(page, words, known, letter)
    by = 1 / scale
    return PageMarks(
        width=straight.width,
        height=straight.height,
        horizontal=tuple(replace(rule, box=_scaled(rule.box, by)) for rule in _ordered(horizontal)),
        vertical=tuple(replace(rule, box=_scaled(rule.box, by)) for rule in _ordered(vertical)),
        bands=tuple(_scaled(box, by) for box in areas.bands),
        rectangles=tuple(_scaled(box, by) for box in _rectangles(horizontal, vertical, letter)),
        check_boxes=tuple(replace(mark, box=_scaled(mark.box, by)) for mark in check_boxes),
        pictures=tuple(_scaled(box, by) for box in areas.pictures),
        strokes=tuple(_scaled(box, by) for box in areas.strokes),
    )


def _letter(words: Sequence[Box], width: int, height: int) -> float:
    """Return the median height of the words, at least 6 pixels; without words, a usual share of the page's size."""
    usual = min(width, height) / 60
    return max(median(word.height for word in words) if words else usual, 6.0)


def _scaled(box: Box, by: float) -> Box:
    return box if by == 1 else Box(*(edge * by for edge in box))


def _ordered(rules: Sequence[RulingLine]) -> list[RulingLine]:
    return sorted(rules, key=lambda rule: (rule.box.top, rule.box.left))


def _is_side(rule: Box, mark: Box, letter: float) -> bool:
    """Tell whether a rule is a side of a check box and not a ruling line of the page."""
    held = mark.grown(0.3 * letter)
    return held.holds(rule.left, rule.top) and held.holds(rule.right, rule.bottom)


def _rectangles(horizontal: Sequence[RulingLine], vertical: Sequence[RulingLine], letter: float) -> list[Box]:
    """Return the frames that two horizontal and two vertical rules form."""
    near = 0.6 * letter
    horizontal = sorted(horizontal, key=lambda rule: -rule.box.width)[:_MOST_SIDES]
    vertical = sorted(vertical, key=lambda rule: -rule.box.height)[:_MOST_SIDES]
    frames = []
    for top in sorted(horizontal, key=lambda rule: (rule.box.top, rule.box.left)):
        below = [
            rule
            for rule in horizontal
            if rule.box.top > top.box.bottom
            and abs(rule.box.left - top.box.left) <= near
            and abs(rule.box.right - top.box.right) <= near
        ]
        for bottom in sorted(below, key=lambda rule: rule.box.top)[:3]:
            sides = [
                side
                for side in vertical
                if abs(side.box.top - top.box.top) <= near and abs(side.box.bottom - bottom.box.bottom) <= near
            ]
            if any(abs(side.box.left - top.box.left) <= near for side in sides) and any(
                abs(side.box.right - top.box.right) <= near for side in sides
            ):
                frames.append(Box(top.box.left, top.box.top, top.box.right, bottom.box.bottom))
                break
    return frames
