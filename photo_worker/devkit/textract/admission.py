"""How much may be under way at once. A call that waits for its page keeps its document in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from photo_worker.devkit.textract.failures import PROVISIONED_THROUGHPUT_EXCEEDED, ServiceError

MOST_DOCUMENTS = 64
"""More than test runs ask for at once, and what two cores read in a minute."""

MOST_BYTES = 256 * 1024 * 1024
"""Some 25 of the largest documents; a call holds its document twice, as it came and decoded."""


MOST_BODY_BYTES = 256 * 1024 * 1024
"""Of requests that arrive or are parsed: some 18 of the largest."""

# Of each body so much is taken in whatever others hold, which is more than a call without a document has.
_FREE_BYTES = 64 * 1024

MOST_OPEN_JOBS = 100
"""How many jobs may be in progress at once by default, that of an AWS account in most regions (D: quotas)."""


@dataclass
class Slot:
    """One call's place among those that wait."""

    limiter: AdmissionLimiter
    size: int = 0

    def reserve(self, size: int) -> None:
        """Count a document's bytes. Raises ``Refusal`` where there are too many with them."""
        self.limiter.require_room(size)
        self.limiter.size += size
        self.size += size


@dataclass
class AdmissionLimiter:
    """The synchronous calls that are being answered, and the ``size`` of their documents in bytes."""

    most_documents: int = MOST_DOCUMENTS
    most_bytes: int = MOST_BYTES
    size: int = field(default=0, init=False)
    documents: int = field(default=0, init=False)

    @contextmanager
    def slot(self) -> Iterator[Slot]:
        """Give a call a place for as long as the block takes.

        Raises ProvisionedThroughputExceededException where there is none, which AWS's SDKs try again later.
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
        """Raise ``Refusal`` where so many bytes more are too many; one document alone always has room."""
        if self.size and self.size + size > self.most_bytes:
            raise ServiceError(PROVISIONED_THROUGHPUT_EXCEEDED, f"documents of {self.size} bytes wait to be read")


@dataclass
class Room:
    """What one request's body takes of the memory for all."""

    bodies: Bodies
    size: int = 0
    counted: int = 0

    def take(self, size: int) -> bool:
        """Count so many bytes more, or release all and say that there is no room; one body alone always has it."""
        self.size += size
        more = max(self.size - _FREE_BYTES, 0) - self.counted
        if self.bodies.size > self.counted and self.bodies.size + more > self.bodies.most_bytes:
            self.release()
            return False
        self.bodies.size += more
        self.counted += more
        return True

    def release(self) -> None:
        """Give back what it has: nothing of the body is kept any more."""
        self.bodies.size -= self.counted
        self.size = self.counted = 0


@dataclass
class Bodies:
    """The bodies of requests that are in memory, ``size`` bytes without the first few of each."""

    most_bytes: int = MOST_BODY_BYTES
    size: int = field(default=0, init=False)

    @contextmanager
    def room(self) -> Iterator[Room]:
        """Give a request room, which it has to the end of the block or until it is released."""
        room = Room(self)
        try:
            yield room
        finally:
            room.release()
