"""Find the fields of a form: labels with their values, as the page's layout shows them.

A field is a label that ends with a colon or a number sign, with the text beside or below it; a check box
with the text beside it; a label and an amount, date or number alone on one row; two rows or two columns of a
table, one of labels and one of values; a label at the top of a box that is otherwise empty or holds one
value. Sentences are not fields, and a field's value is always printed beside it, below it or in the same box.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean, median

from textract_local.reader.analysis.labels import (
    LABEL_WORDS,
    ends_with_colon,
    has_digit,
    is_bullet,
    is_label,
    is_value,
    label_ends,
)
from textract_local.reader.analysis.passages import Page, Passage
from textract_local.reader.analysis.shapes import Box, CheckBox
from textract_local.reader.analysis.table_model import Table, WordPlace
from textract_local.reader.engine import EngineWord

# Confidence of a pair by its evidence; it is multiplied by the confidence of the words.
_BY_CHECK_BOX = 0.95
_BY_COLON = 0.95
_BY_TABLE = 0.9
_BY_ROW = 0.8
_BY_SIGN = 0.85
_BY_BOX = 0.8
_BELOW = 0.7

# A check box's text begins within this many heights of the box.
_NEAR = 2.5

# A value on the label's row stands within this many letter heights.
_ALONG = 22.0

# Farther away than this, in letter heights, a line on the row may belong to another block.
_FAR = 6.0

# A gap this many times as wide as a line's usual gaps separates its words.
_WIDER = 1.6

# Text of more words than this is a sentence, not a value.
_VALUE_WORDS = 12

# After a line of at least this many words without an end mark, the next line continues a sentence.
_PROSE_WORDS = 7

# Without a colon or the like, fields must occur at least this often.
_REPEATED = 3

# Most lines of a value, such as an address, below its label.
_LINES_BELOW = 5


@dataclass(frozen=True)
class Field:
    """A key with its value. An empty field has neither words nor a check box.

    ``check_box`` is the index of the value in ``PageMarks.check_boxes``; confidence is 0 to 1.
    """

    key: tuple[WordPlace, ...]
    value: tuple[WordPlace, ...]
    confidence: float
    check_box: int | None = None


def find_fields(page: Page, tables: Sequence[Table]) -> list[Field]:
    """Return the fields of a page, in the order of their keys."""
    return _FieldFinder(page, tables).find()


class _FieldFinder:
    def __init__(self, page: Page, tables: Sequence[Table]) -> None:
        self._page = page
        self._tables = tables
        self._check_boxes: Sequence[CheckBox] = page.reading.marks.check_boxes if page.reading.marks else ()
        self._by_index = {passage.index: passage for passage in page.passages}
        self._taken: set[WordPlace] = set()
        self._fields: list[Field] = []

    def find(self) -> list[Field]:
        for index in range(len(self._check_boxes)):
            self._beside_check_box(index)
        labelled = [list(self._labelled(passage)) for passage in self._page.passages]
        self._keys = {place for fields in labelled for key, _, _ in fields for place in key}
        for fields in labelled:
            self._with_labels(fields)
        for table in self._tables:
            self._of_table(table)
        self._small_labels()
        empty = [passage for passage in self._page.passages if self._in_cell(passage)]
        if len(empty) >= _REPEATED:
            for passage in empty:
                self._add(passage.places(), (), _BY_BOX * _BELOW)
        for passage in self._page.passages:
            self._row_under_row(passage)
        for passage in self._page.passages:
            self._label_and_value_of_a_row(passage)
        return sorted(self._fields, key=lambda field: field.key[0])

    def _add(
        self, key: Sequence[WordPlace], value: Sequence[WordPlace], by: float, check_box: int | None = None
    ) -> None:
        key, value = tuple(key), tuple(value)
        if not key or self._taken & {*key, *value}:
            return
        self._taken.update(key, value)
        confidence = by * mean([self._page.confidence(key), self._page.confidence(value or key)])
        self._fields.append(Field(key, value, confidence, check_box))

    # Check boxes

    def _beside_check_box(self, index: int) -> None:
        box = self._check_boxes[index].box
        row = [
            (word, place)
            for word, place in self._placed(self._page.level_with(box.grown(0.3 * box.height)))
            if box.top - 0.3 * box.height <= word.middle <= box.bottom + 0.3 * box.height
            and not box.holds((word.left + word.right) / 2, word.middle)
        ]
        right = self._run(sorted((each for each in row if each[0].left >= box.centre[0]), key=_left), box, ahead=True)
        left = self._run(
            sorted((each for each in row if each[0].right <= box.centre[0]), key=_right, reverse=True), box, ahead=False
        )
        nearest = min(
            (run for run in (right, left) if run), key=lambda run: _apart(run[0][0], box) - (run is right), default=None
        )
        if nearest is None:
            return
        words = [word for word, _ in nearest]
        if is_label([word.text for word in words]) or len(words) == 1:
            self._add(
                sorted(place for _, place in nearest), (), _BY_CHECK_BOX * self._check_boxes[index].confidence, index
            )

    def _run(
        self, row: list[tuple[EngineWord, WordPlace]], box: Box, *, ahead: bool
    ) -> list[tuple[EngineWord, WordPlace]]:
        """Return the words that follow a check box closely, one after the other."""
        run: list[tuple[EngineWord, WordPlace]] = []
        edge, near = (box.right if ahead else box.left), _NEAR * box.height
        others = [
            other.box.centre[0]
            for other in self._check_boxes
            if other.box.top < box.centre[1] < other.box.bottom and other.box != box
        ]
        for word, place in row:
            gap = word.left - edge if ahead else edge - word.right
            if (
                gap > near
                or place in self._taken
                or any(min(edge, word.left) < x < max(edge, word.right) for x in others)
            ):
                break
            run.append((word, place))
            edge, near = (word.right if ahead else word.left), 1.2 * word.height
        return run

    # Labels that end with a sign

    def _labelled(self, passage: Passage) -> Iterator[tuple[tuple[WordPlace, ...], tuple[WordPlace, ...], float]]:
        """Yield a line's labels, the words after each, and the confidence of the sign at its end."""
        texts = [word.text for word in passage.words]
        ends = label_ends(texts)
        if not ends or self._in_prose(passage):
            return
        starts = [self._start(passage, 0, ends[0])]
        starts += [self._start(passage, before + 1, end) for before, end in pairwise(ends)]
        for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
            until = starts[number + 1] if number + 1 < len(starts) else len(texts)
            words = texts[start : end + 1]
            if start > end or until - end - 1 > _VALUE_WORDS or not is_label(words):
                continue
            key = passage.places(start, end + 1)
            if words[0][:1].islower():
                before = self._before(passage) if start == 0 else ()
                if not before:
                    continue
                key = (*before, *key)
            yield (
                key,
                passage.places(end + 1, until),
                _BY_COLON if ends_with_colon(texts[end]) else _BY_SIGN,
            )

    def _start(self, passage: Passage, first: int, end: int) -> int:
        """Return the first word of the label that ends at ``end``: after the widest gap or the previous value."""
        words, texts = passage.words, [word.text for word in passage.words]
        head = 1 if first == 0 and is_bullet(texts[0]) and end > 0 else first
        # Words with digits after another label are that label's value.
        starts = [start for start in range(head, end + 1) if start == 0 or not has_digit(texts[start:end])]
        gaps = {start: words[start].left - words[start - 1].right for start in starts if start > 0}
        usual = median([after.left - before.right for before, after in pairwise(words)] or [0.0])
        widest = max(gaps, key=lambda start: gaps[start], default=head)
        if gaps and gaps[widest] > _WIDER * max(usual, 0.15 * passage.height):
            return widest
        if first == 0:
            return head
        # No gap separates value and label: the label is the capitalised words, after at least one word of the value.
        start = end
        while start - 1 > first and texts[start - 1][:1].isupper() and texts[start - 1].isalpha():
            start -= 1
        return max(start, min(first + 1, end))

    def _before(self, passage: Passage) -> tuple[WordPlace, ...]:
        """Return the words of the line above if the label begins there, or else none."""
        over = self._page.over(passage)
        near = over is not None and passage.box.top - over.box.bottom < 0.8 * passage.height
        if over is None or not near or abs(over.box.left - passage.box.left) > 0.5 * passage.height:
            return ()
        return over.places() if len(over.words) <= 4 and over.text[:1].isupper() and over.text[-1:].isalpha() else ()

    def _in_prose(self, passage: Passage) -> bool:
        over = self._page.over(passage)
        if over is None or passage.box.top - over.box.bottom > passage.height:
            return False
        ended = over.text.endswith((".", ":", "!", "?")) or ends_with_colon(passage.words[0].text)
        return len(over.words) >= _PROSE_WORDS and not ended and not label_ends([word.text for word in over.words])

    def _with_labels(self, fields: list[tuple[tuple[WordPlace, ...], tuple[WordPlace, ...], float]]) -> None:
        for key, value, by in fields:
            if value or by == _BY_SIGN:
                self._add(key, value or self._along(key), by)
                continue
            beside = self._along(key)
            if beside:
                self._add(key, beside, by)
                continue
            below = self._under(key)
            if below:
                self._add(key, below, by * _BELOW)
            elif self._is_open(key, alone=len(fields) == 1):
                self._add(key, (), by * _BELOW)

    def _along(self, key: Sequence[WordPlace]) -> tuple[WordPlace, ...]:
        """Return the words after a label on its row, up to the next label."""
        passage = self._passage(key[-1])
        if key[-1][1] != len(passage.words) - 1:
            return ()
        found: list[WordPlace] = []
        reach = _ALONG * passage.height
        while True:
            after = self._page.right_of(passage)
            if after is None or after.box.left - passage.box.right > reach or self._blocked(after):
                return tuple(found) if len(found) <= _VALUE_WORDS else ()
            if any(passage.box.right < mark.box.centre[0] < after.box.left for mark in self._on_row(passage)):
                return tuple(found)
            far = after.box.left - passage.box.right > _FAR * passage.height
            if far and not found and self._of_another_block(after):
                return ()
            found += after.places()
            open_bracket = after.text.count("(") > after.text.count(")")
            passage, reach = after, (3 if open_bracket else 1) * 2.5 * after.height

    def _of_another_block(self, value: Passage) -> bool:
        """Tell whether a line belongs to a line above or below that has no label on its row."""
        for other in (self._page.over(value), self._page.below(value)):
            if other is None or abs(other.box.left - value.box.left) > value.height:
                continue
            near = max(other.box.top - value.box.bottom, value.box.top - other.box.bottom) < value.height
            row = self._page.row_of(other)
            if near and not any(each.places()[-1] in self._keys for each in row):
                return True
        return False

    def _under(self, key: Sequence[WordPlace]) -> tuple[WordPlace, ...]:
        """Return the words of the lines below a label that are aligned with it."""
        above = self._passage(key[-1])
        left = self._page.box(key).left
        if key[0][1] != 0 or len(key) != len(above.words):
            return ()
        found: list[WordPlace] = []
        for _ in range(_LINES_BELOW + 1):
            under = self._page.below(above)
            if under is None or under.box.top - above.box.bottom > 1.2 * above.height:
                return tuple(found)
            aligned = abs(under.box.left - left) < 1.5 * above.height
            if not aligned or self._blocked(under) or is_bullet(under.words[0].text):
                # A list or further fields follow: the label is a heading.
                return () if aligned else tuple(found)
            if len(under.words) > LABEL_WORDS or under.height > 1.4 * above.height:
                return ()
            found += under.places()
            above = under
        return ()

    def _blocked(self, passage: Passage) -> bool:
        return bool(self._keys.intersection(passage.places()) or self._taken.intersection(passage.places()))

    def _is_open(self, key: Sequence[WordPlace], *, alone: bool) -> bool:
        """Tell whether a label has an empty field: a rule or a box after it, or other fields on its row."""
        if not alone:
            return True
        box, marks = self._page.box(key), self._page.reading.marks
        row = self._page.row_of(self._passage(key[0]))
        if any(self._keys.intersection(other.places()) for other in row if other.index != key[0][0]):
            return True
        if marks is None:
            return False
        ruled = any(
            rule.box.right > box.right + 2 * box.height
            and rule.box.left > box.left + 0.5 * box.width
            and box.centre[1] < rule.box.centre[1] < box.bottom + box.height
            for rule in marks.horizontal
        )
        boxed = any(frame.holds(*box.centre) and frame.right > box.right + 2 * box.height for frame in marks.rectangles)
        return ruled or boxed

    def _passage(self, place: WordPlace) -> Passage:
        return self._by_index[place[0]]

    def _on_row(self, passage: Passage) -> Iterable[CheckBox]:
        middle = passage.box.centre[1]
        return (mark for mark in self._check_boxes if mark.box.top < middle < mark.box.bottom)

    # Tables

    def _of_table(self, table: Table) -> None:
        rows = [[cell for cell in table.cells if cell.row == row + 1] for row in range(table.rows)]
        texts = [[[self._page.word(place).text for place in cell.words] for cell in row] for row in rows]
        if table.columns == 2 and all(is_label(row[0]) and not has_digit(row[0]) for row in texts if len(row) == 2):
            for row in rows:
                if len(row) == 2 and row[1].words:
                    self._add(row[0].words, row[1].words, _BY_TABLE)
        elif table.rows == 2 and table.columns > 2:
            labels, values = texts
            if all(is_label(text) and not has_digit(text) for text in labels) and any(map(has_digit, values)):
                for label, value in zip(*rows, strict=True):
                    if value.words:
                        self._add(label.words, value.words, _BY_TABLE)
        else:
            self._captions(table)

    def _captions(self, table: Table) -> None:
        """Add labels at the top of a form's boxes, if all filled boxes of the table have one and room below it."""
        filled = [cell for cell in table.cells if cell.words]
        if len(filled) < 2:
            return
        captions = []
        for cell in filled:
            first = self._page.box(cell.words[:1])
            label = [place for place in cell.words if self._page.word(place).middle <= first.bottom]
            rest = cell.words[len(label) :]
            room = cell.box.bottom - first.bottom
            on_top = first.top - cell.box.top < 0.8 * first.height and room > 1.1 * first.height
            if on_top and is_label([self._page.word(place).text for place in label]) and not cell.check_boxes:
                captions.append((label, rest))
        if len(captions) >= 0.8 * len(filled):
            for label, rest in captions:
                self._add(label, rest, _BY_BOX)

    # Boxes and small print

    def _in_cell(self, passage: Passage) -> bool:
        """Add a label at the top of a ruled box with the one line below it; say if it is empty otherwise."""
        texts = [word.text for word in passage.words]
        if self._blocked(passage) or not is_label(texts) or has_digit(texts):
            return False
        cell = self._page.cell_of(passage)
        if cell is None:
            return False
        if passage.box.top - cell.top > 0.8 * passage.height or any(
            passage.places()[0] in table.words for table in self._tables
        ):
            return False
        if any(cell.holds(*mark.box.centre) for mark in self._check_boxes):
            return False
        inside = [
            other
            for other in self._page.level_with(cell)
            if other.index != passage.index and cell.holds(*other.box.centre)
        ]
        if len(inside) == 1 and inside[0].box.top > passage.box.centre[1] and not self._blocked(inside[0]):
            self._add(passage.places(), inside[0].places(), _BY_BOX)
        return not inside and cell.bottom - passage.box.bottom > 1.1 * passage.height

    def _small_labels(self) -> None:
        """Add values in large print below labels in small print, if there are several, as on a card."""
        found = []
        for passage in self._page.passages:
            texts = [word.text for word in passage.words]
            under = self._page.below(passage)
            if under is None or len(texts) > 3 or not is_label(texts) or self._blocked(passage) or self._blocked(under):
                continue
            small = passage.height < 0.85 * under.height
            near = under.box.top - passage.box.bottom < 0.6 * under.height
            below = -0.5 * under.height < under.box.left - passage.box.left < 2.5 * under.height
            if (
                small
                and near
                and below
                and len(under.words) <= 4
                and (is_value([word.text for word in under.words]) or under.text.isupper())
            ):
                found.append((passage, under))
        if len(found) >= _REPEATED:
            for passage, under in found:
                self._add(passage.places(), under.places(), _BY_ROW)

    # Rows

    def _row_under_row(self, passage: Passage) -> None:
        """Pair a row of labels with the row of numbers below, word by word; ``passage`` is the row's first line."""
        row = self._page.row_of(passage)
        under = self._page.below(passage)
        if row[0].index != passage.index or under is None or under.box.top - passage.box.bottom > passage.height:
            return
        labels, numbers = list(self._close(row)), list(self._placed(self._page.row_of(under)))
        if len(labels) < 3 or has_digit([word.text for word, _ in labels]):
            return
        pairs: list[tuple[WordPlace, WordPlace]] = []
        for word, place in labels:
            below = [each for each in numbers if min(each[0].right, word.right) > max(each[0].left, word.left)]
            if len(below) != 1 or below[0][1] in [value for _, value in pairs] or self._taken & {place, below[0][1]}:
                return
            pairs.append((place, below[0][1]))
        if sum(has_digit([self._page.word(value).text]) for _, value in pairs) > len(pairs) / 2:
            for label, value in pairs:
                self._add([label], [value], _BY_ROW)

    def _close(self, row: Sequence[Passage]) -> Iterator[tuple[EngineWord, WordPlace]]:
        """Yield the words of a row up to its first wide gap between lines."""
        end = row[0].box.right
        for passage in row:
            if passage.box.left - end > _FAR * passage.height:
                return
            yield from self._placed([passage])
            end = passage.box.right

    def _placed(self, passages: Iterable[Passage]) -> Iterator[tuple[EngineWord, WordPlace]]:
        for passage in passages:
            yield from zip(passage.words, passage.places(), strict=True)

    def _label_and_value_of_a_row(self, passage: Passage) -> None:
        """Add a label and an amount, date or number alone on a row: two lines, or one line with a wide gap."""
        if self._blocked(passage):
            return
        row = self._page.row_of(passage)
        words = list(passage.words)
        if len(row) == 2 and row[0].index == passage.index:
            value = row[1]
            label, texts = words, [word.text for word in value.words]
            if (
                is_label([word.text for word in label])
                and not has_digit([word.text for word in label])
                and is_value(texts)
                and not self._blocked(value)
                and (
                    value.box.left - passage.box.right < _ALONG * passage.height
                    or any(
                        table.box.holds(*passage.box.centre) and table.box.holds(*value.box.centre)
                        for table in self._tables
                    )
                )
                and not self._in_prose(passage)
            ):
                self._add(passage.places(), value.places(), _BY_ROW)
        elif len(row) == 1 and 2 <= len(words) <= LABEL_WORDS:
            gaps = [word.left - before.right for before, word in pairwise(words)]
            widest = max(range(len(gaps)), key=lambda index: gaps[index])
            others = [gap for index, gap in enumerate(gaps) if index != widest]
            usual = max([*others, 0.45 * passage.height])
            label, value_words = words[: widest + 1], words[widest + 1 :]
            if (
                gaps[widest] > _WIDER * usual
                and is_label([word.text for word in label])
                and not has_digit([word.text for word in label])
                and is_value([word.text for word in value_words])
            ):
                self._add(passage.places(0, widest + 1), passage.places(widest + 1), _BY_ROW)


def _left(each: tuple[EngineWord, WordPlace]) -> float:
    return each[0].left


def _right(each: tuple[EngineWord, WordPlace]) -> float:
    return each[0].right


def _apart(word: EngineWord, box: Box) -> float:
    return max(word.left - box.right, box.left - word.right, 0.0)
