"""Strip PNG metadata that no decoder needs and that may unpack to a thousand times its size."""

from __future__ import annotations

import io
import struct
import zlib
from typing import BinaryIO

from textract_local.errors import UnreadableDocument

_SIGNATURE_BYTES = 8

# Needed besides the critical chunks: transparency, and a photo's orientation, which older writers put into texts.
_NEEDED = frozenset({b"tRNS", b"eXIf"})
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_NEEDED_TEXTS = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
_PACKED = frozenset({b"iCCP", b"zTXt", b"iTXt"})

# A text that is longer than this holds more than a photo's orientation.
_MOST_TEXT_BYTES = 64 * 1024

# Colour profiles have some kilobytes, a few of them megabytes. A chunk that unpacks to more than this is an attack.
_BOMB_BYTES = 64 * 1024**2
_PIECE_BYTES = 256 * 1024

# A file's chunks are unpacked up to this total, which takes a quarter of a second. Later chunks are left out without
# being unpacked.
_FILE_BYTES = 2 * _BOMB_BYTES


def without_metadata(file: BinaryIO, name: str) -> io.BytesIO:
    """Return a PNG with only its critical chunks, its transparency and its orientation.

    Raises ``UnreadableDocument`` if metadata is a decompression bomb. Other damage is left for the decoder.
    """
    file.seek(0)
    content = file.read()
    kept, place, unfolding = [content[:_SIGNATURE_BYTES]], _SIGNATURE_BYTES, _UnpackBudget()
    while len(header := content[place : place + 8]) == 8:
        size, kind = struct.unpack(">I4s", header)
        end = place + 12 + size
        if end > len(content):
            break
        data = memoryview(content)[place + 8 : end - 4]
        if _is_needed(kind, data, unfolding):
            kept.append(content[place:end])
        elif kind in _PACKED and not unfolding.is_within(_BOMB_BYTES, kind, data):
            raise _bomb(kind, name)
        place = end
        if kind == b"IEND":
            return io.BytesIO(b"".join(kept))
    # The file is cut off; the decoder reports it.
    kept.append(content[place:])
    return io.BytesIO(b"".join(kept))


def _is_needed(kind: bytes, data: memoryview, unfolding: _UnpackBudget) -> bool:
    # The first letter of a critical chunk's type is upper case (PNG, 5.4).
    if not kind[0] & 0x20 or kind in _NEEDED:
        return True
    if kind not in _TEXTS or not bytes(data[: max(map(len, _NEEDED_TEXTS))]).startswith(_NEEDED_TEXTS):
        return False
    return unfolding.left > 0 and unfolding.is_within(_MOST_TEXT_BYTES, kind, data)


def _bomb(kind: bytes, name: str) -> UnreadableDocument:
    shown = "colour profile" if kind == b"iCCP" else "text"
    reason = f"broken PNG: its {shown} is a decompression bomb of more than {_BOMB_BYTES // 1024**2} MiB"
    return UnreadableDocument(name=name, reason=reason)


class _UnpackBudget:
    """Measures the unpacked sizes of one file's chunks; it unpacks at most ``_FILE_BYTES`` in all."""

    def __init__(self) -> None:
        self.left = _FILE_BYTES

    def is_within(self, most: int, kind: bytes, data: memoryview) -> bool:
        """Tell whether a chunk's data unpacks to at most ``most`` bytes, as far as it is unpacked; none are kept."""
        packed = _packed_part(kind, bytes(data)) if self.left > 0 else b""
        if packed is None:
            return len(data) <= most
        unpacking, size = zlib.decompressobj(), 0
        try:
            while packed and self.left > 0:
                unpacked = len(unpacking.decompress(packed, _PIECE_BYTES))
                size, self.left = size + unpacked, self.left - unpacked
                packed = unpacking.unconsumed_tail
                if size > most:
                    return False
        except zlib.error:
            # Other damage is ignored, or left for the decoder.
            return True
        return True


def _packed_part(kind: bytes, data: bytes) -> bytes | None:
    """Return the packed part of a chunk's data (PNG, 11.3.3), or None if it is not packed."""
    _, _, rest = data.partition(b"\0")
    if kind in {b"iCCP", b"zTXt"}:
        return rest[1:]
    if kind == b"iTXt" and rest[:1] == b"\1":
        return rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    return None
