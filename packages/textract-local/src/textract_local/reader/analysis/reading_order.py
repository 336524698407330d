"""Reading order: top to bottom, and column by column if regions stand side by side.

Of two regions in one column, the upper one is read first. Of two regions in different columns, the left one is
read first, unless a region across both lies between them (T. Breuel, "High performance document layout
analysis", 2003, gives these two rules).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from textract_local.reader.analysis.shapes import Box

# The rules compare every three regions. Beyond this many, regions are only sorted from top to bottom.
_MOST = 150

# Boxes that share less than this of the narrower's width are in different columns.
_SHARED = 0.1


class _Boxed(Protocol):
    @property
    def box(self) -> Box: ...


_Part = TypeVar("_Part", bound=_Boxed)


def in_reading_order(parts: Sequence[_Part]) -> list[_Part]:
    """Return regions in the order in which they are read."""
    down = sorted(parts, key=lambda part: (part.box.top, part.box))
    if len(down) > _MOST:
        return down
    numbers = range(len(down))
    middles = [part.box.centre[1] for part in down]
    beside = [{other for other in numbers if _share_column(down[index].box, down[other].box)} for index in numbers]

    def comes_first(one: int, other: int) -> bool:
        if other in beside[one]:
            return middles[one] < middles[other]
        if down[one].box.left > down[other].box.left:
            return False
        top, bottom = sorted((middles[one], middles[other]))
        return not any(top < middles[part] < bottom for part in beside[one] & beside[other])

    first = [{other for other in numbers if other != index and comes_first(other, index)} for index in numbers]
    waiting, ordered = list(range(len(down))), []
    while waiting:
        # The rules may contradict each other if boxes overlap: then the uppermost comes next.
        chosen = next((index for index in waiting if first[index].isdisjoint(waiting)), waiting[0])
        waiting.remove(chosen)
        ordered.append(down[chosen])
    return ordered


def _share_column(one: Box, other: Box) -> bool:
    width = min(one.right, other.right) - max(one.left, other.left)
    return width > _SHARED * min(one.width, other.width)
