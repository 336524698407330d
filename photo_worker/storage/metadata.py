"""User metadata of objects: HTTP headers, so ASCII on the wire and any text for the caller.

Other text is written as one RFC 2047 encoded word, the form in which S3 itself returns metadata
that is not ASCII ("Working with object metadata" in its user guide).
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from email.errors import HeaderParseError
from email.header import decode_header

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_PLAIN = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")


def encode_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the headers' values. Raises ``ValueError`` for a name that S3 would not give back as it is."""
    for name in metadata:
        if not _NAME.fullmatch(name):
            raise ValueError(f"metadata names are lower-case ASCII letters, digits and hyphens: {name!r}")
    return {name: _encode(value) for name, value in metadata.items()}


def decode_metadata(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what ``encode_metadata`` was given; names in lower case, as S3 stores them."""
    return {name.lower(): _decode(value) for name, value in headers.items()}


def _encode(value: str) -> str:
    if _PLAIN.fullmatch(value) and "=?" not in value:
        return value
    return f"=?UTF-8?B?{b64encode(value.encode()).decode()}?="


def _decode(value: str) -> str:
    if "=?" not in value:
        return value
    try:
        parts = decode_header(value)
        return "".join(part.decode(charset or "ascii") if isinstance(part, bytes) else part for part, charset in parts)
    except (HeaderParseError, LookupError, UnicodeDecodeError):
        # Whoever wrote it meant something else by these characters.
        return value
