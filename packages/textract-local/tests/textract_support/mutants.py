"""Small valid documents of each supported format, and seeded mutations of them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from random import Random

from PIL import Image, ImageDraw, TiffImagePlugin

KINDS = ("PNG", "JPEG", "TIFF", "PDF")

# Values to set for a length, a count or an offset.
_EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutants(kind: str, count: int, seed: int) -> Iterator[bytes]:
    """Yield damaged documents; the same arguments give the same bytes."""
    chance = Random(f"{kind} {seed}")  # noqa: S311 - reproducible, not secret
    own, others = _documents()[kind], [content for contents in _documents().values() for content in contents]
    for _ in range(count):
        content = chance.choice(own)
        for _harm in range(chance.choice((1, 1, 1, 2, 3))):
            content = chance.choice(_HARMS)(content, chance, others)
        yield _checked(content) if kind == "PNG" and chance.random() < 0.7 else content


def _flip(content: bytes, chance: Random, _: Sequence[bytes]) -> bytes:
    damaged = bytearray(content)
    for _bit in range(chance.choice((1, 1, 4, 16)) if damaged else 0):
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def _cut(content: bytes, chance: Random, _: Sequence[bytes]) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def _drop(content: bytes, chance: Random, _: Sequence[bytes]) -> bytes:
    start, end = _span(content, chance)
    return content[:start] + content[end:]


def _splice(content: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    other = chance.choice(others)
    start, end = _span(other, chance)
    place, stop = _span(content, chance)
    return content[:place] + other[start:end] + content[chance.choice((place, stop)) :]


def _tell_another_number(content: bytes, chance: Random, _: Sequence[bytes]) -> bytes:
    damaged = bytearray(content)
    size = chance.choice((1, 2, 4))
    if len(damaged) > size:
        place = chance.randrange(len(damaged) - size)
        if chance.random() < 0.5:
            # Positions where headers and directories are.
            place = min(place, chance.randrange(256))
        number = chance.choice((*_EXTREMES, chance.randrange(1 << 32), len(content))) & ((1 << 8 * size) - 1)
        damaged[place : place + size] = number.to_bytes(size, chance.choice(("big", "little")))
    return bytes(damaged)


def _tell_another_decimal(content: bytes, chance: Random, _: Sequence[bytes]) -> bytes:
    """Change a decimal number in the text, as PDFs have them."""
    places = [place for place, byte in enumerate(content) if chr(byte).isdigit()]
    if not places:
        return content
    place = chance.choice(places)
    number = chance.choice((b"0", b"-1", b"99999999", b"2147483648", b"1e9", b"%d 0 R" % chance.randrange(9)))
    return content[:place] + number + content[place + 1 :]


def _double(content: bytes, chance: Random, _: Sequence[bytes]) -> bytes:
    start, end = _span(content, chance)
    return content[:end] + content[start:end] * chance.choice((1, 1, 8, 200)) + content[end:]


def _swap_heads(content: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    size = chance.choice((4, 8, 16, 64))
    return chance.choice(others)[:size] + content[size:]


def _span(content: bytes, chance: Random) -> tuple[int, int]:
    start = chance.randrange(len(content) + 1)
    return start, min(start + chance.choice((1, 4, 12, 64, 400)), len(content))


_HARMS: tuple[Callable[[bytes, Random, Sequence[bytes]], bytes], ...] = (
    _flip,
    _cut,
    _drop,
    _splice,
    _tell_another_number,
    _tell_another_number,
    _tell_another_decimal,
    _double,
    _swap_heads,
)


def _checked(content: bytes) -> bytes:
    """Correct the checksums of a PNG's chunks, so that decoders read the chunks."""
    whole = bytearray(content)
    place = 8
    while place + 12 <= len(whole):
        (size,) = struct.unpack_from(">I", whole, place)
        end = place + 8 + size
        if end + 4 > len(whole):
            break
        struct.pack_into(">I", whole, end, zlib.crc32(whole[place + 4 : end]))
        place = end + 4
    return bytes(whole)


@cache
def _documents() -> dict[str, list[bytes]]:
    picture = Image.new("RGB", (64, 48), "white")
    ImageDraw.Draw(picture).text((4, 4), "flour\nbutter", fill=(40, 40, 120))
    grey, palette, bits = picture.convert("L"), picture.convert("P"), picture.convert("1")
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a card"
    transparent = picture.convert("RGBA")
    transparent.putalpha(120)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270] = "a card " * 20
    return {
        "PNG": [
            _saved(picture, "PNG", exif=exif),
            _saved(palette, "PNG", transparency=3),
            _saved(bits, "PNG"),
            _saved(transparent, "PNG", dpi=(300, 300)),
            _saved(grey.convert("I;16"), "PNG"),
        ],
        "JPEG": [
            _saved(picture, "JPEG", exif=exif),
            _saved(picture, "JPEG", progressive=True, subsampling=0),
            _saved(grey, "JPEG", restart_marker_blocks=1),
            _saved(picture.convert("CMYK"), "JPEG"),
        ],
        "TIFF": [
            _saved(picture, "TIFF", tiffinfo=tags),
            _saved(picture, "TIFF", compression="tiff_lzw"),
            _saved(bits, "TIFF", compression="group4"),
            _saved(bits, "TIFF", compression="packbits"),
            _saved(picture, "TIFF", compression="jpeg"),
            _saved(palette, "TIFF", compression="tiff_adobe_deflate"),
            _saved(grey.convert("F"), "TIFF"),
            _saved(picture, "TIFF", save_all=True, append_images=[picture]),
        ],
        "PDF": [
            _saved(picture, "PDF"),
            _saved(bits, "PDF"),
            _pdf(b"0 0 72 72", b"BT /F1 12 Tf 4 30 Td (flour 250 g) Tj ET 0 0 20 20 re f"),
            _pdf(b"0 0 200 100", b"q 1 0 0 RG 3 w 10 10 m 90 90 l S Q /Sh sh", packed=True),
        ],
    }


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _pdf(box: bytes, drawing: bytes, *, packed: bool = False) -> bytes:
    stream = zlib.compress(drawing) if packed else drawing
    packing = b" /Filter /FlateDecode" if packed else b""
    parts = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [" + box + b"] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> /Shading << /Sh 6 0 R >> >> >>",
        b"<< /Length %d%s >>\nstream\n%s\nendstream" % (len(stream), packing, stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /ShadingType 2 /ColorSpace /DeviceRGB /Coords [0 0 100 100] /Function"
        b" << /FunctionType 2 /Domain [0 1] /C0 [1 0 0] /C1 [0 0 1] /N 1 >> >>",
    ]
    body, places = b"%PDF-1.7\n", []
    for number, part in enumerate(parts, 1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, part)
    table = b"xref\n0 %d\n0000000000 65535 f \n" % (len(parts) + 1)
    table += b"".join(b"%010d 00000 n \n" % place for place in places)
    return body + table + b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(parts) + 1, len(body))
