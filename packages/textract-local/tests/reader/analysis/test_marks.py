from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter

from textract_local.reader.analysis.components import components, runs_in
from textract_local.reader.analysis.marks import PageMarks, find_marks
from textract_local.reader.analysis.shapes import Box
from textract_local.reader.engine import EngineWord
from textract_local.reader.pixels import READING_SIDE
from textract_support.drawn import Drawing, dotted, draw_grid, solid

# Arithmetic on pixels is the same on every Python.
pytestmark = pytest.mark.single_python


def test_find_marks_rule_has_drawn_place_and_length() -> None:
    page = Drawing()
    page.write(100, 60, "Some words above")
    page.pen.line((100, 200, 800, 200), fill="black", width=3)
    page.pen.line((300, 300, 300, 700), fill="black", width=3)
    marks = page.marks()
    (across,), (down,) = marks.horizontal, marks.vertical
    assert across.box == pytest.approx((100, 199, 801, 202), abs=2)
    assert down.box == pytest.approx((299, 300, 302, 701), abs=2)
    assert across.solid > 0.98


@pytest.mark.parametrize("slope", [4, -6])
def test_find_marks_slightly_sloping_rule_is_one(slope: int) -> None:
    page = Drawing()
    page.pen.line((100, 200, 900, 200 + slope), fill="black", width=2)
    page.pen.line((500, 300, 500 + slope, 780), fill="black", width=2)
    marks = page.marks()
    assert [round(rule.box.width, -1) for rule in marks.horizontal] == [800]
    assert [round(rule.box.height, -1) for rule in marks.vertical] == [480]


def test_find_marks_dotted_and_dashed_rules_are_not_solid() -> None:
    page = Drawing()
    dotted(3, 5)(page.pen, (100, 200), (800, 200))
    dotted(10, 6)(page.pen, (100, 400), (800, 400))
    dotted(3, 5)(page.pen, (500, 420), (500, 780))
    marks = page.marks()
    assert [round(rule.box.width, -1) for rule in marks.horizontal] == [700, 700]
    assert [round(rule.box.height, -1) for rule in marks.vertical] == [360]
    assert all(rule.solid < 0.75 for rule in (*marks.horizontal, *marks.vertical))


def test_find_marks_double_rule_is_one() -> None:
    page = Drawing()
    page.write(100, 60, "Some words above")
    for y in (200, 205):
        page.pen.line((100, y, 800, y), fill="black", width=2)
    assert len(page.marks().horizontal) == 1


def test_find_marks_worn_rule_is_one_and_less_solid() -> None:
    page = Drawing()
    page.pen.line((100, 200, 800, 200), fill="black", width=2)
    for x in range(150, 800, 90):
        page.pen.rectangle((x, 195, x + 8, 205), fill="white")
    (rule,) = page.marks().horizontal
    assert rule.box.width > 690
    assert 0.85 < rule.solid < 0.97


@pytest.mark.parametrize(
    "text", ["lllIIIlll", "HEHEHE tttt", "Name: ________", "a --- b", "====== ......", "TTTTTT EEEE"]
)
@pytest.mark.parametrize("size", [14, 24, 60])
def test_find_marks_letters_are_not_rules(text: str, size: int) -> None:
    page = Drawing(size=size)
    for row in range(4):
        page.write(60, 60 + row * round(size * 1.3), text)
    marks = page.marks()
    assert marks.horizontal == ()
    assert marks.vertical == ()
    assert marks.check_boxes == ()


def test_find_marks_bar_code_has_no_rules() -> None:
    page = Drawing()
    page.write(60, 60, "Scan this code please")
    for x in range(100, 500, 7):
        page.pen.line((x, 200, x, 300), fill="black", width=3)
    assert page.marks().vertical == ()


@pytest.mark.parametrize("crossed", [True, False])
@pytest.mark.parametrize("side", [18, 30, 48])
def test_find_marks_check_box_is_selected_if_crossed(crossed: bool, side: int) -> None:
    page = Drawing()
    page.write(200, 200, "Send me the letter")
    page.pen.rectangle((140, 198, 140 + side, 198 + side), outline="black", width=2)
    if crossed:
        page.pen.line((144, 202, 136 + side, 194 + side), fill="black", width=2)
        page.pen.line((136 + side, 202, 144, 194 + side), fill="black", width=2)
    (mark,) = page.marks().check_boxes
    assert mark.selected is crossed
    assert not mark.round
    assert mark.box == pytest.approx((140, 198, 141 + side, 199 + side), abs=2)
    assert mark.confidence > 0.6


@pytest.mark.parametrize("filled", [True, False])
def test_find_marks_radio_button_is_round_check_box(filled: bool) -> None:
    page = Drawing()
    page.write(200, 200, "By post")
    page.pen.ellipse((140, 196, 170, 226), outline="black", width=2)
    if filled:
        page.pen.ellipse((148, 204, 162, 218), fill="black")
    (mark,) = page.marks().check_boxes
    assert mark.round
    assert mark.selected is filled


def test_find_marks_round_letters_are_not_check_boxes() -> None:
    page = Drawing(size=28)
    page.write(100, 100, "O 0 D Q")
    page.write(100, 200, "B 8 M N H")
    assert page.marks().check_boxes == ()


def test_find_marks_bullet_is_not_check_box() -> None:
    page = Drawing()
    page.write(160, 100, "first thing")
    page.pen.rectangle((120, 102, 140, 122), fill="black")
    assert page.marks().check_boxes == ()


def test_find_marks_tinted_row_is_band_and_photo_is_picture() -> None:
    page = Drawing()
    page.pen.rectangle((100, 100, 900, 150), fill=(225, 232, 240))
    page.write(120, 112, "A heading on a tint")
    rng = np.random.default_rng(7)
    photo = Image.fromarray(rng.integers(0, 220, (200, 300, 3), dtype=np.uint8))
    page.image.paste(photo, (300, 400))
    marks = page.marks()
    assert [tuple(round(edge, -1) for edge in band) for band in marks.bands] == [(100, 100, 900, 150)]
    (picture,) = marks.pictures
    assert picture == pytest.approx((300, 400, 600, 600), abs=14)


def test_find_marks_frame_is_rectangle_and_scribble_is_stroke() -> None:
    page = Drawing()
    page.write(120, 130, "Inside")
    page.pen.rectangle((100, 100, 500, 200), outline="black", width=2)
    page.pen.line([(600, 390), (640, 370), (660, 400), (700, 365), (720, 400)], fill="black", width=3)
    marks = page.marks()
    assert [tuple(round(edge, -1) for edge in box) for box in marks.rectangles] == [(100, 100, 500, 200)]
    assert any(abs(box.left - 600) < 10 and abs(box.right - 720) < 10 for box in marks.strokes)


def test_page_marks_json_round_trip_is_equal() -> None:
    page = Drawing()
    draw_grid(page, [["a", "b"], ["c", "d"]])
    page.pen.rectangle((700, 600, 730, 630), outline="black", width=2)
    page.pen.rectangle((100, 700, 900, 750), fill=(225, 232, 240))
    marks = page.marks()
    assert marks.horizontal
    assert marks.check_boxes
    assert marks.bands
    adapter = TypeAdapter(PageMarks)
    assert adapter.validate_json(adapter.dump_json(marks)) == marks


def test_find_marks_same_page_gives_same_marks() -> None:
    page = Drawing()
    draw_grid(page, [["a", "b"], ["c", "d"]], stroke=solid(1))
    assert page.marks() == page.marks()


def _noise(side: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 255, (side, side), dtype=np.uint8)).convert("RGB")


def _many_lines(side: int) -> Image.Image:
    grey = np.full((side, side), 255, dtype=np.uint8)
    grey[::6] = 0
    grey[:, ::97] = 255
    return Image.fromarray(grey).convert("RGB")


def _broken_lines(side: int) -> Image.Image:
    grey = np.full((side, side), 255, dtype=np.uint8)
    grey[::8] = 0
    grey[1::8] = 0
    grey[:, ::90] = grey[:, 1::90] = grey[:, 2::90] = grey[:, 3::90] = 255
    return Image.fromarray(grey).convert("RGB")


def _checked(side: int) -> Image.Image:
    y, x = np.mgrid[0:side, 0:side]
    return Image.fromarray((((x // 12 + y // 12) % 2) * 255).astype(np.uint8)).convert("RGB")


# In production no page is larger than READING_SIDE; find_marks scales larger ones down.
@pytest.mark.parametrize(
    ("make", "side"),
    [(_noise, READING_SIDE), (_many_lines, 10_000), (_broken_lines, READING_SIDE), (_checked, READING_SIDE)],
)
def test_find_marks_hostile_page_bounds_time_and_size(make, side: int) -> None:  # type: ignore[no-untyped-def]
    page = make(side)
    words = tuple((EngineWord("x", 0.5, 40 * i, 40, 40 * i + 20, 60),) for i in range(200))
    begun = time.process_time()
    marks = find_marks(page, words)
    assert time.process_time() - begun < 30
    counts = [
        len(kind)
        for kind in (marks.horizontal, marks.vertical, marks.bands, marks.check_boxes, marks.pictures, marks.strokes)
    ]
    assert max(counts) <= 1500
    for rule in (*marks.horizontal, *marks.vertical):
        assert 0 <= rule.box.left <= rule.box.right <= side


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(st.booleans(), min_size=9, max_size=9), min_size=1, max_size=9))
def test_components_equal_those_of_flood_fill(rows: list[list[bool]]) -> None:
    mask = np.array(rows, dtype=bool)
    found = components(runs_in(mask))
    seen: set[tuple[int, int]] = set()
    expected = []
    for start in zip(*np.nonzero(mask), strict=True):
        if start in seen:
            continue
        seen.add(start)
        waiting, members = [start], []
        while waiting:
            y, x = waiting.pop()
            members.append((y, x))
            for near in ((y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)):
                inside = 0 <= near[0] < mask.shape[0] and 0 <= near[1] < mask.shape[1]
                if inside and mask[near] and near not in seen:
                    seen.add(near)
                    waiting.append(near)
        ys, xs = [y for y, _ in members], [x for _, x in members]
        expected.append((min(xs), min(ys), max(xs) + 1, max(ys) + 1, len(members)))
    ours = [(*box, pixels) for box, pixels in zip(found.boxes.tolist(), found.pixels.tolist(), strict=True)]
    assert sorted(ours) == sorted(tuple(int(value) for value in each) for each in expected)


def test_box_shared_returns_area_of_intersection() -> None:
    boxes = [Box(0, 0, 10, 10), Box(5, 5, 15, 15), Box(20, 0, 30, 10)]
    assert [first.shared(second) for first, second in pairwise(boxes)] == [25, 0]
