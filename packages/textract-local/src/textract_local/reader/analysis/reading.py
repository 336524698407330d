"""The reading of a page that is kept: enough to analyse the page again without a second OCR."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from pydantic import TypeAdapter

from textract_local.reader.analysis.marks import PageMarks
from textract_local.reader.engine import Frame
from textract_local.reader.layout import Line


@dataclass(frozen=True)
class PageReading:
    """A page's lines in Textract's order and its drawn marks, in the straightened page's pixels.

    ``marks`` is None if only the text was read, or if the page could not be searched for marks.
    """

    frame: Frame
    lines: tuple[Line, ...]
    marks: PageMarks | None = None

    def to_json(self) -> bytes:
        """Return the reading as JSON; ``from_json`` restores it exactly, to the last bit."""
        return _adapter().dump_json(self)

    @classmethod
    def from_json(cls, text: bytes) -> PageReading:
        """Restore a reading from ``to_json``. Raises pydantic's ValidationError (a ValueError)."""
        return _adapter().validate_json(text)


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[PageReading]:
    # Built once, on first use: building it takes longer than reading a page's JSON.
    return TypeAdapter(PageReading)
