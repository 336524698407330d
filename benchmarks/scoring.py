"""Measures of how well two readings of a page agree: words, characters, boxes.

Pure functions over words and texts; nothing here opens a file or runs an engine. Boxes are
``(left, top, width, height)`` in ratios of the page, as in Textract's ``BoundingBox``.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

Box = tuple[float, float, float, float]

# Textract's own responses for one image at two dates differ by less than a hundredth of the page.
ALIGNED_WITHIN = 0.02
ALIGNED_SHARE = 0.5


@dataclass(frozen=True)
class Word:
    """One word and its box."""

    text: str
    box: Box

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the box."""
        left, top, width, height = self.box
        return left + width / 2, top + height / 2


@dataclass(frozen=True)
class Overlap:
    """Counts of a multiset comparison; add overlaps to pool documents."""

    matched: int = 0
    expected: int = 0
    found: int = 0

    def __add__(self, other: Overlap) -> Overlap:
        return Overlap(self.matched + other.matched, self.expected + other.expected, self.found + other.found)

    @property
    def recall(self) -> float:
        """Share of the expected words that were found; 1 if none was expected."""
        return self.matched / self.expected if self.expected else 1.0

    @property
    def precision(self) -> float:
        """Share of the found words that were expected; 1 if none was found."""
        return self.matched / self.found if self.found else 1.0


@dataclass(frozen=True)
class Alignment:
    """Overlaps of the boxes of words that two readings have in common.

    ``ious`` is empty if the two readings do not have the same frame (a cropped or
    re-rendered original): a box overlap would measure the crop and not the reader then.
    """

    ious: tuple[float, ...]
    pairs: int

    @property
    def aligns(self) -> bool:
        """Whether the two readings share a frame."""
        return bool(self.ious)


def words_of(response: Mapping[str, Any]) -> list[Word]:
    """Return the WORD blocks of a Textract response, in its order."""
    return [
        Word(
            block["Text"],
            (box["Left"], box["Top"], box["Width"], box["Height"]),
        )
        for block in response["Blocks"]
        if block["BlockType"] == "WORD"
        for box in (block["Geometry"]["BoundingBox"],)
    ]


def lines_of(response: Mapping[str, Any]) -> list[str]:
    """Return the texts of the LINE blocks of a Textract response, in its order."""
    return [block["Text"] for block in response["Blocks"] if block["BlockType"] == "LINE"]


def fold(text: str) -> str:
    """Normalise a text for comparison: composed characters, no case.

    Compatibility forms are kept on purpose: a half sign read as ``1/2`` is another text.
    """
    return unicodedata.normalize("NFC", text).casefold()


def word_overlap(expected: Iterable[str], found: Iterable[str]) -> Overlap:
    """Compare two multisets of words, ignoring case and order."""
    want, have = Counter(map(fold, expected)), Counter(map(fold, found))
    return Overlap((want & have).total(), want.total(), have.total())


def edit_distance(first: str, second: str) -> int:
    """Return the Levenshtein distance.

    Bit-parallel (Hyyrö, "A bit-vector algorithm for computing Levenshtein and Damerau edit
    distances", 2003): one step of big-integer arithmetic per character of ``second``.
    """
    if not first or not second:
        return len(first) + len(second)
    positions: dict[str, int] = defaultdict(int)
    for index, character in enumerate(first):
        positions[character] |= 1 << index
    full, last = (1 << len(first)) - 1, 1 << (len(first) - 1)
    rising, falling, distance = full, 0, len(first)
    for character in second:
        match = positions.get(character, 0)
        diagonal = (((match & rising) + rising) ^ rising) | match | falling
        up, down = falling | (full & ~(diagonal | rising)), diagonal & rising
        if up & last:
            distance += 1
        elif down & last:
            distance -= 1
        up, down = (up << 1 | 1) & full, (down << 1) & full
        rising, falling = down | (full & ~(diagonal | up)), up & diagonal
    return distance


def character_error_rate(expected: str, found: str) -> float:
    """Return edits per expected character, case-sensitive; 0 if both are empty."""
    expected, found = unicodedata.normalize("NFC", expected), unicodedata.normalize("NFC", found)
    if not expected:
        return float(bool(found))
    return edit_distance(expected, found) / len(expected)


def row_order(words: Sequence[Word]) -> list[Word]:
    """Sort words into rows from top to bottom, each from left to right.

    The order depends on the boxes alone, so that two readings of a page can be compared
    independently of the order of their lines. Made for upright pages.
    """
    rows: list[list[Word]] = []
    for word in sorted(words, key=lambda each: (each.centre[1], each.centre[0])):
        if rows:
            row = rows[-1]
            middle = median(each.centre[1] for each in row)
            if word.centre[1] - middle <= 0.5 * median(each.box[3] for each in row):
                row.append(word)
                continue
        rows.append([word])
    return [word for row in rows for word in sorted(row, key=lambda each: each.centre[0])]


def row_order_text(words: Sequence[Word]) -> str:
    """Return the text of a reading's words in row order, in composed characters."""
    return unicodedata.normalize("NFC", " ".join(word.text for word in row_order(words)))


def row_order_cer(expected: Sequence[Word], found: Sequence[Word]) -> float:
    """Return the character error rate of the two readings after sorting both into row order."""
    return character_error_rate(row_order_text(expected), row_order_text(found))


def reading_order_error(expected: Sequence[Word], found: Sequence[Word]) -> float:
    """Return the share of neighbouring words that ``found`` has in another order, from 0 to 1.

    Equal words of both readings are paired by position, as in ``align``. A pair of neighbours in ``expected`` counts
    if the first does not come before the second in ``found``; misread characters and missed words do not count.
    0 if fewer than two words are paired.
    """
    places = {id(word): place for place, word in enumerate(found)}
    order = [places[id(other)] for _, other in _pair(expected, found)]
    return sum(second < first for first, second in pairwise(order)) / (len(order) - 1) if len(order) > 1 else 0.0


def unpaired(expected: Sequence[Word], found: Sequence[Word]) -> tuple[list[Word], list[Word]]:
    """Return the missed and the invented words: those for which ``align`` finds no partner."""
    pairs = _pair(expected, found)
    ours, theirs = {id(word) for word, _ in pairs}, {id(word) for _, word in pairs}
    return [w for w in expected if id(w) not in ours], [w for w in found if id(w) not in theirs]


def box_iou(first: Box, second: Box) -> float:
    """Return the intersection of two boxes over their union, from 0 to 1."""
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (first[2] * first[3] + second[2] * second[3] - shared)


def align(expected: Sequence[Word], found: Sequence[Word]) -> Alignment:
    """Pair equal words of two readings, and compute the IoU of the boxes of pairs with a common offset.

    If a word occurs several times, the nearest occurrences are paired first. The largest
    group of pairs with one common offset counts; if that offset is more than
    ``ALIGNED_WITHIN`` of the page, or the group has less than ``ALIGNED_SHARE`` of the pairs,
    the readings have no frame in common and no box is compared.
    """
    pairs = _pair(expected, found)
    offsets = [(b.centre[0] - a.centre[0], b.centre[1] - a.centre[1]) for a, b in pairs]
    groups = (
        [index for index, offset in enumerate(offsets) if _near(offset, centre)] for centre in dict.fromkeys(offsets)
    )
    largest = max(groups, key=len, default=[])
    if len(largest) < ALIGNED_SHARE * len(pairs) or not largest:
        return Alignment((), len(pairs))
    shift = tuple(median(offsets[index][axis] for index in largest) for axis in (0, 1))
    if not _near(shift, (0.0, 0.0)):
        return Alignment((), len(pairs))
    return Alignment(tuple(box_iou(pairs[index][0].box, pairs[index][1].box) for index in largest), len(pairs))


def _near(first: Sequence[float], second: Sequence[float]) -> bool:
    return abs(first[0] - second[0]) <= ALIGNED_WITHIN and abs(first[1] - second[1]) <= ALIGNED_WITHIN


def _pair(expected: Sequence[Word], found: Sequence[Word]) -> list[tuple[Word, Word]]:
    by_text: dict[str, list[int]] = defaultdict(list)
    for index, word in enumerate(found):
        by_text[fold(word.text)].append(index)
    candidates = sorted(
        (
            (word.centre[0] - found[other].centre[0]) ** 2 + (word.centre[1] - found[other].centre[1]) ** 2,
            index,
            other,
        )
        for index, word in enumerate(expected)
        for other in by_text.get(fold(word.text), ())
    )
    taken: dict[int, int] = {}
    used: set[int] = set()
    for _, index, other in candidates:
        if index not in taken and other not in used:
            taken[index] = other
            used.add(other)
    return [(expected[index], found[other]) for index, other in sorted(taken.items())]
