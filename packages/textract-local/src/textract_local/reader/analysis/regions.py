"""Find a page's layout: group lines into titles, paragraphs, lists and tables, in reading order.

Every line belongs to exactly one region (O: all recordings); lines inside a picture belong to its region.
Paragraphs are lines of one size set closely below each other. The size of its letters, its place on the page
and its first words decide a region's kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from textract_local.reader.analysis.forms import Field
from textract_local.reader.analysis.labels import is_bullet
from textract_local.reader.analysis.passages import Page, Passage, overlap
from textract_local.reader.analysis.reading_order import in_reading_order
from textract_local.reader.analysis.shapes import Box, around
from textract_local.reader.analysis.table_model import Table

# Lines of one paragraph are at most this many letter heights apart, and of nearly one height.
_LEADING = 1.05
_ONE_SIZE = 1.35

# Letters this many times as large as the page's usual ones belong to a title, or to a section header.
_TITLE = 1.6
_SECTION = 1.15

# Most words of a title and of a section header.
_TITLE_WORDS = 18
_SECTION_WORDS = 12

# An area with _FORM_FIELDS fields that are at most _FORM_GAP letter heights apart below each other and _FORM_APART
# beside each other is a form, if at least _FORM_SHARE of its lines belong to fields.
_FORM_FIELDS = 6
_FORM_GAP = 6.0
_FORM_APART = 8.0
_FORM_SHARE = 0.7

# Text within this share of the page at its top or bottom may be a header or footer.
_MARGIN = 0.08

# A picture that holds more lines than this, or fills more of the page, is the paper and not a figure.
_FIGURE_LINES = 40
_FIGURE_SHARE = 0.6

_NUMBERED = re.compile(r"(?:\d{1,2}\.)+\d{0,2}\.?$")
_PAGE_NUMBER = re.compile(
    r"(?:[-\u2013\u2014(\[|]?\s*(?:\d{1,4}|[ivxlc]{1,6})\s*[-\u2013\u2014)\]|]?"
    r"|(?:\w{1,6}\.?\s)?\d{1,4}\s?(?:/|of|von|de|di|sur)\s?\d{1,4}|(?:page|seite|pagina|p\u00e1gina|p\.)\s?\d{1,4})$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Region:
    """One region: the suffix of its LAYOUT block type, its lines in reading order, its box.

    ``lines`` are indices of the page's lines; a LIST's are those of its ``items``. Confidence is 0 to 1.
    """

    kind: str
    lines: tuple[int, ...]
    box: Box
    confidence: float
    items: tuple[Region, ...] = ()


# Confidence of a kind, by how well its rules agree with recorded responses (C: the service's own values differ).
_SURE = {
    "TABLE": 0.9,
    "TEXT": 0.85,
    "FIGURE": 0.8,
    "PAGE_NUMBER": 0.8,
    "LIST": 0.75,
    "TITLE": 0.7,
    "SECTION_HEADER": 0.65,
    "KEY_VALUE": 0.6,
    "FOOTER": 0.6,
    "HEADER": 0.5,
}

# All kinds of regions; a LAYOUT block's type is LAYOUT_ and one of them.
KINDS = frozenset(_SURE)


def find_regions(page: Page, tables: Sequence[Table], fields: Sequence[Field]) -> list[Region]:
    """Return the page's regions in reading order: column by column if the page is set in columns."""
    by_line = {passage.index: passage for passage in page.passages}
    regions, free = _fixed(page, tables, fields)
    forms, free = _forms(page, free, fields)
    regions += forms
    groups = [_in_rows(group) for group in _groups(page, free, fields)]
    regions += [_classify(page, group, groups, fields) for group in groups]
    regions = _with_one_title(regions, by_line)
    return in_reading_order(regions)


def _fixed(page: Page, tables: Sequence[Table], fields: Sequence[Field]) -> tuple[list[Region], list[Passage]]:
    """Return tables and figures with the lines in them, and the lines that are left."""
    free = list(page.passages)
    regions: list[Region] = []
    for table in tables:
        if _is_form(page, table, fields):
            continue
        inside = [passage for passage in free if _inside(passage, table.box, table)]
        if inside:
            regions.append(_region("TABLE", inside, table.box, confidence=table.confidence))
            free = [passage for passage in free if passage not in inside]
    pictures = page.reading.marks.pictures if page.reading.marks else ()
    for picture in pictures:
        inside = [passage for passage in free if picture.holds(*passage.box.centre)]
        large = picture.area > _FIGURE_SHARE * page.width * page.height or _reads_as_text(inside)
        in_table = any(picture.shared(region.box) > 0.5 * picture.area for region in regions)
        if in_table or (inside and (large or len(inside) > _FIGURE_LINES)):
            continue
        regions.append(_region("FIGURE", inside, picture))
        free = [passage for passage in free if passage not in inside]
    return regions, free


def _is_form(page: Page, table: Table, fields: Sequence[Field]) -> bool:
    """Tell whether a table consists of labels and values without ruling lines."""
    rules = page.reading.marks.horizontal if page.reading.marks else ()
    ruled = sum(table.box.grown(page.letter_height).holds(*rule.box.centre) for rule in rules)
    words = table.words
    named = sum(place in words for field in fields for place in (*field.key, *field.value))
    return ruled < 2 and named >= 0.8 * len(words)


def _forms(page: Page, free: Sequence[Passage], fields: Sequence[Field]) -> tuple[list[Region], list[Passage]]:
    """Return the KEY_VALUE regions of areas full of fields, and the lines that are left."""
    lines = {place[0] for field in fields for place in (*field.key, *field.value)}
    left, regions = list(free), []
    for box in _areas([page.box((*field.key, *field.value)) for field in fields], page.letter_height):
        inside = [passage for passage in left if box.holds(*passage.box.centre)]
        members = {passage.index for passage in inside}
        held = [field for field in fields if field.key[0][0] in members]
        if len(held) >= _FORM_FIELDS and sum(line in lines for line in members) >= _FORM_SHARE * len(members):
            regions.append(_region("KEY_VALUE", inside))
            left = [passage for passage in left if passage.index not in members]
    return regions, left


def _areas(boxes: Sequence[Box], letter: float) -> list[Box]:
    """Join fields that are near each other, below or beside, into areas."""
    areas: list[Box] = []
    for box in sorted(boxes, key=lambda box: (box.top, box)):
        joined, apart = box, []
        for area in areas:
            near = max(area.left - joined.right, joined.left - area.right) <= _FORM_APART * letter
            near = near and joined.top - area.bottom <= _FORM_GAP * letter
            if near:
                joined = around([joined, area])
            else:
                apart.append(area)
        areas = [*apart, joined]
    return areas


def _reads_as_text(inside: Sequence[Passage]) -> bool:
    """Tell whether lines in a picture are text on a background, and not labels in a drawing."""
    return bool(inside) and (
        median(len(passage.words) for passage in inside) > 1 or median(len(passage.text) for passage in inside) > 12
    )


def _inside(passage: Passage, box: Box, table: Table) -> bool:
    held = sum(place in table.words for place in passage.places())
    return 2 * held >= len(passage.words) or box.holds(*passage.box.centre)


def _region(kind: str, group: Sequence[Passage], box: Box | None = None, *, confidence: float = 1.0) -> Region:
    lines = tuple(passage.index for passage in group)
    whole = around([*([box] if box else []), *(passage.box for passage in group)])
    return Region(kind, lines, whole, _SURE[kind] * confidence)


# Lines to paragraphs


def _groups(page: Page, free: Sequence[Passage], fields: Sequence[Field]) -> list[list[Passage]]:
    """Join the lines of a paragraph, and the lines of a field's label and value on one row."""
    group = {passage.index: [passage] for passage in free}
    mates = {
        (field.key[-1][0], place[0]) for field in fields for place in field.value[:1] if field.key[-1][0] != place[0]
    }
    ordered = sorted(free, key=lambda passage: passage.box.top)
    for number, upper in enumerate(ordered):
        for lower in ordered[number + 1 :]:
            if lower.box.top > upper.box.bottom + _LEADING * _ONE_SIZE * upper.height:
                break
            joined = (upper.index, lower.index) in mates or (lower.index, upper.index) in mates
            if (joined and upper.beside(lower)) or _continues(upper, lower, ordered):
                _join(group, upper.index, lower.index)
    return list({id(members): members for members in group.values()}.values())


def _join(group: dict[int, list[Passage]], first: int, second: int) -> None:
    into, other = group[first], group[second]
    if into is not other:
        into += other
        for passage in other:
            group[passage.index] = into


def _continues(upper: Passage, lower: Passage, ordered: Sequence[Passage]) -> bool:
    """Tell whether ``lower`` is the next line of ``upper``'s paragraph."""
    height = min(upper.height, lower.height)
    gap = lower.box.top - upper.box.bottom
    if lower.box.centre[1] <= upper.box.bottom or gap > _LEADING * height:
        return False
    if max(upper.height, lower.height) > _ONE_SIZE * height:
        return False
    if overlap(upper.box.left, upper.box.right, lower.box.left, lower.box.right) < 0.3:
        return False
    indented = lower.box.left - upper.box.left > 0.9 * height and upper.text.endswith((".", "!", "?"))
    if indented and lower.box.width > upper.box.width * 0.5:
        return False
    return not _heads(upper, lower)


def _heads(upper: Passage, lower: Passage) -> bool:
    """Tell whether ``upper`` is a header over ``lower``: numbered like a section, or larger."""
    numbered = bool(_NUMBERED.match(upper.words[0].text)) and "." in upper.words[0].text[:-1] and len(upper.words) > 1
    return (numbered and len(upper.words) <= _SECTION_WORDS) or upper.height > 1.2 * lower.height


def _in_rows(group: Sequence[Passage]) -> list[Passage]:
    """Sort lines row by row, in the order of the page's lines."""
    return sorted(group, key=lambda passage: passage.index)


# Kinds of groups


def _classify(page: Page, group: list[Passage], groups: Sequence[list[Passage]], fields: Sequence[Field]) -> Region:
    items = _items(group)
    if items:
        return Region(
            "LIST",
            tuple(line for item in items for line in item.lines),
            around(item.box for item in items),
            _SURE["LIST"],
            tuple(items),
        )
    return _region(_kind(page, group, groups, fields), group)


def _items(group: Sequence[Passage]) -> list[Region]:
    """Return a list's items, or none if the first line and one more do not begin with a bullet or number."""
    starts = [
        index for index, passage in enumerate(group) if is_bullet(passage.words[0].text) and len(passage.words) > 1
    ]
    if len(starts) < 2 or starts[0] != 0:
        return []
    ends = [*starts[1:], len(group)]
    return [_region("TEXT", group[start:end]) for start, end in zip(starts, ends, strict=True)]


def _kind(page: Page, group: Sequence[Passage], groups: Sequence[list[Passage]], fields: Sequence[Field]) -> str:
    box = around(passage.box for passage in group)
    text = " ".join(passage.text for passage in group)
    size = median(passage.height for passage in group) / page.letter_height
    edge = _edge(page, box, group, groups)
    lines = {passage.index for passage in group}
    in_fields = any(field.key[0][0] in lines and (field.value or field.check_box is not None) for field in fields)
    if edge and _PAGE_NUMBER.match(text):
        return "PAGE_NUMBER"
    if _is_key_value(group, fields):
        return "KEY_VALUE"
    if in_fields:
        return "TEXT"
    if edge and size < _SECTION and len(group) <= 3:
        return edge
    return "SECTION_HEADER" if _is_header(group, size) else "TEXT"


def _is_header(group: Sequence[Passage], size: float) -> bool:
    """Tell whether a group is short, and larger than the page's text or numbered like a section."""
    text = " ".join(passage.text for passage in group)
    words = len(text.split())
    if size >= _SECTION and len(group) <= 2 and words <= _SECTION_WORDS and any(map(str.isalpha, text)):
        return True
    numbered = _NUMBERED.match(group[0].words[0].text) and "." in group[0].words[0].text[:-1]
    return bool(numbered) and 1 < words <= _SECTION_WORDS and not text.endswith(".")


def _edge(page: Page, box: Box, group: Sequence[Passage], groups: Sequence[list[Passage]]) -> str | None:
    """Return HEADER or FOOTER if a group stands in a margin, apart from the text; otherwise None."""
    others = [passage.box for other in groups for passage in other if other is not group]
    room = 1.5 * page.letter_height
    if box.bottom < _MARGIN * page.height and others:
        below = min((other.top for other in others if other.top > box.bottom), default=None)
        return "HEADER" if below is not None and below - box.bottom > room else None
    if box.top > (1 - _MARGIN) * page.height and others:
        above = max((other.bottom for other in others if other.bottom < box.top), default=None)
        return "FOOTER" if above is not None and box.top - above > room else None
    return None


def _is_key_value(group: Sequence[Passage], fields: Sequence[Field]) -> bool:
    """Tell whether a group is mostly fields whose labels and values are separate lines."""
    lines = {passage.index for passage in group}
    parted = [
        field
        for field in fields
        if field.value
        and field.key[0][0] in lines
        and field.value[0][0] in lines
        and field.key[0][0] != field.value[0][0]
    ]
    covered = {place[0] for field in parted for place in (*field.key, *field.value)}
    return len(parted) >= 2 and 2 * len(covered & lines) >= len(lines)


def _with_one_title(regions: Iterable[Region], by_line: dict[int, Passage]) -> list[Region]:
    """Make the largest header the page's title, if it is large enough and not below the middle of the regions."""
    kept = list(regions)
    headers = [index for index, region in enumerate(kept) if region.kind == "SECTION_HEADER"]
    heights = sorted(by_line[line].height for region in kept for line in region.lines)
    if not headers or not heights:
        return kept
    usual = heights[len(heights) // 2]

    def size(index: int) -> float:
        return median(by_line[line].height for line in kept[index].lines)

    largest = max(headers, key=lambda index: (size(index), -kept[index].box.top))
    middle = median(region.box.centre[1] for region in kept)
    words = sum(len(by_line[line].words) for line in kept[largest].lines)
    if size(largest) >= _TITLE * usual and kept[largest].box.centre[1] <= middle and words <= _TITLE_WORDS:
        kept[largest] = replace(kept[largest], kind="TITLE", confidence=_SURE["TITLE"])
    return kept
