"""The command line of both comparisons of document analysis: recorded responses against ours, per document."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from benchmarks.documents import TruthDocument
from benchmarks.drawn import drawn_document
from textract_local import DocumentReader

Blocks = list[dict[str, Any]]


class Agreement(Protocol):
    """How far two responses agree; agreements of documents can be added."""

    def __add__(self, other: Self, /) -> Self: ...

    def measures(self) -> Mapping[str, float]: ...


_A = TypeVar("_A", bound=Agreement)

# The minimum of each figure on the page with known content: a lower one means a defect.
_LEAST = 0.5


def measure(
    description: str | None,
    arguments: Sequence[str] | None,
    documents: Sequence[TruthDocument],
    *,
    nothing: Callable[[], _A],
    compare: Callable[[Blocks, Blocks], _A],
    with_recorded_words: Callable[[TruthDocument], Blocks],
    with_own_words: Callable[[TruthDocument, DocumentReader], Blocks],
    counts: Callable[[_A], str],
) -> int:
    """Print each document's agreement and that of all, and return the exit code.

    It is 1 if there are no documents. ``--short`` uses a page that is drawn here instead, whose text, fields and
    table are known, and returns 1 if a figure is low.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", choices=["recorded", "own", "both"], default="both")
    parser.add_argument("--json", type=Path, help="also write the measures to this file")
    parser.add_argument("--short", action="store_true", help="only see that it works, with a page that is drawn here")
    options = parser.parse_args(arguments)
    if options.short:
        documents = [drawn_document()]
    if not documents:
        print("no truth set here; PHOTO_WORKER_TRUTH names its folder", file=sys.stderr)
        return 1

    def show(name: str, agreement: _A) -> None:
        shown = ", ".join(f"{measure} {value:.2f}" for measure, value in agreement.measures().items())
        print(f"{name}: {shown} ({counts(agreement)})")

    report: dict[str, dict[str, Mapping[str, float]]] = {}
    for words in ["recorded", "own"] if options.words == "both" else [options.words]:
        reader = DocumentReader() if words == "own" else None
        total = nothing()
        report[words] = {}
        for document in documents:
            response = with_own_words(document, reader) if reader else with_recorded_words(document)
            agreement = compare(document.response["Blocks"], response)
            total = total + agreement
            report[words][document.name] = agreement.measures()
            show(f"{words} {document.name}", agreement)
        report[words]["all"] = total.measures()
        show(f"{words} all", total)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    low = [(words, name) for words, found in report.items() for name, value in found["all"].items() if value < _LEAST]
    if options.short and low:
        print(f"too low for a page that is known: {low}", file=sys.stderr)
        return 1
    return 0
