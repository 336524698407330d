"""A small valid document of each supported type, to distinguish a broken decoder from a broken document."""

from __future__ import annotations

from base64 import b64decode

from photo_worker import media

_PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
)

# 8 x 8 pixels.
_TIFF = b64decode(
    "SUkqAAgAAAAJAAABBAABAAAACAAAAAEBBAABAAAACAAAAAIBAwABAAAACAAAAAMBAwABAAAAAQAAAAYBAwABAAAAAQAAABEBBAAB"
    "AAAAegAAABYBBAABAAAACAAAABcBBAABAAAAQAAAABwBAwABAAAAAQAAAAAAAAD4+Pv7+/v4+Pj36Ofn6Pf4++g/LS0/6Pv75ywY"
    "GCzn+/vnLBgYLOf7++g/LS0/6Pv49+jn5+j3+Pj4+/v7+/j4"
)
_WEBP = b64decode("UklGRjoAAABXRUJQVlA4IC4AAACQAQCdASoIAAgAB0CWJaQAApweBoAA/psRdsRBuuU+LTsZM3ajpxXq2wQ4AAAA")

# 64 x 64 pixels, encoded with pillow-heif 1.8.1 (x265) at quality 20.
_HEIC = b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAVZtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA"
    "ACJpbG9jAAAAAERAAAEAAQAAAAABegABAAAAAAAAACMAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRt"
    "AAAAAAABAAAA1mlwcnAAAAC3aXBjbwAAAHhodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMA"
    "AAMAHroCQGEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbqSSmubgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAiQAAAABNjb2xy"
    "bmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABAAAAAQAAAABBwaXhpAAAAAAMICAgAAAAXaXBtYQAAAAAAAAABAAEEgQIDBAAAACtt"
    "ZGF0AAAAHygBrwtg+xaAhT13oh2hrn//298DBalrbYN+UHWsvl0="
)

SAMPLES = {media.PDF: _PDF, media.TIFF: _TIFF, media.WEBP: _WEBP, media.HEIC: _HEIC}
