"""What is kept of a page: enough to analyse it, and to analyse it again without a second OCR."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from pydantic import TypeAdapter

from photo_worker.ocr.analysis.marks import PageMarks
from photo_worker.ocr.engine import Frame
from photo_worker.ocr.layout import Line


@dataclass(frozen=True)
class PageReading:
    """A page's lines in Textract's order, and what is drawn on it, in the straightened page's pixels.

    ``marks`` is None where only the text was read, or where the page's drawing could not be looked at.
    """

    frame: Frame
    lines: tuple[Line, ...]
    marks: PageMarks | None = None

    def to_json(self) -> bytes:
        """Return the reading as JSON, from which ``from_json`` makes the same again, to the last bit."""
        return _adapter().dump_json(self)

    @classmethod
    def from_json(cls, text: bytes) -> PageReading:
        """Return the reading that ``to_json`` gave. Raises pydantic's ValidationError (a ValueError)."""
        return _adapter().validate_json(text)


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[PageReading]:
    # Made once it is needed: building it takes longer than reading a page's JSON.
    return TypeAdapter(PageReading)
