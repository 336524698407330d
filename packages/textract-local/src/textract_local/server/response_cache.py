"""A cache of encoded responses, so that a repeated request costs next to nothing.

The key consists of document, engine, version, analysis, operation and encoding. A second mapping leads from the
digest of a request with an inline document to its key: an identical request need not be parsed again, which for a
photo costs more than everything else.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cachetools import LRUCache

from textract_local.reader.analysis.request import Analysis
from textract_local.server.codecs import Codec
from textract_local.server.reading_memory import REMEMBERED_BYTES, SizedCache

_MOST_KEYS = 20_000


@dataclass(frozen=True)
class CacheKey:
    """What a response depends on. ``sha256`` is the document's, ``engine`` the engine's name and version."""

    operation: str
    sha256: str
    engine: tuple[str, str]
    analysis: Analysis | None
    encoding: str


class ResponseCache:
    """An LRU cache of responses, limited by their total size, and the keys of earlier requests."""

    def __init__(self, limit_bytes: int = REMEMBERED_BYTES) -> None:
        self._responses = SizedCache(limit_bytes)
        self._keys = LRUCache[bytes, CacheKey](_MOST_KEYS)

    def get(self, key: CacheKey) -> bytes | None:
        """Return a cached response, or None."""
        return self._responses.get(key)

    def put(self, key: CacheKey, response: bytes) -> None:
        """Cache a response, and evict the least recently used ones above the limit."""
        self._responses.put(key, response)

    def asked(self, digest: bytes, key: CacheKey) -> None:
        """Remember the key of requests with this ``digest``."""
        self._keys[digest] = key

    def key(self, digest: bytes) -> CacheKey | None:
        """Return the key of an earlier request with this digest, or None."""
        return self._keys.get(digest)

    def forget(self) -> None:
        """Clear the cache."""
        self._responses.clear()
        self._keys.clear()


def request_digest(operation: str, codec: Codec, body: bytes) -> bytes:
    """Return a hash of a request's operation, encoding and body."""
    hashed = hashlib.sha256(f"{operation} {codec.name} ".encode())
    hashed.update(body)
    return hashed.digest()
