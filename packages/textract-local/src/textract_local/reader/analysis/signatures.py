"""Find signatures: handwriting near a label that asks for one.

A signature needs two signs: a label that asks for it, which is not a sentence, and near the label either strokes of the
size of handwriting that were not read as words, or words written much larger than the label. Ink without a label is a
logo or a stain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from textract_local.reader.analysis.forms import Field
from textract_local.reader.analysis.labels import LABEL_WORDS
from textract_local.reader.analysis.passages import Page, box_of
from textract_local.reader.analysis.shapes import Box, around

# "Signature" in the languages that the service reads (D: en, fr, de, it, pt, es).
_LABEL = re.compile(r"(?:signature|signatures|signed|sign|unterschrift|firma|firmado|assinatura|assinado|sign\u00e9)$")

# In letter heights: the size of handwriting, the distance to its label, and the distance between its strokes.
_LEAST_WIDTH = 2.5
_LEAST_HEIGHT = 0.7
_MOST_HEIGHT = 8.0
_MOST_WIDTH = 40.0
_NEAR = 2.5
_STROKES = 1.0

# Handwriting is this many times as high as the print of its label.
_WRITTEN = 1.6

# Strokes near a label are only likely to be handwriting: nothing here reads it.
_SURE = 0.6


@dataclass(frozen=True)
class Signature:
    """A signature's box, and a confidence of 0 to 1."""

    box: Box
    confidence: float


def find_signatures(page: Page, fields: Sequence[Field]) -> list[Signature]:
    """Return the page's signatures from top to bottom."""
    found = [*_in_strokes(page), *_in_fields(page, fields)]
    return sorted(found, key=lambda signature: signature.box.top)


def _in_fields(page: Page, fields: Sequence[Field]) -> Iterator[Signature]:
    """Yield the values of signature fields whose letters are much larger than the label's."""
    for field in fields:
        if field.value and any(_is_label(page.word(place).text) for place in field.key):
            label = median(page.word(place).height for place in field.key)
            if median(page.word(place).height for place in field.value) > _WRITTEN * label:
                yield Signature(page.box(field.value), _SURE * page.confidence(field.value))


def _in_strokes(page: Page) -> list[Signature]:
    if page.reading.marks is None:
        return []
    letter = page.letter_height
    labels = [
        box_of([word])
        for passage in page.passages
        if len(passage.words) <= LABEL_WORDS
        for word in passage.words
        if _is_label(word.text)
    ]
    if not labels:
        return []
    return [
        Signature(ink, _SURE)
        for ink in _join_strokes(page.reading.marks.strokes, _STROKES * letter)
        if _is_handwriting(ink, letter) and any(_asks(label, ink, letter) for label in labels)
    ]


def _is_label(word: str) -> bool:
    return bool(_LABEL.match(re.sub(r"[^\w]+$", "", word.casefold()).lstrip("(*[/")))


def _is_handwriting(ink: Box, letter: float) -> bool:
    return (
        _LEAST_WIDTH * letter <= ink.width <= _MOST_WIDTH * letter
        and _LEAST_HEIGHT * letter <= ink.height <= _MOST_HEIGHT * letter
        and ink.width > ink.height
    )


def _asks(label: Box, ink: Box, letter: float) -> bool:
    """Tell whether a label stands below, before or above ink as that of a signature does."""
    below = -letter < label.top - ink.bottom < _NEAR * letter and ink.left < label.right and label.left < ink.right
    before = label.centre[1] > ink.top - letter and label.centre[1] < ink.bottom + letter
    beside = before and 0 < ink.left - label.right < 4 * _NEAR * letter
    above = -letter < ink.top - label.bottom < _NEAR * letter and ink.left < label.right and label.left < ink.right
    return below or beside or above


def _join_strokes(strokes: Iterable[Box], near: float) -> Sequence[Box]:
    """Join strokes that lie near each other on one row: a name has several strokes."""
    joined: list[Box] = []
    for stroke in sorted(strokes, key=lambda box: box.left):
        for index, other in enumerate(joined):
            apart = max(stroke.left - other.right, other.left - stroke.right)
            level = min(stroke.bottom, other.bottom) - max(stroke.top, other.top)
            if apart < near and level > 0:
                joined[index] = around([stroke, other])
                break
        else:
            joined.append(stroke)
    return joined
