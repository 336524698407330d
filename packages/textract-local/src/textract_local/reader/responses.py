"""Read a whole document into the response that Textract's synchronous operations give for it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from textract_local.errors import DocumentMissing, FeatureUnknown
from textract_local.reader.analysis.request import FORMS, LAYOUT, QUERIES, SIGNATURES, TABLES, Analysis, QuerySpec
from textract_local.reader.blocks import MODEL_VERSION
from textract_local.reader.document import ASYNC
from textract_local.reader.reader import DocumentReader, PageRequest

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
    """Return what Textract would answer for a document: its bytes, or the path of a PNG, JPEG, TIFF or PDF file.

    Without features and queries it is the response of DetectDocumentText, otherwise that of AnalyzeDocument: a dict
    with DocumentMetadata, Blocks and the model's version. Unlike these operations it reads all pages; the blocks of a
    document with several have the number of their page as ``Page``. The same bytes give the same response, ids
    included. ``reader`` is shared by all calls; without one, this process has one of its own.

        >>> [block["Text"] for block in read("recipe.png")["Blocks"] if block["BlockType"] == "LINE"]
        ['Pancakes', '200 g flour']

    Raises ``DocumentError`` if the document cannot be read, and ``EngineUnavailable`` without the extra ``ocr``.
    """
    analysis = _analysis(features, queries)
    reader = reader or _shared()
    source, name = (document, "document") if isinstance(document, bytes) else (Path(document), os.fspath(document))
    seed = _digest(source)
    pages = reader.pages(source, name, ASYNC)
    blocks: list[dict[str, Any]] = []
    for number in range(1, pages + 1):
        found = reader.page(PageRequest(source, name, number, seed, ASYNC, analysis)).blocks
        blocks += found if pages == 1 else [paged(block, number) for block in found]
    version = "DetectDocumentTextModelVersion" if analysis is None else "AnalyzeDocumentModelVersion"
    return {"DocumentMetadata": {"Pages": pages}, "Blocks": blocks, version: MODEL_VERSION}


def paged(block: dict[str, Any], page: int) -> dict[str, Any]:
    """Return a block with its page, the keys in the order of the service's model: Page, then Query."""
    found = {**block, "Page": page}
    if "Query" in found:
        found["Query"] = found.pop("Query")
    return found


def _analysis(features: Iterable[str], queries: Iterable[str | QuerySpec]) -> Analysis | None:
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
    try:
        with source.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
    except OSError as error:
        raise DocumentMissing(path=str(source), reason=error.strerror or str(error)) from error
    return digest.hexdigest()


@lru_cache(maxsize=1)
def _shared() -> DocumentReader:
    return DocumentReader()
