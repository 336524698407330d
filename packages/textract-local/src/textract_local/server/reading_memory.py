"""What the recogniser knows since its start or the last reset: responses, running readings, slow and fatal pages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from cachetools import FIFOCache, LRUCache

from textract_local.server.pool import Work

T = TypeVar("T")

# A response for a full page has some 200 kB; this is a few hundred pages.
REMEMBERED_BYTES = 32 * 1024 * 1024

# The data about a document besides its blocks takes some 200 bytes.
_REMEMBERED_DOCUMENTS = 10_000


@dataclass
class SharedReading(Generic[T]):
    """A reading in progress, shared by all callers that wait for it."""

    urgent: bool
    work: Work | None = None
    callers: int = 0
    """How many callers wait for it; it is cancelled if none does."""
    task: asyncio.Task[T] | None = None
    """None once it is done: its exception would reference the frames that reference this, and their document."""


class SizedCache(LRUCache[Hashable, bytes]):
    """An LRU cache of responses, limited by their total size in bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit, getsizeof=len)

    def put(self, key: Hashable, response: bytes) -> None:
        """Add a response, and evict the least recently used ones above the limit; a larger response is not kept."""
        if len(response) <= self.maxsize:
            self[key] = response


def _recent() -> FIFOCache[Hashable, Any]:
    return FIFOCache(_REMEMBERED_DOCUMENTS)


@dataclass
class ReadingMemory:
    """The state since the start or the last reset."""

    responses: SizedCache
    running: dict[Hashable, SharedReading[Any]] = field(default_factory=dict)
    read_now: dict[Hashable, asyncio.Event] = field(default_factory=dict)
    """The pages that a process is reading."""
    pages: FIFOCache[Hashable, int | None] = field(default_factory=_recent)
    """The page counts of documents that are within limits; None if the count was not requested."""
    ends: FIFOCache[Hashable, tuple[int, str]] = field(default_factory=_recent)
    """How many processes a page, or for a key without a page the whole document, has ended, and the last problem."""
    slow: FIFOCache[Hashable, tuple[int, str, float]] = field(default_factory=_recent)
    """How many readings of a page exceeded the time of a synchronous call, the last problem, and when it was."""

    def slowness(self, page: Hashable, seconds: float) -> tuple[int, str]:
        """Return how many readings of a page were slow, and the last problem; 0 if that is older than ``seconds``."""
        times, problem, last = self.slow.get(page, (0, "", 0.0))
        return (times, problem) if time.monotonic() - last < seconds else (0, "")
