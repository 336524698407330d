"""The tables of a page: found by rules, by bands and by alignment, in that order."""

from __future__ import annotations

from collections.abc import Sequence

from photo_worker.ocr.analysis.marks import PageMarks
from photo_worker.ocr.analysis.open_tables import open_drafts
from photo_worker.ocr.analysis.ruled_tables import ruled_drafts
from photo_worker.ocr.analysis.table_drafts import Draft
from photo_worker.ocr.analysis.table_model import Table
from photo_worker.ocr.analysis.table_roles import footers_of, roles_of, titles_of, with_roles
from photo_worker.ocr.analysis.table_words import Placed, letter_height, placed_words
from photo_worker.ocr.layout import Line

# Words per page that are looked at; a page of more is noise.
_MOST_WORDS = 20_000

# Every cell as sure as this, and most of them filled, is a structured table (D: rows and columns clearly defined).
_CLEAR = 0.75
_FILLED = 0.6


def find_tables(lines: Sequence[Line], marks: PageMarks) -> tuple[Table, ...]:
    """Return the tables of a page from top to bottom; ``lines`` and ``marks`` are of one straightened page."""
    words = placed_words(lines)
    if not 0 < len(words) <= _MOST_WORDS:
        return ()
    letter = letter_height(words)
    drafts = ruled_drafts(marks, words, letter)
    free = [word for word in words if not _in_any(word, drafts, marks)]
    drafts += open_drafts(free, letter)
    drafts.sort(key=lambda draft: (draft.ys[0], draft.xs[0]))
    return tuple(_table(draft, drafts, words, marks, letter) for draft in drafts)


def _in_any(word: Placed, drafts: Sequence[Draft], marks: PageMarks) -> bool:
    x, y = word.box.centre
    return any(draft.box.holds(x, y) for draft in drafts) or any(picture.holds(x, y) for picture in marks.pictures)


def _table(draft: Draft, drafts: Sequence[Draft], words: Sequence[Placed], marks: PageMarks, letter: float) -> Table:
    roles = roles_of(draft, words, marks.horizontal, marks.bands, letter)
    cells, merged = with_roles(*draft.cells(words, marks.check_boxes), roles)
    others = [other for other in drafts if other is not draft]
    around_it = [word for word in words if not any(other.box.holds(*word.box.centre) for other in others)]
    filled = len(draft.words_by_cell(words)) + sum(rows * columns - 1 for _, _, rows, columns in draft.spans)
    clear = draft.confidence >= _CLEAR and filled >= _FILLED * len(cells)
    return Table(
        box=draft.box,
        rows=draft.rows,
        columns=draft.columns,
        cells=cells,
        merged=merged,
        titles=tuple(titles_of(draft, around_it, roles, letter)),
        footers=tuple(footers_of(draft, around_it, letter)),
        kind="STRUCTURED_TABLE" if clear or draft.ruled else "SEMI_STRUCTURED_TABLE",
        confidence=draft.confidence,
    )
