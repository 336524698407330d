"""PNG files without the metadata that no reader needs, which may unfold to a thousand times its size."""

from __future__ import annotations

import io
import struct
import zlib
from typing import BinaryIO

from photo_worker.errors import UnreadableDocument

_SIGNATURE_BYTES = 8

# Besides the critical chunks: what is transparent, and which way up a photo is, which older writers put in texts.
_NEEDED = frozenset({b"tRNS", b"eXIf"})
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_NEEDED_TEXTS = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
_PACKED = frozenset({b"iCCP", b"zTXt", b"iTXt"})

# A text with more says more than how a photo is turned.
_MOST_TEXT_BYTES = 64 * 1024

# Colour profiles have some kilobytes, a few of them megabytes. What unfolds to more than this is made to do harm.
_BOMB_BYTES = 64 * 1024**2
_PIECE_BYTES = 256 * 1024

# A file's chunks are unpacked up to this much together, which takes a quarter of a second. What is behind stays packed
# and is left out unseen.
_FILE_BYTES = 2 * _BOMB_BYTES


def without_metadata(file: BinaryIO, name: str) -> io.BytesIO:
    """Return a PNG's picture alone: its critical chunks, its transparency and its orientation.

    Raises ``UnreadableDocument`` where metadata is a decompression bomb. Other damage is left for the decoder.
    """
    file.seek(0)
    content = file.read()
    kept, place, unfolding = [content[:_SIGNATURE_BYTES]], _SIGNATURE_BYTES, _Unfolding()
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
    # Cut off in the middle, which the decoder says.
    kept.append(content[place:])
    return io.BytesIO(b"".join(kept))


def _is_needed(kind: bytes, data: memoryview, unfolding: _Unfolding) -> bool:
    # The case of the first letter tells what a decoder must know (PNG, 5.4).
    if not kind[0] & 0x20 or kind in _NEEDED:
        return True
    if kind not in _TEXTS or not bytes(data[: max(map(len, _NEEDED_TEXTS))]).startswith(_NEEDED_TEXTS):
        return False
    return unfolding.left > 0 and unfolding.is_within(_MOST_TEXT_BYTES, kind, data)


def _bomb(kind: bytes, name: str) -> UnreadableDocument:
    shown = "colour profile" if kind == b"iCCP" else "text"
    reason = f"broken PNG: its {shown} is a decompression bomb of more than {_BOMB_BYTES // 1024**2} MiB"
    return UnreadableDocument(name=name, reason=reason)


class _Unfolding:
    """Tells how much the chunks of one file hold, unpacking no more of them together than ``_FILE_BYTES``."""

    def __init__(self) -> None:
        self.left = _FILE_BYTES

    def is_within(self, most: int, kind: bytes, data: memoryview) -> bool:
        """Say whether a chunk's data has at most so many bytes when it is unpacked, as far as it is; none are kept."""
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
            # What else is damaged is not looked at, or left for the decoder.
            return True
        return True


def _packed_part(kind: bytes, data: bytes) -> bytes | None:
    """Return what of a chunk's data is packed (PNG, 11.3.3), or None."""
    _, _, rest = data.partition(b"\0")
    if kind in {b"iCCP", b"zTXt"}:
        return rest[1:]
    if kind == b"iTXt" and rest[:1] == b"\1":
        return rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    return None
