"""Amazon Textract on this machine: a reader of documents, and a server with Textract's API.

    from textract_local import read

    response = read("recipe.png")
    analysis = read("invoice.pdf", ["TABLES", "FORMS"], queries=["What is the total?"])

Names are imported when they are first used, since the engine's libraries take a second to load. The errors are in
``textract_local.errors``; the server is ``textract_local.server`` and the command ``textract-local serve``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textract_local.reader.analysis.request import Analysis, QuerySpec
    from textract_local.reader.document import (
        ASYNC,
        SYNC,
        DocumentLimits,
        OpenDocument,
        check_size,
        load_image,
        open_document,
    )
    from textract_local.reader.engine import EngineReading, EngineWord, Frame, TextEngine
    from textract_local.reader.pdf import pdfium_errors
    from textract_local.reader.reader import DocumentReader, PageRequest, PageResult
    from textract_local.reader.reading_processes import ReadingProcesses
    from textract_local.reader.responses import FEATURES, read
    from textract_local.reader.unsupported_images import describe_tiff

__version__ = "0.1.0"

__all__ = [
    "ASYNC",
    "FEATURES",
    "SYNC",
    "Analysis",
    "DocumentLimits",
    "DocumentReader",
    "EngineReading",
    "EngineWord",
    "Frame",
    "OpenDocument",
    "PageRequest",
    "PageResult",
    "QuerySpec",
    "ReadingProcesses",
    "TextEngine",
    "check_size",
    "describe_tiff",
    "load_image",
    "open_document",
    "pdfium_errors",
    "read",
]

# The module below `textract_local.reader` that has a name.
_MODULES = {
    "Analysis": "analysis.request",
    "QuerySpec": "analysis.request",
    "ASYNC": "document",
    "SYNC": "document",
    "DocumentLimits": "document",
    "OpenDocument": "document",
    "check_size": "document",
    "load_image": "document",
    "open_document": "document",
    "EngineReading": "engine",
    "EngineWord": "engine",
    "Frame": "engine",
    "TextEngine": "engine",
    "pdfium_errors": "pdf",
    "DocumentReader": "reader",
    "PageRequest": "reader",
    "PageResult": "reader",
    "ReadingProcesses": "reading_processes",
    "FEATURES": "responses",
    "read": "responses",
    "describe_tiff": "unsupported_images",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.reader.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
