"""Draw pages with tables, words and places that are known, so that analysing them needs no engine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from PIL import Image, ImageDraw

from textract_local.reader.analysis.marks import PageMarks, find_marks
from textract_local.reader.analysis.table_model import Table
from textract_local.reader.analysis.tables import find_tables
from textract_local.reader.engine import EngineWord
from textract_local.reader.layout import Line, lines_of
from textract_local.reader.long_lines import straighten
from textract_support.pages import font, frame

Colour = str | tuple[int, int, int]
Stroke = Callable[[ImageDraw.ImageDraw, tuple[float, float], tuple[float, float]], None]

MERIDIAN = [
    ["Item", "Grams", "Price"],
    ["Flour", "250", "1.20"],
    ["Butter", "125", "2.35"],
    ["Sugar", "90", "0.80"],
    ["Salt", "5", "0.10"],
]


@dataclass
class Drawing:
    """A page to draw and write on, which keeps the words with their boxes."""

    width: int = 1000
    height: int = 800
    paper: Colour = "white"
    ink: Colour = "black"
    size: int = 24
    words: list[EngineWord] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.image = Image.new("RGB", (self.width, self.height), self.paper)
        self.pen = ImageDraw.Draw(self.image)

    def write(self, left: float, top: float, text: str, *, align: str = "left", size: int | None = None) -> None:
        """Write a line; ``left`` is its right end or its middle if ``align`` says so."""
        letters = font(size or self.size)
        length = self.pen.textlength(text, font=letters)
        left -= {"left": 0.0, "middle": length / 2, "right": length}[align]
        for word in text.split():
            box = self.pen.textbbox((left, top), word, font=letters)
            self.pen.text((left, top), word, fill=self.ink, font=letters)
            self.words.append(EngineWord(word, 0.9, *box))
            left += self.pen.textlength(word + " ", font=letters)

    @property
    def lines(self) -> tuple[Line, ...]:
        """Return the words row by row, as an engine does."""
        by_row = sorted(self.words, key=lambda word: round(word.middle / 8))
        return tuple(lines_of([list(row) for _, row in groupby(by_row, key=lambda word: round(word.middle / 8))]))

    def marks(self) -> PageMarks:
        return find_marks(self.image, self.lines)

    def tables(self) -> tuple[Table, ...]:
        return find_tables(self.lines, self.marks())

    def after_turning(self, degrees: float) -> tuple[Table, ...]:
        """Turn the page, straighten it as an engine does, and find its tables."""
        turned = self.image.rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=self.paper)
        straight = straighten(turned, frame(turned.width, turned.height, rotation=degrees))
        right, down = (straight.width - self.width) / 2, (straight.height - self.height) / 2
        lines = tuple(
            tuple(
                EngineWord(word.text, 0.9, word.left + right, word.top + down, word.right + right, word.bottom + down)
                for word in line
            )
            for line in self.lines
        )
        return find_tables(lines, find_marks(straight, lines))

    def text(self, table: Table) -> list[list[str]]:
        """Return the texts of a table's cells, row by row."""
        return table_text(table, self.lines)


def table_text(table: Table, lines: Sequence[Line]) -> list[list[str]]:
    rows = [["" for _ in range(table.columns)] for _ in range(table.rows)]
    for cell in table.cells:
        rows[cell.row - 1][cell.column - 1] = " ".join(lines[line][word].text for line, word in cell.words)
    return rows


def solid(width: int = 2, colour: Colour = "black") -> Stroke:
    return lambda pen, start, end: pen.line([start, end], fill=colour, width=width)


def dotted(on: int = 3, off: int = 5, colour: Colour = "black") -> Stroke:
    def stroke(pen: ImageDraw.ImageDraw, start: tuple[float, float], end: tuple[float, float]) -> None:
        across = start[1] == end[1]
        first, last = (start[0], end[0]) if across else (start[1], end[1])
        place = first
        while place < last:
            stop = min(place + on, last)
            ends = [(place, start[1]), (stop, start[1])] if across else [(start[0], place), (start[0], stop)]
            pen.line(ends, fill=colour, width=2)
            place += on + off

    return stroke


def draw_grid(
    page: Drawing,
    rows: Sequence[Sequence[str]],
    *,
    at: tuple[float, float] = (100, 150),
    cell: tuple[float, float] = (220, 56),
    stroke: Stroke | None = None,
    without: Collection[tuple[str, int, int]] = (),
    lines: str = "all",
    text: tuple[float, float] = (12, 12),
) -> tuple[float, float, float, float]:
    """Draw a table with a rule along every border and return its box.

    ``without`` names borders that are not drawn: ("beside", row, column) is that to the right of a cell,
    ("below", row, column) that under it, counted from 0. ``lines`` may also be ``across``, ``down``,
    ``frame`` (the outer border and that under the first row) or ``none``.
    """
    stroke = stroke or solid()
    left, top = at
    width, height = cell
    count, across = len(rows), len(rows[0])
    for row in range(count + 1):
        if lines in {"down", "none"} or (lines == "frame" and row not in {0, 1, count}):
            continue
        for column in range(across):
            if ("below", row - 1, column) not in without:
                y = top + row * height
                stroke(page.pen, (left + column * width, y), (left + (column + 1) * width, y))
    for column in range(across + 1):
        if lines in {"across", "none"} or (lines == "frame" and column not in {0, across}):
            continue
        for row in range(count):
            if ("beside", row, column - 1) not in without:
                x = left + column * width
                stroke(page.pen, (x, top + row * height), (x, top + (row + 1) * height))
    for number, row_text in enumerate(rows):
        for column, words in enumerate(row_text):
            page.write(left + column * width + text[0], top + number * height + text[1], words)
    return left, top, left + across * width, top + count * height
