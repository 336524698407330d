"""An analysis request: the FeatureTypes and queries of AnalyzeDocument."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TABLES = "TABLES"
FORMS = "FORMS"
LAYOUT = "LAYOUT"
QUERIES = "QUERIES"
SIGNATURES = "SIGNATURES"

# The pages of a query that names none (D: API reference, Query).
_DEFAULT_PAGES = ("1",)


@dataclass(frozen=True)
class QuerySpec:
    """A question, and the pages that it is asked of: ``3``, ``2-4``, ``2-*`` or ``*``; none means the first."""

    text: str
    alias: str | None = None
    pages: tuple[str, ...] = ()

    def asks(self, page: int) -> bool:
        """Tell whether the question is asked of a page, counted from 1."""
        return any(_holds(pages, page) for pages in self.pages or _DEFAULT_PAGES)

    def as_json(self) -> dict[str, Any]:
        """Return the query as in a QUERY block (O: order of the keys)."""
        shown: dict[str, Any] = {"Text": self.text}
        if self.alias is not None:
            shown["Alias"] = self.alias
        if self.pages:
            shown["Pages"] = list(self.pages)
        return shown


@dataclass(frozen=True)
class Analysis:
    """The features asked for, and the queries; both may be sent to another process."""

    features: frozenset[str]
    queries: tuple[QuerySpec, ...] = ()

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Analysis:
        """Read the FeatureTypes and QueriesConfig of a valid request. Without QUERIES, queries are ignored."""
        features = frozenset(given.get("FeatureTypes", ()))
        config = given.get("QueriesConfig") or {}
        queries = config.get("Queries", ()) if QUERIES in features else ()
        return cls(
            features,
            tuple(QuerySpec(query["Text"], query.get("Alias"), tuple(query.get("Pages") or ())) for query in queries),
        )


def _holds(pages: str, page: int) -> bool:
    """Tell whether ``pages`` includes a page.

    The API's model allows any run of digits, stars and hyphens; one that is neither a page nor a range includes none.
    """
    first, hyphen, last = pages.partition("-")
    if not hyphen:
        return first == "*" or _number(first) == page
    least, most = (1 if first == "*" else _number(first)), _number(last)
    return least is not None and least <= page and (last == "*" or (most is not None and page <= most))


def _number(digits: str) -> int | None:
    return int(digits) if digits.isascii() and digits.isdigit() else None
