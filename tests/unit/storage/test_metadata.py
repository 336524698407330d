"""User metadata: any text survives the headers, and values of other writers are not changed."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from photo_worker.adapters.object_metadata import decode_metadata, encode_metadata

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(ANY_TEXT)
@example("=?UTF-8?B?cGll?=")
@example("a =?x?= b")
@example(" padded ")
@example("two\r\nlines: injected")
@example("crème brûlée")
@example("")
def test_encode_metadata_any_text_is_ascii_and_round_trips(value: str) -> None:
    encoded = encode_metadata({"name": value})
    wire = encoded["name"]
    assert wire.isascii()
    assert wire.isprintable()
    assert wire == wire.strip()
    assert decode_metadata(encoded) == {"name": value}


@pytest.mark.parametrize("value", ["apple pie.jpg", "100%", "a=b?c"])
def test_encode_metadata_plain_text_stays_readable(value: str) -> None:
    assert encode_metadata({"name": value}) == {"name": value}


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        ("=?UTF-8?Q?cr=C3=A8me?=", "crème"),
        ("=?no-such-charset?B?cGll?=", "=?no-such-charset?B?cGll?="),
        ("=?UTF-8?B?/w==?=", "=?UTF-8?B?/w==?="),
        ("=?UTF-8?B?a?=", "=?UTF-8?B?a?="),
        ("=?broken", "=?broken"),
    ],
)
def test_decode_metadata_other_writers_values_decoded_or_kept(wire: str, value: str) -> None:
    assert decode_metadata({"Name": wire}) == {"name": value}
