"""User metadata of objects: ASCII in HTTP headers, any text for the caller.

Text that is not printable ASCII becomes one RFC 2047 encoded word, the form in which S3 itself returns metadata that
is not ASCII ("Working with object metadata" in its user guide).
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
    """Return the headers' values. Raises ``ValueError`` for a name that S3 would return changed."""
    for name in metadata:
        if not _NAME.fullmatch(name):
            raise ValueError(f"metadata names are lower-case ASCII letters, digits and hyphens: {name!r}")
    return {name: _encode(value) for name, value in metadata.items()}


def decode_metadata(headers: Mapping[str, str]) -> dict[str, str]:
    """Reverse ``encode_metadata``; names are in lower case, as S3 stores them."""
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
        # Another program wrote these characters with another meaning.
        return value
