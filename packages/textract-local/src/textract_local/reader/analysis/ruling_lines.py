"""Find ruling lines: thin, long ink, horizontal or vertical, solid, dashed or dotted, possibly slightly sloping.

A pixel belongs to a thin horizontal mark if it is darker than the page a few pixels above and below.
Stretches of such pixels that are longer than any stroke of a letter are joined from row to row, which
follows a sloping line, and then end to end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textract_local.reader.analysis.components import Runs, components, runs_in
from textract_local.reader.analysis.shapes import Box, RulingLine

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Grey = NDArray[np.uint8]
    Mask = NDArray[np.bool_]

# Darker than the paper on both sides by this much of 255: light grey rules of screens are some 25 darker than white.
# On a grainy page, darker by this many times the usual difference of neighbouring pixels.
_CONTRAST = 14
_GRAIN = 6

# In letter heights. A rule is thinner than _THICK, its parts are longer than _PART, and the whole rule is longer
# than _SHORTEST; the gap between two parts, at a crossing rule or on a worn scan, is at most _BREAK.
_THICK = 0.45
_PART = 0.8
_SHORTEST = 1.6
_BREAK = 0.9

# Dots and dashes: no longer than _DASH letter heights, with gaps up to that, in a line of at least _DOTTED.
_DASH = 0.6
_DOTTED = 5.0

# In letter heights. A dot is at most _DOT high; two rules closer than _DOUBLE are one double rule.
_DOT = 0.25
_DOUBLE = 0.35

# A line is part of a word that covers this share of it; words are grown by _AIR letter heights for this.
_COVERED = 0.88
_AIR = 0.15

# A sloping line deviates by at most this share of its length: the page was straightened before.
_SLANT = 0.012

# In pixels. A line is not followed farther than this from the position at which it began.
_SHELF = 32

# More parts than this are noise or a halftone screen: the longest are kept.
_MOST_PARTS = 60_000
_MOST_RULES = 1_500


@dataclass
class _Part:
    """A stretch of a line along its own direction: from ``start`` to ``end``, between ``low`` and ``high`` across."""

    start: float
    end: float
    low: float
    high: float
    inked: float

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2


def find_ruling_lines(grey: Grey, words: Sequence[Box], letter: float) -> tuple[list[RulingLine], list[RulingLine]]:
    """Return the horizontal and the vertical rules of a page, in its pixels; ``letter`` is the height of a letter."""
    written = _Written(words, letter)
    paper = _unwritten(grey, words, letter)
    along = _along(grey, paper, written, letter)
    down = _along(grey.T, paper.T, _Written([_turned(word) for word in words], letter), letter)
    horizontal = [RulingLine(Box(part.start, part.low, part.end, part.high), _solid(part)) for part in along]
    vertical = [RulingLine(Box(part.low, part.start, part.high, part.end), _solid(part)) for part in down]
    return horizontal, vertical


def _turned(box: Box) -> Box:
    return Box(box.top, box.left, box.bottom, box.right)


def _solid(part: _Part) -> float:
    return min(part.inked / max(part.end - part.start, 1.0), 1.0)


def _unwritten(grey: Grey, words: Sequence[Box], letter: float) -> Mask:
    """Return the mask of pixels outside words: in words, serifs and crossbars look like rows of dots."""
    import numpy as np

    paper = np.ones(grey.shape, dtype=bool)
    for word in words:
        left, top, right, bottom = (max(round(edge), 0) for edge in word.grown(_AIR * letter))
        paper[top:bottom, left:right] = False
    return paper


def _along(grey: Grey, paper: Mask, written: _Written, letter: float) -> list[_Part]:
    """Return the lines along the rows of ``grey``."""
    thick = max(round(_THICK * letter), 2)
    thin = _thin(grey, thick)
    runs = runs_in(thin)
    is_part = runs.length >= max(_PART * letter, 4)
    # Drop strokes of letters first: those of one row of text would join those of the next.
    found = _parts(runs.chosen(is_part), thick)
    held = [written.hold(part) for part in found]
    parts = [part for part, is_held in zip(found, held, strict=True) if not is_held]
    parts += _recovered([part for part, is_held in zip(found, held, strict=True) if is_held], parts, letter)
    lines = [
        line
        for line in _joined(parts, letter)
        if line.end - line.start >= _SHORTEST * letter and not written.hold(line)
    ]
    lines = _longest(lines)
    dots = _longest(_dotted(runs.chosen(~is_part).painted(len(grey)) & paper, letter))
    lines += [dot for dot in dots if not any(_overlap(dot, line, letter) for line in lines)]
    return _single(lines, letter)


def _recovered(held: list[_Part], parts: list[_Part], letter: float) -> list[_Part]:
    """Return parts inside words' boxes that are on a line with a rule: a word's box may reach its cell's border."""
    import numpy as np

    if not held or not parts:
        return []
    places = np.sort([part.middle for part in parts if part.end - part.start >= _SHORTEST * letter])
    found = []
    for part in held:
        nearest = np.searchsorted(places, [part.middle - 1, part.middle + 1])
        if nearest[1] > nearest[0] and part.end - part.start >= _SHORTEST * letter:
            found.append(part)
    return found


def _longest(lines: list[_Part]) -> list[_Part]:
    return sorted(lines, key=lambda line: line.start - line.end)[:_MOST_RULES]


def _thin(grey: Grey, thick: int) -> Mask:
    """Return the mask of pixels that are darker than pixels at most ``thick`` above and below them."""
    import numpy as np

    above = np.zeros_like(grey)
    below = np.zeros_like(grey)
    for distance in range(1, thick + 1):
        np.maximum(above[distance:], grey[:-distance], out=above[distance:])
        np.maximum(below[:-distance], grey[distance:], out=below[:-distance])
    paper = np.minimum(above, below)
    beside = np.abs(np.diff(grey[:: max(len(grey) // 200, 1)].astype(np.int16), axis=1))
    # On a page that is one pixel wide, no pixel has a neighbour.
    grain = float(np.median(beside)) if beside.size else 0.0
    contrast = max(_CONTRAST, round(_GRAIN * grain))
    # Pixels at the edge of the page never qualify: a scan's dark rim is not a rule.
    return (paper > grey) & (paper - grey > contrast)


def _parts(runs: Runs, thick: int) -> list[_Part]:
    found = components(runs.longest(_MOST_PARTS))
    parts = []
    for (left, top, right, bottom), pixels in zip(found.boxes.tolist(), found.pixels.tolist(), strict=True):
        length = right - left
        # A part with a larger mean thickness than a rule is a block of ink; a steep one is part of a drawing.
        if pixels <= length * (thick + 1) and bottom - top <= thick + _SLANT * length + 1:
            parts.append(_Part(left, right, top, bottom, length))
    return parts


def _joined(parts: list[_Part], letter: float) -> list[_Part]:
    """Join parts that lie end to end on one line."""
    lines: list[_Part] = []
    # Bucket lines by their position across, so that a part is compared only with lines near it.
    near: dict[int, list[_Part]] = defaultdict(list)
    for part in sorted(parts, key=lambda each: (each.start, each.low)):
        place = int(part.middle) // _SHELF
        best: _Part | None = None
        for shelf in (place - 1, place, place + 1):
            still_open = [line for line in near[shelf] if part.start - line.end <= _BREAK * letter]
            near[shelf] = still_open
            for line in still_open:
                if _in_line(line, part) and (
                    best is None or abs(line.middle - part.middle) < abs(best.middle - part.middle)
                ):
                    best = line
        if best is None:
            lines.append(part)
            near[place].append(part)
        else:
            best.inked += max(min(part.end - best.end, part.end - part.start), 0)
            best.end = max(best.end, part.end)
            best.low, best.high = min(best.low, part.low), max(best.high, part.high)
    return lines


def _in_line(line: _Part, part: _Part) -> bool:
    slack = 2 + _SLANT * (part.end - line.start)
    return (
        part.low <= line.high + slack / 2
        and line.low <= part.high + slack / 2
        and (
            max(line.high, part.high) - min(line.low, part.low)
            <= max(line.high - line.low, part.high - part.low) + slack
        )
    )


def _dotted(mask: Mask, letter: float) -> list[_Part]:
    """Return lines of dots or dashes: thin marks side by side with short gaps."""
    import numpy as np

    reach = max(round(_DASH * letter), 3)
    long = runs_in(mask).closed(reach)
    long = long.chosen(long.length >= _DOTTED * letter).longest(_MOST_PARTS)
    if len(long) == 0:
        return []
    found = components(long)
    thickest = max(_DOT * letter, 3)
    lines = []
    for left, top, right, bottom in found.boxes.tolist():
        # Letters have thin strokes too, but a row of letters is higher.
        if bottom - top > thickest + _SLANT * (right - left):
            continue
        columns = np.any(mask[top:bottom, left:right], axis=0)
        inked, changes = int(columns.sum()), int(np.count_nonzero(np.diff(columns.astype(np.int8))))
        if changes >= (right - left) / (2 * reach):
            lines.append(_Part(left, right, top, bottom, inked))
    return lines


def _overlap(first: _Part, second: _Part, letter: float) -> bool:
    near = _DOUBLE * letter
    return (
        first.low <= second.high + near
        and second.low <= first.high + near
        and first.start < second.end
        and second.start < first.end
    )


def _single(lines: list[_Part], letter: float) -> list[_Part]:
    """Merge double rules: two lines close together and of about the same extent. Sorted by their middles."""
    merged: list[_Part] = []
    recent: list[_Part] = []
    for line in sorted(lines, key=lambda each: (each.middle, each.start)):
        recent = [other for other in recent if line.low - other.high <= _DOUBLE * letter]
        twin = next((other for other in recent if _twins(other, line, letter)), None)
        if twin is None:
            merged.append(line)
            recent.append(line)
            continue
        twin.start, twin.end = min(twin.start, line.start), max(twin.end, line.end)
        twin.low, twin.high = min(twin.low, line.low), max(twin.high, line.high)
        twin.inked = max(twin.inked, line.inked)
    # Many lines side by side are a bar code or a hatched area.
    return [line for line in merged if line.high - line.low <= letter]


def _twins(first: _Part, second: _Part, letter: float) -> bool:
    return abs(first.start - second.start) <= letter and abs(first.end - second.end) <= letter


class _Written:
    """The boxes of words: strokes of letters, underscores and dashes are not rules."""

    def __init__(self, words: Sequence[Box], letter: float) -> None:
        import numpy as np

        self._boxes = np.array([word.grown(_AIR * letter) for word in words], dtype=float).reshape(-1, 4)

    def hold(self, part: _Part) -> bool:
        """Tell whether one word covers most of a line."""
        shared = self._shared(part)
        return bool(len(shared) and shared.max() >= _COVERED * max(part.end - part.start, 1.0))

    def _shared(self, line: _Part) -> NDArray[np.float64]:
        """Return for each word how many pixels of a line's length lie in it."""
        import numpy as np

        left, top, right, bottom = self._boxes.T
        over = (top <= line.middle) & (line.middle <= bottom)
        shared: NDArray[np.float64] = np.maximum(np.minimum(right, line.end) - np.maximum(left, line.start), 0.0)
        return np.where(over, shared, 0.0)
