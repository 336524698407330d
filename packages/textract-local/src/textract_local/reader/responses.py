"""Read a whole document into the response that Textract's synchronous operations give for it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from textract_local.errors import FeatureUnknown
from textract_local.reader.analysis.request import FORMS, LAYOUT, QUERIES, SIGNATURES, TABLES, Analysis, QuerySpec
from textract_local.reader.blocks import MODEL_VERSION
from textract_local.reader.document import ASYNC
from textract_local.reader.reader import DocumentReader, PageRequest
from textract_local.reader.sources import file_errors, source_of

FEATURES = (FORMS, LAYOUT, QUERIES, SIGNATURES, TABLES)
"""The FeatureTypes of AnalyzeDocument."""

_PIECE_BYTES = 1024 * 1024


def read(
    document: bytes | str | os.PathLike[str],
    features: Iterable[str] = (),
    *,
    queries: Iterable[str | QuerySpec] = (),
    reader: DocumentReader | None = None,
) -> dict[str, Any]:
    """Return the response of Textract to a document: its bytes, or the path of a PNG, JPEG, TIFF or PDF file.

    Without features and queries it is the response of DetectDocumentText, otherwise that of AnalyzeDocument: a dict
    with DocumentMetadata, Blocks and the model's version. Unlike these operations it reads all pages; the blocks of a
    document with several have the number of their page as ``Page``. The same bytes give the same response, ids
    included. Links are followed; a pipe or a device is read once into memory, within the limits of a file.
    ``reader`` is shared by all calls; without one, this process has one of its own.

        >>> [block["Text"] for block in read("recipe.png")["Blocks"] if block["BlockType"] == "LINE"]
        ['Pancakes', '200 g flour']

    Raises ``DocumentError`` if the document cannot be read, ``EngineUnavailable`` without the extra ``ocr``,
    ``EngineFailed`` in place of an ``OSError`` of the engine, and ``TypeError`` if ``features`` or ``queries`` is a
    string in place of a list.
    """
    analysis = _analysis(features, queries)
    reader = reader or _shared()
    if isinstance(document, bytes):
        pages, blocks = _blocks(document, "document", analysis, reader)
    else:
        source, name = source_of(document, ASYNC.most_bytes), os.fspath(document)
        with file_errors(name, source if isinstance(source, Path) else None):
            pages, blocks = _blocks(source, name, analysis, reader)
    version = "DetectDocumentTextModelVersion" if analysis is None else "AnalyzeDocumentModelVersion"
    return {"DocumentMetadata": {"Pages": pages}, "Blocks": blocks, version: MODEL_VERSION}


def _blocks(
    source: bytes | Path, name: str, analysis: Analysis | None, reader: DocumentReader
) -> tuple[int, list[dict[str, Any]]]:
    """Return the number of pages, and the blocks of all."""
    seed = _digest(source)
    pages = reader.pages(source, name, ASYNC)
    blocks: list[dict[str, Any]] = []
    for number in range(1, pages + 1):
        found = reader.page(PageRequest(source, name, number, seed, ASYNC, analysis)).blocks
        blocks += found if pages == 1 else [paged(block, number) for block in found]
    return pages, blocks


def paged(block: dict[str, Any], page: int) -> dict[str, Any]:
    """Return a block with its page, the keys in the order of the service's model: Page, then Query."""
    found = {**block, "Page": page}
    if "Query" in found:
        found["Query"] = found.pop("Query")
    return found


def _analysis(features: Iterable[str], queries: Iterable[str | QuerySpec]) -> Analysis | None:
    for name, given in (("features", features), ("queries", queries)):
        if isinstance(given, str | bytes):
            # A string is an iterable of its letters.
            raise TypeError(f"{name} is the string {given!r}; give a list: [{given!r}]")
    specs = tuple(query if isinstance(query, QuerySpec) else QuerySpec(query) for query in queries)
    wanted = {*features, *([QUERIES] if specs else [])}
    unknown = sorted(wanted - set(FEATURES))
    if unknown:
        raise FeatureUnknown(feature=unknown[0], known=", ".join(FEATURES))
    return Analysis(frozenset(wanted), specs) if wanted else None


def _digest(source: bytes | Path) -> str:
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    digest = hashlib.sha256()
    with source.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


@lru_cache(maxsize=1)
def _shared() -> DocumentReader:
    return DocumentReader()
