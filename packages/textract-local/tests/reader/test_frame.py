from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textract_local.reader.engine import EngineWord, Frame, Point
from textract_local.reader.long_lines import straighten
from textract_support.pages import frame, recipe_page

_sides = st.floats(20, 10_000)
_angles = st.floats(-360, 360)
_scales = st.floats(0.1, 4)
_shares = st.floats(0, 1)


def to_page(page: Frame, x: float, y: float) -> Point:
    """Independent inverse of ``Frame.to_image``: move to the centre, turn, scale, move to the page's centre."""
    turn = math.radians(page.rotation)
    scale = page.page_width / (page.width * abs(math.cos(turn)) + page.height * abs(math.sin(turn)))
    spun = complex(x - page.width / 2, y - page.height / 2) * complex(math.cos(turn), math.sin(turn)) * scale
    return spun.real + page.page_width / 2, spun.imag + page.page_height / 2


@given(width=_sides, height=_sides, rotation=_angles, scale=_scales, across=_shares, down=_shares)
def test_frame_to_image_inverts_rotation_and_scale(
    width: float, height: float, rotation: float, scale: float, across: float, down: float
) -> None:
    page = frame(width, height, rotation=rotation, scale=scale)
    x, y = across * width, down * height
    there = to_page(page, x, y)
    assert page.to_image(*there) == pytest.approx((x, y), abs=1e-6 * (width + height))
    # Every point of the image lies on the page.
    slack = 1e-6 * (page.page_width + page.page_height)
    assert -slack <= there[0] <= page.page_width + slack
    assert -slack <= there[1] <= page.page_height + slack


@given(width=_sides, height=_sides, rotation=_angles, scale=_scales)
def test_frame_to_image_maps_centre_and_scales_distances(
    width: float, height: float, rotation: float, scale: float
) -> None:
    page = frame(width, height, rotation=rotation, scale=scale)
    centre = page.to_image(page.page_width / 2, page.page_height / 2)
    assert centre == pytest.approx((width / 2, height / 2))
    beside = page.to_image(page.page_width / 2 + 30, page.page_height / 2 + 40)
    assert math.dist(centre, beside) == pytest.approx(50 / scale)


@given(width=_sides, height=_sides, scale=_scales, across=_shares, down=_shares)
def test_frame_to_image_without_rotation_only_scales(
    width: float, height: float, scale: float, across: float, down: float
) -> None:
    page = frame(width, height, scale=scale)
    x, y = across * page.page_width, down * page.page_height
    assert page.to_image(x, y) == pytest.approx((across * width, down * height), abs=1e-6 * (width + height))


@pytest.mark.parametrize(
    ("rotation", "corner"), [(0, (0, 0)), (90, (0, 300)), (180, (400, 300)), (270, (400, 0)), (-90, (400, 0))]
)
def test_frame_to_image_right_angle_maps_corner_to_corner(rotation: float, corner: Point) -> None:
    assert frame(400, 300, rotation=rotation, scale=2).to_image(0, 0) == pytest.approx(corner)


@pytest.mark.parametrize("degrees", [90, 180, 270, 5])
def test_straighten_rotated_image_undoes_rotation(degrees: float) -> None:
    drawn = recipe_page()
    turned, _ = drawn.turned(degrees)
    page = frame(turned.width, turned.height, rotation=-degrees)
    straight = straighten(turned, page)
    # The drawn page is centred in the smallest page that holds the turned one.
    left, top = (straight.width - drawn.image.width) / 2, (straight.height - drawn.image.height) / 2
    for box in drawn.places.values():
        part = straight.crop((round(left + box[0]), round(top + box[1]), round(left + box[2]), round(top + box[3])))
        around = straight.crop(
            (round(left + box[0] - 8), round(top + box[1] - 8), round(left + box[2] + 8), round(top + box[3] + 8))
        )
        ink, all_ink = (sum(1 for value in crop.convert("L").tobytes() if value < 128) for crop in (part, around))
        assert ink > 100
        assert ink > 0.95 * all_ink


@pytest.mark.parametrize(("rotation", "scale", "same"), [(0, 1, True), (180, 1, False), (0, 2, False)])
def test_straighten_upright_unscaled_image_is_returned_as_is(rotation: float, scale: float, same: bool) -> None:
    image = recipe_page().image
    page = frame(image.width, image.height, rotation=rotation, scale=scale)
    assert (straighten(image, page) is image) is same


@given(by=_scales)
def test_engine_word_scaled_keeps_text_and_confidence(by: float) -> None:
    word = EngineWord("salt", 0.5, 10, 20, 30, 40)
    assert word.scaled(by) == EngineWord("salt", 0.5, 10 * by, 20 * by, 30 * by, 40 * by)
    assert word.scaled(by).height == pytest.approx(20 * by)
    assert word.middle == 30
