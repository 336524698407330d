"""Read documents into Textract's blocks: render pages, run the engine, find lines and marks, build the blocks."""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textract_local.errors import EngineFailed, EngineUnavailable
from textract_local.reader.blocks import detect_text_response
from textract_local.reader.document import SYNC, DocumentLimits, load_image, open_document
from textract_local.reader.layout import lines_of
from textract_local.reader.ocrust_engine import NAME, OcrustEngine

if TYPE_CHECKING:
    from PIL import Image

    from textract_local.reader.analysis.reading import PageReading
    from textract_local.reader.analysis.request import Analysis
    from textract_local.reader.engine import EngineReading, Frame, TextEngine


@dataclass(frozen=True)
class PageRequest:
    """A request for one page of a document: a file or its bytes.

    ``number`` counts from 1. ``seed`` identifies the document, the engine and the analysis: equal seeds give
    equal block ids. ``kept`` is the ``PageResult.reading`` of an earlier request for the page, and ``checked`` says
    that the document was opened within ``limits`` before. ``name`` is for messages.
    """

    source: Path | bytes
    name: str
    number: int
    seed: str
    limits: DocumentLimits = SYNC
    analysis: Analysis | None = None
    kept: bytes | None = None
    checked: bool = False


@dataclass(frozen=True)
class PageResult:
    """A page's blocks as a synchronous response has them, without ``Page``.

    ``reading`` is what to keep, so that the next request for the page needs no OCR; None if the kept reading is
    still complete. ``recognised`` says that the engine ran.
    """

    blocks: list[dict[str, Any]]
    reading: bytes | None
    recognised: bool


class DocumentReader:
    """Reads documents with a text engine, ocrust unless another is given. Safe to call from several threads."""

    def __init__(self, threads: int | None = None, *, engine: TextEngine | None = None) -> None:
        """``threads`` is how many threads one reading of ocrust uses; None leaves it to the runtime."""
        self._engine: TextEngine = engine or OcrustEngine(threads)

    @property
    def engine(self) -> str:
        """The engine's name."""
        return self._engine.name

    @property
    def version(self) -> str:
        """The engine's and its models' version. Raises ``EngineUnavailable`` if they are not installed."""
        try:
            return self._engine.version
        except PackageNotFoundError as error:
            raise EngineUnavailable(engine=NAME, reason=str(error)) from error

    def warm(self) -> None:
        """Load the models, so that the first document does not wait for them."""
        self._engine.warm()

    def read(self, content: bytes, name: str) -> dict[str, Any]:
        """Return the document's DocumentMetadata, Blocks and DetectDocumentTextModelVersion.

        The same bytes give the same response, ids included. Raises the errors of ``load_image``,
        ``EngineUnavailable``, and ``EngineFailed`` in place of an ``OSError`` of the engine.
        """
        try:
            reading = self._read(load_image(content, name), name)
        except ImportError as error:
            # Decoding needs packages of the same extra as the engine.
            raise EngineUnavailable(engine=self.engine, reason=str(error)) from error
        return detect_text_response(lines_of(reading.rows), reading.frame, hashlib.sha256(content).hexdigest())

    def pages(self, source: Path | bytes, name: str, limits: DocumentLimits) -> int:
        """Return how many pages a document has. Raises the errors of ``open_document``."""
        with closing(open_document(source, name, limits)) as document:
            return document.pages

    def page(self, request: PageRequest) -> PageResult:
        """Return one page's blocks.

        Raises the errors of ``open_document`` and ``EngineUnavailable``; an ``OSError`` is one of the document's file,
        as one of the engine becomes ``EngineFailed``.

        The page is read again if its kept reading cannot be used. If the kept reading has text alone, an analysis
        renders the page again to find its marks, without OCR.
        """
        from textract_local.reader.analysis.blocks import page_blocks

        try:
            known = None if request.kept is None else _restored(request.kept)
            reading = known
            needs_marks = request.analysis is not None
            if reading is None or not request.checked or (needs_marks and reading.marks is None):
                reading = self._look(request, reading)
            blocks = page_blocks(reading, request.analysis, request.seed, request.number)
        except ImportError as error:
            raise EngineUnavailable(engine=self.engine, reason=str(error)) from error
        new = None if reading is known else reading.to_json()
        return PageResult(blocks, new, recognised=known is None)

    def _look(self, request: PageRequest, known: PageReading | None) -> PageReading:
        from textract_local.reader.analysis.reading import PageReading

        with closing(open_document(request.source, request.name, request.limits)) as document:
            needs_marks = request.analysis is not None
            if known is not None and (known.marks is not None or not needs_marks):
                return known
            image = document.image(request.number)
        if known is None:
            read = self._read(image, request.name)
            known = PageReading(read.frame, tuple(lines_of(read.rows)))
        if not needs_marks:
            return known
        from textract_local.reader.analysis.marks import find_marks

        return replace(known, marks=find_marks(_straight(image, known.frame), known.lines))

    def _read(self, image: Image.Image, name: str) -> EngineReading:
        try:
            return self._engine.read(image)
        except OSError as error:
            parts = (error.filename, error.strerror or str(error) or type(error).__name__)
            reason = ": ".join(str(part) for part in parts if part)
            raise EngineFailed(engine=self.engine, name=name, reason=reason) from error


def _restored(kept: bytes) -> PageReading | None:
    from textract_local.reader.analysis.reading import PageReading

    try:
        return PageReading.from_json(kept)
    except ValueError:
        # Another version wrote it, or a full disk cut it off.
        return None


def _straight(image: Image.Image, frame: Frame) -> Image.Image:
    """Return the image scaled and straightened to the engine's frame."""
    from PIL import Image as Pillow

    from textract_local.reader.long_lines import straighten

    size = round(frame.width), round(frame.height)
    return straighten(image if image.size == size else image.resize(size, Pillow.Resampling.LANCZOS), frame)
