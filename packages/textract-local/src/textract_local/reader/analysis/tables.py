"""Find the tables of a page: by rules, by bands and by alignment, in that order."""

from __future__ import annotations

from collections.abc import Sequence

from textract_local.reader.analysis.marks import PageMarks
from textract_local.reader.analysis.ruled_tables import ruled_drafts
from textract_local.reader.analysis.shapes import Box, around
from textract_local.reader.analysis.table_drafts import Draft
from textract_local.reader.analysis.table_model import Table
from textract_local.reader.analysis.table_roles import footers_of, roles_of, titles_of, with_roles
from textract_local.reader.analysis.table_words import Placed, letter_height, placed_words
from textract_local.reader.analysis.unruled_tables import open_drafts
from textract_local.reader.layout import Line

# A page of more words than this is noise.
_MOST_WORDS = 10_000

# At most so many tables per page, the first ones; and so many tinted areas and frames, the largest ones.
_MOST_TABLES = 200
_MOST_ZONES = 100

# A table of at least this confidence, with most cells filled, is structured (D: rows and columns clearly defined).
_CLEAR = 0.75

# Bands at most this many letter heights apart form one area; an area is at least this high.
_STACKED = 2.5
_FILLED = 0.6


def find_tables(lines: Sequence[Line], marks: PageMarks) -> tuple[Table, ...]:
    """Return the tables of a page from top to bottom; ``lines`` and ``marks`` are of one straightened page."""
    words = placed_words(lines)
    if not 0 < len(words) <= _MOST_WORDS:
        return ()
    letter = letter_height(words)
    drafts = ruled_drafts(marks, words, letter)
    free = [word for word in words if not _in_any(word, drafts, marks)]
    for part in _by_zone(free, marks, letter):
        drafts += open_drafts(part, letter)
    drafts.sort(key=lambda draft: (draft.ys[0], draft.xs[0]))
    drafts = drafts[:_MOST_TABLES]
    return tuple(_table(draft, drafts, words, marks, letter) for draft in drafts)


def _by_zone(words: Sequence[Placed], marks: PageMarks, letter: float) -> list[list[Placed]]:
    """Group words by the smallest tinted area or frame that they stand in."""
    zones = sorted((*_stacked(marks.bands, letter), *marks.rectangles), key=lambda zone: zone.area)[-_MOST_ZONES:]
    parts: dict[int, list[Placed]] = {}
    for word in words:
        zone = next((number for number, zone in enumerate(zones) if zone.holds(*word.box.centre)), -1)
        parts.setdefault(zone, []).append(word)
    return list(parts.values())


def _stacked(bands: Sequence[Box], letter: float) -> list[Box]:
    """Return bands as areas: bands of one extent, one closely below the other, form one area."""
    areas: list[Box] = []
    for band in bands:
        above = next(
            (
                index
                for index, area in enumerate(areas)
                if abs(area.left - band.left) <= letter
                and abs(area.right - band.right) <= letter
                and band.top - area.bottom <= _STACKED * letter
            ),
            None,
        )
        if above is None:
            areas.append(band)
        else:
            areas[above] = around((areas[above], band))
    return [area for area in areas if area.height >= _STACKED * letter]


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
