"""HEIC files of any size or oddity: boxes around an image that was encoded once.

No encoder is available (``heic/README.md``). A phone stores a large photo as a grid of small images, each encoded
separately; here all of them are the same one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from tests.support.documents import heic

# ISO/IEC 23008-12: the primary item, its tiles, and the properties that they have.
_PRIMARY = 1


@dataclass(frozen=True)
class Tile:
    """An encoded image: its bytes, its decoder's configuration (a whole box), and its pixels."""

    content: bytes
    configuration: bytes
    width: int
    height: int


ORDINARY = "turned"
DEEP = "deep"


def tile(name: str = ORDINARY) -> Tile:
    """Return the image of a stored HEIC without decoding it."""
    content = heic(name)
    boxes = dict(_boxes(content))
    meta = dict(_boxes(boxes[b"meta"][4:]))
    properties = dict(_boxes(dict(_boxes(meta[b"iprp"]))[b"ipco"]))
    offset, length = _extent(meta[b"iloc"])
    width, height = struct.unpack(">4xII", properties[b"ispe"])
    return Tile(content[offset : offset + length], _box(b"hvcC", properties[b"hvcC"]), width, height)


def grid(width: int, height: int, name: str = ORDINARY, claimed: tuple[int, int] | None = None) -> bytes:
    """Return a HEIC with the tiles of this size; its grid may claim another size."""
    one = tile(name)
    columns, rows = -(-width // one.width), -(-height // one.height)
    tiles = range(_PRIMARY + 1, _PRIMARY + 1 + columns * rows)
    layout = struct.pack(">BBBBII", 0, 1, rows - 1, columns - 1, *(claimed or (width, height)))
    parts = {_PRIMARY: (b"grid", layout, (2,)), **dict.fromkeys(tiles, (b"hvc1", one.content, (1, 3)))}
    references = struct.pack(f">HH{len(tiles)}H", _PRIMARY, len(tiles), *tiles)
    return _file(parts, _box(b"iref", bytes(4) + _box(b"dimg", references)), one, (width, height))


def burst(images: int, primary: int) -> bytes:
    """Return a HEIC of several photos; the ``primary`` one, counted from 1, is rotated a quarter turn."""
    one = tile()
    size = one.width, one.height
    parts: dict[int, tuple[bytes, bytes, tuple[int, ...]]]
    parts = dict.fromkeys(range(1, images + 1), (b"hvc1", one.content, (1, 3)))
    parts[primary] = (b"hvc1", one.content, (1, 3, 4))
    return _file(parts, b"", one, size, primary)


def claiming(width: int, height: int) -> bytes:
    """Return a small HEIC that claims this size."""
    one = tile()
    return _file({_PRIMARY: (b"hvc1", one.content, (2, 3))}, b"", one, (width, height))


def _file(
    parts: Mapping[int, tuple[bytes, bytes, tuple[int, ...]]],
    references: bytes,
    one: Tile,
    size: tuple[int, int],
    primary: int = _PRIMARY,
) -> bytes:
    """Return a file of items with their type, content and properties.

    Properties by number: the tile's size, the photo's, the decoder's configuration, a quarter turn.
    """
    properties = [
        _box(b"ispe", struct.pack(">4xII", one.width, one.height)),
        _box(b"ispe", struct.pack(">4xII", *size)),
        one.configuration,
        _box(b"irot", b"\x01"),
    ]
    entries = b"".join(
        struct.pack(">HB", number, len(uses)) + bytes(0x80 | use if use > 2 else use for use in uses)
        for number, (_, _, uses) in parts.items()
    )
    association = _box(b"ipma", struct.pack(">4xI", len(parts)) + entries)
    names = b"".join(
        _box(b"infe", b"\x02\x00\x00\x00" + struct.pack(">HH4sx", number, 0, kind))
        for number, (kind, _, _) in parts.items()
    )
    # Items with the same bytes share them.
    contents = list(dict.fromkeys(content for _, content, _ in parts.values()))

    def meta(start: int) -> bytes:
        starts = dict(zip(contents, accumulate(map(len, contents), initial=start), strict=False))
        places = b"".join(
            struct.pack(">HHHII", number, 0, 1, starts[content], len(content))
            for number, (_, content, _) in parts.items()
        )
        return _box(
            b"meta",
            bytes(4)
            + _box(b"hdlr", struct.pack(">8x4s13x", b"pict"))
            + _box(b"pitm", struct.pack(">4xH", primary))
            + _box(b"iloc", struct.pack(">4xBBH", 0x44, 0, len(parts)) + places)
            + _box(b"iinf", struct.pack(">4xH", len(parts)) + names)
            + references
            + _box(b"iprp", _box(b"ipco", b"".join(properties)) + association),
        )

    head = _box(b"ftyp", b"heic\x00\x00\x00\x00mif1heic")
    # The length of the locations does not depend on their values.
    return head + meta(len(head) + len(meta(0)) + 8) + _box(b"mdat", b"".join(contents))


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield each box's type and content."""
    at = 0
    while at + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        yield kind, content[at + 8 : at + size]
        at += size


def _extent(iloc: bytes) -> tuple[int, int]:
    """Return the offset and length of the first item's bytes in the file (``iloc`` of version 0)."""
    # Flags, widths of the fields, number of items, and of the item its number and data reference.
    offset_bytes, length_bytes, base_bytes = iloc[4] >> 4, iloc[4] & 15, iloc[5] >> 4
    at = 12
    base = int.from_bytes(iloc[at : at + base_bytes])
    at += base_bytes + 2
    offset = int.from_bytes(iloc[at : at + offset_bytes])
    at += offset_bytes
    return base + offset, int.from_bytes(iloc[at : at + length_bytes])
