"""Assign roles to a table's rows, and find its titles and footers.

The service's rules are not documented. Here a header row is tinted, or has no figures and stands over columns of
figures; a row over the whole width is the table's title at the top, and a section's title further down; a last row
under a rule of its own, or a row with a word such as "Total", is a summary (?, after what recordings show).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from textract_local.reader.analysis.shapes import Box, RulingLine, around
from textract_local.reader.analysis.table_drafts import Draft
from textract_local.reader.analysis.table_model import Cell, CellRole, MergedCell, TableText
from textract_local.reader.analysis.table_words import Placed, rows_of

_SUMMARY = re.compile(r"(?i)^(grand |sub-?|sub )?(total|sum|summe|gesamt|somme|totale|balance)\b")
_FOOTNOTE = re.compile(r"^(\*|\u2020|\u2021|\(\d\)|\u00b9|\u00b2|\u00b3|notes?:|source:|sources:)", re.IGNORECASE)
_CAPTION = re.compile(r"(?i)^(table|tab\.|tabelle|tableau|tabla|exhibit|schedule)\s*[\dIVX]")

# In letter heights, the greatest distances: of a title above its table, between a title's lines, of a footer below.
_TITLE_NEAR = 4.0
_TITLE_LINES = 1.0
_FOOTER_NEAR = 1.6
_AROUND = 15.0
_MOST_TITLE_LINES = 3
_MOST_SECTION_WORDS = 4


def roles_of(
    draft: Draft, words: Sequence[Placed], rules: Sequence[RulingLine], bands: Sequence[Box], letter: float
) -> list[CellRole | None]:
    """Return the role of each row."""
    held = draft.words_by_cell(words)
    rows = [[held.get((row, column), []) for column in range(draft.columns)] for row in range(draft.rows)]
    whole = {row for row, column, _, columns in draft.spans if column == 0 and columns == draft.columns}
    roles: list[CellRole | None] = [None] * draft.rows
    first = 0
    if 0 in whole and any(rows[0]) and draft.rows > 2:
        roles[0] = "TABLE_TITLE"
        first = 1
    if _is_header(draft, rows, first, bands, letter):
        roles[first] = "COLUMN_HEADER"
    for row in range(first + 1, draft.rows - 1):
        count = sum(map(len, rows[row]))
        if row in whole and row + 1 not in whole and 0 < count <= _MOST_SECTION_WORDS:
            roles[row] = "TABLE_SECTION_TITLE"
    for row in range(first + 2, draft.rows):
        text = " ".join(word.text for cell in rows[row] for word in cell)
        if roles[first] == "COLUMN_HEADER" and row not in whole and _SUMMARY.match(text):
            roles[row] = "TABLE_SUMMARY"
    last = draft.rows - 1
    if last > first + 2 and roles[last] is None and _set_off(draft, rules, letter):
        roles[last] = "TABLE_SUMMARY"
    return roles


def with_roles(
    cells: Sequence[Cell], merged: Sequence[MergedCell], roles: Sequence[CellRole | None]
) -> tuple[tuple[Cell, ...], tuple[MergedCell, ...]]:
    """Return cells and merged cells with the roles of their rows."""
    return (
        tuple(replace(cell, role=roles[cell.row - 1]) for cell in cells),
        tuple(replace(cell, role=roles[cell.row - 1] if cell.rows == 1 else None) for cell in merged),
    )


def _is_header(
    draft: Draft, rows: Sequence[Sequence[Sequence[Placed]]], first: int, bands: Sequence[Box], letter: float
) -> bool:
    if draft.rows - first < 2:
        return False
    filled = [column for column in range(draft.columns) if rows[first][column]]
    if len(filled) < max(2, 0.5 * draft.columns):
        return False
    if _tinted(draft, first, bands, letter) and not _tinted(draft, first + 1, bands, letter):
        return draft.rows - first > 3 or not _tinted(draft, first + 2, bands, letter)
    over_figures = 0
    for column in filled:
        body = [rows[row][column] for row in range(first + 1, draft.rows) if rows[row][column]]
        figures = sum(any(word.has_digit for word in cell) for cell in body)
        if any(word.is_figure for word in rows[first][column]):
            return False
        over_figures += bool(body) and figures >= 0.75 * len(body)
    return over_figures >= max(1, 0.4 * len(filled))


def _tinted(draft: Draft, row: int, bands: Sequence[Box], letter: float) -> bool:
    """Tell whether bands lie behind most of a row and end with it."""
    if row >= draft.rows:
        return False
    box = Box(draft.xs[0], draft.ys[row], draft.xs[-1], draft.ys[row + 1])
    behind = [
        band
        for band in bands
        if band.top >= box.top - 0.5 * letter and band.bottom <= box.bottom + 0.5 * letter and band.shared(box)
    ]
    return sum(band.shared(box) for band in behind) >= 0.5 * box.area


def _set_off(draft: Draft, rules: Sequence[RulingLine], letter: float) -> bool:
    """Tell whether a rule separates the last row in a body without other rules."""
    near = 0.7 * letter
    drawn = [
        any(
            abs(rule.box.centre[1] - y) <= near and rule.box.width >= 0.8 * draft.box.width
            for rule in rules
            if rule.box.shared(draft.box.grown(near))
        )
        for y in draft.ys[1:-1]
    ]
    return len(drawn) >= 3 and drawn[-1] and not any(drawn[1:-1])


def titles_of(
    draft: Draft, words: Sequence[Placed], roles: Sequence[CellRole | None], letter: float
) -> list[TableText]:
    """Return the table's title: its first row if that has the role, or else a short text closely above the table."""
    if roles[0] == "TABLE_TITLE":
        held = draft.words_by_cell(words)
        inside = [word for column in range(draft.columns) for word in held.get((0, column), [])]
        box = Box(draft.xs[0], draft.ys[0], draft.xs[-1], draft.ys[1])
        return [TableText(box, tuple(word.place for word in inside), draft.confidence)]
    above = [
        row
        for row in _lines_beside(draft, words, letter)
        if max(word.box.bottom for word in row) <= draft.box.top + 0.4 * letter
    ]
    lines: list[list[Placed]] = []
    edge, near = draft.box.top, _TITLE_NEAR * letter
    for row in reversed(above):
        if edge - max(word.box.bottom for word in row) > near:
            break
        lines.insert(0, row)
        edge, near = min(word.box.top for word in row), _TITLE_LINES * letter
        if _CAPTION.match(" ".join(word.text for word in row)):
            break
    if not lines or len(lines) > _MOST_TITLE_LINES:
        return []
    sure = 1.0 if _CAPTION.match(" ".join(word.text for word in lines[0])) else 0.5
    return [_passage(lines, sure)]


def footers_of(draft: Draft, words: Sequence[Placed], letter: float) -> list[TableText]:
    """Return the notes closely below the table that begin as footnotes do."""
    found = []
    edge = draft.box.bottom
    for row in _lines_beside(draft, words, letter):
        top = min(word.box.top for word in row)
        if top < draft.box.bottom - 0.4 * letter:
            continue
        if top - edge > _FOOTER_NEAR * letter or not _FOOTNOTE.match(row[0].text):
            break
        found.append(_passage([row], 1.0))
        edge = max(word.box.bottom for word in row)
    return found


def _lines_beside(draft: Draft, words: Sequence[Placed], letter: float) -> list[list[Placed]]:
    """Return the rows of text above and below the table that are about as wide as it, from top to bottom."""
    box = draft.box
    words = [word for word in words if box.top - _AROUND * letter <= word.middle <= box.bottom + _AROUND * letter]
    rows = []
    inside = {id(word) for word in words if box.holds(*word.box.centre)}
    for row in rows_of((word for word in words if id(word) not in inside), letter):
        near = [word for word in row if box.left - 4 * letter <= word.box.centre[0] <= box.right + 4 * letter]
        if near and around(word.box for word in near).width <= box.width * 1.5 + 4 * letter:
            rows.append(near)
    return rows


def _passage(rows: Sequence[Sequence[Placed]], sure: float) -> TableText:
    words = [word for row in rows for word in row]
    # The confidence of its words, halved by the caller if nothing but its place marks the text.
    read = sum(word.confidence for word in words) / len(words)
    places = tuple(sorted(word.place for word in words))
    return TableText(around(word.box for word in words), places, sure * read)
