"""Documents like those of phones and offices, and a decoder that opens them in the test's own process."""

from __future__ import annotations

import io
import time
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from photo_worker.adapters.documents import decoding

HEICS = Path(__file__).resolve().parent / "heic"


class InlineDecoder:
    """``ports.DocumentDecoder`` without a child process: fast, for documents that a test has created."""

    def check(self, content: bytes, kind: str, name: str) -> None:
        decoding.check(content, kind, name)

    def convert(self, content: bytes, kind: str, name: str) -> bytes:
        return decoding.convert(content, kind, name)


def heic(name: str) -> bytes:
    """Return a stored HEIC: ``turned``, ``several`` or ``transparent`` (see ``heic/README.md``)."""
    return (HEICS / f"{name}.heic").read_bytes()


def card(*lines: str, size: tuple[int, int] = (640, 240)) -> Image.Image:
    """Return an image of lines of text, each some 40 pixels high."""
    image = Image.new("RGB", size, (250, 248, 240))
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((20, 20 + 70 * number), line, fill=(20, 20, 25), font=ImageFont.load_default(40))
    return image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return an image encoded in this format."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def webp(*lines: str, **options: object) -> bytes:
    """Return a WebP of lines of text, compressed without loss, so that the same text gives the same bytes."""
    return encoded(card(*lines), "WEBP", **{"lossless": True, "method": 0, **options})


def animated_webp(images: int = 3) -> bytes:
    """Return a WebP of several images."""
    first, *others = (card(f"image {number}") for number in range(images))
    return encoded(first, "WEBP", save_all=True, append_images=others, duration=100, lossless=True, method=0)


def pdf(pages: int, text: str = "page") -> bytes:
    """Return a PDF with this many pages; the same bytes on every call."""
    first, *others = (card(f"{text} {number + 1}") for number in range(pages))
    made = time.gmtime(0)
    return encoded(first, "PDF", save_all=True, append_images=others, creationDate=made, modDate=made)


def protected_pdf() -> bytes:
    """Return a PDF that requires a password: its trailer declares encryption with a password that is not empty."""
    plain = pdf(1)
    # Standard security handler, revision 2 (ISO 32000-1, 7.6.3): no password can match these keys.
    encrypt = b"/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >> /ID [<00> <00>]" % (
        b"11" * 32,
        b"22" * 32,
    )
    return plain.replace(b"trailer\n<<", b"trailer\n<< " + encrypt, 1)


def tiff(pages: int = 1, mode: str = "L") -> bytes:
    """Return a TIFF with this many pages in this mode of Pillow."""
    first, *others = (card(f"page {number + 1}").convert("L").convert(mode) for number in range(pages))
    return encoded(first, "TIFF", save_all=True, append_images=others)


def big_tiff() -> bytes:
    """Return a TIFF with 64-bit offsets."""
    return encoded(card("big"), "TIFF", big_tiff=True)


def jpeg_ls() -> bytes:
    """Return the header of a JPEG-LS (ITU-T T.87, annex C); no encoder is available."""
    return (
        bytes.fromhex("ffd8fff7000b0800100010010111 00ffda0008010100000000".replace(" ", "")) + bytes(64) + b"\xff\xd9"
    )
