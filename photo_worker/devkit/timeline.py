"""Durations of the steps of a start, for ``up --timings``."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """A step; ``offset`` is in seconds since the start of the command, ``duration`` in seconds."""

    group: str
    step: str
    offset: float
    duration: float


class Timeline:
    """Collects spans from several threads."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._spans: list[Span] = []
        self._guard = threading.Lock()

    @contextmanager
    def span(self, group: str, step: str) -> Iterator[None]:
        """Record how long the block takes, even if it raises."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.add(group, step, start - self._begin, time.monotonic() - start)

    def add(self, group: str, step: str, offset: float, duration: float) -> None:
        """Record a span that was measured elsewhere."""
        with self._guard:
            self._spans.append(Span(group, step, offset, duration))

    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._begin

    def spans(self) -> list[Span]:
        """Return the spans so far, ordered by group of first appearance, then by offset."""
        with self._guard:
            spans = sorted(self._spans, key=lambda span: (span.offset, -span.duration))
        order = {group: place for place, group in enumerate(dict.fromkeys(span.group for span in spans))}
        return sorted(spans, key=lambda span: (order[span.group], span.offset, -span.duration))
