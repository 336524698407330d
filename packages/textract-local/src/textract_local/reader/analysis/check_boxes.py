"""Check boxes and radio buttons: small frames and rings, empty or marked.

A frame has four straight, inked sides and stands apart from words: letters with a bow, such as O and D,
have no corners. A ring is a radio button if it is not a letter of a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textract_local.reader.analysis.components import components, runs_in
from textract_local.reader.analysis.shapes import Box, CheckBox

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Grey = NDArray[np.uint8]
    Mask = NDArray[np.bool_]

# Least and greatest side in letter heights, and the greatest ratio of the sides.
_SMALLEST = 0.7
_LARGEST = 3.2
_SQUARE = 1.3

# Each side of a frame has ink along this share of it; a ring has ink at this share of the angles.
_SIDE = 0.9
_RING = 0.92

# Darker than the paper by this much of 255.
_CONTRAST = 40

# A box is selected if ink covers more than this share of its inside.
_MARKED = 0.06

_MOST = 400
_MOST_LOOKED_AT = 4_000


def find_check_boxes(grey: Grey, words: Sequence[Box], letter: float) -> list[CheckBox]:
    """Return check boxes and radio buttons from top to bottom, in the pixels of ``grey``."""
    import numpy as np

    paper = int(np.median(grey))
    dark: Mask = grey < max(paper - _CONTRAST, 1)
    found = components(runs_in(dark))
    smallest, largest = max(_SMALLEST * letter, 7), _LARGEST * letter
    width, height = found.boxes[:, 2] - found.boxes[:, 0], found.boxes[:, 3] - found.boxes[:, 1]
    fitting = (
        (np.minimum(width, height) >= smallest)
        & (np.maximum(width, height) <= largest)
        & (np.maximum(width, height) <= _SQUARE * np.minimum(width, height))
    )
    written = np.array(words, dtype=float).reshape(-1, 4)
    marks = []
    for left, top, right, bottom in found.boxes[fitting][:_MOST_LOOKED_AT].tolist():
        box = Box(left, top, right, bottom)
        part = dark[top:bottom, left:right]
        is_frame = _is_frame(part)
        if not is_frame and not _is_ring(part):
            continue
        covered = _covered(box, written)
        # A letter is part of a longer word, while a frame that was read as one letter is a word by itself. A ring that
        # is a word by itself may be the letter O or a zero.
        if np.any(covered[written[:, 2] - written[:, 0] > 1.6 * box.width] > 0.5):
            continue
        if is_frame:
            marks.append(_frame(box, part))
        elif not np.any(covered > 0.3):
            marks.append(_button(box, part))
    return sorted(marks[:_MOST], key=lambda mark: (mark.box.top, mark.box.left))


def _covered(box: Box, written: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of the box that each word covers."""
    import numpy as np

    width = np.minimum(written[:, 2], box.right) - np.maximum(written[:, 0], box.left)
    height = np.minimum(written[:, 3], box.bottom) - np.maximum(written[:, 1], box.top)
    share: NDArray[np.float64] = np.maximum(width, 0.0) * np.maximum(height, 0.0) / box.area
    return share


def _rim(part: Mask) -> int:
    rim: int = max(round(0.18 * min(part.shape)), 1)
    return rim


def _is_frame(part: Mask) -> bool:
    import numpy as np

    rim = _rim(part)
    height, width = part.shape
    corner = max(round(min(part.shape) * 0.12), 1)
    sides = (
        np.any(part[:rim], axis=0).mean(),
        np.any(part[-rim:], axis=0).mean(),
        np.any(part[:, :rim], axis=1).mean(),
        np.any(part[:, -rim:], axis=1).mean(),
    )
    corners = (part[:corner, :corner], part[:corner, -corner:], part[-corner:, :corner], part[-corner:, -corner:])
    hollow = part[rim : height - rim, rim : width - rim]
    # A bullet is filled entirely; a marked box shows some paper.
    return min(sides) >= _SIDE and all(each.any() for each in corners) and hollow.size > 0 and hollow.mean() < 0.9


def _is_ring(part: Mask) -> bool:
    import numpy as np

    height, width = part.shape
    y, x = np.mgrid[0:height, 0:width]
    dy, dx = (y - (height - 1) / 2) / (height / 2), (x - (width - 1) / 2) / (width / 2)
    far = np.hypot(dx, dy)
    rim = part & (far >= 0.72)
    angles = (np.degrees(np.arctan2(dy, dx)) // 10).astype(np.int64) + 18
    covered = len(np.unique(angles[rim])) / 36
    corners = far > 1.15
    between = (far > 0.55) & (far < 0.72)
    return bool(covered >= _RING and part[corners].mean() < 0.05 and part[between].mean() < 0.35)


def _frame(box: Box, part: Mask) -> CheckBox:
    rim = _rim(part) + 1
    inside = part[rim:-rim, rim:-rim]
    return _measured_box(box, float(inside.mean()) if inside.size else 0.0, is_round=False)


def _button(box: Box, part: Mask) -> CheckBox:
    height, width = part.shape
    inside = part[height // 3 : height - height // 3, width // 3 : width - width // 3]
    return _measured_box(box, float(inside.mean()) / 4 if inside.size else 0.0, is_round=True)


def _measured_box(box: Box, inked: float, *, is_round: bool) -> CheckBox:
    selected = inked > _MARKED
    # The confidence grows with the distance of the ink's share from the threshold.
    distance = (inked - _MARKED) / (2 * _MARKED) if selected else (_MARKED - inked) / _MARKED
    return CheckBox(box, selected, is_round, round(0.5 + 0.5 * min(distance, 1.0), 4))
