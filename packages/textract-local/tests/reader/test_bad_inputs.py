from __future__ import annotations

import io
import zlib

import pytest
from PIL import Image

from textract_support import bad_inputs
from textract_support.bad_inputs import BAD_INPUTS, BadInput


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


@pytest.mark.parametrize("case", BAD_INPUTS.values(), ids=BAD_INPUTS.keys())
def test_bad_inputs_are_small_and_deterministic(case: BadInput) -> None:
    content = case.content()
    assert case.content() == content
    assert len(content) < 200_000 or case.content is bad_inputs.over_sync_limit_png


@pytest.mark.parametrize("make", [bad_inputs.truncated_jpeg, bad_inputs.truncated_png, bad_inputs.truncated_tiff])
def test_truncated_image_has_header_but_fails_to_load(make: object) -> None:
    assert callable(make)
    with opened(make()) as image:
        assert image.size == (320, 120)
        with pytest.raises(OSError, match="truncated"):
            image.load()


def test_damaged_png_fails_to_decode() -> None:
    with opened(bad_inputs.damaged_png()) as image, pytest.raises((OSError, SyntaxError)):
        image.load()


def test_wide_png_loads_and_exceeds_limit_by_one_pixel() -> None:
    with opened(bad_inputs.wide_png()) as image:
        image.load()
        assert image.width == bad_inputs.SIDE_LIMIT_PIXELS + 1


def test_bomb_png_expands_to_100m_pixels_within_side_limit() -> None:
    bomb = bad_inputs.bomb_png()
    start = bomb.index(b"IDAT") + 4
    length = int.from_bytes(bomb[start - 8 : start - 4], "big")
    unpack, unfolded = zlib.decompressobj(), 0
    # In pieces, so that the test itself does not run out of memory.
    for place in range(start, start + length, 1024):
        unfolded += len(unpack.decompress(bomb[place : min(place + 1024, start + length)]))
    assert unfolded == 10_000 * 10_001
    assert bomb[16:24] == (10_000).to_bytes(4, "big") * 2


def test_over_sync_limit_png_loads_and_is_one_byte_over() -> None:
    heavy = bad_inputs.over_sync_limit_png()
    assert len(heavy) == bad_inputs.SYNC_LIMIT_BYTES + 1
    with opened(heavy) as image:
        image.load()


def test_two_page_files_have_two_pages() -> None:
    with opened(bad_inputs.two_page_tiff()) as image:
        assert getattr(image, "n_frames", 1) == 2
    assert bad_inputs.two_page_pdf().count(b"/Type /Page\n") == 2
