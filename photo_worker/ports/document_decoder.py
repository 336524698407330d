"""The port that opens documents."""

from __future__ import annotations

from typing import Protocol


class DocumentDecoder(Protocol):
    """Opens documents that may be hostile, without harm to the caller.

    Methods raise an ``InputError`` that says what is wrong with the document, ``DecoderUnavailable`` if a retry may
    help, and ``DecoderMissing``. ``kind`` is the media type that the first bytes show; ``name`` is for messages.
    """

    def check(self, content: bytes, kind: str, name: str) -> None:
        """Refuse a PDF or TIFF that OCR refuses: several pages, protected, damaged, too large, or an unusual depth."""

    def convert(self, content: bytes, kind: str, name: str) -> bytes:
        """Return the first image of a HEIC or WebP as an upright JPEG within the limits of OCR."""
