"""Answers to queries, where a field of the page is what was asked for.

A query is answered by the value of the one field whose label it names: the words that carry meaning are the
same in question and label. The page's title answers a question for the title. Nothing else is understood:
then there is no answer, which is what the service says of a question that the page does not answer (O).
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
    re.findall(
        r"\w+",
        "a an and are as at by can could did do does field for from give given has have how i in is it its listed "
        "me much many my of on or please show shown tell that the their there these this those to value was were "
        "what when where which who whom whose will with written you your s document form page",
    )
)

_TITLE = frozenset({"title"})

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class QueryResult:
    """The words that answer a query, and how sure that is, 0 to 1."""

    words: tuple[WordPlace, ...]
    confidence: float


def answer_query(question: str, page: Page, fields: Sequence[Field], regions: Sequence[Region]) -> QueryResult | None:
    """Return what answers a question, or None where nothing on the page clearly does."""
    asked = _meaning(question)
    if asked == _TITLE:
        titles = [region for region in regions if region.kind == "TITLE"]
        return _of_title(page, titles[0]) if titles else None
    found = [field for field in fields if asked and field.value and _meaning(page.text(field.key)) == asked]
    if len({page.text(field.value) for field in found}) != 1:
        # Of several fields with one label, the question does not say which is meant.
        return None
    return QueryResult(found[0].value, found[0].confidence)


def _of_title(page: Page, title: Region) -> QueryResult:
    words = tuple((line, number) for line in title.lines for number in range(len(page.reading.lines[line])))
    return QueryResult(words, title.confidence * page.confidence(words))


def _meaning(text: str) -> frozenset[str]:
    return frozenset(_stem(word) for word in _words(text) if word not in _ASKING)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _stem(word: str) -> str:
    """Let a plural stand for its singular."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
