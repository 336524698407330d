"""Counts of requests and responses since the start or the last reset, for assertions in tests."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Any

# More documents than any test run reads; each costs some 400 bytes.
_MOST_DOCUMENTS = 100_000


@dataclass
class _Tally:
    requests: int = 0
    responses: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def shown(self) -> dict[str, Any]:
        return {"requests": self.requests, "answered": self.responses, "errors": dict(self.errors)}


@dataclass
class _DocumentTally:
    requests: int = 0
    billed: int = 0
    recognised: int = 0


class Counters:
    """Counts by operation and by document. Not thread-safe."""

    def __init__(self, most_documents: int = _MOST_DOCUMENTS) -> None:
        """At most ``most_documents`` are counted apart; the oldest is forgotten first."""
        self._most_documents = most_documents
        self._operations: dict[str, _Tally] = {}
        self._documents: OrderedDict[str, _DocumentTally] = OrderedDict()
        self._refused: Counter[str] = Counter()
        self._forgotten = 0

    def asked(self, operation: str) -> None:
        """Count a request that names an operation of the model."""
        self._operations.setdefault(operation, _Tally()).requests += 1

    def responded(self, operation: str) -> None:
        """Count a request that got its response."""
        self._operations.setdefault(operation, _Tally()).responses += 1

    def failed(self, operation: str | None, code: str) -> None:
        """Count a request that ended in an error; ``operation`` is None if it failed before one was known."""
        errors = self._refused if operation is None else self._operations.setdefault(operation, _Tally()).errors
        errors[code] += 1

    def requested(self, sha256: str) -> None:
        """Count a request for a document, whatever its outcome."""
        self._document(sha256).requests += 1

    def recognised(self, sha256: str) -> None:
        """Count a run of the OCR engine over a document."""
        self._document(sha256).recognised += 1

    def billed(self, sha256: str) -> None:
        """Count a response that the real service would bill: each one with blocks, cached or not."""
        self._document(sha256).billed += 1

    def shown(self) -> dict[str, Any]:
        """Return everything as JSON data."""
        return {
            "operations": {name: tally.shown() for name, tally in sorted(self._operations.items())},
            "refused": dict(self._refused),
            "documents": {sha256: vars(tally) for sha256, tally in self._documents.items()},
            "documents_forgotten": self._forgotten,
        }

    def _document(self, sha256: str) -> _DocumentTally:
        if sha256 not in self._documents and len(self._documents) >= self._most_documents:
            self._documents.popitem(last=False)
            self._forgotten += 1
        return self._documents.setdefault(sha256, _DocumentTally())
