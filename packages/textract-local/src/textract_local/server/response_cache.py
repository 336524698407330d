"""A cache of encoded answers, so that a repeated request costs next to nothing.

The key consists of document, engine, version, analysis, operation and encoding. A second mapping leads from the
digest of a request with an inline document to its key: an identical request need not be parsed again, which for a
photo costs more than everything else.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from textract_local.reader.analysis.request import Analysis
from textract_local.server.codecs import Codec

# An answer for a full page has some 200 kB; this is a few hundred pages.
REMEMBERED_BYTES = 32 * 1024 * 1024
_MOST_QUESTIONS = 20_000

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


@dataclass(frozen=True)
class CacheKey:
    """What an answer depends on. ``sha256`` is the document's, ``engine`` the engine's name and version."""

    operation: str
    sha256: str
    engine: tuple[str, str]
    analysis: Analysis | None
    encoding: str


class ResponseCache:
    """An LRU cache of answers, limited by their total size, and the keys of earlier requests."""

    def __init__(self, limit_bytes: int = REMEMBERED_BYTES) -> None:
        self._limit = limit_bytes
        self._size = 0
        self._answers: _LruMapping[CacheKey, bytes] = _LruMapping()
        self._questions: _LruMapping[bytes, CacheKey] = _LruMapping()

    def get(self, question: CacheKey) -> bytes | None:
        """Return a cached answer, or None."""
        return self._answers.get(question)

    def put(self, question: CacheKey, answer: bytes) -> None:
        """Cache an answer, and evict the least recently used ones above the limit."""
        self._size += len(answer) - len(self._answers.pop(question) or b"")
        self._answers.put(question, answer)
        while self._size > self._limit:
            self._size -= len(self._answers.drop())

    def asked(self, digest: bytes, question: CacheKey) -> None:
        """Remember the key of requests with this ``digest``."""
        self._questions.put(digest, question)
        while len(self._questions) > _MOST_QUESTIONS:
            self._questions.drop()

    def question(self, digest: bytes) -> CacheKey | None:
        """Return the key of an earlier request with this digest, or None."""
        return self._questions.get(digest)

    def forget(self) -> None:
        """Clear the cache."""
        self._size = 0
        self._answers, self._questions = _LruMapping(), _LruMapping()


def request_digest(operation: str, codec: Codec, body: bytes) -> bytes:
    """Return a hash of a request's operation, encoding and body."""
    hashed = hashlib.sha256(f"{operation} {codec.name} ".encode())
    hashed.update(body)
    return hashed.digest()


class _LruMapping(Generic[_K, _V]):
    """A mapping in the order of last use."""

    def __init__(self) -> None:
        self._items: OrderedDict[_K, _V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: _K) -> _V | None:
        found = self._items.get(key)
        if found is not None:
            self._items.move_to_end(key)
        return found

    def put(self, key: _K, value: _V) -> None:
        self._items[key] = value
        self._items.move_to_end(key)

    def pop(self, key: _K) -> _V | None:
        return self._items.pop(key, None)

    def drop(self) -> _V:
        """Remove and return the least recently used value."""
        return self._items.popitem(last=False)[1]
