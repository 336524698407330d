"""Invalid files, generated on the fly so that none of them is in the repository.

Each function returns the bytes of one file, the same on every call. A file is valid except for
the defect in its name, so that a refusal can only have that one reason.
"""

from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageDraw

SYNC_LIMIT_BYTES = 10 * 1024 * 1024
SIDE_LIMIT_PIXELS = 10_000


def zero_bytes() -> bytes:
    """Return a file with nothing in it."""
    return b""


def text_named_png() -> bytes:
    """Return plain text, to be stored as an image."""
    return b"Two eggs, a cup of milk and a pinch of salt.\n" * 20


def html_named_jpeg() -> bytes:
    """Return a web page, as an expired download link saves it under the name of a photo."""
    return b"<!doctype html><html><head><title>Link expired</title></head><body><p>Link expired</p></body></html>\n"


@cache
def truncated_jpeg() -> bytes:
    """Return the first half of a photo, as a broken upload leaves it."""
    return _half(_encode(_note(), "JPEG", quality=90))


@cache
def truncated_png() -> bytes:
    """Return the first half of a photo."""
    return _half(_encode(_note(), "PNG"))


@cache
def truncated_tiff() -> bytes:
    """Return a TIFF with a complete directory and missing last rows."""
    # Pillow writes the directory of a raw TIFF first and the rows after it.
    return _half(_encode(_note(), "TIFF"))


def certificate_pdf() -> bytes:
    """Return a PDF that is encrypted for the owners of certificates (ISO 32000-1, 7.6.5), not by a password."""
    encrypt = (
        b"/Encrypt << /Filter /Adobe.PubSec /SubFilter /adbe.pkcs7.s4 /V 4 /StmF /DefaultCryptFilter"
        b" /StrF /DefaultCryptFilter /CF << /DefaultCryptFilter << /CFM /AESV2 /Recipients [<00>] >> >> >>"
        b" /ID [<00> <00>]"
    )
    return _pdf(_note()).replace(b"trailer\n<<", b"trailer\n<< " + encrypt, 1)


@cache
def truncated_pdf() -> bytes:
    """Return the first half of a PDF: no cross-reference table, no end."""
    return _half(_pdf(_note()))


@cache
def damaged_png() -> bytes:
    """Return a PNG of the right length with one run of its pixels overwritten."""
    whole = bytearray(_encode(_note(), "PNG"))
    middle = len(whole) // 2
    whole[middle : middle + 64] = bytes(64)
    return bytes(whole)


@cache
def wide_png() -> bytes:
    """Return a complete image whose side is one pixel over the limit."""
    return _grey_png(SIDE_LIMIT_PIXELS + 1, 40)


@cache
def bomb_png() -> bytes:
    """Return about 100 kB that decompress to 100 million pixels, each side within its limit."""
    return _grey_png(SIDE_LIMIT_PIXELS, SIDE_LIMIT_PIXELS)


@cache
def lying_png() -> bytes:
    """Return an image with one row whose header claims 2 billion pixels per side."""
    return _png(2**31 - 1, 2**31 - 1, zlib.compress(b"\x00" * 100))


@cache
def over_sync_limit_png() -> bytes:
    """Return a complete, readable image that is one byte over 10 MiB, most of it in a private chunk."""
    image = _encode(_note(), "PNG")
    end = image.rindex(b"IEND") - 4
    # Four bytes each for a chunk's length, name and check sum.
    padding = SYNC_LIMIT_BYTES + 1 - len(image) - 12
    return image[:end] + _chunk(b"paDd", bytes(padding)) + image[end:]


@cache
def gif() -> bytes:
    """Return an image in a format that OCR does not accept."""
    return _encode(_note(), "GIF")


@cache
def two_page_tiff() -> bytes:
    """Return a TIFF of two pages, which synchronous OCR does not accept."""
    return _encode(_note(), "TIFF", save_all=True, append_images=[_note("page two")])


@cache
def two_page_pdf() -> bytes:
    """Return a PDF of two pages, which synchronous OCR does not accept."""
    return _pdf(_note(), _note("page two"))


@dataclass(frozen=True)
class BadInput:
    """One bad file: the name and the content type that an uploader gives it."""

    filename: str
    content_type: str
    content: Callable[[], bytes]


BAD_INPUTS: dict[str, BadInput] = {
    "zero bytes": BadInput("empty.jpg", "image/jpeg", zero_bytes),
    "text named PNG": BadInput("note.png", "image/png", text_named_png),
    "HTML named JPEG": BadInput("photo.jpg", "image/jpeg", html_named_jpeg),
    "truncated JPEG": BadInput("half.jpg", "image/jpeg", truncated_jpeg),
    "truncated PNG": BadInput("half.png", "image/png", truncated_png),
    "truncated TIFF": BadInput("half.tif", "image/tiff", truncated_tiff),
    "truncated PDF": BadInput("half.pdf", "application/pdf", truncated_pdf),
    "damaged PNG": BadInput("damaged.png", "image/png", damaged_png),
    "side of 10,001 pixels": BadInput("wide.png", "image/png", wide_png),
    "decompression bomb": BadInput("bomb.png", "image/png", bomb_png),
    "lying header": BadInput("lying.png", "image/png", lying_png),
    "over 10 MB": BadInput("heavy.png", "image/png", over_sync_limit_png),
    "GIF": BadInput("moving.gif", "image/gif", gif),
    "two-page TIFF": BadInput("pages.tif", "image/tiff", two_page_tiff),
    "two-page PDF": BadInput("pages.pdf", "application/pdf", two_page_pdf),
}


def _note(text: str = "2 eggs, 1 cup of milk") -> Image.Image:
    image = Image.new("L", (320, 120), 235)
    ImageDraw.Draw(image).text((20, 45), text, fill=20)
    return image


def _encode(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _pdf(*pages: Image.Image) -> bytes:
    first, *others = (page.convert("RGB") for page in pages)
    # A PDF contains its creation time; a fixed one keeps its bytes the same.
    made = time.gmtime(0)
    return _encode(first, "PDF", save_all=True, append_images=others, creationDate=made, modDate=made)


def _half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _grey_png(width: int, height: int) -> bytes:
    pack = zlib.compressobj(6)
    row = b"\x00" + b"\xeb" * width
    return _png(width, height, b"".join(pack.compress(row) for _ in range(height)) + pack.flush())


def _png(width: int, height: int, pixels: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
