"""Answer queries from the fields of a page.

The answer is the value of the one field whose label has the same meaningful words as the question. The page's
title answers a question for the title. Any other question has no answer, as the service responds to a question
that the page does not answer (O).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from textract_local.reader.analysis.forms import Field
from textract_local.reader.analysis.passages import Page
from textract_local.reader.analysis.regions import Region
from textract_local.reader.analysis.table_model import WordPlace

# Words of a question without meaning of their own, in the one language of the service's queries (D: English).
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
    """The words that answer a query, and a confidence of 0 to 1."""

    words: tuple[WordPlace, ...]
    confidence: float


def answer_query(question: str, page: Page, fields: Sequence[Field], regions: Sequence[Region]) -> QueryResult | None:
    """Return the answer to a question, or None if nothing on the page clearly answers it."""
    asked = _meaning(question)
    if asked == _TITLE:
        titles = [region for region in regions if region.kind == "TITLE"]
        return _of_title(page, titles[0]) if titles else None
    found = [field for field in fields if asked and field.value and _meaning(page.text(field.key)) == asked]
    if len({page.text(field.value) for field in found}) != 1:
        # No field has this label, or fields with this label have different values.
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
    """Return the singular of a plural in s."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
