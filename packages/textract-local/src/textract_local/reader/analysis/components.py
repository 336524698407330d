"""Connected components of a mask, from its horizontal runs; whole arrays at a time, without a loop over pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]
    Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Runs:
    """Horizontal runs of marked pixels, from top to bottom and left to right; ``end`` is exclusive."""

    row: Whole
    start: Whole
    end: Whole
    width: int

    def __len__(self) -> int:
        return len(self.row)

    @property
    def length(self) -> Whole:
        """Pixels per run."""
        return self.end - self.start

    def chosen(self, which: Mask | Whole) -> Runs:
        """Return some of the runs, in the same order."""
        return Runs(self.row[which], self.start[which], self.end[which], self.width)

    def closed(self, reach: int) -> Runs:
        """Return the runs with gaps of up to ``reach`` pixels within a row filled."""
        import numpy as np

        if len(self) == 0:
            return self
        apart = (self.row[1:] != self.row[:-1]) | (self.start[1:] - self.end[:-1] > reach)
        first = np.concatenate(([True], apart))
        last = np.concatenate((apart, [True]))
        return Runs(self.row[first], self.start[first], self.end[last], self.width)

    def longest(self, most: int) -> Runs:
        """Return the longest runs, at most ``most`` of them, in the same order."""
        import numpy as np

        if len(self) <= most:
            return self
        return self.chosen(np.sort(np.argpartition(self.length, -most)[-most:]))

    def painted(self, height: int) -> Mask:
        """Return the mask of the runs, ``height`` pixels high."""
        import numpy as np

        change = np.zeros((height, self.width + 1), dtype=np.int8)
        change[self.row, self.start] += 1
        change[self.row, self.end] -= 1
        marked: Mask = np.cumsum(change, axis=1, dtype=np.int8)[:, :-1].astype(bool)
        return marked


@dataclass(frozen=True)
class Components:
    """Connected components: rows of (left, top, right, bottom), exclusive at right and bottom, and pixel counts."""

    boxes: Whole
    pixels: Whole

    def __len__(self) -> int:
        return len(self.pixels)


def runs_in(mask: Mask) -> Runs:
    """Return a mask's horizontal runs."""
    import numpy as np

    height, width = mask.shape
    edged = np.zeros((height, width + 2), dtype=np.int8)
    edged[:, 1:-1] = mask
    step = np.diff(edged, axis=1)
    row, start = np.nonzero(step == 1)
    _, end = np.nonzero(step == -1)
    return Runs(row.astype(np.int64), start.astype(np.int64), end.astype(np.int64), width)


def components(runs: Runs, *, reach: int = 0) -> Components:
    """Join runs of neighbouring rows that touch, also at a corner or with up to ``reach`` pixels between them."""
    import numpy as np

    count = len(runs)
    if count == 0:
        return Components(np.zeros((0, 4), dtype=np.int64), np.zeros(0, dtype=np.int64))
    label = _labels(count, *_touching(runs, reach))
    roots, member = np.unique(label, return_inverse=True)
    boxes = np.empty((len(roots), 4), dtype=np.int64)
    for place, values, better, worst in (
        (0, runs.start, np.minimum, np.iinfo(np.int64).max),
        (1, runs.row, np.minimum, np.iinfo(np.int64).max),
        (2, runs.end, np.maximum, -1),
        (3, runs.row + 1, np.maximum, -1),
    ):
        column = np.full(len(roots), worst, dtype=np.int64)
        better.at(column, member, values)
        boxes[:, place] = column
    return Components(boxes, np.bincount(member, weights=runs.length).astype(np.int64))


def _touching(runs: Runs, reach: int) -> tuple[Whole, Whole]:
    """Return the pairs of runs in neighbouring rows that touch, the upper one first."""
    import numpy as np

    # Lay the rows end to end, far enough apart that ``reach`` never leads into another row.
    stride = runs.width + 2 * reach + 4
    begins, ends = runs.row * stride + runs.start, runs.row * stride + runs.end
    below = stride - reach - 1
    first = np.searchsorted(ends, begins + below, side="right")
    last = np.searchsorted(begins, ends + stride + reach + 1, side="left")
    many = np.maximum(last - first, 0)
    upper = np.repeat(np.arange(len(runs)), many)
    offset = np.arange(int(many.sum())) - np.repeat(np.cumsum(many) - many, many)
    return upper, np.repeat(first, many) + offset


def _labels(count: int, upper: Whole, lower: Whole) -> Whole:
    """Return for each run the first run of its component: labels sink along the pairs until none changes."""
    import numpy as np

    label = np.arange(count)
    while True:
        least = np.minimum(label[upper], label[lower])
        before = label.copy()
        np.minimum.at(label, label[upper], least)
        np.minimum.at(label, label[lower], least)
        while True:
            shorter = label[label]
            if np.array_equal(shorter, label):
                break
            label = shorter
        if np.array_equal(before, label):
            return label
