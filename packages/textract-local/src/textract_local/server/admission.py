"""Limits on concurrent calls and on the memory that they use: a waiting call keeps its document in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from textract_local.server.failures import PROVISIONED_THROUGHPUT_EXCEEDED, ServiceError

MOST_DOCUMENTS = 64
"""Synchronous calls at once: more than test runs make, and what two cores read in a minute."""

MOST_BYTES = 256 * 1024 * 1024
"""Bytes of documents: some 25 of the largest. A call holds its document twice, encoded and decoded."""


MOST_BODY_BYTES = 256 * 1024 * 1024
"""Bytes of request bodies that are being received or parsed: some 18 of the largest."""

# This much of each body is accepted regardless of the others. A call without a document has less.
_FREE_BYTES = 64 * 1024


@dataclass
class Slot:
    """One admitted call, and the ``size`` in bytes of its document."""

    limiter: AdmissionLimiter
    size: int = 0

    def reserve(self, size: int) -> None:
        """Count a document's bytes. Raises ``ServiceError`` if that exceeds the limit."""
        self.limiter.require_room(size)
        self.limiter.size += size
        self.size += size


@dataclass
class AdmissionLimiter:
    """Counts the synchronous calls in progress and the ``size`` of their documents in bytes."""

    most_documents: int = MOST_DOCUMENTS
    most_bytes: int = MOST_BYTES
    size: int = field(default=0, init=False)
    documents: int = field(default=0, init=False)

    @contextmanager
    def slot(self) -> Iterator[Slot]:
        """Admit a call for the duration of the block.

        Raises ProvisionedThroughputExceededException if there are too many calls; AWS's SDKs retry after it.
        """
        if self.documents >= self.most_documents:
            raise ServiceError(PROVISIONED_THROUGHPUT_EXCEEDED, f"{self.documents} documents wait to be read")
        self.documents += 1
        slot = Slot(self)
        try:
            yield slot
        finally:
            self.documents -= 1
            self.size -= slot.size

    def require_room(self, size: int) -> None:
        """Raise ``ServiceError`` if ``size`` more bytes exceed the limit; a single document is always admitted."""
        if self.size and self.size + size > self.most_bytes:
            raise ServiceError(PROVISIONED_THROUGHPUT_EXCEEDED, f"documents of {self.size} bytes wait to be read")


@dataclass
class BodySlot:
    """The memory that one request's body uses of the total for all."""

    bodies: BodyLimiter
    size: int = 0
    counted: int = 0

    def take(self, size: int) -> bool:
        """Count ``size`` more bytes. Without room, release all and return False; a single body always has room."""
        self.size += size
        more = max(self.size - _FREE_BYTES, 0) - self.counted
        if self.bodies.size > self.counted and self.bodies.size + more > self.bodies.most_bytes:
            self.release()
            return False
        self.bodies.size += more
        self.counted += more
        return True

    def release(self) -> None:
        """Release the memory, when nothing of the body is kept any more."""
        self.bodies.size -= self.counted
        self.size = self.counted = 0


@dataclass
class BodyLimiter:
    """The request bodies in memory: ``size`` bytes, not counting the first ``_FREE_BYTES`` of each."""

    most_bytes: int = MOST_BODY_BYTES
    size: int = field(default=0, init=False)

    @contextmanager
    def room(self) -> Iterator[BodySlot]:
        """Give a request room until the end of the block, or until it is released."""
        room = BodySlot(self)
        try:
            yield room
        finally:
            room.release()
