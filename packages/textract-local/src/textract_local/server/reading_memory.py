"""What the recogniser knows since its start or the last reset: answers, readings in progress, slow and fatal pages."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from textract_local.server.pool import Work

T = TypeVar("T")

# An answer for a full page has some 200 kB; this is a few hundred pages.
REMEMBERED_BYTES = 32 * 1024 * 1024

# The data about a document besides its blocks takes some 200 bytes.
_REMEMBERED_DOCUMENTS = 10_000


@dataclass
class Running(Generic[T]):
    """A reading in progress, shared by all callers that wait for it."""

    urgent: bool
    work: Work | None = None
    callers: int = 0
    """How many callers wait for it; it is cancelled if none does."""
    task: asyncio.Task[T] | None = None
    """None once it is done: its exception would reference the frames that reference this, and their document."""


class AnswerCache:
    """An LRU cache of answers, limited by their total size in bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._size = 0
        self._answers: OrderedDict[Hashable, bytes] = OrderedDict()

    def get(self, key: Hashable) -> bytes | None:
        """Return the answer for a key, which is the newest then; None if there is none."""
        answer = self._answers.get(key)
        if answer is not None:
            self._answers.move_to_end(key)
        return answer

    def put(self, key: Hashable, answer: bytes) -> None:
        """Add an answer, and forget the oldest ones above the limit."""
        self._size += len(answer) - len(self._answers.pop(key, b""))
        self._answers[key] = answer
        while self._size > self.limit:
            self._size -= len(self._answers.popitem(last=False)[1])


class Recent(OrderedDict[Hashable, T]):
    """A mapping limited to the items that were set last."""

    def __setitem__(self, key: Hashable, value: T) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        while len(self) > _REMEMBERED_DOCUMENTS:
            self.popitem(last=False)


@dataclass
class ReadingMemory:
    """The state since the start or the last reset."""

    answers: AnswerCache
    running: dict[Hashable, Running[Any]] = field(default_factory=dict)
    read_now: dict[Hashable, asyncio.Event] = field(default_factory=dict)
    """The pages that a process is reading."""
    pages: Recent[int | None] = field(default_factory=Recent)
    """The page counts of documents that are within limits; None if the count was not requested."""
    ends: Recent[tuple[int, str]] = field(default_factory=Recent)
    """How many processes a page, or for a key without a page the whole document, has ended, and the last problem."""
    slow: Recent[tuple[int, str, float]] = field(default_factory=Recent)
    """How many readings of a page exceeded the time of a synchronous call, the last problem, and when it was."""

    def slowness(self, page: Hashable, seconds: float) -> tuple[int, str]:
        """Return how many readings of a page were slow, and the last problem; 0 if that is older than ``seconds``."""
        times, problem, last = self.slow.get(page, (0, "", 0.0))
        return (times, problem) if time.monotonic() - last < seconds else (0, "")
