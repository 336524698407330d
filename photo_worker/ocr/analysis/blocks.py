"""A page's blocks, for text alone and for an analysis, in the order that recorded answers have."""

from __future__ import annotations

from photo_worker.ocr.analysis.reading import PageReading
from photo_worker.ocr.analysis.request import Analysis
from photo_worker.ocr.blocks import Block, Ids, text_blocks


def page_blocks(reading: PageReading, analysis: Analysis | None, seed: str, page: int) -> list[Block]:
    """Return one page's blocks as a synchronous answer has them, without ``Page``.

    ``seed`` stands for the document and what read it: the same gives the same ids. ``page`` counts from 1.
    ``analysis`` is None where only text is asked for.
    """
    text = text_blocks(reading.lines, reading.frame, Ids(seed, page))
    return text.in_order()
