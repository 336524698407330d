"""Answers to queries, where a field of the page is what was asked for.

A query is answered by the value of the one field whose label is in the question: every word of the label
that carries meaning stands in the question, and they are at least half of the question's own. The page's
title answers a question for the title. Nothing else is understood: then there is no answer, which is what
the service says of a question that the page does not answer (O).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from photo_worker.ocr.analysis.forms import Field
from photo_worker.ocr.analysis.passages import Page
from photo_worker.ocr.analysis.regions import Region
from photo_worker.ocr.analysis.table_model import WordPlace

# Words of questions, in the language that the service understands queries in (D: English alone).
_ASKING = frozenset(
    "a an and are as at by can could did do does for from give has have how i in is it its me much many my of on or "
    "please show tell that the their there these this those to was were what when where which who whom whose will "
    "with you your s document form page".split()
)

_TITLE = frozenset({"title"})

# At least this share of what the question asks for is in the label.
_ASKED = 0.5

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Answer:
    """The words that answer a query, and how sure that is, 0 to 1."""

    words: tuple[WordPlace, ...]
    confidence: float


def answer(question: str, page: Page, fields: Sequence[Field], regions: Sequence[Region]) -> Answer | None:
    """Return what answers a question, or None where nothing on the page clearly does."""
    asked = _meaning(question)
    if not asked:
        title = [region for region in regions if region.kind == "TITLE"]
        return _of_title(page, title[0]) if title and _TITLE & set(_words(question)) else None
    if asked == _TITLE:
        title = [region for region in regions if region.kind == "TITLE"]
        return _of_title(page, title[0]) if title else None
    best: list[tuple[float, Field]] = []
    for field in fields:
        label = _meaning(page.text(field.key))
        if not field.value or not label or not label <= asked:
            continue
        share = len(label) / len(asked)
        if share >= _ASKED:
            best.append((share, field))
    if not best:
        return None
    most = max(share for share, _ in best)
    found = [field for share, field in best if share == most]
    if len({page.text(field.value) for field in found}) > 1:
        # Several fields of one label: which of them is meant, the question does not say.
        return None
    return Answer(found[0].value, found[0].confidence * most**0.5)


def _of_title(page: Page, title: Region) -> Answer:
    words = tuple((line, number) for line in title.lines for number in range(len(page.reading.lines[line])))
    return Answer(words, title.confidence * page.confidence(words))


def _meaning(text: str) -> frozenset[str]:
    return frozenset(_stem(word) for word in _words(text) if word not in _ASKING)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _stem(word: str) -> str:
    """Let a plural stand for its singular."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
