"""Describe images with a usual signature that no decoder here reads, by their headers; nothing is decoded."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import BinaryIO

# JPEG's frame headers (ITU-T T.81, table B.1; T.87 for 0xF7) that are not baseline, extended or progressive.
_ODD_FRAMES = {
    **dict.fromkeys((0xC3, 0xCB), "a lossless JPEG"),
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "a hierarchical JPEG"),
    0xF7: "a JPEG-LS image",
}
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_START_OF_SCAN, _END = 0xDA, 0xD9
_MOST_SEGMENTS = 2000

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _FORMAT = 256, 257, 258, 259, 262, 277, 339
_SIZES = {1: 1, 3: 2, 4: 4}
_CODES = {1: "B", 3: "H", 4: "I"}
_MOST_ENTRIES = 512
_PACKINGS = {6: "old-style JPEG", 32908: "Pixar film", 34661: "JBIG", 34712: "JPEG 2000", 34892: "lossy DNG JPEG"}
_SAMPLE_FORMATS = {2: "signed ", 3: "floating-point ", 5: "complex ", 6: "complex "}


def describe_signature(head: bytes) -> str | None:
    """Describe a file of an unsupported type by its first bytes, or return None."""
    return "a BigTIFF" if head.startswith((b"II+\0", b"MM\0+")) else None


def describe_jpeg(file: BinaryIO) -> str | None:
    """Describe a JPEG of a rare process, or return None if the decoder reads it."""
    place = 2
    for _ in range(_MOST_SEGMENTS):
        file.seek(place)
        head = file.read(4)
        if len(head) < 4 or head[0] != 0xFF or head[1] in {_START_OF_SCAN, _END}:
            return None
        if head[1] == 0xFF:
            place += 1
            continue
        if head[1] in _FRAMES:
            precision = file.read(1)
            if head[1] not in _ODD_FRAMES and precision and precision[0] > 8:
                return f"a JPEG of {precision[0]} bits a sample"
            return _ODD_FRAMES.get(head[1])
        place += 2 + struct.unpack(">H", head[2:])[0]
    return None


def describe_tiff(file: BinaryIO, start: int) -> str | None:
    """Describe the image of a TIFF's directory, or return None if no software could read it."""
    file.seek(0)
    order = "<" if file.read(2) == b"II" else ">"
    tags = _tags(file, order, start)
    if not tags.get(_WIDTH) or not tags.get(_HEIGHT):
        return None
    packing = tags.get(_COMPRESSION, [1])[0]
    if packing in _PACKINGS:
        return f"a TIFF packed as {_PACKINGS[packing]}"
    bits = tags.get(_BITS, [1])
    samples = tags.get(_SAMPLES, [1])[0]
    kind = _SAMPLE_FORMATS.get(tags.get(_FORMAT, [1])[0], "")
    depth = "/".join(map(str, sorted(set(bits))))
    photometric = tags.get(_PHOTOMETRIC, [-1])[0]
    if not 1 <= samples <= 64 or not all(1 <= each <= 128 for each in bits) or not 0 <= photometric <= 65535:
        return None
    return f"a TIFF of {samples} {kind}samples a pixel with {depth} bits each (photometric {photometric})"


def _tags(file: BinaryIO, order: str, start: int) -> Mapping[int, list[int]]:
    """Return the integers of a TIFF directory by tag, the first eight of each (TIFF 6.0, section 2)."""
    file.seek(start)
    head = file.read(2)
    if len(head) < 2:
        return {}
    found: dict[int, list[int]] = {}
    entries = file.read(12 * min(struct.unpack(f"{order}H", head)[0], _MOST_ENTRIES))
    for place in range(0, len(entries) - 11, 12):
        tag, kind, count = struct.unpack_from(f"{order}HHI", entries, place)
        if kind not in _SIZES or not count:
            continue
        size, held = _SIZES[kind] * min(count, 8), entries[place + 8 : place + 12]
        if size > 4 or _SIZES[kind] * count > 4:
            file.seek(struct.unpack(f"{order}I", held)[0])
            held = file.read(size)
        if len(held) >= size:
            found[tag] = list(struct.unpack_from(f"{order}{min(count, 8)}{_CODES[kind]}", held))
    return found
